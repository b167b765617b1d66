"""A data set as one HDF5 file: frames as bytes, in pieces of a window, and an index of the clips.

The layout, version 2. A clip begins with a new piece; what its last piece has too many are zeros.

=================  ======================  =========================================================
attribute of ``/`` type                    what it holds
=================  ======================  =========================================================
``format``         string                  ``vidpred clips``
``version``        integer                 of this layout: 2
``vidpred``        string                  version that wrote the file
``protocol``       string                  how the frames were made, in words
``settings``       string, JSON            how they were made: the data set and its arguments
``length``         integer                 frames in a sample, and in a piece
``sha256``         string                  of all but itself and ``frames``: of a JSON object of
                                           the names here, sorted, and the values
=================  ======================  =========================================================

=================  ======================  =========================================================
data set           type and shape          what it holds
=================  ======================  =========================================================
``frames``         uint8 (rows, C, H, W)   all clips, one after another, in chunks of (length, C, H,
                                           W), each as it is or by zstd
``clips/name``     string (N,)             unique
``clips/split``    string (N,)             ``train``, ``val`` or ``test``
``clips/start``    int64 (N,)              row of the first frame, a multiple of length
``clips/frames``   int64 (N,)              how many frames
``clips/label``    int64 (N,)              index in ``classes``; -1: none
``clips/sha256``   string (N,)             of the frames, as they are in memory
``files/clip``     int64 (F,)              index of a clip that was read from the file
``files/name``     string (F,)             of the file, seen from the folder common to all
``files/sha256``   string (F,)             of the file
``classes``        string (K,)             names of the classes
=================  ======================  =========================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import torch
from torch import Tensor

from vidpred.data.hdf5 import ZSTD, attribute, dataset, numbers, texts, zstd
from vidpred.data.sources.base import Split
from vidpred.data.sources.layout import one_of

FORMAT, VERSION = "vidpred clips", 2
COLUMNS = {
    "clips": ("name", "split", "start", "frames", "label", "sha256"),
    "files": ("clip", "name", "sha256"),
}
_ATTRIBUTES = ("format", "version", "vidpred", "protocol", "settings", "length")


@dataclass(frozen=True)
class StoredClip:
    """A clip in a file: a slice of it, forwards, is read when it is asked for.

    Attributes:
        file: The file.
        start: Row of its first frame.
        frames: How many it has.
        label: Index of its class; -1: none.
    """

    file: ClipsFile
    start: int
    frames: int
    label: int

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, frames: slice) -> Tensor:
        if not isinstance(frames, slice):
            raise TypeError(f"a clip is read in slices, such as clip[3:4]; got {frames!r}")
        first, stop, step = frames.indices(self.frames)
        if step < 1:
            raise ValueError(f"a clip is read forwards, got a step of {step}: flip what is read")
        return self.file.read(self.start + first, self.start + max(first, stop))[::step]


class ClipsFile:
    """A file written by :func:`vidpred.data.prepare`, open for reading.

    The index is in memory, frames are read when asked for and only those. The file is opened once
    in each process that reads from it, forked or spawned, and takes the same memory at any size.

    Args:
        path: The file.

    Attributes:
        path: The file.
        length: Frames in a sample, as its protocol says.
        shape: ``(C, H, W)`` of a frame.
        classes: Names of the classes, in the order of the labels.
        protocol: How the frames were made, in words.
        settings: How they were made: the data set and its arguments.
        vidpred: Version that wrote the file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is truncated, damaged, no HDF5, not of this layout, or of another version.
        BlockingIOError: It is open elsewhere for writing, or with other locks.
        ImportError: It is compressed and hdf5plugin is missing.

    Example:
        >>> import tempfile
        >>> from vidpred.data import prepare, sources
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "a.npy", np.arange(60, dtype=np.uint8).reshape(3, 5, 2, 2))
        >>> source = sources.array(folder / "a.npy", length=2, val_fraction=0, test_fraction=0.4)
        >>> file = ClipsFile(prepare(source, folder / "a.h5"))
        >>> [len(clip) for clip in file.clips("train")], file.clips("train")[0][3:5].shape
        ([5, 5], torch.Size([2, 1, 2, 2]))
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._handle: h5py.File | None = None
        self._rows: h5py.Dataset | None = None  # to look it up takes as long as to read a window
        self._process = 0
        if self.path.is_dir():
            raise IsADirectoryError(f"{path} is a folder, expected a file of vidpred data prepare")
        if not self.path.is_file():
            raise FileNotFoundError(f"no file {path}: vidpred data prepare writes it")
        with self.reading() as file:
            if (form := attribute(file, "format", str)) != FORMAT:
                raise ValueError(f"its attribute format is {form!r}")
            self.vidpred = attribute(file, "vidpred", str)
            version = attribute(file, "version", np.integer)
        if version != VERSION:
            raise ValueError(
                f"{path} has layout {version}, written by vidpred {self.vidpred}; this one reads "
                f"layout {VERSION}: prepare it again, or use that vidpred"
            )
        with self.reading() as file:
            self.length = int(attribute(file, "length", np.integer))
            self.protocol = attribute(file, "protocol", str)
            self.settings: dict[str, Any] = dict(json.loads(attribute(file, "settings", str)))
            self.classes: Sequence[str] = tuple(texts(file, "classes"))
            frames = dataset(file, "frames")
            self._check_frames(frames)
            self.shape: tuple[int, int, int] = frames.shape[1:]
            self.start, self.frames, self.label = (
                numbers(file, f"clips/{name}") for name in ("start", "frames", "label")
            )
            self.split = np.array(texts(file, "clips/split"))
            self._check_index(file)

    def clips(self, split: Split) -> Sequence[StoredClip]:
        """The clips of a split, in order.

        Raises:
            ValueError: No such split.
        """
        one_of("split", split, get_args(Split))
        chosen = (self.split == split).nonzero()[0]
        columns = (column[chosen].tolist() for column in (self.start, self.frames, self.label))
        return [StoredClip(self, *clip) for clip in zip(*columns, strict=True)]

    def read(self, first: int, stop: int) -> Tensor:
        """Rows of ``frames``, uint8 ``(stop - first, C, H, W)``."""
        with self.reading() as file:
            if self._rows is None:
                self._rows = dataset(file, "frames")
            return torch.from_numpy(self._rows[first:stop])

    @contextmanager
    def reading(self) -> Iterator[h5py.File]:
        """The file as h5py has it, in this process; what is found wrong becomes one line.

        Raises:
            ValueError: The file is truncated or damaged.
            BlockingIOError: It is open elsewhere for writing, or with other locks.
        """
        try:
            if self._handle is None or self._process != os.getpid():
                # A fork inherits its parent's: let go of it first, so that HDF5 opens a new one.
                self._handle = self._rows = None
                # No cache, so of a chunk that is not compressed HDF5 reads what is asked for.
                # Locked as HDF5 does by default, for it refuses one process two ways of locking.
                self._handle = h5py.File(self.path, "r", rdcc_nbytes=0)
                self._process = os.getpid()
            yield self._handle
        except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
            said = error.args[0] if isinstance(error, KeyError) else error  # it shows its repr
            reason = str(said).splitlines()[0]
            if isinstance(error, BlockingIOError) or "file locking" in reason:
                raise BlockingIOError(
                    f"{self.path} is open for writing, or with other locks: close it there"
                ) from error
            if getattr(error, "errno", None):  # the operating system's, such as a permission
                raise
            raise ValueError(
                f"{self.path} is no sound file of vidpred data prepare: {reason}"
            ) from error

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None, "_rows": None}

    def _check_frames(self, frames: h5py.Dataset) -> None:
        if frames.dtype != np.uint8 or frames.ndim != 4:
            raise ValueError(f"frames are uint8 (rows, C, H, W), got {frames.dtype} {frames.shape}")
        if frames.chunks != (self.length, *frames.shape[1:]):
            raise ValueError(f"pieces of {frames.chunks}, expected {self.length} frames")
        filters = frames.id.get_create_plist()
        if ZSTD in (filters.get_filter(number)[0] for number in range(filters.get_nfilters())):
            zstd()

    def _check_index(self, file: h5py.File) -> None:
        """Refuse an index whose columns disagree or lead out of the file."""
        for group, names in COLUMNS.items():
            sizes = {name: dataset(file, f"{group}/{name}").shape for name in names}
            if len(set(sizes.values())) != 1:
                raise ValueError(f"{group} has columns of sizes {sizes}")
        pieces = -(-self.frames // self.length)
        expected = np.cumsum([0, *pieces * self.length])
        if not (
            (self.frames > 0).all()
            and np.array_equal(self.start, expected[:-1])
            and len(dataset(file, "frames")) == expected[-1]
        ):
            raise ValueError("its clips are not one after another")
        if unknown := {*self.split.tolist()} - {*get_args(Split)}:
            raise ValueError(f"unknown split {sorted(unknown)[0]!r}")
        if not ((self.label >= -1) & (self.label < len(self.classes))).all():
            raise ValueError("a label is none of its classes")


def index_checksum(file: h5py.File) -> str:
    """The sha256 of all that a file of clips holds but its frames, as the layout says."""
    columns = [f"{group}/{name}" for group, names in COLUMNS.items() for name in names]
    index: dict[str, Any] = {name: file.attrs[name] for name in _ATTRIBUTES}
    for name in ("classes", *columns):
        is_text = h5py.check_string_dtype(dataset(file, name).dtype)
        index[name] = texts(file, name) if is_text else numbers(file, name).tolist()
    text = json.dumps(index, sort_keys=True, default=int)  # NumPy's integers are none of JSON's
    return hashlib.sha256(text.encode()).hexdigest()
