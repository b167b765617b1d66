"""Windows of a few frames, cut from clips of any length."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, Protocol

from torch import Tensor
from torch.utils.data import Dataset


class Frames(Protocol):
    """What windows are cut from: a tensor `(T, C, H, W)`, or a clip that is read when sliced."""

    def __len__(self) -> int: ...

    def __getitem__(self, frames: slice, /) -> Tensor: ...


class VideoWindows(Dataset[Any]):
    """All windows of `length` frames in a row of some clips, every `stride` frames one.

    A window of a tensor is a view of it: nothing is copied until a loader makes a batch, and worker
    processes share the memory, forked or spawned. Of a clip in a file a window alone is read. A
    clip shorter than a window has none.

    Args:
        clips: `(T, C, H, W)` each, of one shape but for T.
        length: Frames in a window, at least 1.
        stride: Frames from the start of a window to that of the next, at least 1.
        labels: Class of each clip: items are then (frames, label).

    Raises:
        ValueError: `length` or `stride` is out of range.

    Example:
        >>> import torch
        >>> windows = VideoWindows([torch.arange(6).view(6, 1, 1, 1)], length=3, stride=2)
        >>> [window.flatten().tolist() for window in windows]
        [[0, 1, 2], [2, 3, 4]]
    """

    def __init__(
        self,
        clips: Sequence[Frames],
        length: int,
        stride: int = 1,
        labels: Sequence[int] | None = None,
    ) -> None:
        for name, value in (("length", length), ("stride", stride)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1 frame, got {value}")
        self.clips = clips
        self.length = length
        self.stride = stride
        self.labels = labels
        counts = (max(0, (len(clip) - length) // stride + 1) for clip in clips)
        self._stops = list(accumulate(counts))  # windows up to each clip's last

    def __len__(self) -> int:
        return self._stops[-1] if self._stops else 0

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"window {index} of {len(self)}: count from 0")
        clip = bisect_right(self._stops, index)
        first = (index - (self._stops[clip - 1] if clip else 0)) * self.stride
        frames = self.clips[clip][first : first + self.length]
        return frames if self.labels is None else (frames, self.labels[clip])
