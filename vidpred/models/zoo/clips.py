"""Models whose encoders see the last frames at once, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vidpred.cells import Cell, STGRUCell
from vidpred.cells.base import Norm
from vidpred.models.clip import ClipPredictor
from vidpred.models.domains import DomainEncoder, MergedDecoder
from vidpred.models.iprnn import MergedStack
from vidpred.models.pretrained import recorded
from vidpred.models.stip import DomainStack, SharedCore
from vidpred.models.zoo.common import Size, feature_size, stack_of


@recorded
def stip(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 16,
    downsamplings: int = 4,
    *,
    kernel_size: int = 5,
    patch: int = 2,
    length: int = 2,
    recall: float = 0.1,
    separate: bool = True,
    cell: Callable[[int, int], Cell[Any, Any]] | None = None,
    norm: Norm = "group",
    size: Size = None,
) -> ClipPredictor:
    """STIP: STGRUs between a temporal and a spatial encoder of clips, and a decoder of each.

    The defaults are those for UCF Sports; the published settings are :func:`stip_ucf_sports`,
    :func:`stip_human36m` and :func:`stip_sjtu4k`.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's feature maps.
        layers: How many units.
        downsamplings: How often the encoders halve the sides of the folded frame.
        kernel_size: Odd width of the STGRUs' kernels.
        patch: Side of the squares that are folded into channels, in pixels.
        length: How many frames make a clip.
        recall: Weight of the encoders' feature maps in the decoders; with 0 nothing is recalled
            (the paper's ablation without MGIR).
        separate: Whether each domain has an encoder and a decoder. Or else there is one of each,
            and the last ``T`` and ``S`` are merged for it (without STED).
        cell: Makes a unit from (in_channels, hidden_channels), in place of an STGRU of this
            ``kernel_size``, ``norm`` and ``size``: a cell class, or a partial of one. The merge of
            both domains enters units that have no ``T``, and what rises from them is decoded in
            both.
        norm: The STGRUs' norm: ``"group"``, ``"layer"`` (published weights; needs ``size``), None.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., arXiv:2206.04381. Differs: as in the authors' code, ``T`` is decoded with the
        features of the spatial encoder and ``S`` with those of the temporal one, and those of the
        encoders' first, finest layer are not recalled. The adversarial training is not here.

    Example:
        >>> import torch
        >>> model = stip(hidden_channels=8, layers=2)
        >>> model(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    stgru = partial(
        STGRUCell,
        kernel_size=kernel_size,
        norm=norm,
        size=feature_size(size, patch * 2**downsamplings),
    )
    n = hidden_channels
    cells = stack_of(cell or stgru, n, n, layers)
    two_states = isinstance(cells[0], STGRUCell)
    if separate:
        core = DomainStack(cells) if two_states else SharedCore(cells[0].wiring(cells), n)
    else:
        core = MergedStack(cells) if two_states else cells[0].wiring(cells)
    domains = ("t", "s") if separate else ("s",)
    width = core.hidden_channels // len(domains)
    return ClipPredictor(
        DomainEncoder(length * in_channels, n, downsamplings, patch, domains),
        core,
        MergedDecoder(width, n, in_channels, downsamplings, patch, domains, recall),
        length,
    )


@recorded
def stip_ucf_sports(
    in_channels: int = 3, hidden_channels: int = 64, layers: int = 16, *, norm: Norm = "group"
) -> ClipPredictor:
    """:func:`stip` as published for UCF Sports, 512 x 512.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's feature maps.
        layers: How many units.
        norm: The units' norm; published weights have ``"layer"``, for frames of that size.

    Example:
        >>> stip_ucf_sports(hidden_channels=4, layers=1).stride
        32
    """
    return stip(in_channels, hidden_channels, layers, patch=2, norm=norm, size=(512, 512))


@recorded
def stip_human36m(
    in_channels: int = 3, hidden_channels: int = 64, layers: int = 16, *, norm: Norm = "group"
) -> ClipPredictor:
    """:func:`stip` as published for Human3.6M, 1024 x 1024.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's feature maps.
        layers: How many units.
        norm: The units' norm; published weights have ``"layer"``, for frames of that size.

    Example:
        >>> stip_human36m(hidden_channels=4, layers=1).stride
        64
    """
    return stip(in_channels, hidden_channels, layers, patch=4, norm=norm, size=(1024, 1024))


@recorded
def stip_sjtu4k(
    in_channels: int = 3, hidden_channels: int = 64, layers: int = 16, *, norm: Norm = "group"
) -> ClipPredictor:
    """:func:`stip` as published for SJTU4K, 2160 x 3840.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's feature maps.
        layers: How many units.
        norm: The units' norm; published weights have ``"layer"``, for frames of that size.

    Example:
        >>> stip_sjtu4k(hidden_channels=4, layers=1).stride
        128
    """
    return stip(in_channels, hidden_channels, layers, patch=8, norm=norm, size=(2160, 3840))
