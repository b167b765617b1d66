"""Models that fold patches of a frame into channels, with the papers' settings as defaults."""

from __future__ import annotations

from functools import partial

from vidpred.cells import (
    CausalLSTMCell,
    ConvLSTMCell,
    DecoupledSTLSTMCell,
    DecoupledZigzag,
    Difference,
    FirstHighway,
    GHUCell,
    MIMCell,
    MotionHighwayCell,
    MotionLSTMCell,
    SAConvLSTMCell,
    STLSTMCell,
)
from vidpred.cells.base import Norm
from vidpred.models.folding import folded_channels
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import recorded
from vidpred.models.zoo.common import Size, feature_size, on_patches, patched, stack_of


@recorded
def convlstm(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    forget_bias: float = 1.0,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """A stack of ConvLSTMs on folded patches, the baseline of every later paper.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        forget_bias: Constant in the units' forget gate (0 in OpenSTL's weights).
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Shi et al., NeurIPS 2015, arXiv:1506.04214; settings of Tan et al., OpenSTL, 2023.

    Example:
        >>> import torch
        >>> convlstm(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        ConvLSTMCell,
        kernel_size=kernel_size,
        forget_bias=forget_bias,
        norm=norm,
        size=feature_size(size, patch),
    )
    cells = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    return patched(cells, in_channels, patch)


@recorded
def sa_convlstm(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """SA-ConvLSTM: a stack of ConvLSTMs with self-attention memories, on folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Lin et al., AAAI 2020.

    Example:
        >>> import torch
        >>> sa_convlstm(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    options = {"kernel_size": kernel_size, "norm": norm, "size": feature_size(size, patch)}
    cell = partial(SAConvLSTMCell, **options)
    cells = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    return patched(cells, in_channels, patch)


@recorded
def predrnn(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """PredRNN: a zigzag of ST-LSTMs on folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Wang et al., NeurIPS 2017.

    Example:
        >>> import torch
        >>> predrnn(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(STLSTMCell, kernel_size=kernel_size, norm=norm, size=feature_size(size, patch))
    cells = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    return patched(cells, in_channels, patch)


@recorded
def predrnnv2(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    decoupling: float = 0.1,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """PredRNN-v2: PredRNN whose memories are kept apart by a term of the training loss.

    :class:`~vidpred.tasks.ForecastTask` adds the term. The paper trains it with
    :class:`~vidpred.sampling.ReverseScheduledSampling`.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        decoupling: Weight of the term (0.01 for KTH).
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Wang et al., TPAMI 2022, arXiv:2103.09504.

    Example:
        >>> import torch
        >>> predrnnv2(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        DecoupledSTLSTMCell, kernel_size=kernel_size, norm=norm, size=feature_size(size, patch)
    )
    cells = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    return on_patches(DecoupledZigzag(cells, decoupling), in_channels, patch)


@recorded
def predrnnpp(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """PredRNN++: a zigzag of causal LSTMs on folded patches, a gradient highway above the first.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many causal LSTMs.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Wang et al., ICML 2018, arXiv:1804.06300; settings of Tan et al., OpenSTL, 2023.

    Example:
        >>> import torch
        >>> predrnnpp(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    options = {"kernel_size": kernel_size, "norm": norm, "size": feature_size(size, patch)}
    cell = partial(CausalLSTMCell, **options)
    bottom, *upper = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    highway = GHUCell(hidden_channels, hidden_channels, **options)
    return patched([bottom, highway, *upper], in_channels, patch)


@recorded
def mim(
    in_channels: int = 1,
    hidden_channels: int = 128,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """MIM: a zigzag of MIM units above an ST-LSTM, on folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units, the ST-LSTM included.
        kernel_size: Odd width of the units' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"`` and for peepholes of the published form.

    Reference:
        Wang et al., CVPR 2019, arXiv:1811.07490; settings of Tan et al., OpenSTL, 2023. Differs:
        without ``size`` the peepholes have one weight per channel, for any resolution.

    Example:
        >>> import torch
        >>> mim(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    options = {"kernel_size": kernel_size, "norm": norm, "size": feature_size(size, patch)}
    _, *upper = stack_of(partial(MIMCell, **options), hidden_channels, hidden_channels, layers)
    bottom = STLSTMCell(folded_channels(in_channels, patch), hidden_channels, **options)
    return patched([bottom, Difference(hidden_channels), *upper], in_channels, patch)


@recorded
def motionrnn(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 4,
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """MotionRNN on PredRNN: ST-LSTMs with a motion highway, a MotionGRU after each but the top one.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state but the motion's.
        layers: How many ST-LSTMs.
        kernel_size: Odd width of the units' kernels; MotionGRU's are 3x3.
        patch: Side of the squares that are folded into channels, in pixels.
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Wu et al., CVPR 2021, arXiv:2103.02243. Differs: the states are zero before the first frame
        (in the authors' code they are drawn at random, in every forecast anew).

    Example:
        >>> import torch
        >>> motionrnn(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    options = {"kernel_size": kernel_size, "norm": norm, "size": feature_size(size, patch)}
    folded = folded_channels(in_channels, patch)
    *moving, _ = stack_of(partial(MotionLSTMCell, **options), folded, hidden_channels, layers)
    top_in = hidden_channels if moving else folded
    top = MotionHighwayCell(top_in, hidden_channels, **options)
    return patched([FirstHighway(folded, hidden_channels), *moving, top], in_channels, patch)
