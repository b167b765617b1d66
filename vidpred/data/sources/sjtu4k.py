"""The SJTU 4K video sequences."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidpred.data.sources.base import Clip, Source
from vidpred.data.sources.layout import by_time, expect, video_frames
from vidpred.data.video import Video


def sjtu4k(
    source: Path,
    yuv_size: tuple[int, int] = (2160, 3840),
    val_fraction: float = 0.05,
    size: tuple[int, int] | None = (2160, 3840),
    length: int = 8,
) -> Source:
    """SJTU4K: 15 clips of ten seconds, 2160x3840, 30 frames a second.

    Args:
        source: Folder with the clips, ``.mp4`` or raw ``.yuv``: 4:2:0, 8 bits, without a header.
        yuv_size: Height and width of the frames in raw files, both even.
        val_fraction: Share of what trains, the end, to validate on instead.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample: 4 to see and 4 to predict.

    Returns:
        A clip of each file for each split: nine tenths of it train, the last tenth tests.

    Raises:
        FileNotFoundError: There is no clip.
        ValueError: A raw file does not hold whole frames, a video is damaged, there are two of one
            name, or a fraction is out of range.

    Reference:
        Song et al., QoMEX 2013. Protocol: Chang et al., STIP, arXiv:2206.04381. Differs: its test
        samples lie between those to train on.
    """
    if any(side < 2 or side % 2 for side in yuv_size):
        raise ValueError(f"yuv_size must be two even numbers of pixels, got {yuv_size}")
    found = [
        x
        for x in sorted(expect(source, "a folder of .yuv or .mp4 files").iterdir())
        if x.suffix.lower() in (".mp4", ".yuv") and not x.name.startswith(".")
    ]
    if not found:
        raise FileNotFoundError(f"no clip in {source}: expected .yuv or .mp4 files")
    clips: list[Clip] = []
    for file, other in zip(found, [*found[1:], None], strict=True):
        if other and other.stem == file.stem:
            raise ValueError(f"{file} and {other} have one name: keep one of them")
        if file.suffix.lower() == ".yuv":
            count, frames = yuv_length(file, yuv_size), partial(yuv_frames, file, yuv_size)
        else:
            count, frames = Video(file).count(), partial(video_frames, file)
        clips += by_time(f"{file.stem}/", file, frames, count * 9 // 10, None, val_fraction)
    return Source(
        clips,
        length,
        size,
        protocol=f"SJTU4K, {len(found)} clips, the last tenth of each to test, "
        f"{val_fraction:g} of the others to validate",
    )


def yuv_length(path: Path, size: tuple[int, int]) -> int:
    """Frames in a raw file, by its bytes.

    Raises:
        ValueError: They are no whole number of frames.
    """
    stored, one = path.stat().st_size, size[0] * size[1] * 3 // 2
    if stored == 0 or stored % one:
        raise ValueError(
            f"{path} has {stored:,} bytes, no whole number of frames of {one:,}: expected "
            f"4:2:0, 8 bits, {size[0]}x{size[1]}; it is of another form, or cut off"
        )
    return stored // one


def yuv_frames(
    path: Path, size: tuple[int, int], start: int = 0, stop: int | None = None
) -> Iterator[Tensor]:
    """Frames of a raw file of 4:2:0 with 8 bits, converted as FFmpeg does where nothing is stated.

    Args:
        path: The file: for each frame the bytes of Y, then a quarter as many of U, and of V.
        size: Height and width of the frames, both even.
        start: The first frame to read.
        stop: The frame to end before. ``None``: the end of the file.

    Yields:
        Colours, uint8 ``(3, H, W)``.
    """
    import av

    height, width = size
    count = yuv_length(path, size)
    with path.open("rb") as file:
        file.seek(start * height * width * 3 // 2)
        for _ in range(start, count if stop is None else stop):
            planes = np.fromfile(file, np.uint8, height * width * 3 // 2)
            frame = av.VideoFrame.from_ndarray(planes.reshape(-1, width), format="yuv420p")
            pixels = torch.from_numpy(frame.to_ndarray(format="rgb24"))
            yield pixels.permute(2, 0, 1).contiguous()
