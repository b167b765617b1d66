"""Something-Something, version 2."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from vidpred.data.sources.base import Clip, Source, Split
from vidpred.data.sources.layout import expect, portion
from vidpred.data.video import Video

_PREFIX = "something-something-v2-"


def something_something(
    source: Path,
    val_fraction: float = 0.05,
    size: tuple[int, int] | None = (128, 128),
    length: int = 20,
) -> Source:
    """Something-Something v2: 193,690 labelled clips of 174 actions with everyday objects.

    Args:
        source: Folder with the videos in ``20bn-something-something-v2``, and ``labels.json``,
            ``train.json`` and ``validation.json`` in ``labels`` or, as they were once named, with
            ``something-something-v2-`` before.
        val_fraction: Share of the videos to train on to validate on instead.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames of each clip, spread evenly over it; those of shorter ones come twice.

    Returns:
        A clip for each video that is labelled. Those for validation test, since the labels of the
        others are not public.

    Raises:
        FileNotFoundError: A list is missing, or a video that it names.
        ValueError: A list is not in the official form, names a class that is not in
            ``labels.json``, or a fraction is out of range.

    Reference:
        Goyal et al., ICCV 2017, arXiv:1706.04261. Protocol: Chang et al., STAU, arXiv:2204.09456.
    """
    root = expect(source / "20bn-something-something-v2", "a folder with 1.webm and so on")
    labels_file = _find(source, "labels")
    labels = _labels(labels_file)
    present = {path.name for path in root.iterdir()}
    clips = []
    parts: list[tuple[Split, str, float]] = [
        ("train", "train", val_fraction),
        ("test", "validation", 0),
    ]
    for split, part, held_out in parts:
        listed = _find(source, part)
        entries = list(_entries(listed))
        validate = portion([name for name, _ in entries], held_out)
        for name, template in entries:
            file = root / f"{name}.webm"
            if file.name not in present:
                raise FileNotFoundError(f"no video {file}, which {listed} names")
            if template not in labels:
                raise ValueError(f"{listed}: video {name} is of a class not in {labels_file}")
            frames = partial(spread_frames, file, length)
            of: Split = "val" if name in validate else split
            clips.append(Clip(name, of, [file], frames, labels[template]))
    return Source(
        clips,
        length,
        size,
        list(labels),
        f"Something-Something v2, {length} frames spread evenly over each clip, the validation set "
        f"to test, {val_fraction:g} of the others to validate",
    )


def spread_frames(path: Path, count: int) -> Iterator[Tensor]:
    """Frames of a video, spread evenly: the middle ones of as many equal parts.

    Args:
        path: The file, short enough to be decoded whole.
        count: Frames to take.
    """
    images = [image for image, _ in Video(path, channels=3)]
    for index in range(count):
        yield images[(2 * index + 1) * len(images) // (2 * count)]


def _find(source: Path, part: str) -> Path:
    names = (f"labels/{part}.json", f"{part}.json", f"{_PREFIX}{part}.json")
    for name in names:
        if (source / name).is_file():
            return source / name
    raise FileNotFoundError(f"no {part}.json in {source}: expected {' or '.join(names)}")


def _labels(path: Path) -> dict[str, int]:
    """Classes in the order of their numbers."""
    entries = _json(path)
    try:
        labels = {name: int(number) for name, number in entries.items()}
    except (AttributeError, TypeError, ValueError):
        labels = {}
    if sorted(labels.values()) != list(range(len(labels))) or not labels:
        raise ValueError(f'{path} is no list of classes: expected {{"Doing something": "0", ...}}')
    return dict(sorted(labels.items(), key=lambda item: item[1]))


def _entries(path: Path) -> Iterator[tuple[str, str]]:
    """Names of videos and of their classes, which do not have the brackets of the templates."""
    entries = _json(path)
    try:
        pairs = [
            (str(entry["id"]), entry["template"].replace("[", "").replace("]", ""))
            for entry in entries
        ]
    except (AttributeError, KeyError, TypeError):
        pairs = []
    if not pairs:
        raise ValueError(
            f'{path} is no list of videos: expected [{{"id": "1", "template": "..."}}, ...]'
        )
    yield from pairs


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no JSON, or is cut off: {error}") from error
