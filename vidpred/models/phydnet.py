"""What PhyDNet is made of: branches that predict side by side, between blocks with group norms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from vidpred.cells import Cell, Stack
from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.frames import at_least_one_channel


def block(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    """A convolution, a norm of 16 groups (fewer where 16 divides not the channels), LeakyReLU."""
    channels = conv.out_channels
    return nn.Sequential(
        conv, nn.GroupNorm(math.gcd(16, channels), channels), nn.LeakyReLU(0.2, inplace=True)
    )


def down(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A block that divides the sides by ``stride``."""
    return block(nn.Conv2d(in_channels, out_channels, 3, stride, padding=1))


def up(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
    """A block that multiplies the sides by ``stride``."""
    return block(
        nn.ConvTranspose2d(
            in_channels, out_channels, 3, stride, padding=1, output_padding=stride - 1
        )
    )


class PhyDNetEncoder(Encoder):
    """Three blocks of 3x3 convolutions, the first and the last with stride 2.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of the feature map; half as many come before.
    """

    stride = 4

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        at_least_one_channel(in_channels)
        half = -(-hidden_channels // 2)
        self.in_channels = in_channels
        self.blocks = nn.Sequential(
            down(in_channels, half, 2), down(half, half, 1), down(half, hidden_channels, 2)
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [self.blocks(frames)]


class PhyDNetDecoder(Decoder):
    """The encoder backwards, by transposed convolutions; a sigmoid keeps the frames in (0, 1).

    Args:
        hidden_channels: Channels of the core's feature map; half as many come after.
        out_channels: Channels of a frame.
    """

    def __init__(self, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        half = -(-hidden_channels // 2)
        self.blocks = nn.Sequential(up(hidden_channels, half, 2), up(half, half, 1))
        self.to_frame = nn.ConvTranspose2d(half, out_channels, 3, 2, padding=1, output_padding=1)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.to_frame(self.blocks(x)).sigmoid()


class Branch(Cell[Tensor, Any]):
    """A cell that sees its input through an encoder and is seen through a decoder of its own.

    Args:
        cell: Takes and returns feature maps of ``hidden_channels`` channels.
    """

    wiring = Stack

    def __init__(self, cell: Cell[Tensor, Any]) -> None:
        super().__init__()
        width = self.hidden_channels = cell.hidden_channels
        self.encoder = nn.Sequential(down(width, width, 1), down(width, width, 1))
        self.cell = cell
        self.decoder = nn.Sequential(up(width, width, 1), up(width, width, 1))

    def init_state(self, like: Tensor) -> Any:
        return self.cell.init_state(like)

    def forward(self, flow: Tensor, state: Any) -> tuple[Tensor, Any]:
        risen, state = self.cell(self.encoder(flow), state)
        return self.decoder(risen).to(risen.dtype), state


class Parallel(Cell[Tensor, tuple[Any, ...]]):
    """Cells side by side: each receives the same flow, and the sum of what they let rise rises.

    Stays: the states of all cells.

    Args:
        branches: Cells for feature maps, all with the same ``hidden_channels``.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell, PhyCell
        >>> core = Parallel([PhyCell(8, 8), ConvGRUCell(8, 8)])
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> flow, (h, _) = core(x, core.init_state(x))
        >>> flow.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Stack

    def __init__(self, branches: Sequence[Cell[Tensor, Any]]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)
        widths = {branch.hidden_channels for branch in branches}
        if len(widths) != 1:
            raise ValueError(
                f"what rises from the branches is added: hidden_channels must be equal, got "
                f"{sorted(widths)}"
            )
        (self.hidden_channels,) = widths

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return tuple(branch.init_state(like) for branch in self.branches)  # type: ignore[operator]

    def forward(self, flow: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        risen, kept = [], []
        for branch, before in zip(self.branches, state, strict=True):
            top, after = branch(flow, before)
            risen.append(top)
            kept.append(after)
        return sum(risen[1:], start=risen[0]), tuple(kept)
