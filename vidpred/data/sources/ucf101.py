"""UCF101."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from vidpred.data.sources.base import Clip, Source, Split
from vidpred.data.sources.layout import expect, one_of, portion, video_frames


def ucf101(
    source: Path,
    fold: Literal[1, 2, 3] | None = None,
    val_fraction: float = 0.05,
    size: tuple[int, int] | None = (256, 256),
    length: int = 5,
) -> Source:
    """UCF101: 13,320 clips of 101 actions from YouTube, 240x320, most with 25 frames a second.

    Args:
        source: Folder with what the two archives unpack to: ``UCF-101``, the videos in a folder
            for each class, and ``ucfTrainTestlist``, which says what there is.
        fold: Which of the three official lists tells what trains and what tests. ``None``: nine
            parts train and one tests. The clips of one original, such as all of ``g08``, stay
            together.
        val_fraction: Share of the originals to train on to validate on instead.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample: 4 to see and 1 to predict.

    Returns:
        A clip for each video.

    Raises:
        FileNotFoundError: A list is missing, or a video that it names.
        ValueError: A list is not in the official form, or an argument is out of range.

    Reference:
        Soomro et al., 2012, arXiv:1212.0402. Nine to one: Chang et al., STAE, ICME 2021.
    """
    one_of("fold", fold, (1, 2, 3, None))
    lists = expect(source / "ucfTrainTestlist", "the official lists, trainlist01.txt and so on")
    root = expect(source / "UCF-101", "the videos, in a folder for each class")
    classes = list(_classes(lists / "classInd.txt"))
    labels = {name: label for label, name in enumerate(classes)}
    splits: dict[str, Split] = {}
    for split in ("train", "test"):
        for name in _videos(lists / f"{split}list{fold or 1:02}.txt", labels):
            splits[name] = split
    if fold is None:
        tests = portion(sorted({_original(name) for name in splits}), 0.1)
        splits = {x: "test" if _original(x) in tests else "train" for x in sorted(splits)}
    trained = sorted({_original(name) for name, split in splits.items() if split == "train"})
    validate = portion(trained, val_fraction)
    present = {path.relative_to(root).as_posix() for path in root.glob("*/*.avi")}
    clips = []
    for name, split in splits.items():
        if name not in present:
            missing = len(set(splits) - present)
            raise FileNotFoundError(
                f"no video {root / name}, which the lists name ({missing} of {len(splits)} "
                "are missing): expected all of UCF-101"
            )
        if split == "train" and _original(name) in validate:
            split = "val"
        file = root / name
        label = labels[file.parent.name]
        clips.append(
            Clip(name.removesuffix(".avi"), split, [file], partial(video_frames, file), label)
        )
    parts = f"official fold {fold}" if fold else "every tenth original to test"
    return Source(
        clips,
        length,
        size,
        classes,
        f"UCF101, {len(clips)} clips, {parts}, {val_fraction:g} of the others to validate",
    )


def _original(name: str) -> tuple[str, str]:
    """Class and number of what a clip was cut from: ``X/v_X_g08_c01.avi`` from ``g08``."""
    folder, _, file = name.partition("/")
    return folder, file.split("_")[-2]


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Places in a list, for errors, and the words there."""
    text = expect(path, "an official list of UCF101").read_text(encoding="utf-8")
    if not text.strip():
        raise ValueError(f"{path} is empty: expected an official list of UCF101")
    for number, line in enumerate(text.splitlines(), 1):
        if words := line.split():
            yield f"{path}, line {number}", words


def _classes(path: Path) -> Iterator[str]:
    for count, (place, words) in enumerate(_lines(path), 1):
        if len(words) != 2 or words[0] != str(count):
            raise ValueError(f"{place}: expected '{count} NameOfAClass', got {' '.join(words)!r}")
        yield words[1]


def _videos(path: Path, labels: Mapping[str, int]) -> Iterator[str]:
    for place, (name, *label) in _lines(path):
        folder, _, file = name.partition("/")
        official = file.endswith(".avi") and file.count("_") >= 3 and folder in labels
        if not official or label not in ([], [str(labels[folder] + 1)]):
            got = " ".join([name, *label])
            raise ValueError(
                f"{place}: expected 'Class/v_Class_g01_c01.avi', then the number of the class in "
                f"classInd.txt or nothing, got {got!r}"
            )
        yield name
