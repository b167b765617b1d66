"""What a data set is, before it is one file: clips, and how each sample is to look."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from torch import Tensor

from vidpred.data.crop import check_size

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Clip:
    """A clip as it was downloaded: made before a frame of it is decoded.

    Attributes:
        name: Unique in its data set, the same on every machine, such as ``set06/V003``.
        split: What it is for.
        files: That it is read from, in order.
        frames: Begins to decode it: uint8 frames ``(C, H, W)`` of the data set's frame rate, one
            after the other. Other processes call it, so it is a function of a module, or a
            :func:`functools.partial` of one.
        label: Index of its class.
    """

    name: str
    split: Split
    files: Sequence[Path]
    frames: Callable[[], Iterator[Tensor]] = field(repr=False)
    label: int | None = None


@dataclass(frozen=True)
class Source:
    """The clips of a data set, and the protocol by which they become samples.

    Attributes:
        clips: In order.
        length: Frames in a sample; frames are stored in pieces of as many.
        size: Height and width that frames are cut and scaled to; ``None``: as they are, one size in
            all clips.
        classes: Names of the classes, in the order of the labels.
        protocol: In a sentence or two, for the record.

    Raises:
        ValueError: ``length`` or a side of ``size`` is below 1, or ``size`` is no pair.
    """

    clips: Sequence[Clip]
    length: int
    size: tuple[int, int] | None = None
    classes: Sequence[str] = ()
    protocol: str = ""

    def __post_init__(self) -> None:
        check_sample(self.length, self.size)


def check_sample(length: int, size: tuple[int, int] | None) -> None:
    """Refuse what no sample can be, before clips are looked for.

    Args:
        length: As of a :class:`Source`, as is the other.
        size: See there.

    Raises:
        ValueError: As said there.
    """
    if length < 1:
        raise ValueError(f"length must be at least 1 frame, got {length}")
    check_size(size)
