"""What CrevNet puts around its units: an encoder whose inverse is the decoder."""

from __future__ import annotations

from collections.abc import Sequence

from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells import (
    ConvNorm,
    Inverse,
    Invertible,
    Reversible,
    ReversibleFlow,
    ReversiblePMCell,
)
from vidpred.cells.base import laid_out_as
from vidpred.cells.reversible_pm import ReversibleZigzag
from vidpred.cells.volume import cube
from vidpred.cells.wiring import ZigzagState
from vidpred.models.autoencoder import Decoder


def fold(x: Tensor) -> Tensor:
    """Fold each square of 2 x 2 pixels of a volume into channels, in the order of the authors.

    That is (row, column, channel), so that the halves of folded frames are even and odd rows.
    """
    return laid_out_as(x, rearrange(x, "b c d (h p) (w q) -> b (p q c) d h w", p=2, q=2))


def unfold(x: Tensor) -> Tensor:
    """The inverse of :func:`fold`."""
    return laid_out_as(x, rearrange(x, "b (p q c) d h w -> b c d (h p) (w q)", p=2, q=2))


class IRevNetBlock(Invertible[tuple[()]]):
    r"""Adds to one half of a volume a residual of the other: nothing is lost, and nothing stays.

    .. math:: x_1' = x_2 \qquad x_2' = x_1 + F(x_2)

    ``F`` is three 3D convolutions, each after group norm and ReLU. A block that downsamples folds
    ``x1`` and ``x2`` before they are added, and its first convolution has stride 2.

    Args:
        in_channels: Channels of ``x1`` and of ``x2``.
        downsample: Halve height and width, and fold each square of 2 x 2 pixels into channels.
        first: Whether the first convolution sees ``x2`` as it is.

    Shape:
        ``x1`` and ``x2`` of ``(B, in_channels, D, H, W)`` to the same, or with ``downsample`` to
        ``(B, 4 * in_channels, D, H / 2, W / 2)``.

    Reference:
        Jacobsen et al., i-RevNet, ICLR 2018, arXiv:1802.07088; Yu et al., ICLR 2020. Differs: the
        convolutions have a bias. The norm is that of the authors' code for traffic; that for
        Moving MNIST has batch norm, which mixes samples, and all steps of a rollout.
    """

    def __init__(self, in_channels: int, downsample: bool = False, first: bool = False) -> None:
        super().__init__()
        self.downsample = downsample
        stride = 2 if downsample else 1
        out_channels = in_channels * stride**2
        self.hidden_channels = 2 * out_channels
        inner, kernel = out_channels // 2, cube(3)
        self.enter = (
            nn.Sequential() if first else nn.Sequential(nn.GroupNorm(1, in_channels), nn.ReLU())
        )
        self.residual = nn.Sequential(
            ConvNorm(in_channels, inner, kernel, stride=stride),
            nn.ReLU(),
            ConvNorm(inner, inner, kernel),
            nn.ReLU(),
            ConvNorm(inner, out_channels, kernel, norm=None),
        )

    def init_state(self, like: Tensor) -> tuple[()]:
        return ()

    def forward(self, flow: ReversibleFlow, state: tuple[()]) -> tuple[ReversibleFlow, tuple[()]]:
        x1, x2, m = flow
        residual = self.residual(self.enter(x2))
        if self.downsample:
            x1, x2 = fold(x1), fold(x2)
        return ReversibleFlow(x2, x1 + residual, m), ()

    def inverse(self, flow: ReversibleFlow, state: tuple[()]) -> ReversibleFlow:
        x2, x1, m = flow
        if self.downsample:
            x2 = unfold(x2)
        x1 = x1 - self.residual(self.enter(x2))
        return ReversibleFlow(unfold(x1) if self.downsample else x1, x2, m)


class TwoWay(ReversibleZigzag):
    """CrevNet: bijective blocks, reversible predictive memories, and the same blocks backwards.

    From outside it is a cell for volumes of frames folded to the smallest size: the bijection
    changes neither the number of their elements nor, taken as a whole, their size.

    Args:
        in_channels: Channels of a frame.
        cells: From bottom to top; their ``hidden_channels`` are those of a folded frame.
        blocks: How many bijective blocks there are at each size, from half the frames' down; each
            size is half of the one before.

    Reference:
        Yu et al., ICLR 2020, arXiv:1910.11577.
    """

    def __init__(
        self, in_channels: int, cells: Sequence[ReversiblePMCell], blocks: Sequence[int]
    ) -> None:
        if not blocks or min(blocks) < 1:
            raise ValueError(f"blocks must be 1 or more at each size, got {tuple(blocks)}")
        folded = in_channels * 4 ** len(blocks)
        if cells[0].hidden_channels != folded:
            raise ValueError(
                f"cells between {len(blocks)} sizes of {in_channels}-channel frames have {folded} "
                f"hidden_channels, got {cells[0].hidden_channels}"
            )
        encoder: list[IRevNetBlock] = []
        for size, count in enumerate(blocks):
            for i in range(count):
                downsample = size > 0 and i == 0
                width = in_channels * 4 ** (size + (not downsample)) // 2
                encoder.append(IRevNetBlock(width, downsample, first=not encoder))
        super().__init__(Reversible([*encoder, *cells, *map(Inverse, reversed(encoder))]))
        self.stride = 2 ** len(blocks)

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        # All at once is another order of pixels than step by step.
        frames = F.pixel_shuffle(flow.transpose(1, 2), self.stride).transpose(1, 2)
        folded, state = super().forward(laid_out_as(flow, fold(frames)), state)
        frames = unfold(folded)
        return F.pixel_unshuffle(frames.transpose(1, 2), self.stride).transpose(1, 2), state


class LatestFrame(Decoder):
    """The last of the folded frames that rise as one feature map.

    Args:
        depth: How many frames there are.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return x.unflatten(1, (-1, self.depth))[:, :, -1]
