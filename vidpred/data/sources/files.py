"""Your own clips: a folder of videos, or of folders of frames."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from vidpred.data.sources.base import Source, check_sample
from vidpred.data.sources.images import PICTURES, image_frames
from vidpred.data.sources.layout import by_number, one_of, video_frames
from vidpred.data.sources.splits import Recording, divide, protocol_of
from vidpred.data.video import SUFFIXES, Video, check_fps


def videos(
    source: Path,
    size: tuple[int, int] | None = None,
    length: int = 20,
    fps: float | None = None,
    channels: Literal[1, 3] = 3,
    classes: Literal["folder", "file"] | None = None,
    split_by: Literal["clip", "time"] = "clip",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """Video files of a folder, and of the folders in it, in the natural order of their names.

    Args:
        source: A folder, or one file.
        size: Height and width that frames are cut to, at their centre, and scaled to. Left out:
            frames as they are, of one size in all files.
        length: Frames in a sample.
        fps: Frames a second to resample to, by leaving out; of slower videos frames come twice.
            Left out: all frames.
        channels: 3 for RGB, 1 for grey.
        classes: What names a clip's class: the "folder" that it lies in, or the "file" itself.
            Left out: clips without labels.
        split_by: "clip" gives whole videos to train, val and test; "time" the first part of each
            to train, the last to test.
        val_fraction: Share of the videos, or of each, to validate on.
        test_fraction: Share of them to test on.
        seed: Any integer; sets which videos go where.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no video, one is damaged, or an argument is out of range.
    """
    check_sample(length, size)
    check_fps(fps)
    one_of("channels", channels, (1, 3))
    one_of("classes", classes, ("folder", "file", None))
    paths = find_videos(source)
    root = source.parent if source.is_file() else source
    names, labels = _classes(paths, classes)
    recordings = []
    for path, label in zip(paths, labels, strict=True):
        frames = partial(video_frames, path, fps, channels=channels)
        name = path.relative_to(root).as_posix()
        recordings.append(Recording(name, [path], frames, partial(_count, path, fps), label))
    clips = divide(recordings, split_by, val_fraction, test_fraction, seed)
    rate = "all frames" if fps is None else f"{fps:g} frames a second"
    protocol = f"{protocol_of(size, split_by, val_fraction, test_fraction, seed)}; {rate}."
    return Source(clips, length, size, names, protocol)


def frame_folders(
    source: Path,
    size: tuple[int, int] | None = None,
    length: int = 20,
    every: int = 1,
    channels: Literal[1, 3] = 3,
    classes: Literal["folder"] | None = None,
    split_by: Literal["clip", "time"] = "clip",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """Folders that hold the frames of a clip each, in the natural order: 2.png before 10.png.

    Args:
        source: A folder; every folder in it, at any depth, that holds pictures is a clip.
        size: As for :func:`videos`, as are those that are not here.
        length: Frames in a sample.
        every: Take one frame of as many; 3 makes 10 frames a second of 30.
        channels: 3 for RGB, 1 for grey.
        classes: "folder": a clip's class is the name of the folder that its folder lies in. Left
            out: clips without labels.
        split_by: "clip" gives whole folders to train, val and test; "time" the first part of each
            to train, the last to test.
        val_fraction: Share of the clips, or of each, to validate on.
        test_fraction: Share of them to test on.
        seed: Any integer; sets which clips go where.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no pictures, or an argument is out of range.
    """
    check_sample(length, size)
    if every < 1:
        raise ValueError(f"every must be at least 1 frame, got {every}")
    one_of("channels", channels, (1, 3))
    one_of("classes", classes, ("folder", None))
    folders: dict[Path, list[Path]] = {}
    for path in _below(source, PICTURES, "picture"):
        folders.setdefault(path.parent, []).append(path)
    names, labels = _classes([*folders], classes)
    recordings = []
    for (folder, pictures), label in zip(folders.items(), labels, strict=True):
        taken = pictures[::every]
        name = folder.relative_to(source).as_posix()
        frames = partial(_frames, taken, channels)
        recordings.append(Recording(name, taken, frames, taken.__len__, label))
    clips = divide(recordings, split_by, val_fraction, test_fraction, seed)
    rate = "all frames" if every == 1 else f"one frame of {every}"
    protocol = f"{protocol_of(size, split_by, val_fraction, test_fraction, seed)}; {rate}."
    return Source(clips, length, size, names, protocol)


def find_videos(source: Path) -> list[Path]:
    """A video file, or those in a folder and in the folders below, in natural order.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The folder holds no video.
    """
    return [source] if source.is_file() else _below(source, SUFFIXES, "video")


def _count(path: Path, fps: float | None) -> int:
    return Video(path, fps=fps).count()


def _frames(
    pictures: Sequence[Path], channels: Literal[1, 3], start: int, stop: int | None
) -> Iterator[Tensor]:
    return image_frames(pictures[start:stop], channels)


def _below(folder: Path, suffixes: Sequence[str], kind: str) -> list[Path]:
    """The files of a kind in a folder and in those below, in natural order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}")
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        raise ValueError(f"no {kind} in {folder}: expected files named {' '.join(suffixes)}")
    return sorted(found, key=by_number)


def _classes(
    paths: Sequence[Path], by: Literal["folder", "file"] | None
) -> tuple[list[str], list[int | None]]:
    """Names of the classes, and the label of every path."""
    if by is None:
        return [], [None] * len(paths)
    names = [path.parent.name if by == "folder" else path.stem for path in paths]
    classes = sorted({*names})
    return classes, [classes.index(name) for name in names]
