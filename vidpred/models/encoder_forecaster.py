"""The encoder-forecaster of TrajGRU: recurrent levels, coarser on the way in, finer on that out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from vidpred.cells.base import Cell, FreeRunning, zeros
from vidpred.cells.wiring import Stack
from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.frames import at_least_one_channel, at_least_one_feature


def shrinking(in_channels: int, out_channels: int, stride: int) -> nn.Conv2d:
    """A convolution that divides the sides: of 3 pixels for strides 1 and 2, of 5, 7 for 3, 5."""
    return nn.Conv2d(in_channels, out_channels, stride + 1 + stride % 2, stride, padding=1)


def growing(in_channels: int, out_channels: int, stride: int) -> nn.ConvTranspose2d:
    """A transposed convolution that multiplies the sides: of 4 pixels for stride 2."""
    return nn.ConvTranspose2d(in_channels, out_channels, stride + 2, stride, padding=1)


class StridedEncoder(Encoder):
    """A strided convolution with LeakyReLU(0.2).

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of the feature map.
        stride: By what the sides are divided.
    """

    def __init__(self, in_channels: int, hidden_channels: int, stride: int) -> None:
        super().__init__()
        at_least_one_channel(in_channels)
        at_least_one_feature(hidden_channels)
        if stride < 1:
            raise ValueError(f"stride must be at least 1, got {stride}")
        self.in_channels = in_channels
        self.stride = stride
        self.conv = shrinking(in_channels, hidden_channels, stride)

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [F.leaky_relu(self.conv(frames), 0.2, inplace=True)]


class StridedDecoder(Decoder):
    """A strided transposed convolution and a 3x3 one with LeakyReLU(0.2), then a 1x1 to the frame.

    Args:
        in_channels: Channels of the core's feature map.
        hidden_channels: Channels of the convolutions between.
        out_channels: Channels of a frame.
        stride: By what the sides are multiplied.
    """

    def __init__(
        self, in_channels: int, hidden_channels: int, out_channels: int, stride: int
    ) -> None:
        super().__init__()
        self.up = growing(in_channels, hidden_channels, stride)
        self.conv = nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1)
        self.to_frame = nn.Conv2d(hidden_channels, out_channels, 1)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        for conv in (self.up, self.conv):
            x = F.leaky_relu(conv(x), 0.2, inplace=True)
        return self.to_frame(x)


class EncoderForecasterState(NamedTuple):
    """The states of the encoder's cells and of the forecaster's, finest first."""

    encoder: tuple[Any, ...]
    forecaster: tuple[Any, ...]


class EncoderForecaster(FreeRunning[EncoderForecasterState]):
    """Two hourglass halves of recurrent levels: one takes frames in, the other runs on from it.

    A feature map descends the encoder, ever coarser, through a cell at each level. The states it
    leaves are those in which the forecaster starts. From the forecaster's coarsest cell, which has
    no input, a feature map rises through its cells to the finest.

    Args:
        encoder: A cell for feature maps for each level, finest first.
        forecaster: As many, each with states like the encoder's; the coarsest takes maps without
            channels, the others what its level has.
        strides: By what the sides of a feature map are divided between two levels.

    Shape:
        ``(B, C, H, W)`` to ``(B, hidden_channels, H, W)``; H and W multiples of all strides.

    Raises:
        ValueError: No cells, not as many each way, or strides that are not one less or below 1.

    Reference:
        Shi et al., NeurIPS 2017, arXiv:1706.03458, Fig. 1 and appendix.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell
        >>> encoder = [ConvGRUCell(3, 8), ConvGRUCell(16, 16)]
        >>> core = EncoderForecaster(encoder, [ConvGRUCell(8, 8), ConvGRUCell(0, 16)], [2])
        >>> x = torch.zeros(2, 3, 32, 32)
        >>> y, state = core(x, core.init_state(x))
        >>> y.shape, state.forecaster[1].h.shape
        (torch.Size([2, 8, 32, 32]), torch.Size([2, 16, 16, 16]))
    """

    wiring = Stack

    def __init__(
        self,
        encoder: Sequence[Cell[Tensor, Any]],
        forecaster: Sequence[Cell[Tensor, Any]],
        strides: Sequence[int],
    ) -> None:
        super().__init__()
        if not len(encoder) == len(forecaster) == len(strides) + 1:
            raise ValueError(
                "there is one cell each way for each level and one stride between two, got "
                f"{len(encoder)} and {len(forecaster)} cells for strides={tuple(strides)}"
            )
        if any(stride < 1 for stride in strides):
            raise ValueError(f"strides must be at least 1, got {tuple(strides)}")
        widths = [cell.hidden_channels for cell in encoder]
        levels = list(zip(widths[:-1], widths[1:], strides, strict=True))
        self.encoder = nn.ModuleList(encoder)
        self.forecaster = nn.ModuleList(forecaster)
        self.down = nn.ModuleList(shrinking(fine, coarse, s) for fine, coarse, s in levels)
        self.up = nn.ModuleList(growing(coarse, fine, s) for fine, coarse, s in levels)
        self.strides = tuple(strides)
        self.stride = math.prod(strides)
        self.hidden_channels = widths[0]

    def init_state(self, like: Tensor) -> EncoderForecasterState:
        likes = [like]
        for stride in self.strides:
            likes.append(torch.empty_like(likes[-1][..., ::stride, ::stride]))
        encoder, forecaster = (
            tuple(cell.init_state(like) for cell, like in zip(cells, likes, strict=True))  # type: ignore[operator]
            for cells in (self.encoder, self.forecaster)
        )
        return EncoderForecasterState(encoder, forecaster)

    def observe(self, flow: Tensor, state: EncoderForecasterState) -> EncoderForecasterState:
        kept = []
        for down, cell, before in zip([None, *self.down], self.encoder, state.encoder, strict=True):
            if down is not None:
                flow = F.leaky_relu(down(flow), 0.2, inplace=True)
            flow, after = cell(flow, before)
            kept.append(after)
        return EncoderForecasterState(tuple(kept), tuple(kept))

    def forecast(self, state: EncoderForecasterState) -> tuple[Tensor, EncoderForecasterState]:
        coarsest = tree_leaves(state.forecaster[-1])[0]
        flow = zeros(coarsest, 0)
        kept: list[Any] = []
        levels = zip([None, *self.up], self.forecaster, state.forecaster, strict=True)
        for up, cell, before in reversed(list(levels)):
            flow, after = cell(flow, before)
            kept.insert(0, after)
            if up is not None:
                flow = F.leaky_relu(up(flow), 0.2, inplace=True)
        return flow, EncoderForecasterState(state.encoder, tuple(kept))
