"""Frame encoders and decoders: what turns a frame into a feature map and back."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.models.frames import at_least_one_channel, at_least_one_feature
from vidpred.models.volume import convolution, transposed


class Encoder(nn.Module, abc.ABC):
    """Maps frames to feature maps, the coarsest of which enters the recurrent core.

    A predictor of patches or clips gives it folded frames: see :class:`Predictor`.

    Attributes:
        in_channels: Channels of what it is given.
        stride: The sides of that must be multiples of it (the predictor pads); the coarsest feature
            map is smaller by this factor.
    """

    in_channels: int
    stride: int

    @abc.abstractmethod
    def forward(self, frames: Tensor) -> list[Tensor]:
        """``(N, C, H, W)`` to feature maps, finest first: those to be recalled, then the core's."""


class Decoder(nn.Module, abc.ABC):
    """Maps the core's feature map back to frames.

    Attributes:
        recall: Weight of the encoder's finer feature maps in the decoding; with 0 they need not
            be given.
    """

    recall: float = 0.0

    @abc.abstractmethod
    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        """The core's ``(N, K, h, w)`` and the encoder's finer maps to ``(N, C, H, W)``."""


class ConvEncoder(Encoder):
    """A 1x1 convolution and ``downsamplings`` stride-2 3x3 convolutions, all with LeakyReLU.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map.
        downsamplings: How often the sides are halved.
        slope: Of the LeakyReLU below zero; 0 makes it a ReLU.
        depth: Makes the convolutions 3D ones of volumes of so many maps, which lie, channels by
            depth, in the channels of the feature maps. ``None``: 2D ones.

    Example:
        >>> import torch
        >>> [tuple(f.shape) for f in ConvEncoder(1, 8, 2)(torch.zeros(2, 1, 32, 24))]
        [(2, 8, 32, 24), (2, 8, 16, 12), (2, 8, 8, 6)]
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        downsamplings: int,
        slope: float = 0.2,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        if downsamplings < 0:
            raise ValueError(f"downsamplings must be 0 or more, got {downsamplings}")
        at_least_one_channel(in_channels)
        at_least_one_feature(hidden_channels)
        self.in_channels = in_channels
        self.stride = 2**downsamplings
        self.slope = slope
        self.convs = nn.ModuleList(
            [convolution(in_channels, hidden_channels, 1, 1, depth)]
            + [
                convolution(hidden_channels, hidden_channels, 3, 2, depth)
                for _ in range(downsamplings)
            ]
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        features = []
        for conv in self.convs:
            frames = F.leaky_relu(conv(frames), self.slope, inplace=True)
            features.append(frames)
        return features


class ConvDecoder(Decoder):
    """``upsamplings`` stride-2 3x3 transposed convolutions, then a 1x1 convolution to the frame.

    A LeakyReLU follows every transposed convolution but the last.

    Args:
        in_channels: Channels of the core's feature map.
        hidden_channels: Channels of every later feature map.
        out_channels: Channels of a frame.
        upsamplings: How often the sides are doubled.
        recall: Weight of the encoder's feature map of the same size, added after each transposed
            convolution (skip connection), after the last if the encoder gives one of that size; 0
            for none.
        slope: Of the LeakyReLU below zero; 0 makes it a ReLU.
        depth: Makes the convolutions 3D ones of volumes of so many maps, which lie, channels by
            depth, in the channels of the feature maps. ``None``: 2D ones.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        upsamplings: int,
        recall: float = 0.0,
        slope: float = 0.2,
        depth: int | None = None,
    ) -> None:
        super().__init__()
        self.recall = recall
        self.slope = slope
        widths = [in_channels] + [hidden_channels] * upsamplings
        self.convs = nn.ModuleList(
            transposed(width, hidden_channels, depth) for width in widths[:-1]
        )
        self.to_frame = nn.Conv2d(widths[-1], out_channels, 1)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        frame = upsample(self.rise(x, features), *self.tail())
        if self.recall and len(features) == len(self.convs) > 0:
            frame = frame + F.conv2d(features[0], self.recall * self.to_frame.weight)
        return frame

    def rise(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        """All transposed convolutions but the last: the rest is linear."""
        for i, conv in enumerate(self.convs[:-1]):
            x = F.leaky_relu(conv(x), self.slope, inplace=True)
            if self.recall:
                x = x.add(features[-1 - i], alpha=self.recall)
        return x

    def tail(self, merge: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Kernel and bias of what follows, in one, for :func:`upsample`.

        Nothing non-linear stands between the last two convolutions: their product gives the same
        frame without the widest feature map of the model, in time and in memory.

        Args:
            merge: A matrix that is to be applied to each pixel of the frame after them.
        """
        weight, bias = self.to_frame.weight[:, :, 0, 0], cast(Tensor, self.to_frame.bias)
        if merge is not None:
            weight, bias = merge @ weight, merge @ bias
        if not self.convs:
            return weight.t()[..., None, None], bias
        last = self.convs[-1]
        kernel = torch.einsum("iokl,co->ickl", last.weight, weight)
        return kernel, weight @ cast(Tensor, last.bias) + bias


def upsample(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Double the sides by a 3x3 transposed convolution; a 1x1 kernel keeps them."""
    half = kernel.shape[-1] // 2
    return F.conv_transpose2d(x, kernel, bias, 1 + half, half, half)


class PatchEncoder(Encoder):
    """Hands folded frames to the core as they are.

    Args:
        in_channels: Channels of a folded frame.
    """

    stride = 1

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        at_least_one_channel(in_channels)
        self.in_channels = in_channels

    def forward(self, frames: Tensor) -> list[Tensor]:
        return [frames]


class PatchDecoder(Decoder):
    """A 1x1 convolution to the folded frame.

    Args:
        hidden_channels: Channels of the core's feature map.
        out_channels: Channels of a folded frame.
        bias: Whether the convolution has one.
    """

    def __init__(self, hidden_channels: int, out_channels: int, bias: bool = False) -> None:
        super().__init__()
        self.to_patches = nn.Conv2d(hidden_channels, out_channels, 1, bias=bias)

    def forward(self, x: Tensor, features: Sequence[Tensor]) -> Tensor:
        return self.to_patches(x)
