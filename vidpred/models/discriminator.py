"""The discriminator of the adversarial training: how real a frame looks."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import recomputed, to_channels_last
from vidpred.models.folding import fold, folded_channels
from vidpred.models.frames import check_dtype, check_frames, convolution_dtype


class Discriminator(nn.Module):
    """Tells true frames from predicted ones, each frame by itself.

    ``downsamplings`` stride-2 3x3 convolutions, each with group norm (4 groups) and LeakyReLU, then
    a linear layer on the last feature map, which is first averaged over each field of ``grid``.
    Like a predictor it folds squares of pixels into channels; the frames that it is given are not
    folded. Where ``2**downsamplings`` is the height of the folded frames, as in the paper, the last
    map is one pixel high, and the averages are its pixels.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of every feature map, a multiple of 4 from 8 on.
        downsamplings: How often the sides are halved; 8 in all published settings.
        patch: Side of the squares of pixels that are folded into channels, the predictor's:
            2 for UCF Sports, 4 for Human3.6M, 8 for SJTU4K.
        grid: Rows and columns of the averages that enter the linear layer. Published weights need
            the size of the last map: (2, 2) for SJTU4K, (1, 1) for square frames.
        slope: Of the LeakyReLU below zero; 0 makes it a ReLU, which published weights need.

    Shape:
        ``(B, T, in_channels, H, W)`` to the logits ``(B, T)`` and the last feature maps
        ``(B, T, hidden_channels, h, w)``; any H, W.

    Raises:
        ValueError: An argument is out of range. While running: frames of another rank, dtype or
            number of channels.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Tables I and II. Differs: logits, for each frame,
        where the paper has probabilities and the code their mean over time. The averages: the
        linear layer there sees a flattened map and thereby fits one size of frames only.

    Example:
        >>> logits, features = Discriminator(3, downsamplings=5)(torch.rand(2, 4, 3, 70, 40))
        >>> logits.shape, features.shape
        (torch.Size([2, 4]), torch.Size([2, 4, 64, 3, 2]))
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int = 64,
        downsamplings: int = 8,
        patch: int = 1,
        grid: tuple[int, int] = (1, 1),
        slope: float = 0.2,
    ) -> None:
        super().__init__()
        if hidden_channels < 8 or hidden_channels % 4:
            raise ValueError(  # a norm over a single number would leave nothing of it
                "hidden_channels must make 4 groups of 2 or more for the group norm: a multiple of "
                f"4 from 8 on, got {hidden_channels}"
            )
        if downsamplings < 1 or min(grid) < 1:
            raise ValueError(
                f"expected downsamplings and both sides of grid of at least 1, got {downsamplings} "
                f"and {grid}"
            )
        self.in_channels = in_channels
        self.patch = patch
        self.grid = grid
        widths = [folded_channels(in_channels, patch)] + [hidden_channels] * downsamplings
        self.layers = nn.Sequential(*(_layer(*pair, slope) for pair in pairwise(widths)))
        self.linear = nn.Linear(hidden_channels * grid[0] * grid[1], 1)
        to_channels_last(self)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits, large where a frame looks real, and the last feature maps."""
        check_frames(frames, self.in_channels)
        check_dtype(frames, self)
        # The first layer's folded frames and maps are the widest. The frames, which are kept in any
        # case, quickly give both again: one time step after the other.
        x = torch.cat([recomputed(self._first_layer, frame) for frame in frames.unbind(dim=1)])
        x = self.layers[1:](x)
        logits = self.linear(F.adaptive_avg_pool2d(x, self.grid).flatten(1))
        # Under autocast the layers may return bfloat16; losses are taken in the frames' dtype.
        by_step = (y.to(frames.dtype).unflatten(0, (frames.shape[1], -1)) for y in (logits, x))
        logits, features = (y.transpose(0, 1) for y in by_step)
        return logits.squeeze(2), features

    def _first_layer(self, frames: Tensor) -> Tensor:
        return self.layers[0](fold([frames], self.patch, self.patch, convolution_dtype(frames)))


def _layer(in_channels: int, out_channels: int, slope: float) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1),
            norm=nn.GroupNorm(4, out_channels),
            activation=nn.LeakyReLU(slope, inplace=True),
        )
    )
