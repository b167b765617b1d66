"""Convolutions of feature maps, and of those that hold a volume: channels by depth."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F


class VolumeConv(nn.Module):
    """Does to maps what a 3D convolution does to the volumes that they hold.

    A 2D kernel is made of the 3D one: where volumes are shallow it multiplies fewer zeros, and what
    is linear after the convolution can be merged with it. With strides, on CPUs, it takes less time
    than a 3D convolution in float32, and as much in bfloat16.

    Args:
        conv: Keeps the depth; its kernels are square, its stride is that of height and width.
        depth: How many maps make a volume.

    Shape:
        ``(B, in_channels * depth, H, W)`` to ``(B, out_channels * depth, H', W')``.

    Example:
        >>> import torch
        >>> conv = nn.Conv3d(3, 8, 3, stride=(1, 2, 2), padding=1)
        >>> volume = torch.rand(1, 3, 2, 16, 12)
        >>> maps = VolumeConv(conv, depth=2)(volume.flatten(1, 2))
        >>> torch.allclose(maps, conv(volume).flatten(1, 2), atol=1e-6)
        True
    """

    def __init__(self, conv: nn.Conv3d | nn.ConvTranspose3d, depth: int) -> None:
        super().__init__()
        self.conv = conv
        self.depth = depth

    @property
    def weight(self) -> Tensor:
        """The kernel of the 2D convolution."""
        return unrolled(self.conv.weight, self.depth)

    @property
    def bias(self) -> Tensor:
        """The bias of the 2D convolution."""
        return cast(Tensor, self.conv.bias).repeat_interleave(self.depth)

    def forward(self, x: Tensor) -> Tensor:
        _, *stride = self.conv.stride
        _, *padding = cast(tuple[int, ...], self.conv.padding)
        if isinstance(self.conv, nn.ConvTranspose3d):
            _, *more = self.conv.output_padding
            return F.conv_transpose2d(x, self.weight, self.bias, stride, padding, more)
        return F.conv2d(x, self.weight, self.bias, stride, padding)


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, stride: int, depth: int | None
) -> nn.Module:
    """A "same"-padded 2D convolution of maps, or the cubic 3D one of the volumes that they hold.

    Args:
        in_channels: Channels of the maps that enter.
        out_channels: Channels of the maps that leave.
        kernel_size: Odd width of the square or cubic kernel.
        stride: Of height and width.
        depth: How many maps make a volume; ``None`` for maps that hold none.
    """
    half = kernel_size // 2
    if depth is None:
        return nn.Conv2d(in_channels, out_channels, kernel_size, stride, half)
    widths, strides = (in_channels // depth, out_channels // depth), (1, stride, stride)
    return VolumeConv(nn.Conv3d(*widths, kernel_size, strides, half), depth)


def transposed(in_channels: int, out_channels: int, depth: int | None) -> nn.Module:
    """A 3x3 transposed convolution of stride 2, or the 3x3x3 one of the volumes that maps hold.

    Args:
        in_channels: Channels of the maps that enter.
        out_channels: Channels of the maps that leave, of twice the height and width.
        depth: How many maps make a volume; ``None`` for maps that hold none.
    """
    if depth is None:
        return nn.ConvTranspose2d(in_channels, out_channels, 3, 2, 1, 1)
    widths = in_channels // depth, out_channels // depth
    return VolumeConv(nn.ConvTranspose3d(*widths, 3, (1, 2, 2), 1, (0, 1, 1)), depth)


def unrolled(kernel: Tensor, depth: int) -> Tensor:
    """``(O, I, K, h, w)`` for volumes as ``(O * depth, I * depth, h, w)`` for maps that hold them.

    From map e to map d of a volume leads the slice of K that lies e - d from its middle.
    """
    slices = F.pad(kernel, (0, 0, 0, 0, depth - 1, depth - 1)).unfold(2, depth, step=1)
    behind = (kernel.shape[2] - 1) // 2
    rows = slices[:, :, behind : behind + depth].flip(2)  # (O, I, d, h, w, e)
    return rows.permute(0, 2, 3, 4, 1, 5).flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
