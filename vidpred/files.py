"""Files: written whole or not at all, a place for results, checkpoints, checksums."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

_HIDDEN = ".vidpred-"  # by which folders of a process that was killed are known


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path that takes the place of ``path`` when the block succeeds.

    The temporary file lies in the folder of ``path``, which is made when missing, and keeps its
    suffix, from which many writers infer the format. When the block raises, the temporary file is
    removed and an older file at ``path`` stays as it was.

    Args:
        path: The file to write or replace.

    Raises:
        IsADirectoryError: If ``path`` is a folder.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with replacing(folder / "notes.txt") as temporary:
        ...     _ = temporary.write_text("whole")
        >>> [(file.name, file.read_text()) for file in folder.iterdir()]
        [('notes.txt', 'whole')]
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: its files are private to their owner, and would stay so once renamed.
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(8)}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(path)  # the system names what it cannot open, not what it writes
        raise


@contextmanager
def replacing_files(path: str | os.PathLike[str], stale: Sequence[str] = ()) -> Iterator[Path]:
    """Yield a temporary folder whose files move to the folder ``path`` when the block succeeds.

    There they take the place of files of their names; others stay, but for ``stale`` ones. When the
    block raises, or the process is killed in it, nothing of that has happened.

    Args:
        path: The folder, which is made when missing.
        stale: Patterns of the names that such blocks write, as of :meth:`pathlib.Path.glob`: files
            that match but are not among the new ones are removed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for name in ("worst.png", "best.png"):
        ...     with replacing_files(folder, stale=["*.png"]) as temporary:
        ...         _ = (temporary / name).write_bytes(b"picture")
        >>> [file.name for file in folder.iterdir()]
        ['best.png']
    """
    path = output_folder(path)
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    temporary = path / f"{_HIDDEN}{secrets.token_hex(8)}"
    try:
        temporary.mkdir(parents=True)
        yield temporary
        new = [x.relative_to(temporary) for x in temporary.rglob("*") if x.is_file()]
        for name in new:  # all of them before the first takes its place
            if (path / name).is_dir():
                raise IsADirectoryError(f"{path / name} is a folder: no file can take its place")
            output_folder((path / name).parent)
        for name in new:
            (path / name).parent.mkdir(exist_ok=True)
            os.replace(temporary / name, path / name)
        for old in (x for pattern in stale for x in path.glob(pattern)):
            if old.is_file() and old.relative_to(path) not in new:
                old.unlink()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):  # of folders that are not empty
            for folder in missing:
                folder.rmdir()


def check_new_folder(path: Path) -> None:
    """Refuse a place for a new folder that is taken; what a killed process left does not count.

    Raises:
        FileExistsError: There is a file at ``path``, or a folder that is not empty.

    Example:
        >>> import tempfile
        >>> check_new_folder(Path(tempfile.mkdtemp()))
    """
    if not path.exists():
        return
    if not path.is_dir() or any(not x.name.startswith(_HIDDEN) for x in path.iterdir()):
        raise FileExistsError(f"{path} is there already: give a folder that is new or empty")


def output_folder(path: str | os.PathLike[str]) -> Path:
    """Where results can go once they are there: seen before anything takes its time.

    Args:
        path: A folder, which need not be there.

    Raises:
        NotADirectoryError: There is a file at ``path``, or on the way to it.
        OSError: Nothing can be written there.

    Example:
        >>> output_folder("runs/evaluation").name
        'evaluation'
    """
    path = Path(path)
    place = next(folder for folder in (path, *path.parents) if folder.exists())
    if not place.is_dir():
        raise NotADirectoryError(f"{place} is a file: give the path of a folder")
    try:  # permissions do not tell: a disk may be read-only, and a superuser has all of them
        with tempfile.TemporaryDirectory(prefix=_HIDDEN, dir=place):
            return path
    except OSError as error:
        raise type(error)(f"cannot write to {path}: {error.strerror}") from error


def read_checkpoint(path: str | os.PathLike[str]) -> Any:
    """Read a checkpoint without running code that it may hold.

    Args:
        path: A file of ``torch.save``.

    Returns:
        What was saved: a state dict, or a dict that has one among others.

    Raises:
        FileNotFoundError: No such file.
        IsADirectoryError: A folder.
        ValueError: Damaged, or it holds more than tensors and plain Python values.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(
            f"{path} is a folder, expected the file of a checkpoint; model folders are for "
            "Predictor.from_pretrained"
        )
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a file that is cut, foreign, unsafe
        if unsafe := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise ValueError(
                f"{path} holds more than tensors and plain values, {unsafe[1]}, which could run "
                "code: write its state_dict to a file of its own and give that"
            ) from error
        raise ValueError(
            f"{path} is damaged or no checkpoint: torch.load cannot read it"
        ) from error


def sha256(path: str | os.PathLike[str]) -> str:
    """Checksum of a file, in hexadecimal; one that has not changed since is not read again."""
    status = os.stat(path)
    return _sha256(Path(path), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=64)
def _sha256(path: Path, size: int, changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return digest.hexdigest()
