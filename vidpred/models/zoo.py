"""The published models, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from vidpred.cells import (
    CausalLSTMCell,
    Cell,
    ConvLSTMCell,
    Difference,
    GHUCell,
    MAUCell,
    MIMCell,
    STAUCell,
    STGRUCell,
    STLSTMCell,
)
from vidpred.cells.base import Norm
from vidpred.models.autoencoder import ConvDecoder, ConvEncoder, PatchDecoder, PatchEncoder
from vidpred.models.iprnn import MergedStack
from vidpred.models.predictor import Predictor

Size = tuple[int, int] | None


def stacked(
    cell: Callable[[int, int], Cell[Any, Any]],
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    downsamplings: int = 2,
    recall: float = 0.0,
) -> Predictor:
    """The papers' frame for comparing units: encoder, stacked units, decoder; any unit.

    Args:
        cell: Makes a unit from (in_channels, hidden_channels): a cell class, or a partial of one.
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map and state.
        layers: How many units.
        downsamplings: How often the encoder halves the sides of a frame.
        recall: Weight of the skip connections from encoder to decoder; 0 for none.

    Reference:
        Chang et al., STAU, arXiv:2204.09456, Tables 1, 2 and 6.

    Example:
        >>> import torch
        >>> predictor = stacked(ConvLSTMCell, hidden_channels=8)
        >>> predictor(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cells = _stack(cell, hidden_channels, hidden_channels, layers)
    return Predictor(
        ConvEncoder(in_channels, hidden_channels, downsamplings),
        cells[0].wiring(cells),
        ConvDecoder(hidden_channels, in_channels, downsamplings, recall),
    )


def stau(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    downsamplings: int = 2,
    *,
    kernel_size: int = 5,
    tau: int = 5,
    theta: int = 5,
    gamma: float = 0.0,
    recall: float = 0.0,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """STAU. The defaults are Moving MNIST's; natural video has 16 layers, gamma 1, 3 downsamplings.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map and state.
        layers: How many units.
        downsamplings: How often the encoder halves the sides of a frame (4 for 1088 x 1920).
        kernel_size: Odd width of the units' kernels.
        tau: How many past steps the temporal attention sees.
        theta: How many layers the spatial attention sees.
        gamma: Weight of the units' residual term.
        recall: Weight of the skip connections from encoder to decoder; 0 for none.
        norm: The units' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., arXiv:2204.09456, Table 1.

    Example:
        >>> import torch
        >>> stau(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        STAUCell,
        kernel_size=kernel_size,
        tau=tau,
        theta=theta,
        gamma=gamma,
        norm=norm,
        size=_feature_size(size, 2**downsamplings),
    )
    return stacked(cell, in_channels, hidden_channels, layers, downsamplings, recall)


def mau(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    downsamplings: int = 2,
    *,
    kernel_size: int = 5,
    tau: int = 5,
    gamma: float = 0.0,
    recall: float = 0.0,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """MAU, as the STAU paper compares it (the MAU paper itself recalls: ``recall=1``).

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map and state.
        layers: How many units (16 for natural video).
        downsamplings: How often the encoder halves the sides of a frame.
        kernel_size: Odd width of the units' kernels.
        tau: How many past steps the attention sees.
        gamma: Weight of the units' residual term (1 for natural video).
        recall: Weight of the skip connections from encoder to decoder; 0 for none.
        norm: The units' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., NeurIPS 2021.

    Example:
        >>> import torch
        >>> mau(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        MAUCell,
        kernel_size=kernel_size,
        tau=tau,
        gamma=gamma,
        norm=norm,
        size=_feature_size(size, 2**downsamplings),
    )
    return stacked(cell, in_channels, hidden_channels, layers, downsamplings, recall)


def iprnn(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    downsamplings: int = 2,
    *,
    kernel_size: int = 5,
    recall: float = 1.0,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """IPRNN: a stack of STGRUs, both final states merged, the encoder's features recalled.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map and state.
        layers: How many units.
        downsamplings: How often the encoder halves the sides of a frame.
        kernel_size: Odd width of the units' kernels.
        recall: Weight of the skip connections from encoder to decoder; 0 for none.
        norm: The units' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., ICASSP 2021.

    Example:
        >>> import torch
        >>> iprnn(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        STGRUCell,
        kernel_size=kernel_size,
        norm=norm,
        size=_feature_size(size, 2**downsamplings),
    )
    return Predictor(
        ConvEncoder(in_channels, hidden_channels, downsamplings),
        MergedStack(_stack(cell, hidden_channels, hidden_channels, layers)),
        ConvDecoder(hidden_channels, in_channels, downsamplings, recall),
    )


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
    cell = partial(STLSTMCell, kernel_size=kernel_size, norm=norm, size=_feature_size(size, patch))
    cells = _stack(cell, in_channels * patch**2, hidden_channels, layers)
    return _patched(cells, in_channels, patch)


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
    options = {"kernel_size": kernel_size, "norm": norm, "size": _feature_size(size, patch)}
    cell = partial(CausalLSTMCell, **options)
    bottom, *upper = _stack(cell, in_channels * patch**2, hidden_channels, layers)
    highway = GHUCell(hidden_channels, hidden_channels, **options)
    return _patched([bottom, highway, *upper], in_channels, patch)


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
    options = {"kernel_size": kernel_size, "norm": norm, "size": _feature_size(size, patch)}
    _, *upper = _stack(partial(MIMCell, **options), hidden_channels, hidden_channels, layers)
    bottom = STLSTMCell(in_channels * patch**2, hidden_channels, **options)
    return _patched([bottom, Difference(hidden_channels), *upper], in_channels, patch)


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
        size=_feature_size(size, patch),
    )
    cells = _stack(cell, in_channels * patch**2, hidden_channels, layers)
    return _patched(cells, in_channels, patch)


def _patched(cells: list[Any], in_channels: int, patch: int) -> Predictor:
    core = cells[0].wiring(cells)
    decoder = PatchDecoder(core.hidden_channels, in_channels, patch)
    return Predictor(PatchEncoder(in_channels, patch), core, decoder)


def _stack(
    cell: Callable[[int, int], Any], in_channels: int, hidden_channels: int, layers: int
) -> list[Any]:
    if layers < 1:
        raise ValueError(f"a predictor needs at least one layer, got layers={layers}")
    widths = [in_channels] + [hidden_channels] * (layers - 1)
    return [cell(width, hidden_channels) for width in widths]


def _feature_size(size: Size, stride: int) -> Size:
    if size is None or stride < 1:  # the encoder refuses such a stride
        return None
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size is (height, width) of a frame, got {size}")
    return -(-size[0] // stride), -(-size[1] // stride)
