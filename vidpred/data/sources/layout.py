"""What the readers of folders share: what must be there or given, what is held out, videos."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

from torch import Tensor

from vidpred.data.sources.base import Clip, Split
from vidpred.data.video import Video

_Item = TypeVar("_Item", bound=Hashable)


def expect(path: Path, what: str) -> Path:
    """A file or folder of the layout.

    Raises:
        FileNotFoundError: It is not there.

    Example:
        >>> expect(Path("somewhere/UCF-101"), "a folder for each class")
        Traceback (most recent call last):
        FileNotFoundError: no somewhere/UCF-101: expected a folder for each class
    """
    if not path.exists():
        raise FileNotFoundError(f"no {path}: expected {what}")
    return path


def one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse an argument that is none of its choices.

    Raises:
        ValueError: As said.

    Example:
        >>> one_of("channels", 2, (1, 3))
        Traceback (most recent call last):
        ValueError: channels must be one of 1, 3; got 2
    """
    if value not in choices:
        expected = ", ".join(map(str, choices))
        raise ValueError(f"{name} must be one of {expected}; got {value}")


def by_number(path: Path) -> list[tuple[list[tuple[int, str]], str]]:
    """Sorts paths by the numbers in their names: ``9.png`` comes before ``10.png``.

    Example:
        >>> [path.name for path in sorted(map(Path, ["10.png", "9.png", "x2"]), key=by_number)]
        ['x2', '9.png', '10.png']
    """
    # Pairs of a number and what follows it, so that numbers only meet numbers.
    pairs = (re.findall(r"(\d*)(\D*)", name) for name in path.parts)
    return [
        ([(int(digits or "0"), rest) for digits, rest in found], name)
        for found, name in zip(pairs, path.parts, strict=True)
    ]


def portion(items: Sequence[_Item], fraction: float) -> set[_Item]:
    """A fraction of some items, spread evenly over them and so over the classes they are sorted by.

    Raises:
        ValueError: The fraction is below 0, or not below 1.

    Example:
        >>> sorted(portion(range(35), 0.1))
        [9, 19, 29]
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"a fraction to hold out is at least 0 and below 1, got {fraction}")
    return {x for n, x in enumerate(items) if int((n + 1) * fraction) > int(n * fraction)}


def by_time(
    prefix: str,
    file: Path,
    frames: Callable[..., Iterator[Tensor]],
    train: int,
    stop: int | None,
    val_fraction: float,
) -> Iterator[Clip]:
    """The parts of one long clip: the first trains, its end validates, what follows tests.

    Args:
        prefix: Of the names; the rest is the split.
        file: It is read from.
        frames: Decodes it from ``start`` up to ``stop``, two keywords.
        train: Frames at the start to train and to validate on.
        stop: The frame to end before. ``None``: the end of the file.
        val_fraction: Share of ``train`` to validate on.
    """
    cut = train - len(portion(range(train), val_fraction))
    parts: list[tuple[Split, int, int | None]] = [
        ("train", 0, cut),
        ("val", cut, train),
        ("test", train, stop),
    ]
    for split, start, end in parts:
        if start != end:
            part = partial(frames, start=start, stop=end)
            yield Clip(f"{prefix}{split}", split, [file], part)


def video_frames(
    path: Path,
    fps: float | None = None,
    start: int = 0,
    stop: int | None = None,
    channels: Literal[1, 3] = 3,
) -> Iterator[Tensor]:
    """The frames of a video file, or those from ``start`` up to ``stop``.

    Args:
        path: The file.
        fps: Frames a second to resample to, before they are counted.
        start: Frames to leave out at the start.
        stop: The frame to end before. ``None``: the end of the file.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: The file is damaged, or ends before ``stop``.
    """
    count = start
    for image, _ in islice(Video(path, channels, fps), start, stop):
        yield image
        count += 1
    if stop is not None and count < stop:
        raise ValueError(f"{path} ends before frame {stop}, up to which it is to be read")
