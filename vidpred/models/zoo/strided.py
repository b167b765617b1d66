"""Models that encode frames by strided convolutions, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any

from vidpred.cells import Cell, ConvLSTMCell, MAUCell, PhyCell, Stack, STAUCell, STGRUCell
from vidpred.cells.base import Norm
from vidpred.models.autoencoder import ConvDecoder, ConvEncoder
from vidpred.models.iprnn import MergedStack
from vidpred.models.phydnet import Branch, Parallel, PhyDNetDecoder, PhyDNetEncoder
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import recorded
from vidpred.models.zoo.common import Size, check_layers, feature_size, stack_of


@recorded
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
        >>> from vidpred.cells import ConvLSTMCell
        >>> predictor = stacked(ConvLSTMCell, hidden_channels=8)
        >>> predictor(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cells = stack_of(cell, hidden_channels, hidden_channels, layers)
    core = cells[0].wiring(cells)
    return Predictor(
        ConvEncoder(in_channels, hidden_channels, downsamplings),
        core,
        ConvDecoder(core.hidden_channels, hidden_channels, in_channels, downsamplings, recall),
    )


@recorded
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
        size=feature_size(size, 2**downsamplings),
    )
    return stacked(cell, in_channels, hidden_channels, layers, downsamplings, recall)


@recorded
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
        size=feature_size(size, 2**downsamplings),
    )
    return stacked(cell, in_channels, hidden_channels, layers, downsamplings, recall)


@recorded
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
        Chang et al., ICIP 2021.

    Example:
        >>> import torch
        >>> iprnn(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        STGRUCell,
        kernel_size=kernel_size,
        norm=norm,
        size=feature_size(size, 2**downsamplings),
    )
    return Predictor(
        ConvEncoder(in_channels, hidden_channels, downsamplings),
        MergedStack(stack_of(cell, hidden_channels, hidden_channels, layers)),
        ConvDecoder(hidden_channels, hidden_channels, in_channels, downsamplings, recall),
    )


@recorded
def phydnet(
    in_channels: int = 1, hidden_channels: int = 64, layers: int = 3, *, kernel_size: int = 7
) -> Predictor:
    """PhyDNet: a PhyCell for the physics beside ConvLSTMs for all the rest, their outputs added.

    :class:`~vidpred.tasks.ForecastTask` adds the penalty of the PhyCell's kernels to the loss.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of both branches' feature maps.
        layers: How many ConvLSTMs; all but the top one are twice as wide.
        kernel_size: Odd width of the kernels that stand for derivatives.

    Reference:
        Le Guen and Thome, CVPR 2020, arXiv:2003.01460; settings of the authors' code.

    Example:
        >>> import torch
        >>> phydnet(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    check_layers(layers)
    widths = [2 * hidden_channels] * (layers - 1) + [hidden_channels]
    lstms = [
        ConvLSTMCell(below, width, kernel_size=3, forget_bias=0.0, norm=None)
        for below, width in pairwise([hidden_channels, *widths])
    ]
    physics = PhyCell(hidden_channels, hidden_channels, kernel_size)
    return Predictor(
        PhyDNetEncoder(in_channels, hidden_channels),
        Parallel([Branch(physics), Branch(Stack(lstms))]),
        PhyDNetDecoder(hidden_channels, in_channels),
    )
