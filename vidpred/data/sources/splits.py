"""Splits of clips that come without."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from torch import Tensor

from vidpred.data.sources.base import Clip, Split
from vidpred.data.sources.layout import one_of
from vidpred.random import permutation


@dataclass(frozen=True)
class Recording:
    """A clip before it is given to a split, or cut in three.

    Attributes:
        name: As that of a :class:`Clip`, as are ``files`` and ``label``.
        files: See there.
        frames: Decodes it from one frame up to another, or to its end: ``frames(first, stop)``. A
            function of a module, or a :func:`functools.partial` of one.
        length: Counts its frames, where clips are split by time.
        label: See there.
    """

    name: str
    files: Sequence[Path]
    frames: Callable[[int, int | None], Iterator[Tensor]] = field(repr=False)
    length: Callable[[], int] = field(repr=False)
    label: int | None = None


def divide(
    recordings: Sequence[Recording],
    by: Literal["clip", "time"],
    val_fraction: float,
    test_fraction: float,
    seed: int,
) -> list[Clip]:
    """Give every clip to a split, or a part of every clip to every split.

    By clip: in a random order, a function of the seed, the last ones test, those before validate;
    a split whose fraction is above 0 has at least one. By time: as :func:`split_by_time` cuts, the
    first part of each trains, the last tests; ``NAME/train`` is the name of a part.

    Args:
        recordings: In order, which is that of the clips.
        by: Unit that a split gets.
        val_fraction: Share of the clips, or of each clip's frames, to validate on.
        test_fraction: Share of them to test on.
        seed: Any integer.

    Raises:
        ValueError: Another unit, fractions out of range, or that leave no clip to train on.

    Example:
        >>> takes = [Recording(name, [], iter, lambda: 20) for name in "abcd"]
        >>> [(clip.name, clip.split) for clip in divide(takes, "clip", 0, 0.25, seed=1)]
        [('a', 'train'), ('b', 'train'), ('c', 'train'), ('d', 'test')]
        >>> [clip.name for clip in divide(takes[:1], "time", 0.1, 0.2, seed=1)]
        ['a/train', 'a/val', 'a/test']
    """
    one_of("split_by", by, ("clip", "time"))
    if min(val_fraction, test_fraction) < 0 or val_fraction + test_fraction >= 1:
        raise ValueError(
            "val_fraction and test_fraction are shares of the frames that leave some to train "
            f"on, got {val_fraction} and {test_fraction}"
        )
    if by == "time":
        return [part for x in recordings for part in _cut(x, val_fraction, test_fraction)]
    total = len(recordings)
    val, test = (
        max(1, round(total * fraction)) if fraction else 0
        for fraction in (val_fraction, test_fraction)
    )
    if total <= val + test:
        raise ValueError(
            f"{total} clips cannot be split into train, {val} val and {test} test clips: split by "
            "time, or change val_fraction and test_fraction"
        )
    splits: list[Split] = ["train"] * total
    order = permutation(total, seed).tolist()
    for place, number in enumerate(order):
        if place >= total - val - test:
            splits[number] = "test" if place >= total - test else "val"
    return [
        Clip(x.name, split, x.files, partial(x.frames, 0, None), x.label)
        for x, split in zip(recordings, splits, strict=True)
    ]


def split_by_time(
    frames: range, val_fraction: float, test_fraction: float
) -> tuple[range, range, range]:
    """Cut frames into a first part to train on, a middle one to validate and a last one to test.

    Args:
        frames: Their numbers.
        val_fraction: Share of the frames in the middle part, rounded to whole frames.
        test_fraction: Share of the frames in the last part.

    Returns:
        The three parts, which have no frame in common.

    Example:
        >>> split_by_time(range(10), 0.1, 0.2)
        (range(0, 7), range(7, 8), range(8, 10))
    """
    val, test = (round(len(frames) * fraction) for fraction in (val_fraction, test_fraction))
    train = max(0, len(frames) - val - test)
    return frames[:train], frames[train : train + val], frames[train + val :]


def protocol_of(
    size: tuple[int, int] | None, by: str, val_fraction: float, test_fraction: float, seed: int
) -> str:
    """What becomes of clips that have no protocol of their own, in words."""
    cut = f"Centre crop, scaled to {size[0]}x{size[1]}" if size else "Frames as they are"
    seeded = f", seed {seed}" if by == "clip" else ""
    return f"{cut}; split by {by}: {val_fraction:g} val, {test_fraction:g} test{seeded}"


def _cut(recording: Recording, val_fraction: float, test_fraction: float) -> Iterator[Clip]:
    numbers = range(recording.length())
    parts = split_by_time(numbers, val_fraction, test_fraction)
    for split, part in zip(get_args(Split), parts, strict=True):
        if part:
            # The last part ends where the clip does, give or take a frame of what it says.
            stop = None if part.stop == numbers.stop else part.stop
            frames = partial(recording.frames, part.start, stop)
            name = f"{recording.name}/{split}"
            yield Clip(name, split, recording.files, frames, recording.label)
