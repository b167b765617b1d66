"""From a source to one file: clips decoded in parallel, each kept when done, then put together."""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vidpred import __version__
from vidpred.data.clips import COLUMNS, FORMAT, VERSION, index_checksum
from vidpred.data.crop import crop_and_resize
from vidpred.data.hdf5 import (
    checksum,
    create_frames,
    create_group,
    dataset,
    strings,
    texts,
    writing,
    zstd,
)
from vidpred.data.parts import alone, begin, check_output, done, keeping, part_of
from vidpred.data.sources.base import Clip, Source
from vidpred.files import sha256

_NAMED = 3  # damaged clips in an error
_LARGEST = 2**32 - 1  # bytes of a chunk of HDF5

_Shape = tuple[int, ...]
_Store = Callable[[Clip, Path], _Shape]


def prepare(
    source: Source,
    out: str | os.PathLike[str],
    settings: Mapping[str, Any] | None = None,
    workers: int = 0,
    compress: bool = False,
) -> Path:
    """Decode the clips of a source, cut and scale their frames, and store them in one HDF5 file.

    Every clip that is done is kept in a folder beside the file, ``OUT.parts``. After an
    interruption the same call goes on with the clips that are missing, once it has checked those
    that are kept. At the end they are put together, the file appears, whole, and the folder goes;
    until then both take their space. A source gives the same bytes, interrupted or not.

    Args:
        source: The clips, and how a sample is to look.
        out: The file to write, which must not be there.
        settings: How the source was made, such as ``{"source": "KITTI", "fps": 10}``, for the
            record. To go on with a preparation of other settings is refused, as it is where the
            protocol or what decodes the clips is another.
        workers: Processes that decode; 0 decodes in this one.
        compress: By zstd, without loss; needs hdf5plugin.

    Returns:
        The path of the file.

    Raises:
        FileExistsError: There is something at ``out``.
        ValueError: A clip is damaged or empty, frames differ in size, or the clips that are kept
            were made in another way.
        BlockingIOError: Another process prepares the file.
        OSError: The disk is full or cannot be written to.
        ImportError: ``compress`` without hdf5plugin.
    """
    out = Path(out)
    check_output(out, workers)
    if not source.clips:
        raise ValueError("the source has no clips")
    name, times = Counter(clip.name for clip in source.clips).most_common(1)[0]
    if times > 1:
        raise ValueError(f"clips are told apart by their names, but {times} are {name!r}")
    if compress:
        zstd()
    parts = out.with_name(f"{out.name}.parts")
    with alone(parts, out):
        begin(parts, source, settings or {}, compress)
        with keeping(parts):
            _decode(source, parts, workers, compress)
            with writing(parts / out.name) as (file, check):
                _assemble(file, check, source, parts, compress)
                _describe(file, source, settings or {})
        os.replace(parts / out.name, out)
        for part in done(parts):
            part.unlink()
    return out


def _decode(source: Source, parts: Path, workers: int, compress: bool) -> None:
    """Keep all clips as parts; those that are damaged do not keep the others from it."""
    store = partial(_store, size=source.size, length=source.length, compress=compress)
    first: tuple[Clip, _Shape] | None = None
    damaged = []
    results = _results(store, source.clips, parts, workers)
    for clip, result in tqdm(results, "decoding", len(source.clips), unit="clip", disable=None):
        try:
            shape = result()
        except ValueError as error:
            damaged.append(str(error))
            continue
        except BrokenProcessPool as error:
            raise OSError("a decoding process was killed, as when memory ends") from error
        first = first or (clip, shape)
        if shape != first[1]:
            raise ValueError(
                f"clip {first[0].name} has frames (C, H, W) of {first[1]}, {clip.name} of {shape}: "
                "give a size, and as many channels"
            )
    if damaged:
        others = ["..."] if len(damaged) > _NAMED else []
        raise ValueError(
            f"{len(damaged)} of {len(source.clips)} clips cannot be read: "
            + "; ".join([*damaged[:_NAMED], *others])
        )


def _results(
    store: _Store, clips: Sequence[Clip], parts: Path, workers: int
) -> Iterator[tuple[Clip, Callable[[], _Shape]]]:
    """Each clip when it is done, and a function that gives its shape or raises what went wrong."""
    if workers == 0:
        for clip in clips:
            yield clip, partial(store, clip, part_of(parts, clip))
        return
    # Spawned: a fork would inherit the locks that threads of this process hold.
    context = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(workers, context, initializer=_begin_worker)
    try:
        futures = {executor.submit(store, clip, part_of(parts, clip)): clip for clip in clips}
        for future in as_completed(futures):
            yield futures[future], future.result
    finally:
        executor.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a word
    parent = multiprocessing.parent_process()
    if parent is not None:  # killed, it cannot tell its workers to end
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _store(
    clip: Clip, part: Path, size: tuple[int, int] | None, length: int, compress: bool
) -> _Shape:
    """Keep a clip as a file of its own, unless it is there; return the shape of its frames."""
    if (shape := _kept(clip, part, length)) is not None:
        return shape
    digest, count, frames = hashlib.sha256(), 0, None
    with writing(part) as (file, check):
        for piece, filled in _pieces(clip, size, length):
            if frames is None:
                frames = create_frames(file, piece.shape[1:], length, compress)
            frames.resize(len(frames) + length, 0)
            frames[-length:] = piece
            check()
            digest.update(piece[:filled].data)
            count += filled
        if frames is None:
            raise ValueError(f"{_where(clip)} has no frames")
        file.attrs.update(frames=count, sha256=digest.hexdigest())
        file["files"] = strings([sha256(path) for path in clip.files])
        return frames.shape[1:]


def _kept(clip: Clip, part: Path, length: int) -> _Shape | None:
    """The shape of a clip's frames if it is kept, sound, and of the files that are there now."""
    try:
        with h5py.File(part, "r", locking=False) as file:
            frames, kept = dataset(file, "frames"), dict[str, Any](file.attrs)
            same = texts(file, "files") == [sha256(path) for path in clip.files]
            sound = same and checksum(frames, 0, kept["frames"], length) == kept["sha256"]
            return frames.shape[1:] if sound else None
    except (OSError, RuntimeError, KeyError):
        return None


def _pieces(
    clip: Clip, size: tuple[int, int] | None, length: int
) -> Iterator[tuple[np.ndarray, int]]:
    """The frames in pieces of ``length``, and how many of a piece are frames: the rest is zero."""
    piece, filled = np.empty(0), 0
    for number, frame in enumerate(_frames(clip)):
        if number == 0:
            shape = length, len(frame), *(size or frame.shape[1:])
            _check_piece(clip, shape)
            piece = np.zeros(shape, np.uint8)
        if size is not None:
            frame = crop_and_resize(frame[None], size)[0]
        if frame.shape != piece.shape[1:]:
            raise ValueError(
                f"{_where(clip)} has frames (C, H, W) of {piece.shape[1:]}, then frame {number} of "
                f"{tuple(frame.shape)}: give a size, and as many channels"
            )
        piece[filled] = frame.numpy()
        filled += 1
        if filled == length:
            yield piece, filled
            filled = 0
    if filled:
        piece[filled:] = 0
        yield piece, filled


def _check_piece(clip: Clip, shape: _Shape) -> None:
    """Refuse a piece that cannot be stored, before it takes memory."""
    if shape[1] not in (1, 3):
        raise ValueError(f"{_where(clip)} has {shape[1]} channels: expected 1 (grey) or 3 (RGB)")
    if math.prod(shape) > _LARGEST:
        raise ValueError(
            f"{_where(clip)}: {shape[0]} frames (C, H, W) of {shape[1:]} are {math.prod(shape):,} "
            f"bytes, more than the {_LARGEST:,} that HDF5 stores in one piece: give a smaller "
            "length or size"
        )


def _frames(clip: Clip) -> Iterator[Tensor]:
    """Decode a clip; what is wrong with it is a ValueError that names its file."""
    try:
        yield from clip.frames()
    except (OSError, ValueError, EOFError) as error:
        named = any(str(path) in str(error) for path in clip.files)
        raise ValueError(str(error) if named else f"{_where(clip)}: {error}") from error


def _where(clip: Clip) -> str:
    return str(clip.files[0]) if len(clip.files) == 1 else f"clip {clip.name}"


def _assemble(
    file: h5py.File, check: Callable[[], None], source: Source, parts: Path, compress: bool
) -> None:
    """Put the parts together: their chunks are copied as they are, and listed."""
    frames, columns, read = None, [], []
    for number, clip in enumerate(tqdm(source.clips, "putting together", disable=None)):
        with h5py.File(part_of(parts, clip), "r", locking=False) as part:
            pieces = dataset(part, "frames")
            if frames is None:
                frames = create_frames(file, pieces.shape[1:], source.length, compress)
            start = len(frames)
            frames.resize(start + len(pieces), 0)
            for row in range(0, len(pieces), source.length):
                mask, chunk = pieces.id.read_direct_chunk((row, 0, 0, 0))
                frames.id.write_direct_chunk((start + row, 0, 0, 0), chunk, mask)
                check()
            label = -1 if clip.label is None else clip.label
            count, digest = part.attrs["frames"], part.attrs["sha256"]
            columns.append((clip.name, clip.split, start, count, label, digest))
            digests = texts(part, "files")
        paths = [os.path.abspath(path) for path in clip.files]
        read += [(number, path, digest) for path, digest in zip(paths, digests, strict=True)]
    root = os.path.commonpath([os.path.dirname(path) for _, path, _ in read]) if read else ""
    files = [(n, Path(path).relative_to(root).as_posix(), digest) for n, path, digest in read]
    for name, rows in (("clips", columns), ("files", files)):
        group = create_group(file, name)
        for number, column in enumerate(COLUMNS[name]):
            values = [row[number] for row in rows]
            text = column in ("name", "split", "sha256")
            group[column] = strings(values) if text else np.array(values, np.int64)


def _describe(file: h5py.File, source: Source, settings: Mapping[str, Any]) -> None:
    """What the clips are, and the checksum of it."""
    file["classes"] = strings(source.classes)
    file.attrs.update(
        format=FORMAT,
        version=VERSION,
        vidpred=__version__,
        protocol=source.protocol,
        settings=json.dumps(settings, default=str),
        length=source.length,
    )
    file.attrs["sha256"] = index_checksum(file)
