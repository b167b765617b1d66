"""Frames to the channels of what is encoded, and back: one pass over the pixels each way.

At high resolution frames are most of what a model reads and writes. To put those of a clip side by
side, pad them, convert them and fold them one after the other would take four times as long.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vidpred.models.frames import at_least_one_channel


def folded_channels(in_channels: int, patch: int) -> int:
    """How many channels a frame has once it is folded.

    Example:
        >>> folded_channels(3, patch=4)
        48
    """
    at_least_one_channel(in_channels)
    if patch < 1:
        raise ValueError(f"patch must be at least 1 pixel, got {patch}")
    return in_channels * patch**2


def fold(frames: Sequence[Tensor], patch: int, stride: int, dtype: torch.dtype) -> Tensor:
    """Fold each ``patch`` x ``patch`` square of frames into channels.

    The frames are padded by their last row and column until both sides are multiples of ``stride``.

    Args:
        frames: Each ``(B, C, H, W)``, of any size, the same for all.
        patch: Side of a square, in pixels; 1 leaves them as they are.
        stride: A multiple of ``patch``.
        dtype: Of the result.

    Returns:
        ``(B, N * C * patch**2, h, w)``, the channels in the order frame, colour, row, column, as
        ``torch.nn.functional.pixel_unshuffle`` has them; channels-last.

    Example:
        >>> fold([torch.rand(1, 3, 30, 20)] * 2, patch=4, stride=16, dtype=torch.float32).shape
        torch.Size([1, 96, 8, 8])
    """
    height, width = (-(-side // stride) * stride // patch for side in frames[0].shape[-2:])
    whole = [pad_to_multiple(frame, patch) for frame in frames]
    return _Fold.apply(patch, height, width, dtype, *whole)  # type: ignore[return-value]


def unfold(x: Tensor, patch: int, size: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`fold` for one frame, cropped to ``size``.

    Args:
        x: ``(B, C * patch**2, h, w)``.
        patch: Side of a square, in pixels.
        size: Height and width of the frame.
        dtype: Of the frame.

    Returns:
        ``(B, C, *size)``.

    Example:
        >>> frame = torch.rand(1, 3, 30, 20)
        >>> folded = fold([frame], patch=4, stride=16, dtype=torch.float32)
        >>> torch.equal(unfold(folded, patch=4, size=(30, 20), dtype=torch.float32), frame)
        True
    """
    rows, columns = (-(-side // patch) for side in size)
    frame = x.to(dtype) if patch == 1 else _Unfold.apply(patch, rows, columns, dtype, x)
    return frame[..., : size[0], : size[1]]  # type: ignore[index]


def pad_to_multiple(frames: Tensor, stride: int) -> Tensor:
    """Repeat the last row and column of frames until both sides are multiples of ``stride``."""
    bottom, right = (-side % stride for side in frames.shape[-2:])
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames


# Each is the other's backward pass, but for what is padded and what is cropped.


class _Fold(torch.autograd.Function):
    @staticmethod
    def forward(patch: int, height: int, width: int, dtype: torch.dtype, *frames: Tensor) -> Tensor:
        batch, channels, *size = frames[0].shape
        rows, columns = (side // patch for side in size)
        shape = batch, height, width, len(frames), channels, patch, patch
        folded = frames[0].new_empty(shape, dtype=dtype)
        for i, frame in enumerate(frames):
            _copy(_squares(frame, patch), folded[:, :rows, :columns, i])
        folded[:, rows:] = folded[:, rows - 1 : rows, ..., -1:, :]
        folded[:, :, columns:] = folded[:, :, columns - 1 : columns, ..., -1:]
        return folded.flatten(3).permute(0, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.patch, _, _, _, *frames = inputs
        ctx.size = [side // ctx.patch for side in frames[0].shape[-2:]]
        ctx.dtype = frames[0].dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[4:]
        shares = gradients[0].chunk(len(needed), dim=1)
        to_frames = [_to_frame(ctx, x) if y else None for x, y in zip(shares, needed, strict=True)]
        return (None, None, None, None, *to_frames)


def _to_frame(ctx: Any, gradient: Tensor) -> Tensor:
    rows, columns = ctx.size
    frame: Tensor = _Unfold.apply(ctx.patch, rows, columns, ctx.dtype, gradient)  # type: ignore
    # The last row and column are also all that was padded below and beside.
    squares = gradient.permute(0, 2, 3, 1).unflatten(3, (-1, ctx.patch, ctx.patch))
    below, beside = squares[:, rows:, :columns], squares[:, :rows, columns:]
    frame[:, :, -1] += below.sum((1, 4), dtype=ctx.dtype).permute(0, 2, 1, 3).flatten(2)
    frame[..., -1] += beside.sum((2, 5), dtype=ctx.dtype).permute(0, 2, 1, 3).flatten(2)
    frame[..., -1, -1] += squares[:, rows:, columns:].sum((1, 2, 4, 5), dtype=ctx.dtype)
    return frame


class _Unfold(torch.autograd.Function):
    @staticmethod
    def forward(patch: int, rows: int, columns: int, dtype: torch.dtype, x: Tensor) -> Tensor:
        channels = x.shape[1] // patch**2
        frame = x.new_empty((len(x), channels, rows * patch, columns * patch), dtype=dtype)
        squares = x.permute(0, 2, 3, 1).unflatten(3, (channels, patch, patch))
        _copy(squares[:, :rows, :columns], _squares(frame, patch))
        return frame

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.patch, ctx.rows, ctx.columns, _, x = inputs
        ctx.size, ctx.dtype = x.shape[-2:], x.dtype

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        folded = _Fold.apply(ctx.patch, ctx.rows, ctx.columns, ctx.dtype, gradients[0])
        height, width = ctx.size
        if (ctx.rows, ctx.columns) != (height, width):
            folded = F.pad(folded, (0, width - ctx.columns, 0, height - ctx.rows))  # type: ignore
        return None, None, None, None, folded  # type: ignore[return-value]


def _squares(frame: Tensor, patch: int) -> Tensor:
    """View ``(B, C, H, W)`` as ``(B, H / patch, W / patch, C, patch, patch)``."""
    squares = frame.unflatten(3, (-1, patch)).unflatten(2, (-1, patch))
    return squares.permute(0, 2, 4, 1, 3, 5)


def _copy(source: Tensor, target: Tensor) -> None:
    if source.shape[-1] != 2:
        target.copy_(source)
        return
    # Two pixels at a time, as copy_ would walk through them, it takes five times as long.
    for row in range(2):
        for column in range(2):
            target[..., row, column] = source[..., row, column]
