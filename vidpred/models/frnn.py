"""How FRNN takes frames in and out: the same convolutions, one way and the other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.frames import at_least_one_channel


class TanhEncoder(Encoder):
    """Convolutions followed by tanh, of frames scaled to [-1, 1].

    Args:
        in_channels: Channels of a frame.
        widths: Channels after each convolution.
        kernel_size: Odd width of the square kernels.
    """

    stride = 1

    def __init__(self, in_channels: int, widths: Sequence[int], kernel_size: int) -> None:
        super().__init__()
        at_least_one_channel(in_channels)
        self.in_channels = in_channels
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel_size, padding=kernel_size // 2)
            for before, after in zip([in_channels, *widths[:-1]], widths, strict=True)
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        x = 2 * frames - 1
        for conv in self.convs:
            x = torch.tanh(conv(x))
        return [x]


class TiedDecoder(Decoder):
    """The convolutions of a :class:`TanhEncoder` transposed, with biases of their own, and tanh.

    Args:
        encoder: Whose kernels the decoder shares.
    """

    def __init__(self, encoder: TanhEncoder) -> None:
        super().__init__()
        self.convs = encoder.convs
        self.biases = nn.ParameterList(
            torch.zeros(conv.in_channels)  # type: ignore[arg-type]
            for conv in encoder.convs
        )

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        for conv, bias in reversed(list(zip(self.convs, self.biases, strict=True))):
            x = torch.tanh(F.conv_transpose2d(x, conv.weight, bias, padding=conv.padding))  # type: ignore[arg-type]
        return (x + 1) / 2
