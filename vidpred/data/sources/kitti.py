"""KITTI's raw recordings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from vidpred.data.sources.base import Clip, Source, Split
from vidpred.data.sources.images import image_files, image_frames
from vidpred.data.sources.layout import expect, one_of

# The web page sorts the drives into categories; the names of the folders do not tell them.
DRIVES: Mapping[str, Mapping[str, str]] = {
    "City": {
        "2011_09_26": "1 2 5 9 11 13 14 17 18 48 51 56 57 59 60 84 91 93 95 96 104 106 113 117",
        "2011_09_28": "1 2",
        "2011_09_29": "26 71",
    },
    "Residential": {
        "2011_09_26": "19 20 22 23 35 36 39 46 61 64 79 86 87",
        "2011_09_30": "18 20 27 28 33 34",
        "2011_10_03": "27 34",
    },
    "Road": {
        "2011_09_26": "15 27 28 29 32 52 70 101",
        "2011_09_29": "4",
        "2011_09_30": "16",
        "2011_10_03": "42 47",
    },
}
# PredNet drew them once, and those who compare with it keep them.
_HELD_OUT: Mapping[str, Split] = {
    "2011_09_26_drive_0005_sync": "val",
    "2011_09_26_drive_0104_sync": "test",
    "2011_09_26_drive_0079_sync": "test",
    "2011_09_26_drive_0070_sync": "test",
}


def kitti(
    source: Path,
    drives: Sequence[str] | None = None,
    camera: Literal[2, 3] = 3,
    size: tuple[int, int] | None = (128, 160),
    length: int = 20,
) -> Source:
    """KITTI: colour recordings from a car in and around Karlsruhe, 10 frames a second.

    Reads the synchronised and rectified raw data, ``2011_09_26_drive_0001_sync.zip`` and so on,
    unpacked together or into a folder for each date, category or archive.

    Args:
        source: Folder with the drives, or with folders of them, up to three deep.
        drives: Names of those to read, such as ``2011_09_26_drive_0001_sync``. ``None``: the 61 of
            the categories City, Residential and Road.
        camera: The left (2) or the right one (3) of the two that see colours.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample.

    Returns:
        A clip for each drive. One drive validates and three test, those of PredNet.

    Raises:
        FileNotFoundError: A drive, or a picture of it, is missing.
        ValueError: A drive is there twice, or there is no such camera.

    Reference:
        Geiger et al., IJRR 2013. Split: Lotter et al., ICLR 2017, arXiv:1605.08104.
    """
    one_of("camera", camera, (2, 3))
    found: dict[str, Path] = {}
    for depth in ("", "*/", "*/*/", "*/*/*/"):
        for folder in sorted(expect(source, "KITTI's raw data").glob(f"{depth}*_drive_*_sync")):
            images = folder / f"image_0{camera}" / "data"
            if not images.is_dir():
                continue  # an archive may be unpacked into a folder of its own name
            if folder.name in found:
                raise ValueError(f"{folder} is also at {found[folder.name].parents[1]}: keep one")
            found[folder.name] = images
    clips = []
    names = list(_official()) if drives is None else list(drives)
    for name in names:
        if name not in found:
            missing = len(set(names) - set(found))
            raise FileNotFoundError(
                f"no drive {name} in {source}, with pictures in {name}/image_0{camera}/data "
                f"({missing} of {len(names)} drives are missing): download it or name the drives"
            )
        files = image_files(found[name])
        for number, file in enumerate(files):
            expected = f"{number:010}.png"
            if file.name != expected:
                raise FileNotFoundError(f"no {file.with_name(expected)}: expected it before {file}")
        split = _HELD_OUT.get(name, "train")
        clips.append(Clip(name, split, files, partial(image_frames, files)))
    return Source(
        clips,
        length,
        size,
        protocol=f"KITTI raw data, {len(clips)} drives, image_0{camera}, 10 frames a second; "
        "validation and test drives of PredNet",
    )


def _official() -> Iterator[str]:
    for dates in DRIVES.values():
        for date, numbers in dates.items():
            for number in numbers.split():
                yield f"{date}_drive_{int(number):04}_sync"
