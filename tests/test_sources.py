"""Readers of data sets, each on a miniature of the layout that is downloaded."""

from __future__ import annotations

import json
import pickle
import re

import layouts
import pytest
import torch
from layouts import numbers

from vidpred.data import sources


def splits(source):
    return {clip.name: clip.split for clip in source.clips}


def classes(source):
    return {clip.name: source.classes[clip.label] for clip in source.clips}


def frames(source, name):
    """What a clip decodes to, in another process for all it knows."""
    (clip,) = [clip for clip in source.clips if clip.name == name]
    assert all(file.is_file() for file in clip.files)
    decoded = list(pickle.loads(pickle.dumps(clip)).frames())
    assert all(x.dtype == torch.uint8 and x.shape == (3, 24, 32) for x in decoded)
    assert all(x.is_contiguous() for x in decoded)
    return numbers(decoded)


def refuses(kind, message):
    return pytest.raises(kind, match=f"^{message}$")


# KITTI


DRIVES = [
    "2011_09_26_drive_0001_sync",
    "2011_09_26_drive_0005_sync",
    "2011_09_26_drive_0104_sync",
    "2011_09_28_drive_0053_sync",  # of a category that is not read
]


def test_kitti_reads_one_colour_camera_of_the_drives_that_are_named(tmp_path):
    source = sources.kitti(layouts.kitti(tmp_path, DRIVES), DRIVES[:3])
    assert splits(source) == dict(zip(DRIVES[:3], ("train", "val", "test"), strict=True))
    assert (source.length, source.size, source.classes) == (20, (128, 160), ())
    assert frames(source, DRIVES[0]) == [12, 13, 14]
    left = sources.kitti(tmp_path, DRIVES[:1], camera=2)
    assert frames(left, DRIVES[0]) == [8, 9, 10]


def test_kitti_has_61_drives(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        sources.kitti(layouts.kitti(tmp_path, DRIVES, 1))
    assert str(error.value) == (
        f"no drive 2011_09_26_drive_0002_sync in {tmp_path}, with pictures in "
        "2011_09_26_drive_0002_sync/image_03/data (58 of 61 drives are missing): download it or "
        "name the drives"
    )


@pytest.mark.parametrize("folder", ["", "City", "city/2011_09_26_drive_0001_sync"])
def test_kitti_finds_drives_by_date_by_category_and_by_archive(tmp_path, folder):
    layouts.kitti(tmp_path / folder, DRIVES[:1], 1)
    source = sources.kitti(tmp_path, DRIVES[:1])
    assert frames(source, DRIVES[0]) == [12]
    layouts.kitti(tmp_path / "again", DRIVES[:1], 1)
    with pytest.raises(ValueError, match=r"0001_sync is also at .*0001_sync: keep one$"):
        sources.kitti(tmp_path, DRIVES[:1])


def test_kitti_misses_a_picture(tmp_path):
    data = layouts.kitti(tmp_path, DRIVES[:1]) / "2011_09_26" / DRIVES[0] / "image_03" / "data"
    (data / "0000000001.png").unlink()
    message = f"no {data}/0000000001.png: expected it before {data}/0000000002.png"
    with refuses(FileNotFoundError, message):
        sources.kitti(tmp_path, DRIVES[:1])


# TownCentreXVID


def test_town_centre_trains_on_the_first_frames_and_tests_on_the_next(tmp_path):
    video = tmp_path / "TownCentreXVID.avi"
    layouts.write_video(video, 9)
    for path in (video, tmp_path):
        source = sources.town_centre(path, train_frames=5, test_frames=3)
        assert splits(source) == {"train": "train", "test": "test"}  # a twentieth of 5 is none
        assert (source.length, source.size) == (8, (1088, 1920))
        assert frames(source, "train") == [0, 1, 2, 3, 4]
        assert frames(source, "test") == [5, 6, 7]
    source = sources.town_centre(video, 5, 3, val_fraction=0.4)
    assert [frames(source, split) for split in splits(source)] == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert splits(source) == {split: split for split in ("train", "val", "test")}
    with refuses(ValueError, "a fraction to hold out is at least 0 and below 1, got 1"):
        sources.town_centre(video, val_fraction=1)
    short = sources.town_centre(video, train_frames=5, test_frames=5)
    message = f"{video} ends before frame 10, up to which it is to be read"
    with refuses(ValueError, message):
        list(short.clips[1].frames())


def test_town_centre_is_one_video(tmp_path):
    with pytest.raises(ValueError, match=f"^no video in {tmp_path}: expected files named"):
        sources.town_centre(tmp_path)
    for name in ("a.avi", "b.avi"):
        layouts.write_video(tmp_path / name, 1)
    with refuses(ValueError, f"{tmp_path} holds 2 videos: name the one to read"):
        sources.town_centre(tmp_path)


# UCF Sports


def test_ucf_sports_reads_videos_and_where_there_is_none_pictures(tmp_path):
    source = sources.ucf_sports(layouts.ucf_sports(tmp_path))
    assert (source.length, source.size) == (10, (512, 512))
    assert classes(source) == {
        "Diving-Side/001": "Diving",
        "Golf-Swing-Back/001": "Golf-Swing",
        "Golf-Swing-Front/001": "Golf-Swing",
        "Kicking-Front/001": "Kicking",
        "Lifting/001": "Lifting",
        "Riding-Horse/001": "Riding-Horse",
        "Run-Side/002": "Run",
        "SkateBoarding-Front/001": "SkateBoarding",
        "Swing-Bench/001": "Swing-Bench",
        "Swing-SideAngle/001": "Swing-Side",
        "Walk-Front/002": "Walk",
    }
    assert [clip.split for clip in source.clips] == ["train"] * 9 + ["test", "train"]
    assert frames(source, "Diving-Side/001") == [0, 1, 2]
    assert frames(source, "Kicking-Front/001") == list(range(12))
    assert frames(source, "Walk-Front/002") == [0, 1, 2]
    assert splits(sources.ucf_sports(tmp_path / "ucf action")) == splits(source)
    validated = sources.ucf_sports(tmp_path, val_fraction=0.4).clips
    assert [validated.index(clip) for clip in validated if clip.split == "val"] == [2, 4, 7, 10]
    assert validated[9].split == "test"


def test_ucf_sports_names_what_is_missing(tmp_path):
    root = layouts.ucf_sports(tmp_path) / "ucf action"
    video = root / "Lifting" / "001" / "2538-5_70133.avi"
    video.rename(video.with_suffix(".bak"))
    with pytest.raises(FileNotFoundError, match=f"^no picture in {video.parent}: expected files"):
        sources.ucf_sports(tmp_path)
    video.parent.rename(tmp_path / "elsewhere")
    message = rf"no clip of Lifting in {root}: expected folders Lifting\.\.\./001 and so on"
    with refuses(FileNotFoundError, message):
        sources.ucf_sports(tmp_path)


# UCF101


def test_ucf101_keeps_the_clips_of_an_original_together(tmp_path):
    source = sources.ucf101(layouts.ucf101(tmp_path))
    assert (source.length, source.size) == (5, (256, 256))
    assert source.classes == ["ApplyEyeMakeup", "HandstandPushups"]
    tests = [name for name, split in splits(source).items() if split == "test"]
    assert tests == [f"HandstandPushups/v_HandStandPushups_g05_c0{clip}" for clip in (1, 2)]
    assert len(source.clips) == 20
    assert all(name.startswith(f"{kind}/") for name, kind in classes(source).items())
    assert frames(source, tests[0]) == [5, 6]
    source = sources.ucf101(tmp_path, val_fraction=0.5)
    held_out = {name[:-4] for name, split in splits(source).items() if split == "val"}
    assert [name.rpartition("_")[2] for name in sorted(held_out)] == ["g02", "g04", "g01", "g03"]
    for name, split in splits(source).items():
        assert split == ("test" if name in tests else "val" if name[:-4] in held_out else "train")


@pytest.mark.parametrize(("fold", "trained"), [(1, 12), (2, 12), (3, 10)])
def test_ucf101_follows_an_official_fold(tmp_path, fold, trained):
    source = sources.ucf101(layouts.ucf101(tmp_path), fold)
    assert [clip.split for clip in source.clips].count("train") == trained
    for name, split in splits(source).items():
        assert split == ("test" if re.search("_g0[12]_", name) else "train")


def test_ucf101_names_what_is_missing_or_wrong(tmp_path):
    lists = layouts.ucf101(tmp_path) / "ucfTrainTestlist"
    video = tmp_path / "UCF-101" / "ApplyEyeMakeup" / "v_ApplyEyeMakeup_g02_c01.avi"
    video.unlink()
    message = rf"no video {video}, which the lists name \(1 of 20 are missing\): expected all of .*"
    with refuses(FileNotFoundError, message):
        sources.ucf101(tmp_path)
    train = lists / "trainlist01.txt"
    train.write_text("\n")
    with refuses(ValueError, f"{train} is empty: expected an official list of UCF101"):
        sources.ucf101(tmp_path)
    train.write_text("ApplyEyeMakeup/v_ApplyEyeMakeup_g03_c01.avi 2\n")
    message = rf"{train}, line 1: expected 'Class/v_Class_g01_c01.avi', .* got '.*c01.avi 2'"
    with refuses(ValueError, message):
        sources.ucf101(tmp_path)
    (lists / "classInd.txt").write_text("1 ApplyEyeMakeup\n3 HandstandPushups\n")
    message = rf"{lists}/classInd.txt, line 2: expected '2 NameOfAClass', got '3 HandstandPushups'"
    with refuses(ValueError, message):
        sources.ucf101(tmp_path)
    (lists / "classInd.txt").unlink()
    with refuses(FileNotFoundError, f"no {lists}/classInd.txt: expected an official list of .*"):
        sources.ucf101(tmp_path)


# Human3.6M


def test_human36m_splits_by_subject_and_reads_every_fifth_frame(tmp_path):
    source = sources.human36m(layouts.human36m(tmp_path))
    assert (source.length, source.size) == (8, (1024, 1024))
    assert len(source.clips) == 21
    for name, split in splits(source).items():
        assert split == ("test" if name.startswith(("S9/", "S11/")) else "train")
        assert "_ALL" not in name
    assert frames(source, "S11/Directions 1.54138969") == [0, 5, 10]
    source = sources.human36m(tmp_path, ["S1"], ["S9"], val_fraction=0.5)
    assert splits(source) == {
        "S1/Directions 1.54138969": "train",
        "S1/Walking.54138969": "val",
        "S1/Walking.60457274": "val",
        "S9/Directions 1.54138969": "test",
        "S9/Walking.54138969": "test",
        "S9/Walking.60457274": "test",
    }


def test_human36m_names_what_is_missing_or_damaged(tmp_path):
    layouts.human36m(tmp_path, ["S1", "S9"])
    message = f"no {tmp_path}/S11/Videos: expected the videos of subject S11"
    with refuses(FileNotFoundError, message):
        sources.human36m(tmp_path, ["S1"], ["S9", "S11"])
    message = "S1 is named twice in train and test: expected each subject once"
    with refuses(ValueError, message):
        sources.human36m(tmp_path, ["S1", "S1"], ["S9"])
    with refuses(ValueError, message):
        sources.human36m(tmp_path, ["S1", "S9"], ["S1"])
    source = sources.human36m(tmp_path, ["S1"], ["S9"])
    layouts.cut(source.clips[0].files[0], 0.3)
    with pytest.raises(ValueError, match=r"S1/Videos/Directions 1.54138969.mp4 is .*cut off"):
        list(source.clips[0].frames())


# Something-Something v2


@pytest.mark.parametrize("lists", ["labels", "."])
def test_something_something_spreads_20_frames_over_each_clip(tmp_path, lists):
    layouts.something_something(tmp_path, ("20bn-something-something-v2", lists))
    source = sources.something_something(tmp_path)
    assert (source.length, source.size) == (20, (128, 128))
    assert splits(source) == {"78687": "train", "42326": "train", "74225": "test"}
    assert classes(source) == {
        "78687": "Holding something next to something",
        "42326": "Pushing something so that it falls",
        "74225": "Pushing something so that it falls",
    }
    assert frames(source, "78687") == list(range(1, 40, 2))
    assert frames(source, "42326") == [index // 2 for index in range(20)]
    assert frames(source, "74225") == list(range(20))
    validated = sources.something_something(tmp_path, val_fraction=0.5)
    assert splits(validated) == {"78687": "train", "42326": "val", "74225": "test"}


def test_something_something_names_what_is_missing_or_wrong(tmp_path):
    layouts.something_something(tmp_path)
    labels = tmp_path / "labels"
    video = tmp_path / "20bn-something-something-v2" / "74225.webm"
    video.unlink()
    listed = labels / "validation.json"
    with refuses(FileNotFoundError, f"no video {video}, which {listed} names"):
        sources.something_something(tmp_path)
    video.touch()
    listed.write_text(json.dumps([{"id": "74225", "template": "Folding [something]"}]))
    message = f"{listed}: video 74225 is of a class not in {labels}/labels.json"
    with refuses(ValueError, message):
        sources.something_something(tmp_path)
    for content in ('{"id": "74225"}', "[]"):
        listed.write_text(content)
        with pytest.raises(ValueError, match=f"^{listed} is no list of videos: expected "):
            sources.something_something(tmp_path)
    listed.write_text('[{"id": ')
    with pytest.raises(ValueError, match=f"^{listed} is no JSON, or is cut off: "):
        sources.something_something(tmp_path)
    listed.unlink()
    with pytest.raises(FileNotFoundError, match=f"^no validation.json in {tmp_path}: expected "):
        sources.something_something(tmp_path)
    (labels / "labels.json").write_text('{"Folding something": "1"}')
    with pytest.raises(ValueError, match=r"labels.json is no list of classes: expected "):
        sources.something_something(tmp_path)
