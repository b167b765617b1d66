"""What models do to frames before they are encoded, and what they refuse."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def choose(mask: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """By sample: ``yes`` where the mask ``(B,)`` is true, else ``no``."""
    return torch.where(mask.view(-1, *[1] * (yes.dim() - 1)), yes, no)


def pad_to_multiple(frames: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of frames until both sides are multiples of ``stride``."""
    bottom, right = (-side % stride for side in frames.shape[-2:])
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames


def check_frames(frames: Tensor, channels: int) -> None:
    """Refuse what is not ``(B, T, C, H, W)`` floating point with ``channels`` channels."""
    if not isinstance(frames, Tensor):
        raise TypeError(f"frames are a tensor (B, T, C, H, W), got {type(frames).__name__}")
    if frames.dim() != 5:
        raise ValueError(f"frames must be (B, T, C, H, W), got shape {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise ValueError(f"frames must be floats in [0, 1], got {frames.dtype}; divide by 255")
    if frames.shape[2] != channels:
        raise ValueError(
            f"this model was built for {channels} channel(s), got frames (B, T, C, H, W) = "
            f"{tuple(frames.shape)}; pass in_channels={frames.shape[2]} when building it"
        )
    if 0 in frames.shape:
        raise ValueError(f"frames must not be empty, got shape {tuple(frames.shape)}")


def check_range(frames: Tensor) -> None:
    """Refuse values outside [0, 1], NaN included."""
    low, high = (bound.item() for bound in torch.aminmax(frames))
    if not (low >= 0 and high <= 1):
        raise ValueError(f"frames must lie in [0, 1], got values in [{low:.4g}, {high:.4g}]")


def before_convolution(frames: Tensor) -> Tensor:
    """Frames in the dtype that autocast gives convolutions: before they are folded, not after.

    At high resolution each pass over the frames counts.
    """
    kind = frames.device.type
    if torch.is_autocast_enabled(kind):
        return frames.to(torch.get_autocast_dtype(kind))
    return frames
