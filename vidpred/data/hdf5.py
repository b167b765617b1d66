"""HDF5 files that are whole or absent, and errors of the disk that do not end the process."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np

from vidpred.files import replacing

_Kind = TypeVar("_Kind")

ZSTD = 32015  # the number under which HDF5 knows this filter


class _File(io.FileIO):
    """Keeps the first error of a write to itself: HDF5 crashes the process when it meets one."""

    error: OSError | None = None

    def write(self, data: Any) -> int:
        size = len(data)
        try:
            while len(data) and self.error is None:
                data = data[super().write(data) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return self.tell() if size is None else size


@contextmanager
def writing(path: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Write an HDF5 file that takes its place when the block succeeds.

    Args:
        path: The file to write or replace.

    Yields:
        The file, and a function to call after every larger write: it raises if that failed.

    Raises:
        OSError: The disk is full or cannot be written to.
    """
    with replacing(path) as temporary, _File(temporary, "w+") as target:

        def check() -> None:
            if target.error is not None:
                raise OSError(f"{path} could not be written: {target.error.strerror}")

        try:
            with h5py.File(target, "w", libver="v110") as file:
                yield file, check
        except (OSError, RuntimeError):  # HDF5 missing what it had written
            check()
            raise
        check()
        os.fsync(target.fileno())


def create_group(file: h5py.File, name: str) -> h5py.Group:
    """Add a group that does not keep when it was made: equal content is to give equal bytes."""
    settings = h5py.h5p.create(h5py.h5p.GROUP_CREATE)
    settings.set_obj_track_times(False)
    return h5py.Group(h5py.h5g.create(file.id, name.encode(), gcpl=settings))


def create_frames(
    file: h5py.File, shape: Sequence[int], length: int, compress: bool
) -> h5py.Dataset:
    """Add an empty data set ``frames`` of bytes, in chunks of ``length``, whose rows may grow.

    Args:
        file: Open for writing.
        shape: Of a frame, ``(C, H, W)``.
        length: Frames in a chunk.
        compress: By zstd.
    """
    return file.create_dataset(
        "frames",
        (0, *shape),
        np.uint8,
        chunks=(length, *shape),
        maxshape=(None, *shape),
        **(zstd() if compress else {}),
    )


def zstd() -> dict[str, Any]:
    """Options of a data set that is compressed by zstd, and HDF5 able to do it.

    Raises:
        ImportError: hdf5plugin, which brings zstd to HDF5, is missing.
    """
    try:
        import hdf5plugin  # pyright: ignore[reportMissingImports] -- an extra
    except ImportError as error:
        raise ImportError("zstd needs hdf5plugin: pip install 'vidpred[zstd]'") from error
    return dict(hdf5plugin.Zstd(clevel=3))


def strings(values: Sequence[str]) -> np.ndarray:
    """Strings as HDF5 stores them."""
    return np.array(values, h5py.string_dtype())


def checksum(frames: h5py.Dataset, start: int, count: int, length: int) -> str:
    """The sha256 of ``count`` rows from ``start``, of which ``length`` are read at once."""
    digest, stop = hashlib.sha256(), start + count
    for first in range(start, stop, length):
        digest.update(frames[first : min(first + length, stop)].data)
    return digest.hexdigest()


def attribute(file: h5py.File, name: str, kind: type[_Kind]) -> _Kind:
    """An attribute of a file.

    Raises:
        KeyError: There is none of that name and kind.
    """
    found = file.attrs.get(name)
    if not isinstance(found, kind):
        raise KeyError(f"its attribute {name} is {found!r}")
    return found


def dataset(file: h5py.File, name: str) -> h5py.Dataset:
    """A data set of a file.

    Raises:
        KeyError: There is none of that name.
    """
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is no data set")
    return found


def numbers(file: h5py.File, name: str) -> np.ndarray:
    """The values of a data set of numbers."""
    return np.asarray(dataset(file, name)[:])


def texts(file: h5py.File, name: str) -> list[str]:
    """The values of a data set of strings."""
    return list(dataset(file, name).asstr()[:])
