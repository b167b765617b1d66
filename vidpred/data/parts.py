"""A folder that keeps the clips that are done, from which an interrupted preparation goes on."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from inspect import isfunction
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vidpred.data.clips import VERSION
from vidpred.data.sources.base import Clip, Source
from vidpred.files import output_folder, replacing

_NAME = 32  # letters in the name of a part


def check_output(out: Path, workers: int) -> None:
    """Refuse what cannot be prepared whatever the source, before that is looked at.

    Args:
        out: As for :func:`vidpred.data.prepare`, as is the other.
        workers: See there.

    Raises:
        FileExistsError: There is something at ``out``.
        NotADirectoryError: There is a file on the way to it.
        ValueError: ``workers`` is below 0.
    """
    if workers < 0:
        raise ValueError(f"workers must be 0 or more processes, got {workers}")
    check_free(out)
    output_folder(out.parent)


def check_free(out: Path) -> None:
    """Refuse to take the place of what is there.

    Raises:
        FileExistsError: There is something at ``out``.
    """
    if out.exists():
        raise FileExistsError(f"{out} is there already: remove it, or give another file")


@contextmanager
def alone(parts: Path, out: Path) -> Iterator[None]:
    """Have the folder of the parts to oneself. Without a clip in it, it goes.

    Args:
        parts: The folder.
        out: The file that is made of it.

    Raises:
        BlockingIOError: Another process has the folder.
        FileExistsError: There is something at ``out``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    lock = FileLock(parts / "lock")  # one that ends with the process
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BlockingIOError(
            f"another process prepares {out}: wait for it, or give another file"
        ) from error
    try:
        check_free(out)  # once more, for another process may just have made it
        yield
    finally:
        if not done(parts):
            shutil.rmtree(parts, ignore_errors=True)
        lock.release()


@contextmanager
def keeping(parts: Path) -> Iterator[None]:
    """Let errors say where the clips are kept that are done, if any is."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not done(parts):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{error}; the clips that are done are kept in {parts}") from error


def done(parts: Path) -> list[Path]:
    """The clips that are kept, each as a file."""
    return list(parts.glob(f"{'[0-9a-f]' * _NAME}.h5"))


def begin(parts: Path, source: Source, settings: Mapping[str, Any], compress: bool) -> None:
    """Record how clips are made, or see that those that are kept were made in the same way.

    Raises:
        ValueError: They were not.
    """
    record = parts / "settings.json"
    ours = {name: getattr(source, name) for name in ("size", "length", "protocol")}
    content = {**settings, **ours, "compress": compress, "version": VERSION}
    text = json.dumps(content, default=str, indent=1)
    if kept := done(parts):
        new, old = json.loads(text), _recorded(record)
        other = [name for name in {**old, **new} if old.get(name) != new.get(name)]
        if other:
            raise ValueError(
                f"{parts} keeps clips prepared with another {other[0]}, {old.get(other[0])!r} "
                f"instead of {new.get(other[0])!r}: remove it to begin anew, or go on with the same"
            )
        if foreign := {*kept} - {part_of(parts, clip) for clip in source.clips}:
            raise ValueError(
                f"{parts} keeps {len(foreign)} clips that the source has no more, or decodes "
                "otherwise: remove it to begin anew, or go on with the same"
            )
    for left_over in parts.glob(".*"):  # of a process that was killed while it wrote
        left_over.unlink()
    with replacing(record) as temporary:
        temporary.write_text(text)


def _recorded(record: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(record.read_text()))
    except (FileNotFoundError, ValueError, TypeError) as error:
        raise ValueError(
            f"{record} is missing or damaged, so how the clips beside it were made is not known: "
            f"remove {record.parent} to begin anew"
        ) from error


def part_of(parts: Path, clip: Clip) -> Path:
    """Where a clip is kept: told by its name, which may hold anything, and by what decodes it."""
    text = json.dumps([clip.name, _told(clip.frames)], default=lambda x: type(x).__qualname__)
    return parts / f"{hashlib.sha256(text.encode()).hexdigest()[:_NAME]}.h5"


def _told(value: Any) -> Any:
    """A function and the arguments it is given, but for paths: of files a checksum is kept."""
    if isinstance(value, partial):
        return _told([value.func, value.args, value.keywords])
    if isinstance(value, Mapping):
        return {name: _told(x) for name, x in value.items() if not isinstance(x, Path)}
    if isinstance(value, list | tuple):
        return [_told(x) for x in value if not isinstance(x, Path)]
    return f"{value.__module__}.{value.__qualname__}" if isfunction(value) else value
