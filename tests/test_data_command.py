"""``vidpred data``: from a folder to a file, and what it says of one."""

from functools import partial
from pathlib import Path

import command
import h5py
import layouts
import numpy as np
import pytest
from PIL import Image

from vidpred.data import ClipsFile, sources

vidpred = partial(command.vidpred, "data")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for clip in range(5):
        (tmp_path / "raw" / f"c{clip}").mkdir(parents=True)
        for t in range(6):
            noise = np.random.default_rng([clip, t]).integers(0, 256, (24, 32), np.uint8)
            Image.fromarray(noise).save(tmp_path / "raw" / f"c{clip}" / f"{t}.png")
    return tmp_path


def prepared(folder: Path, *arguments) -> Path:
    path = folder / "clips.h5"
    given = ("frame_folders", "--source", folder / "raw", "--out", path, "--workers", 0)
    size = ("--size", "[16,16]", "--length", 3, "--channels", 1)
    status, out, err = vidpred("prepare", *given, *size, *arguments)
    assert status == 0, err
    assert out.splitlines()[:4] == [
        "split  clips  frames  samples",
        "train      3      18        6",
        "  val      1       6        2",
        " test      1       6        2",
    ]
    return path


def test_prepare_check_and_info(folder: Path):
    path = prepared(folder)
    file = ClipsFile(path)
    assert file.shape == (1, 16, 16)
    assert file.settings["data"] == "frame_folders"
    assert file.settings["source"] == "raw"  # no folders of this machine
    assert file.settings["size"] == [16, 16]
    assert vidpred("check", path) == (0, f"{path} is sound\n", "")
    status, out, err = vidpred("info", path)
    assert (status, err) == (0, "")
    assert "frames: 16x16, 1 channels; samples of 3" in out
    assert "source=raw" in out
    assert "Centre crop, scaled to 16x16; split by clip: 0.1 val, 0.2 test, seed 0" in out
    with Image.open(folder / "clips.png") as sheet:
        assert min(sheet.size) > 200
        assert len(sheet.convert("RGB").getcolors(1 << 24) or ()) > 50
    assert vidpred("info", path, "--sheet", folder / "other.png")[0] == 0
    assert (folder / "other.png").is_file()


@pytest.mark.parametrize(
    ("sheet", "message"),
    [
        ("x.foo", "no picture {}/x.foo: expected a file named ."),
        ("raw", "{}/raw is a folder: give the path of a file"),
        ("clips.h5/x.png", "{}/clips.h5 is a file: give the path of a folder"),
    ],
)
def test_where_a_sheet_goes_is_seen_first(sheet: str, message: str, folder: Path):
    path = prepared(folder)
    status, out, err = vidpred("info", path, "--sheet", folder / sheet)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message.format(folder) in err


DRIVES = ["2011_09_26_drive_0001_sync", "2011_09_26_drive_0104_sync"]
DOWNLOADS = {  # a miniature of each layout, and the arguments that it needs
    "caltech": (
        lambda root: layouts.caltech(root, ["set06", "set07"]),
        ["--sets", "[set06,set07]"],
    ),
    "human36m": (layouts.human36m, []),
    "kitti": (lambda root: layouts.kitti(root, DRIVES), ["--drives", f"[{','.join(DRIVES)}]"]),
    "sjtu4k": (lambda root: layouts.write_video(root / "Bund.mp4", 20, 30), []),
    "something_something": (layouts.something_something, []),
    "town_centre": (
        lambda root: layouts.write_video(root / "town.avi", 9),
        ["--train_frames", "5", "--test_frames", "4"],
    ),
    "ucf101": (layouts.ucf101, []),
    "ucf_sports": (layouts.ucf_sports, []),
}


def test_every_download_has_a_miniature():
    generic = {"array", "frame_folders", "moving_mnist", "videos"}
    assert DOWNLOADS.keys() == {name for name in sources.__all__ if name.islower()} - generic


@pytest.mark.parametrize("name", DOWNLOADS)
def test_a_download_becomes_a_file(name: str, tmp_path: Path):
    make, arguments = DOWNLOADS[name]
    make(tmp_path / "raw")
    path = tmp_path / "clips.h5"
    given = (name, "--source", tmp_path / "raw", "--out", path, "--workers", 0)
    status, out, err = vidpred("prepare", *given, "--size", "[24,32]", "--length", 2, *arguments)
    assert status == 0, err
    assert ("note: no clip is there to train on" in out) == (name == "caltech")
    status, out, _ = vidpred("check", path)
    assert (status, out.splitlines()[-1]) == (0, f"{path} is sound")
    file = ClipsFile(path)
    assert (file.shape, file.settings["data"]) == ((3, 24, 32), name)
    assert file.protocol


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ((), []),
        (("--length", 4), ["val clips of up to 1 frames", "test clips of up to 1 frames"]),
        (("--val_fraction", 0), []),
        (("--val_fraction", 0.05), ["no val clips: prepare it with a larger --val_fraction"]),
    ],
)
def test_parts_that_are_empty_are_noted(folder: Path, arguments, notes: list[str]):
    given = ("frame_folders", "--source", folder / "raw", "--out", folder / "a.h5", "--workers", 0)
    parts = ("--split_by", "time", "--val_fraction", 0.17, "--test_fraction", 0.17, "--length", 1)
    status, out, err = vidpred("prepare", *given, *parts, *arguments)
    assert status == 0, err
    found = [line for line in out.splitlines() if line.startswith("note")]
    assert len(found) == len(notes)
    for line, note in zip(found, notes, strict=True):
        assert line.startswith(f"note: {folder / 'a.h5'} has {note}")


def test_help_lists_what_a_data_set_takes():
    status, out, err = vidpred("prepare", "videos", "--help")
    assert (status, err) == (0, "")
    for option in ("--source", "--size", "--fps", "--split_by {clip,time}", "--out", "--workers"):
        assert option in out
    assert "Frames a second to resample to" in " ".join(out.split())
    for arguments in ([], ["--help"], ["prepare"], ["prepare", "--help"]):
        status, out, _ = vidpred(*arguments)
        assert status == 0
        (names,) = [line for line in out.splitlines() if line.startswith("NAME is one of ")]
        assert {"array,", "frame_folders,", "moving_mnist,"} < {*names.split()}


ERRORS = {
    "command": (["fly"], "no command data fly; expected prepare, check or info"),
    "name": (["prepare", "kity"], "no data set 'kity'; expected one of array, "),
    "no out": (["prepare", "videos", "--source", "."], "the following arguments are required: out"),
    "setting": (["prepare", "videos", "--sise", "3"], "unrecognized arguments: --sise"),
    "no folder": (
        ["prepare", "videos", "--source", "{}/none", "--out", "{}/a.h5"],
        "no folder {}/none",
    ),
    "there": (
        ["prepare", "frame_folders", "--source", "{}/raw", "--out", "{}/raw"],
        "{}/raw is there already: remove it, or give another file",
    ),
    "a folder": (
        ["prepare", "frame_folders", "--source", "{}/raw/c0", "--out", "."],
        ". is there al",
    ),
    "workers": (
        ["prepare", "videos", "--source", "{}/none", "--out", "{}/a.h5", "--workers", "-1"],
        "workers must be 0 or more processes, got -1",
    ),
    "in a file": (
        ["prepare", "videos", "--source", "{}/none", "--out", "{}/raw/c0/0.png/a.h5"],
        "{}/raw/c0/0.png is a file: give the path of a folder",
    ),
    "missing": (["check", "{}/none.h5"], "no file {}/none.h5: vidpred data prepare writes it"),
    "picture": (["info", "{}/raw/c0/0.png"], "0.png is no sound file of vidpred data prepare"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_one_line(case: str, folder: Path):
    arguments, message = ERRORS[case]
    given = [argument.format(folder) for argument in arguments]
    status, out, err = vidpred(*given)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message.format(folder) in err
    assert not (folder / "a.h5").exists()


def test_a_damaged_picture_is_named_and_the_rest_is_kept(folder: Path):
    picture = folder / "raw" / "c3" / "4.png"
    content = picture.read_bytes()
    picture.write_bytes(content[:100])
    given = ("frame_folders", "--source", folder / "raw", "--out", folder / "clips.h5")
    size = ("--size", "[16,16]", "--length", 3, "--channels", 1, "--workers", 0)
    status, _, err = vidpred("prepare", *given, *size)
    assert status == 2
    assert err.startswith(
        f"vidpred: error: 1 of 5 clips cannot be read: {picture} is no whole picture"
    )
    assert not (folder / "clips.h5").exists()
    assert len([*(folder / "clips.h5.parts").glob("*.h5")]) == 4
    picture.write_bytes(content)
    prepared(folder)


def test_damage_is_told_by_the_exit_status(folder: Path):
    path = prepared(folder)
    with h5py.File(path, "r+") as file:
        file["frames"][0] = 0  # pyright: ignore[reportIndexIssue]
    status, out, err = vidpred("check", path)
    assert (status, out) == (2, "")
    assert err == (
        f"vidpred: error: {path} is no sound file of vidpred data prepare: clip c0 is not "
        "as it was written\n"
    )
