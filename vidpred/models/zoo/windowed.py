"""Models that see windows of folded patches, with the papers' settings as defaults."""

from __future__ import annotations

from functools import partial

from vidpred.cells import E3DLSTMCell, STAMCell, STAMZigzag
from vidpred.cells.base import Norm
from vidpred.models.autoencoder import PatchDecoder, PatchEncoder
from vidpred.models.folding import folded_channels
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import recorded
from vidpred.models.zoo.common import Size, feature_size, patched, stack_of


@recorded
def e3d_lstm(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    *,
    kernel_size: int | tuple[int, int, int] = (2, 5, 5),
    patch: int = 4,
    depth: int = 2,
    tau: int = 5,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """E3D-LSTM: a zigzag of eidetic 3D LSTMs on windows of folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state (128 in OpenSTL).
        layers: How many units.
        kernel_size: Depth, height and width of the units' kernels, or one number for all three;
            height and width odd.
        patch: Side of the squares that are folded into channels, in pixels.
        depth: How many frames a window shows.
        tau: How many past memories are recalled.
        norm: The units' norm: ``"group"`` (published), ``"layer"`` (needs ``size``) or ``None``
            (OpenSTL's).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Wang et al., ICLR 2019; kernels, window and norm of the authors' code.

    Example:
        >>> import torch
        >>> e3d_lstm(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        E3DLSTMCell,
        kernel_size=kernel_size,
        depth=depth,
        tau=tau,
        norm=norm,
        size=feature_size(size, patch),
    )
    cells = stack_of(cell, folded_channels(in_channels, patch), hidden_channels, layers)
    return patched(cells, in_channels, patch)


@recorded
def stam(
    in_channels: int = 1,
    hidden_channels: int = 32,
    layers: int = 4,
    *,
    kernel_size: int | tuple[int, int, int] = 3,
    patch: int = 4,
    depth: int = 2,
    tau: int = 5,
    norm: Norm = "group",
    size: Size = None,
) -> Predictor:
    """STAM: a zigzag of attention based memories on windows of folded patches.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state.
        layers: How many units.
        kernel_size: Depth, height and width of the units' kernels, or one number for all three;
            height and width odd.
        patch: Side of the squares that are folded into channels, in pixels.
        depth: How many frames a window shows.
        tau: How many past memories the attention sees.
        norm: The units' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., IEEE Transactions on Multimedia 2022; settings of the authors' code.

    Example:
        >>> import torch
        >>> stam(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        STAMCell,
        kernel_size=kernel_size,
        depth=depth,
        tau=tau,
        norm=norm,
        size=feature_size(size, patch),
    )
    folded = folded_channels(in_channels, patch)
    core = STAMZigzag(stack_of(cell, folded, hidden_channels, layers))
    decoder = PatchDecoder(core.hidden_channels, folded, bias=True)
    return Predictor(PatchEncoder(folded), core, decoder, patch)
