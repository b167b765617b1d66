"""Video files as FFmpeg opens them: the stream to read, its packets, and what the files state."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from av import Packet, VideoStream
    from av.container import InputContainer

_SLACK = 2  # frames by which a file may be shorter than it states
_GIF_TRAILER = b";"


@contextmanager
def opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file while it is read, and of its video streams the one that FFmpeg prefers.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is empty, no video, without video stream, or cut off.
    """
    import av
    from av.error import FFmpegError

    if not path.is_file():
        raise FileNotFoundError(f"no video at {path}: expected a file")
    if not path.stat().st_size:
        raise ValueError(f"{path} is empty: expected a video")
    try:
        # Resolved, so that no name is taken for an address; tags need not be in UTF-8.
        container = av.open(str(path.resolve()), metadata_errors="replace")
    except FFmpegError as error:
        raise ValueError(f"{path} is no video, or is cut off: {error.strerror}") from error
    with container:
        stream = container.streams.best("video")
        if stream is None:
            kinds = ", ".join(sorted({other.type for other in container.streams}))
            raise ValueError(f"{path} has no video stream, only {kinds or 'data'}")
        yield container, cast("VideoStream", stream)


def sound_packets(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[Packet]:
    """The packets of a stream.

    FFmpeg takes most files that are cut off for files that end, so it is for us to see whether
    anything is missing.

    Raises:
        EOFError: A packet is damaged, or packets are missing at the end.
    """
    end = Fraction(0)
    for packet in container.demux():  # of all streams: the longest one sets the duration
        # A time code may be one packet as long as the clip.
        if packet.pts is not None and packet.stream.type in ("audio", "video", "subtitle"):
            end = max(end, (packet.pts + (packet.duration or 0)) * packet.time_base)
        if packet.stream.index == stream.index:
            if packet.is_corrupt:
                raise EOFError
            yield packet
    if end < stated_duration(container) - _SLACK / mean_rate(stream):
        raise EOFError
    if container.format.name == "gif":  # states no duration, but has a last byte
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != _GIF_TRAILER:
                raise EOFError


def mean_rate(stream: VideoStream) -> Fraction:
    """Frames a second, in the mean."""
    return stream.average_rate or stream.guessed_rate or Fraction(25)


def stated_frames(stream: VideoStream) -> int:
    """Frames that the file states, or zero where it states none, or more than its duration holds.

    A film that is cut without coding it anew keeps the frames that the first one shown needs.
    """
    duration = in_seconds(stream.duration, stream.time_base)
    shown = math.inf if duration is None else duration * mean_rate(stream)
    return stream.frames if stream.frames <= shown + _SLACK else 0


def stated_duration(container: InputContainer) -> Fraction:
    """Seconds that the file states, or zero."""
    return Fraction(container.duration or 0, 1_000_000)


def in_seconds(ticks: int | None, tick: Fraction | None) -> Fraction | None:
    """A time that counts ticks, in seconds; ``None`` where either is not known."""
    return None if ticks is None or tick is None else ticks * tick
