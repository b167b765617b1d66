"""Models whose encoders see the last frames at once, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from vidpred.cells import Cell, PastZigzag, STAMCell, STGRUCell, Volumes
from vidpred.cells.base import Norm
from vidpred.models.clip import ClipPredictor
from vidpred.models.domains import DomainEncoder, MergedDecoder
from vidpred.models.folding import folded_channels
from vidpred.models.iprnn import MergedStack
from vidpred.models.pretrained import recorded
from vidpred.models.stip import DomainStack, SharedCore
from vidpred.models.strpm import DomainDecoder, DomainZigzag
from vidpred.models.zoo.common import Size, check_length, feature_size, stack_of


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
    check_length(length)
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
    folded = folded_channels(in_channels, patch)
    return ClipPredictor(
        DomainEncoder(length * folded, n, downsamplings, domains),
        core,
        MergedDecoder(width, n, folded, downsamplings, domains, recall),
        patch,
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


@recorded
def stae(
    in_channels: int = 1,
    hidden_channels: int = 64,
    layers: int = 4,
    downsamplings: int = 2,
    *,
    kernel_size: int | tuple[int, int, int] = (3, 5, 5),
    patch: int = 8,
    length: int = 2,
    tau: int = 5,
    separate: bool = True,
    norm: Norm = "group",
    size: Size = None,
) -> ClipPredictor:
    r"""STAE: STAMs between three 3D encoders of clips and three 3D decoders.

    .. math::
        T_t, S_t, O_t &= TE(v_{t-L+1:t}), SE(v_{t-L+1:t}), OE(v_{t-L+1:t}) \\
        TH_t, SH_t, OH_t &= TD(C_t^N), SD(M_t^N), OD(O_t^N) \\
        \hat{v}_{t+1} &= OH_t \odot \tanh(W_{1 \times 1} * [TH_t, SH_t])

    An encoder is a 1x1x1 convolution and ``downsamplings`` 3x3x3 ones that halve height and width,
    each with a ReLU; all keep the depth of the clip. A decoder doubles height and width by as many
    transposed 3x3x3 convolutions with a ReLU between them, and a convolution as deep as the volume
    makes a folded frame of it. The defaults are those for UCF Sports; the published settings are
    :func:`stae_ucf_sports` and :func:`stae_ucf101`.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's features.
        layers: How many units.
        downsamplings: How often the encoders halve the sides of the folded frame.
        kernel_size: Depth, height and width of the units' kernels, or one number for all three;
            height and width odd.
        patch: Side of the squares that are folded into channels, in pixels.
        length: How many frames make a clip.
        tau: How many past memories the attention sees. With 1 the units are ST-LSTMs with 3D
            convolutions (the paper's ablation without STAM).
        separate: Whether each domain has an encoder and a decoder. Or else there is one of each:
            :math:`T_t = S_t = O_t`, and the hidden state is decoded (without ED).
        norm: The units' norm: ``"group"``, ``"layer"`` (published; needs ``size``) or ``None``.
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Chang et al., ICME 2021; there is no code of the authors. Where the paper is silent, their
        other models decide: patches, scales and the layers of encoders and decoders are STRPM's at
        this resolution, 3D as in STAM; with clips of two frames they give the features of 64 x 2 x
        16 x 16 that the paper names. Differs: as in the code of both, only the units are
        normalised; their forget bias is 1.

    Example:
        >>> import torch
        >>> model = stae(hidden_channels=8, layers=2)
        >>> model(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    check_length(length)
    n, maps = hidden_channels, hidden_channels * length
    folded = folded_channels(in_channels, patch)
    domains = "tso" if separate else "x"

    def unit(width: int, hidden_channels: int) -> STAMCell:
        return STAMCell(
            width,
            hidden_channels,
            kernel_size,
            depth=length,
            tau=tau,
            separate=width > hidden_channels,
            norm=norm,
            size=feature_size(size, patch * 2**downsamplings),
        )

    cells = stack_of(unit, len(domains) * n, n, layers)
    core = Volumes(DomainZigzag(cells) if separate else PastZigzag(cells), length)
    decoder = (
        DomainDecoder(maps, folded, downsamplings, depth=length)
        if separate
        else MergedDecoder(maps, maps, folded, downsamplings, domains, slope=0.0, depth=length)
    )
    return ClipPredictor(
        DomainEncoder(length * folded, maps, downsamplings, domains, 0.0, length),
        core,
        decoder,
        patch,
        length,
    )


@recorded
def stae_ucf_sports(
    in_channels: int = 3, hidden_channels: int = 64, layers: int = 4, *, norm: Norm = "group"
) -> ClipPredictor:
    """:func:`stae` for UCF Sports, 512 x 512.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's features.
        layers: How many units.
        norm: The units' norm; the published one is ``"layer"``, for frames of that size.

    Example:
        >>> stae_ucf_sports(hidden_channels=4, layers=1).stride
        32
    """
    return stae(in_channels, hidden_channels, layers, 2, norm=norm, size=(512, 512))


@recorded
def stae_ucf101(
    in_channels: int = 3, hidden_channels: int = 64, layers: int = 4, *, norm: Norm = "group"
) -> ClipPredictor:
    """:func:`stae` for UCF101, 256 x 256, with features of the same size as for UCF Sports.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every state, and of a domain's features.
        layers: How many units.
        norm: The units' norm; the published one is ``"layer"``, for frames of that size.

    Example:
        >>> stae_ucf101(hidden_channels=4, layers=1).stride
        16
    """
    return stae(in_channels, hidden_channels, layers, 1, norm=norm, size=(256, 256))
