"""Every argument of every data set is checked before a frame is decoded."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import layouts
import numpy as np
import pytest

from vidpred.data import sources

NAMES = [name for name in sources.__all__ if inspect.isfunction(getattr(sources, name))]


def videos(root: Path) -> None:
    for name in "abcd":
        layouts.write_video(root / f"{name}.avi", 2)


def frame_folders(root: Path) -> None:
    for name in "abcd":
        layouts.write_image(root / name / "0.png", 0)


def array(root: Path) -> None:
    root.mkdir()
    np.savez(root / "a.npz", np.zeros((4, 2, 4, 4), np.uint8))


def caltech(root: Path) -> None:
    layouts.caltech(root, ["set06"])


def kitti(root: Path) -> None:
    layouts.kitti(root, ["2011_09_26_drive_0001_sync"])


def sjtu4k(root: Path) -> None:
    layouts.write_video(root / "Bund.mp4", 20, 30)


def town_centre(root: Path) -> None:
    layouts.write_video(root / "town.avi", 9)


def moving_mnist(root: Path) -> None:
    """Its digits come along."""


# A miniature of each, and the arguments that make it one.
DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "array": (array, {"key": "arr_0"}),
    "caltech": (caltech, {"sets": ["set06"]}),
    "frame_folders": (frame_folders, {}),
    "human36m": (layouts.human36m, {}),
    "kitti": (kitti, {"drives": ["2011_09_26_drive_0001_sync"]}),
    "moving_mnist": (moving_mnist, {"train_clips": 3, "val_clips": 3, "test_clips": 3}),
    "sjtu4k": (sjtu4k, {}),
    "something_something": (layouts.something_something, {}),
    "town_centre": (town_centre, {"train_frames": 5, "test_frames": 4}),
    "ucf101": (layouts.ucf101, {}),
    "ucf_sports": (layouts.ucf_sports, {}),
    "videos": (videos, {}),
}
NONE = Path("no such place")
WRONG: dict[str, list[Any]] = {
    "source": [NONE],
    "camera": [1],
    "canvas": [10, (64, 10)],
    "channels": [2],
    "classes": ["colour"],
    "digits": [0],
    "drives": [["2011_09_26_drive_9999_sync"]],
    "every": [0, -1],
    "fold": [0, 4],
    "fps": [0, -1, float("nan")],
    "key": ["b"],
    "layout": ["NTWH"],
    "length": [0, -1],
    "seed": [],
    "sets": [["set99"], ["testing"]],
    "size": [(0, 8), (8, -1), (8,), 8],
    "split_by": ["best"],
    "test": [["S99"], ["S1"]],
    "test_clips": [-1],
    "test_fraction": [-0.1, 1],
    "test_frames": [-1],
    "test_sequences": [NONE],
    "train": [["S99"], ["S9"]],
    "train_clips": [-1],
    "train_frames": [-1],
    "val_clips": [-1],
    "val_fraction": [-0.1, 1],
    "yuv_size": [(24, 31), (0, 32)],
}
CASES = [
    (name, argument, value)
    for name in NAMES
    for argument in inspect.signature(getattr(sources, name)).parameters
    for value in WRONG[argument]
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Arguments that every data set takes."""
    arguments = {}
    for name, (make, given) in DATA.items():
        root = tmp_path_factory.mktemp(name) / "raw"
        make(root)
        source = {"array": root / "a.npz", "moving_mnist": None}.get(name, root)
        arguments[name] = {"source": source, **given}
    return arguments


@pytest.mark.parametrize("name", NAMES)
def test_right_arguments(name: str, made: dict[str, dict[str, Any]]):
    assert getattr(sources, name)(**made[name]).clips


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_wrong_arguments(name: str, argument: str, value: Any, made: dict[str, dict[str, Any]]):
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        getattr(sources, name)(**{**made[name], argument: value})
    assert "\n" not in str(raised.value)
