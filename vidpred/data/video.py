"""Video files, frame by frame: a reader and a writer whose memory does not grow with the clip."""

from __future__ import annotations

import math
import os
from collections.abc import Generator, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidpred.data.container import (
    in_seconds,
    mean_rate,
    opened,
    sound_packets,
    stated_duration,
    stated_frames,
)

if TYPE_CHECKING:
    from av import VideoFrame

SUFFIXES = (".avi", ".gif", ".m4v", ".mkv", ".mov", ".mp4", ".webm")


class Frame(NamedTuple):
    """A frame of a video.

    Attributes:
        image: uint8 ``(C, H, W)``.
        time: Seconds from the first frame to this one, exactly.
    """

    image: Tensor
    time: Fraction


class Video:
    """The frames of a video file, in the order in which they are shown.

    Iterating decodes the file from its start; as often as wanted, since between two passes nothing
    is held open. Of several video streams it reads the one that FFmpeg prefers: marked as default,
    with the highest bit rate. Frames stand upright: the rotation that telephones store
    beside the picture is applied, and so is a mirroring. Videos deeper than 8 bits are converted to
    bytes.

    Where the frame rate varies, all frames come, each with its own time; with ``fps`` come, as with
    any other video, those shown at the multiples of 1/fps.

    A file that is cut off or damaged raises an error after the last frame that is known to be
    sound. What cannot be noticed: one or two frames missing at the very end, more where the file
    does not state how long it is or a subtitle stays to its end, and damage that leaves a valid
    picture.

    Args:
        path: A local file of any format that FFmpeg reads, GIF included.
        channels: 3 for RGB, 1 for grey; ``None`` for what the pixels of the file are.
        fps: Frames a second to resample to, by repeating or leaving out; ``None`` for all frames.

    Attributes:
        path: The file.
        channels: Of every frame.
        size: Height and width of every frame.
        fps: Frames a second; their mean where the rate varies.
        length: How many frames the file states or its duration and mean rate imply, for a progress
            bar; ``None`` when it tells neither. :meth:`count` looks closer.

    Raises:
        FileNotFoundError: No such file.
        ValueError: ``channels`` or ``fps`` out of range. The file is empty, no video, without video
            stream, cut off, damaged, or its frames change their size: also while iterating.

    Example:
        >>> import tempfile
        >>> from vidpred.data import write_video
        >>> path = Path(tempfile.mkdtemp(), "clip.gif")
        >>> with write_video(path, fps=10) as write:
        ...     for t in range(3):
        ...         write(torch.full((3, 24, 32), 100 * t, dtype=torch.uint8), Fraction(t, 10))
        >>> video = Video(path, channels=1)
        >>> video.size, video.fps, video.length
        ((24, 32), Fraction(10, 1), 3)
        >>> [(image.shape, float(time)) for image, time in video][1]
        (torch.Size([1, 24, 32]), 0.1)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        channels: Literal[1, 3] | None = None,
        fps: float | Fraction | None = None,
    ) -> None:
        if channels not in (1, 3, None):
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got {channels}")
        check_fps(fps)
        self.path = Path(path)
        self._channels = channels
        self._resampled = fps is not None
        with opened(self.path) as (container, stream):
            self._rate = mean_rate(stream)
            self.fps = self._rate if fps is None else Fraction(fps).limit_denominator(10**6)
            duration = in_seconds(stream.duration, stream.time_base) or stated_duration(container)
            stated = 0 if self._resampled else stated_frames(stream)
            self.length: int | None = stated or round(duration * self.fps) or None
        # Only a decoded frame tells whether this is a video, and how it is rotated.
        with closing(self._decode()) as frames:
            first = next(frames, None)
        if first is None:
            raise ValueError(f"{path} holds no frame of video: it is damaged")
        self.channels, height, width = first.image.shape
        self.size = (height, width)

    def __iter__(self) -> Generator[Frame, None, None]:
        return self._resample(self._decode()) if self._resampled else self._decode()

    def count(self) -> int:
        """How many frames come, as the file states or else as its packets tell.

        Packets are read, not decoded. A frame or two more or fewer may come, as where a codec has
        packets that are not shown.

        Raises:
            ValueError: The file is cut off or damaged.
        """
        from av.error import FFmpegError

        with opened(self.path) as (container, stream):
            if not self._resampled and (stated := stated_frames(stream)):
                return stated
            try:
                stamps = [
                    packet.dts if packet.pts is None else packet.pts
                    for packet in container.demux(stream)
                    if packet.size and not packet.is_discard
                ]
            except FFmpegError as error:
                raise ValueError(f"{self.path} is cut off or damaged") from error
            if not self._resampled:
                return len(stamps)
            times = [x for x in stamps if x is not None] or [0]
            last = in_seconds(max(times) - min(times), stream.time_base) or 0
            return math.ceil((last + 1 / self._rate) * self.fps)

    def _decode(self) -> Generator[Frame, None, None]:
        """All frames; if need be, their times are mended so that they rise."""
        from av.error import FFmpegError

        count, size, start, now, mirrored = 0, None, None, Fraction(0), False
        with opened(self.path) as (container, stream):
            stream.thread_type = "AUTO"
            # AVI tells no times, and those that FFmpeg guesses take frames for coded in order.
            guessed = container.format.name == "avi"
            try:
                for packet in sound_packets(container, stream, self.path):
                    for frame in packet.decode():
                        if frame.is_corrupt:
                            raise EOFError
                        if count == 0:  # each frame that is asked stays until Python cleans up
                            mirrored = _mirrored(frame)
                        image = _image(frame, self._channels, mirrored)
                        size = size or image.shape
                        if image.shape != size:
                            raise ValueError(
                                f"{self.path} has frames of {tuple(size[1:])} pixels up to frame "
                                f"{count}, then of {tuple(image.shape[1:])}: cut it there"
                            )
                        ticks = frame.dts if guessed else frame.pts
                        stamp = in_seconds(ticks, frame.time_base)
                        if count == 0:
                            start = stamp
                        elif stamp is None or start is None or stamp - start <= now:
                            now += 1 / self._rate
                        else:
                            now = stamp - start
                        yield Frame(image, now)
                        count += 1
            except (FFmpegError, EOFError) as error:
                raise ValueError(
                    f"{self.path} is cut off or damaged after frame {count}"
                ) from error

    def _resample(self, frames: Iterator[Frame]) -> Generator[Frame, None, None]:
        """At the multiples of 1/fps, the frame that is shown then."""
        count, shown, end = 0, None, Fraction(0)
        for frame in frames:
            while shown is not None and count < frame.time * self.fps:
                yield Frame(shown, count / self.fps)
                count += 1
            shown, end = frame.image, frame.time + 1 / self._rate
        while shown is not None and count < end * self.fps:
            yield Frame(shown, count / self.fps)
            count += 1


def check_fps(fps: float | Fraction | None) -> None:
    """Refuse a frame rate that no video can have; ``None`` is its own.

    Raises:
        ValueError: As said.
    """
    if fps is not None and not 0 < fps < float("inf"):
        raise ValueError(f"fps must be above 0 frames a second, got {fps}")


def _image(frame: VideoFrame, channels: int | None, mirrored: bool) -> Tensor:
    """The bytes ``(C, H, W)`` of a decoded frame, upright."""
    if channels is None:
        channels = 1 if frame.format.name.startswith(("gray", "ya", "mono")) else 3
    pixels = frame
    if channels == 3 and any(component.bits > 8 for component in frame.format.components):
        pixels = frame.reformat(format="gbrp")  # the direct way to rgb24 makes them darker
    image = torch.from_numpy(pixels.to_ndarray(format="gray" if channels == 1 else "rgb24"))
    image = image.unsqueeze(0) if channels == 1 else image.permute(2, 0, 1)
    if mirrored:
        image = image.flip(1)  # before it is turned, as FFmpeg does
    return torch.rot90(image, round(frame.rotation / 90), (1, 2)).contiguous()


def _mirrored(frame: VideoFrame) -> bool:
    """Whether the matrix beside the picture mirrors it, which the rotation does not tell."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    return a * d < b * c
