"""The Caltech Pedestrian videos."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO

from torch import Tensor

from vidpred.data.sources.base import Clip, Source
from vidpred.data.sources.images import decode_image
from vidpred.data.sources.layout import by_number, expect

_FPS = 30
_TRAINING_SETS = 6  # set00 to set05; the others test
_MAGIC = b"\xed\xfe\x00\x00" + "Norpix seq".encode("utf-16-le")
_HEADER_SIZE = 1024
_HEADER = struct.Struct("<548x9I")  # width, height, bits, real bits, size, format, frames, ...
_JPEG_FORMATS = (102, 201)  # grey and colour
_SIZE = struct.Struct("<I")
_JPEG = b"\xff\xd8"  # its first bytes
_TIMESTAMP = 8  # bytes: seconds, milliseconds and two of zero


def caltech(
    source: Path,
    sets: Sequence[str] = ("set06", "set07", "set08", "set09", "set10"),
    fps: int = 10,
    size: tuple[int, int] | None = (128, 160),
    length: int = 20,
) -> Source:
    """Caltech Pedestrian: recordings from a car in Los Angeles, 480x640, 30 frames a second.

    Reads the ``.seq`` files as they are.

    Args:
        source: Folder with ``set00`` and so on, which hold ``V000.seq`` and so on.
        sets: Those to read. The first six train, the others test.
        fps: Frames a second, of 30; KITTI has 10.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample.

    Returns:
        A clip for each file.

    Raises:
        FileNotFoundError: A set is missing, or has no video.
        ValueError: ``fps`` does not divide 30, or a set's name has no number.

    Reference:
        Dollar et al., PAMI 2012. Frame rate and size: Lotter et al., ICLR 2017, arXiv:1605.08104.
    """
    if fps < 1 or _FPS % fps:
        raise ValueError(f"fps must divide {_FPS}, the frames a second of the videos; got {fps}")
    clips = []
    for name in sets:
        folder = expect(source / name, "a folder with V000.seq and so on")
        files = sorted(folder.glob("V*.seq"), key=by_number)
        if not files:
            raise FileNotFoundError(f"no video in {folder}: expected V000.seq and so on")
        number = name.removeprefix("set")
        if not number.isdecimal():
            raise ValueError(f"no set {name!r}: expected names such as set06")
        split = "train" if int(number) < _TRAINING_SETS else "test"
        clips += [
            Clip(f"{name}/{file.stem}", split, [file], partial(seq_frames, file, _FPS // fps))
            for file in files
        ]
    return Source(
        clips,
        length,
        size,
        protocol=f"Caltech Pedestrian {', '.join(sets)}, {fps} of {_FPS} frames a second",
    )


def seq_frames(path: Path, every: int = 1) -> Iterator[Tensor]:
    """Frames of a ``.seq`` file, the form in which StreamPix records JPEG pictures.

    A header of 1024 bytes is followed, for each frame, by its size, which counts itself, a JPEG
    picture, a time stamp and, in some files, eight bytes more. A header that states no frames does
    not know how many there are: they are read to the end of the file.

    Args:
        path: The file.
        every: Frames from one that is read to the next.

    Yields:
        Colours, uint8 ``(3, H, W)``.

    Raises:
        ValueError: The file is of another form, cut off or damaged, or goes on after the frames
            that its header states.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER_SIZE)
        if len(header) < _HEADER_SIZE or not header.startswith(_MAGIC):
            raise ValueError(f"{path} is no seq file: expected a header of Norpix")
        width, height, _, _, _, form, count, *_ = _HEADER.unpack_from(header)
        if form not in _JPEG_FORMATS:
            raise ValueError(f"{path} holds pictures of format {form}: expected JPEG, 102 or 201")
        gap = _TIMESTAMP
        for index in range(count) if count else itertools.count():
            if not count and not file.peek(1):
                return
            end = _frame_end(file, path, index)
            if index % every == 0:
                name = f"frame {index} of {path}"
                image = decode_image(file.read(end - file.tell()), name)
                if image.shape[1:] != (height, width):
                    found = f"{image.shape[1]}x{image.shape[2]}"
                    raise ValueError(f"{name} is {found} pixels: its header says {height}x{width}")
                yield image
            file.seek(end + gap)
            if index == 0 and file.read(_SIZE.size) == bytes(_SIZE.size):
                gap += 8  # no frame has size zero
            file.seek(end + gap)
        if file.read(_SIZE.size + len(_JPEG))[_SIZE.size :] == _JPEG:
            raise ValueError(f"{path} holds more frames than the {count} that its header states")


def _frame_end(file: BinaryIO, path: Path, index: int) -> int:
    """Reads the size of a frame, and says where its picture ends."""
    start = file.tell()
    head = file.read(_SIZE.size)
    size = _SIZE.unpack(head)[0] if len(head) == _SIZE.size else 0
    # The last byte of the picture has to be there.
    file.seek(start + max(size, _SIZE.size + 1) - 1)
    if size <= _SIZE.size or not file.read(1):
        raise ValueError(f"{path} is cut off or damaged at frame {index}")
    file.seek(start + _SIZE.size)
    return start + size
