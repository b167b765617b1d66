"""Early action recognition: a predictor's hidden states, and the classifier that sees them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import to_channels_last
from vidpred.models.frames import at_least_one_channel, check_frames
from vidpred.models.predictor import Predictor


def hidden_states(predictor: Predictor, context: Tensor, horizon: int) -> Tensor:
    """Forecast the frames after ``context``, and return what the decoder saw at every step.

    That is what rises from the core, of all steps: those of known frames, then those of predicted
    ones. Gradients reach the predictor through them.

    Args:
        predictor: Any predictor.
        context: The known frames ``(B, T, C, H, W)`` in [0, 1], T at least 1.
        horizon: How many frames to predict, at least 1; so many less one are fed back.

    Returns:
        ``(B, T + horizon - 1, channels, height, width)``, of 3D models with the depth within the
        channels.

    Raises:
        ValueError: ``context`` does not fit the predictor, or ``horizon`` is below 1.

    Example:
        >>> from vidpred.models import zoo
        >>> predictor = zoo.stau(hidden_channels=8, layers=2)
        >>> hidden_states(predictor, torch.rand(2, 5, 1, 32, 32), horizon=15).shape
        torch.Size([2, 19, 8, 8, 8])
    """
    check_frames(context, predictor.in_channels)
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 frame, got {horizon}")
    known = context.shape[1]
    frames = F.pad(context, (0, 0, 0, 0, 0, 0, 0, horizon))  # with frames that do not enter
    keep = (torch.arange(known + horizon - 1) < known).expand(len(context), -1)
    states: list[Tensor] = []
    # Every predictor decodes what rises from its core: the hook sees it, whatever made it.
    handle = predictor.decoder.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    try:
        predictor.rollout(frames, keep)
    finally:
        handle.remove()
    return torch.stack([x.flatten(1, -3) for x in states], dim=1)


class ActionClassifier(nn.Module):
    """Tells the action of a clip from feature maps over time, by 3D convolutions.

    A norm of each channel by itself; ``downsamplings`` stride-2 3x3x3 convolutions over time and
    space, each with group norm (4 groups) and ReLU and with twice the channels of the one before;
    the mean over the last volume; a linear layer. It sees the hidden states of a predictor, or
    frames.

    Args:
        in_channels: Channels of a feature map.
        classes: How many actions there are, at least 2.
        hidden_channels: Channels of the first volume, a multiple of 4 from 8 on.
        downsamplings: How often length and sides are halved.

    Shape:
        ``(B, T, in_channels, H, W)`` to the logits ``(B, classes)``; any T, H, W.

    Raises:
        ValueError: An argument is out of range. While running: maps of another rank or number of
            channels.

    Reference:
        Chang et al., STAU, arXiv:2204.09456, section 4.3.1: 3D convolutions take the concatenated
        hidden states, there 64 channels, 19 steps and 16x16 pixels, to 174 classes. Differs: the
        paper has neither the layers nor their sizes, all of which are chosen here. The mean, where
        a flattened volume would do, lets it see clips of any length and size.

    Example:
        >>> ActionClassifier(64, classes=174)(torch.rand(2, 19, 64, 16, 16)).shape
        torch.Size([2, 174])
    """

    def __init__(
        self, in_channels: int, classes: int, hidden_channels: int = 64, downsamplings: int = 3
    ) -> None:
        super().__init__()
        at_least_one_channel(in_channels)
        if classes < 2 or downsamplings < 1:
            raise ValueError(
                f"expected at least 2 classes and 1 downsampling, got {classes} and {downsamplings}"
            )
        if hidden_channels < 8 or hidden_channels % 4:
            raise ValueError(  # a norm over a single number would leave nothing of it
                "hidden_channels must make 4 groups of 2 or more for the group norm: a multiple of "
                f"4 from 8 on, got {hidden_channels}"
            )
        self.in_channels = in_channels
        self.classes = classes
        widths = [in_channels, *(hidden_channels * 2**n for n in range(downsamplings))]
        # The channels of hidden states differ in offset and scale, from model to model as well.
        self.norm = nn.GroupNorm(in_channels, in_channels)
        self.layers = nn.Sequential(*(_layer(*pair) for pair in pairwise(widths)))
        self.linear = nn.Linear(widths[-1], classes)
        to_channels_last(self)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the logits of the classes."""
        if maps.dim() != 5 or maps.shape[2] != self.in_channels:
            raise ValueError(
                f"this classifier was built for maps (B, T, {self.in_channels}, H, W), got shape "
                f"{tuple(maps.shape)}: pass it in_channels equal to those of the hidden states, or "
                "of the frames where there is no predictor"
            )
        volume = maps.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        logits = self.linear(self.layers(self.norm(volume)).mean(dim=(2, 3, 4)))
        # Under autocast the layers may return bfloat16; losses are taken in the maps' dtype.
        return logits.to(maps.dtype)


def _layer(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        # Not padded by the convolution: for maps of one pixel, oneDNN 3.13 (torch 2.15) then reads
        # memory that is not its own for the weights' gradient in bfloat16 on a CPU.
        nn.ConstantPad3d(1, 0.0),
        nn.Conv3d(in_channels, out_channels, 3, stride=2),
        nn.GroupNorm(4, out_channels),
        nn.ReLU(inplace=True),
    )
