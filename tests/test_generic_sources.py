"""Your own clips: which files, in which order, which frames of them, and for what."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from vidpred.data import ClipsFile, MovingMNISTData, prepare
from vidpred.data.hdf5 import texts
from vidpred.data.sources import Source, array, frame_folders, moving_mnist, videos

ALL: dict[str, Any] = {"val_fraction": 0, "test_fraction": 0}


def levels(clip) -> list[int]:
    """The grey level of every frame, at its right edge."""
    return [int(frame[-1, 0, -1]) for frame in clip.frames()]


def interrupted(source: Source, out: Path) -> None:
    """Prepare with a last clip that is damaged."""
    content = source.clips[-1].files[0].read_bytes()
    source.clips[-1].files[0].write_bytes(content[:40])
    with pytest.raises(ValueError, match="clips cannot be read"):
        prepare(source, out)
    source.clips[-1].files[0].write_bytes(content)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({}, {"fps": 5}),
        ({}, {"channels": 1}),
        ({"test_fraction": 0.2}, {"test_fraction": 0.5}),
        ({"split_by": "time", "val_fraction": 0}, {"split_by": "time", "val_fraction": 0.3}),
    ],
)
def test_to_go_on_with_another_protocol_is_refused(
    folder: Path, first: dict[str, Any], second: dict[str, Any]
):
    out = folder / "a.h5"
    interrupted(videos(folder, **first), out)
    with pytest.raises(ValueError, match=r"a\.h5\.parts keeps .*: remove it to begin anew, or go"):
        prepare(videos(folder, **second), out)
    assert prepare(videos(folder, **first), out).is_file()


def splits(source: Source) -> dict[str, list[str]]:
    return {
        split: [clip.name for clip in source.clips if clip.split == split]
        for split in ("train", "val", "test")
    }


def video(path: Path, shown, times=None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, "bgr0"
        for level in shown:
            image = np.full((24, 32, 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = times and times[level]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def picture(path: Path, level: int, mode="L") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (8, 6), level).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten videos of two classes, of which only one has its class's first number."""
    for number in range(1, 11):
        video(tmp_path / ("walk" if number % 2 else "run") / f"{number}.mkv", range(number, 30))
    (tmp_path / "walk" / "notes.txt").write_text("no video")
    (tmp_path / "walk" / "._1.mkv").write_text("what some systems leave behind")
    return tmp_path


def test_videos(folder: Path):
    source = videos(folder, size=(12, 16), length=5, fps=5, classes="folder", **ALL)
    assert [clip.name for clip in source.clips] == [
        *(f"run/{n}.mkv" for n in (2, 4, 6, 8, 10)),
        *(f"walk/{n}.mkv" for n in (1, 3, 5, 7, 9)),
    ]
    assert (source.length, source.size, source.classes) == (5, (12, 16), ["run", "walk"])
    assert [clip.label for clip in source.clips] == [0] * 5 + [1] * 5
    assert levels(source.clips[4]) == list(range(10, 30, 2))
    assert next(source.clips[0].frames()).shape == (3, 24, 32)
    assert next(videos(folder, channels=1).clips[0].frames()).shape == (1, 24, 32)
    assert "scaled to 12x16" in source.protocol
    assert "5 frames a second" in source.protocol


def test_split_by_clip(folder: Path):
    first = splits(videos(folder, seed=1))
    assert [len(first[split]) for split in ("train", "val", "test")] == [7, 1, 2]
    assert len({name for names in first.values() for name in names}) == 10
    assert splits(videos(folder, seed=1)) == first
    assert any(splits(videos(folder, seed=seed)) != first for seed in (2, 3, 4))
    assert len(splits(videos(folder, val_fraction=0.01))["val"]) == 1
    with pytest.raises(ValueError, match="10 clips cannot be split into train, 5 val and 5 test"):
        videos(folder, val_fraction=0.49, test_fraction=0.5)


def test_split_by_time(folder: Path):
    (folder / "run" / "10.mkv").rename(folder / "ten.mkv")
    source = videos(folder / "ten.mkv", split_by="time", classes="file", val_fraction=0.1)
    assert [(clip.name, clip.split) for clip in source.clips] == [
        ("ten.mkv/train", "train"),
        ("ten.mkv/val", "val"),
        ("ten.mkv/test", "test"),
    ]
    train, val, test = (levels(clip) for clip in source.clips)
    assert (train, val, test) == (list(range(10, 24)), [24, 25], [26, 27, 28, 29])
    assert [clip.label for clip in source.clips] == [0] * 3
    assert source.classes == ["ten"]


def test_split_by_time_where_the_rate_varies(tmp_path: Path):
    # In tenths of a second: its duration and mean rate imply more frames than there are.
    video(tmp_path / "vfr.mkv", range(10), [0, 1, 2, 3, 4, 5, 6, 7, 48, 49])
    parts = videos(tmp_path, split_by="time", val_fraction=0, test_fraction=0.2).clips
    assert [levels(clip) for clip in parts] == [[*range(8)], [8, 9]]
    parts = videos(tmp_path, split_by="time", fps=5, val_fraction=0, test_fraction=0.2).clips
    assert [len(levels(clip)) for clip in parts] == [20, 5]


def test_split_by_time_of_a_single_frame(tmp_path: Path):
    video(tmp_path / "a.mkv", [3])
    (clip,) = videos(tmp_path, split_by="time", fps=4, val_fraction=0, test_fraction=0.2).clips
    assert levels(clip) == [3]


def test_frames_come_in_the_natural_order_of_their_names(tmp_path: Path):
    for number in (1, 2, 9, 10, 11, 100):
        picture(tmp_path / "b10" / f"frame{number}.png", number)
        picture(tmp_path / "b9" / f"{number}.JPG", 2 * number)
    source = frame_folders(tmp_path, channels=1, **ALL)
    assert [clip.name for clip in source.clips] == ["b9", "b10"]
    assert levels(source.clips[1]) == [1, 2, 9, 10, 11, 100]
    assert levels(frame_folders(tmp_path, every=2, **ALL).clips[1]) == [1, 9, 11]
    parts = frame_folders(tmp_path, split_by="time", val_fraction=0, test_fraction=0.5).clips
    assert [levels(clip) for clip in parts[2:]] == [[1, 2, 9], [10, 11, 100]]


def test_pictures_of_every_kind(tmp_path: Path):
    for number, mode in enumerate(("L", "RGB", "RGBA", "P")):
        picture(tmp_path / "c" / "clip" / f"{number}.png", 0, mode)
    source = frame_folders(tmp_path, classes="folder", **ALL)
    assert [frame.shape for frame in source.clips[0].frames()] == [(3, 6, 8)] * 4
    assert (source.classes, source.clips[0].label) == (["c"], 0)


CLIPS = np.random.default_rng(0).integers(0, 256, (5, 7, 6, 8, 3), np.uint8)
LAYOUTS = {
    "NTHWC": CLIPS,
    "NTCHW": np.moveaxis(CLIPS, -1, 2),
    "NTHW": CLIPS[..., 0],
    "TNHW": CLIPS[..., 0].swapaxes(0, 1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["bytes", "floats", "zip"])
def test_arrays(tmp_path: Path, layout: Any, kind: str):
    path, values = tmp_path / f"a.{'npz' if kind == 'zip' else 'npy'}", LAYOUTS[layout]
    if kind == "zip":
        np.savez(path, clips=values, labels=np.arange(5))
    else:
        np.save(path, values if kind == "bytes" else (values / 255).astype(np.float32))
    given = {"layout": layout} if layout == "TNHW" else {}
    key = {"key": "clips"} if kind == "zip" else {}
    source = array(path, **given, **key, **ALL)
    assert source.length == 7
    assert len(source.clips) == 5
    expected = np.moveaxis(CLIPS if "C" in layout else CLIPS[..., :1], -1, 2)
    for clip, truth in zip(source.clips, expected, strict=True):
        assert torch.equal(torch.stack([*clip.frames()]), torch.from_numpy(truth))


def test_an_array_split_by_time(tmp_path: Path):
    np.save(tmp_path / "a.npy", CLIPS)
    source = array(tmp_path / "a.npy", length=2, split_by="time", val_fraction=0, test_fraction=0.4)
    assert [clip.name for clip in source.clips[:3]] == ["0/train", "0/test", "1/train"]
    assert [len([*clip.frames()]) for clip in source.clips[:2]] == [4, 3]


def test_moving_mnist_is_that_of_its_data_module():
    source = moving_mnist(length=6, canvas=32, train_clips=3, val_clips=2, test_clips=2, seed=5)
    data = MovingMNISTData(length=6, canvas=32, epoch_size=3, val_size=2, test_size=2, seed=5)
    data.setup()
    for split in ("train", "val", "test"):
        sequences = getattr(data, f"{split}_set")
        clips = [clip for clip in source.clips if clip.split == split]
        for number, clip in enumerate(clips):
            assert torch.equal(torch.stack([*clip.frames()]), sequences[number])
    assert len(source.clips) == 7


def test_moving_mnist_of_other_digits_is_done_again(tmp_path: Path):
    def digits(seed: int) -> None:
        images = np.random.default_rng(seed).integers(0, 256, (24, 28, 28), np.uint8)
        header = np.array([0x803, *images.shape], ">i4").tobytes()
        (tmp_path / "train-images-idx3-ubyte").write_bytes(header + images.tobytes())

    def clips(out: str) -> list[torch.Tensor]:
        path = prepare(moving_mnist(tmp_path, **asked), tmp_path / out)
        with ClipsFile(path).reading() as file:
            assert texts(file, "files/name") == ["train-images-idx3-ubyte"] * 2
            assert len({*texts(file, "files/sha256")}) == 1
        return [clip[:] for clip in ClipsFile(path).clips("train")]

    asked: dict[str, Any] = {"length": 3, "train_clips": 2, "val_clips": 0, "test_clips": 0}
    digits(1)
    source = moving_mnist(tmp_path, **asked)
    before = torch.stack([*source.clips[0].frames()])
    damaged = replace(source.clips[1], frames=partial(np.load, tmp_path / "none"))
    with pytest.raises(ValueError, match="1 of 2 clips cannot be read"):
        prepare(replace(source, clips=[source.clips[0], damaged]), tmp_path / "a.h5")
    digits(2)
    found, expected = clips("a.h5"), clips("b.h5")
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))
    assert not torch.equal(found[0], before)


def test_moving_mnist_has_as_many_sequences_as_are_asked_for():
    source = moving_mnist(train_clips=10_001, val_clips=0, test_clips=0)
    assert len([*source.clips[-1].frames()]) == 20


def test_the_published_test_set_of_moving_mnist(tmp_path: Path):
    sequences = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), np.uint8)
    np.save(tmp_path / "a.npy", sequences)
    source = moving_mnist(test_sequences=tmp_path / "a.npy", train_clips=0, val_clips=0)
    assert [clip.name for clip in source.clips] == [f"test/0000{n}" for n in range(3)]
    clip = torch.stack([*source.clips[2].frames()])
    assert torch.equal(clip[:, 0], torch.from_numpy(sequences[:, 2]))


def floats(path: Path) -> Source:
    np.save(path / "f.npy", np.full((2, 3, 4, 4), 1.5))
    return array(path / "f.npy", **ALL)


def cut(path: Path) -> Source:
    picture(path / "a" / "1.png", 3)
    content = (path / "a" / "1.png").read_bytes()
    (path / "a" / "1.png").write_bytes(content[: len(content) // 2])
    return frame_folders(path, **ALL)


def objects(path: Path) -> Source:
    np.save(path / "o.npy", np.array([{}]), allow_pickle=True)
    return array(path / "o.npy")


def saved(path: Path, shape: tuple[int, ...], **arguments: Any) -> Source:
    np.save(path / "s.npy", np.zeros(shape, np.uint8))
    return array(path / "s.npy", **arguments)


def zipped(path: Path) -> Source:
    np.savez(path / "z.npz", a=CLIPS, b=CLIPS)
    return array(path / "z.npz")


BAD = {
    "no folder": (lambda x: videos(x / "none"), "no folder .*none"),
    "no videos": (lambda x: videos(x), "no video in .*: expected files named .avi"),
    "no pictures": (lambda x: frame_folders(x), "no picture in .*: expected files named .bmp"),
    "no array": (lambda x: array(x / "a.npy"), r"no file .*a\.npy: expected a \.npy or \.npz"),
    "fractions": (lambda x: saved(x, (9, 4, 4, 4), val_fraction=0.9), "got 0.9 and 0.2"),
    "every": (lambda x: frame_folders(x, every=0), "every must be at least 1 frame, got 0"),
    "floats": (floats, r"clip 0, frame 0 is float64 from 1.5 to 1.5: expected uint8, or floats in"),
    "cut picture": (cut, r"1\.png is no whole picture"),
    "objects": (objects, r"o\.npy is damaged or no array of clips"),
    "shape": (lambda x: saved(x, (4, 4)), r"s\.npy holds an array of \(4, 4\), expected"),
    "ambiguous": (lambda x: saved(x, (4, 4, 3, 4, 3)), "after T: give layout"),
    "layout": (lambda x: saved(x, (4, 4, 4, 4), layout="NTHWC"), "which is not NTHWC"),
    "nothing": (lambda x: saved(x, (4, 4, 0, 4)), r"s\.npy holds an array of \(4, 4, 0, 4\): exp"),
    "size first": (lambda x: videos(x / "none", size=(0, 64)), "size is at least 1 pixel high"),
    "length first": (lambda x: frame_folders(x / "none", length=0), "length must be at least 1"),
    "key": (zipped, r"z\.npz .*: it holds a, b: give key, one of them"),
    "count": (lambda x: moving_mnist(val_clips=-1), "val_clips must be at least 0, got -1"),
    "length": (
        lambda x: moving_mnist(test_sequences=x / "a.npy", length=10),
        "holds 20 frames of 64x64: leave length and canvas",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_in_one_line(case: str, tmp_path: Path):
    make, message = BAD[case]

    def read() -> None:
        for clip in make(tmp_path).clips:
            list(clip.frames())

    with pytest.raises((ValueError, FileNotFoundError), match=message) as raised:
        read()
    assert "\n" not in str(raised.value)
