"""What models do to frames before they are encoded, and what they refuse."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """By sample: ``yes`` where the mask ``(B,)`` is true, else ``no``."""
    return torch.where(mask.view(-1, *[1] * (yes.dim() - 1)), yes, no)


def at_least_one_channel(in_channels: int) -> None:
    """Refuse frames without colours."""
    if in_channels < 1:
        raise ValueError(f"a frame has at least one channel, got in_channels={in_channels}")


def at_least_one_feature(channels: int) -> None:
    """Refuse an encoder of nothing."""
    if channels < 1:
        raise ValueError(
            f"an encoder's feature maps have at least one channel, got {channels}; check "
            "hidden_channels"
        )


def check_frames(frames: Tensor, channels: int) -> None:
    """Refuse what is not ``(B, T, C, H, W)`` floating point with ``channels`` channels."""
    if not isinstance(frames, Tensor):
        raise TypeError(f"frames are a tensor (B, T, C, H, W), got {type(frames).__name__}")
    if frames.dim() != 5:
        raise ValueError(f"frames must be (B, T, C, H, W), got shape {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise ValueError(f"frames must be floats in [0, 1], got {frames.dtype}; divide by 255")
    if frames.shape[2] != channels:
        advice = f"pass in_channels={frames.shape[2]} when building it"
        if frames.shape[4] == channels:
            advice = "their channels are last: permute them to (B, T, C, H, W)"
        raise ValueError(
            f"this model was built for {channels} channel(s), got frames (B, T, C, H, W) = "
            f"{tuple(frames.shape)}; {advice}"
        )
    if 0 in frames.shape:
        raise ValueError(f"frames must not be empty, got shape {tuple(frames.shape)}")


def check_dtype(frames: Tensor, model: nn.Module) -> None:
    """Refuse frames of another dtype than the model's weights, unless autocast converts them."""
    weights = next(model.parameters(), frames).dtype
    if frames.dtype != weights and not torch.is_autocast_enabled(frames.device.type):
        raise ValueError(
            f"frames are {frames.dtype}, the model's weights {weights}: convert one of them"
        )


def check_range(frames: Tensor) -> None:
    """Refuse values outside [0, 1], NaN included."""
    low, high = (bound.item() for bound in torch.aminmax(frames))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"frames must lie in [0, 1], got values in [{low:.4g}, {high:.4g}]")


def convolution_dtype(frames: Tensor) -> torch.dtype:
    """What a convolution of these frames would convert them to: under autocast another one."""
    kind = frames.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else frames.dtype
