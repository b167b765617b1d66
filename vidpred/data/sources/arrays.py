"""Clips in an array, and those of Moving MNIST."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from vidpred.data.digits import digits_file, load_digits
from vidpred.data.moving_mnist import STREAMS, FixedMovingMNIST, MovingMNIST
from vidpred.data.sources.base import Clip, Source, Split, check_sample
from vidpred.data.sources.layout import one_of
from vidpred.data.sources.splits import Recording, divide, protocol_of

_Layout = Literal["NTHW", "NTHWC", "NTCHW", "TNHW"]


def array(
    source: Path,
    size: tuple[int, int] | None = None,
    length: int | None = None,
    layout: Literal["NTHW", "NTHWC", "NTCHW", "TNHW"] | None = None,
    key: str | None = None,
    split_by: Literal["clip", "time"] = "clip",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """The clips of a NumPy array: bytes, or floats in [0, 1].

    A ``.npy`` file stays on disk. An array of a ``.npz`` file is read whole, once in every worker.

    Args:
        source: File of ``numpy.save`` or ``numpy.savez``.
        size: Height and width that frames are cut to, at their centre, and scaled to. Left out:
            frames as they are.
        length: Frames in a sample. Left out: as many as a clip has.
        layout: What the dimensions are: clips N, frames T, channels C, height H and width W. Left
            out: NTHW for four of them; for five what has 1 or 3 channels.
        key: Name of the array in a ``.npz`` file; not needed when it is the only one.
        split_by: "clip" gives whole clips to train, val and test; "time" the first part of each to
            train, the last to test.
        val_fraction: Share of the clips, or of each, to validate on.
        test_fraction: Share of them to test on.
        seed: Any integer; sets which clips go where.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged or no array of clips, or an argument is out of range.
    """
    check_sample(1 if length is None else length, size)
    one_of("layout", layout, (*get_args(_Layout), None))
    if not source.is_file():
        raise FileNotFoundError(f"no file {source}: expected a .npy or .npz file")
    found = _load(source, key)
    if 0 in found.shape:
        raise ValueError(f"{source} holds an array of {found.shape}: expected at least one of each")
    if layout is None:
        layout = _guess(source, found.shape)
    if len(layout) != found.ndim:
        raise ValueError(f"{source} holds {found.dtype} {found.shape}, which is not {layout}")
    clips, frames = found.shape[:2] if layout[0] == "N" else found.shape[1::-1]
    digits = len(str(clips - 1))
    recordings = [
        Recording(
            f"{number:0{digits}d}",
            [source],
            partial(_clip, source, key, layout, number),
            lambda: frames,
        )
        for number in range(clips)
    ]
    protocol = f"{protocol_of(size, split_by, val_fraction, test_fraction, seed)}."
    parts = divide(recordings, split_by, val_fraction, test_fraction, seed)
    return Source(parts, frames if length is None else length, size, protocol=protocol)


def moving_mnist(
    source: Path | None = None,
    length: int = 20,
    digits: int = 2,
    canvas: int = 64,
    train_clips: int = 10_000,
    val_clips: int = 1_000,
    test_clips: int = 10_000,
    test_sequences: Path | None = None,
    seed: int = 0,
) -> Source:
    """Moving MNIST as a file: the sequences that ``MovingMNISTData`` generates, a number of them.

    Validation and test sequences are those of that data module, whatever the seed.

    Args:
        source: Folder with MNIST's idx files. Left out: the digits that come with scikit-learn,
            which are not for comparison with published results.
        length: Frames in a sequence.
        digits: Digits in a sequence.
        canvas: Side of the square frames in pixels.
        train_clips: Number of sequences to train on.
        val_clips: Number of sequences to validate on.
        test_clips: Number of sequences to test on, when they are generated.
        test_sequences: The published test set, ``mnist_test_seq.npy``. Left out: generate one.
        seed: Any integer; sets the sequences to train on.

    Raises:
        FileNotFoundError: There is no such folder or file.
        ValueError: A file is damaged, an argument is out of range, or the published test set has
            another shape than is asked.
    """
    counts: dict[Split, int] = {"train": train_clips, "val": val_clips, "test": test_clips}
    clips = []
    if test_sequences is not None:
        if (length, canvas) != (20, 64):
            raise ValueError(f"{test_sequences} holds 20 frames of 64x64: leave length and canvas")
        counts["test"] = len(FixedMovingMNIST(test_sequences))
    for split, count in counts.items():
        if count < 0:
            raise ValueError(f"{split}_clips must be at least 0, got {count}")
        if split == "test" and test_sequences is not None:
            files = [test_sequences]
            frames = partial(_clip, test_sequences, None, "TNHW", first=0, stop=None)
        else:
            files = [digits_file(source, split)] if source and count else []
            settings = (source, split, length, digits, canvas, seed * (split == "train"))
            frames = partial(_sequence, files, partial(_generator, *settings))
            if count:
                frames(0)  # refuses what is wrong with them
        clips += [Clip(f"{split}/{n:05d}", split, files, partial(frames, n)) for n in range(count)]
    whose = "MNIST" if source else "scikit-learn"
    protocol = f"{digits} digits of {whose} on a canvas of {canvas}x{canvas}."
    return Source(clips, length, protocol=protocol)


def _clip(
    path: Path, key: str | None, layout: _Layout, number: int, first: int, stop: int | None
) -> Iterator[Tensor]:
    """Frames of a clip, as bytes."""
    found = _load(path, key)
    clip = (found[number] if layout[0] == "N" else found[:, number])[first:stop]
    if layout[-1] == "W" and "C" not in layout:
        clip = clip[:, None]
    elif layout[-1] == "C":
        clip = np.moveaxis(clip, -1, 1)
    for t, frame in enumerate(clip, first):
        if frame.dtype != np.uint8:
            if not (frame.dtype.kind == "f" and frame.min() >= 0 and frame.max() <= 1):
                raise ValueError(
                    f"clip {number}, frame {t} is {frame.dtype} from {frame.min()} to "
                    f"{frame.max()}: expected uint8, or floats in [0, 1]"
                )
            frame = np.round(frame * 255)
        yield torch.from_numpy(np.array(frame, np.uint8, order="C"))


def _sequence(
    files: Sequence[Path], generator: Callable[..., MovingMNIST], number: int
) -> Iterator[Tensor]:
    changed = tuple(file.stat().st_mtime_ns for file in files)
    return iter(generator(changed=changed)[number])


@lru_cache(maxsize=3)
def _generator(
    root: Path | None,
    split: Split,
    length: int,
    digits: int,
    canvas: int,
    seed: int,
    changed: tuple[int, ...],
) -> MovingMNIST:
    images = load_digits(root, split)
    stream = STREAMS[split]
    return MovingMNIST(images, length, digits, canvas, sys.maxsize, seed=seed, stream=stream)


@lru_cache(maxsize=1)
def _open(path: Path, key: str | None, changed: int) -> np.ndarray:
    try:
        content = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        with content as arrays:
            name = key or (arrays.files[0] if len(arrays.files) == 1 else None)
            if name not in arrays.files:
                raise ValueError(f"it holds {', '.join(arrays.files)}: give key, one of them")
            return arrays[name]
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is damaged or no array of clips: {reason}") from error


def _load(path: Path, key: str | None) -> np.ndarray:
    return _open(path, key, path.stat().st_mtime_ns)


def _guess(path: Path, shape: tuple[int, ...]) -> _Layout:
    if len(shape) == 4:
        return "NTHW"
    last, third = (len(shape) == 5 and shape[i] in (1, 3) for i in (4, 2))
    if last != third:
        return "NTHWC" if last else "NTCHW"
    raise ValueError(
        f"{path} holds an array of {shape}, expected (N, T, H, W), with C = 1 or 3 at the end or "
        "after T: give layout"
    )
