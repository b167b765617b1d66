"""Video files as training data: what is read of which file, and what of it trains and tests."""

import logging
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vidpred import cli
from vidpred.data import VideoFilesData

CONF = Path(__file__).parent / "conf" / "forecast.yaml"
EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "video").glob("*.yaml"))
CODECS = {
    "avi": ("mpeg4", "yuv420p"),
    "gif": ("gif", "rgb8"),
    "mkv": ("ffv1", "bgr0"),
    "mov": ("mjpeg", "yuvj444p"),
    "mp4": ("libx264", "yuv420p"),
    "webm": ("libvpx", "yuv420p"),
}


def write(path: Path, levels, size=(24, 32), rate=10) -> Path:
    """A video of one-coloured frames: grey of the levels given, but red 255 in the left third."""
    height, width = size
    codec, pixels = CODECS[path.suffix[1:].lower()]
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        for level in levels:
            image = np.full((height, width, 3), level, np.uint8)
            image[:, : width // 3, 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def levels(windows) -> list[list[int]]:
    """The grey level at the right edge of every frame of every window."""
    return [window[:, 1, 0, -1].tolist() for window in windows]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write(tmp_path / "clip.mkv", range(20))


def test_the_first_part_trains_and_the_last_tests(clip: Path):
    data = VideoFilesData(clip, length=3, stride=2, val_fraction=0.2, test_fraction=0.35)
    data.setup()
    assert levels(data.train_set) == [[0, 1, 2], [2, 3, 4], [4, 5, 6], [6, 7, 8]]
    assert levels(data.val_set) == [[9, 10, 11]]
    assert levels(data.test_set) == [[13, 14, 15], [16, 17, 18]]


def test_longer_windows_to_test_on(clip: Path):
    data = VideoFilesData(clip, length=2, test_length=4, val_fraction=0.2, test_fraction=0.4)
    data.setup()
    assert levels(data.train_set)[-1] == [6, 7]
    assert levels(data.val_set) == [[8, 9, 10, 11]]
    assert levels(data.test_set) == [[12, 13, 14, 15], [16, 17, 18, 19]]


def test_windows_stay_within_their_file(clip: Path):
    other = write(clip.parent / "a.mkv", range(100, 110))
    data = VideoFilesData([clip, other], length=8, val_fraction=0.1, test_fraction=0.1)
    with pytest.raises(ValueError, match=r"the val part, 0\.1 of each file, leaves no window"):
        data.setup("fit")
    data = VideoFilesData([clip, other], length=7, val_fraction=0.0, test_fraction=0.35)
    data.setup("test")
    assert levels(data.test_set) == [list(range(13, 20))]  # other's part is too short


@pytest.mark.parametrize("suffix", CODECS)
def test_formats(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"clip.{suffix}", range(0, 240, 12))
    data = VideoFilesData(path, length=4, val_fraction=0, test_fraction=0.4)
    data.setup("test")
    (first, second) = data.test_set
    assert first.shape == second.shape == (4, 3, 24, 32)
    assert first.dtype == torch.uint8
    got, expected = torch.tensor(levels([first, second])), torch.arange(144, 240, 12).view(2, 4)
    # This GIF has eight levels of green.
    assert (got - expected).abs().max() <= (36 if suffix == "gif" else 4)
    assert first[0, 0, 12, 2] > 240  # red first


def test_a_folder_stands_for_its_videos(tmp_path: Path):
    write(tmp_path / "b.mkv", [1] * 4)
    write(tmp_path / "a.MP4", [100] * 4)
    (tmp_path / "notes.txt").write_text("no video")
    (tmp_path / "below").mkdir()
    write(tmp_path / "below" / "c.mkv", [200] * 4)
    data = VideoFilesData(tmp_path, length=2, val_fraction=0, test_fraction=0.5)
    data.setup("test")
    assert levels(data.test_set) == [[100, 100], [1, 1]]


def test_frames_are_cut_and_scaled(clip: Path):
    small = write(clip.parent / "small.mkv", range(20), size=(12, 30))
    data = VideoFilesData([clip, small], length=2, size=(12, 12))
    data.setup("fit")
    assert {window.shape for window in data.train_set} == {(2, 3, 12, 12)}
    first, *_, last = data.train_set
    # 24x32 loses 4 columns of the 10 red ones and is halved; 12x30 loses 9 of its 10.
    assert (first[1, 0, 0] > 128).tolist() == [True] * 3 + [False] * 9
    assert (last[1, 0, 0] > 128).tolist() == [True] + [False] * 11


def test_fewer_frames_a_second(clip: Path):
    data = VideoFilesData(clip, length=3, fps=5, val_fraction=0, test_fraction=0.6)
    data.setup("test")
    assert levels(data.test_set) == [[8, 10, 12], [14, 16, 18]]


def test_grey(clip: Path):
    data = VideoFilesData(clip, length=2, channels=1)
    data.setup("fit")
    assert data.train_set[0].shape == (2, 1, 24, 32)


def test_the_files_as_classes(tmp_path: Path):
    for level, name in ((10, "b"), (0, "a")):
        write(tmp_path / f"{name}.mkv", range(level, level + 10))
    data = VideoFilesData(tmp_path, length=2, val_fraction=0.2, test_fraction=0.4, labels=True)
    data.setup()
    for windows in (data.train_set, data.val_set, data.test_set):
        pairs = [(int(window[0, 1, 0, -1]), label) for window, label in windows]
        assert {label for _, label in pairs} == {0, 1}
        assert all(level // 10 == label for level, label in pairs)
    frames, labels = next(iter(data.test_dataloader()))
    batch = data.on_after_batch_transfer((frames, labels), 0)
    assert torch.equal(batch[0], data.on_after_batch_transfer(frames, 0))
    assert batch[0].dtype == torch.float32
    assert batch[1].tolist() == [0, 0, 1, 1]


def test_batches(clip: Path):
    data = VideoFilesData(clip, batch_size=2, length=2, epoch_size=6, test_fraction=0.35)
    data.setup()
    train = [*data.train_dataloader()]
    assert [batch.shape for batch in train] == [(2, 2, 3, 24, 32)] * 3
    starts = torch.cat(train)[:, 0, 1, 0, -1].tolist()
    assert len(set(starts)) == 6
    assert starts != sorted(starts)
    assert [len(batch) for batch in data.test_dataloader()] == [2, 1]
    assert data.on_after_batch_transfer(train[0], 0).max() == 1
    resumed = data.train_dataloader()
    resumed.load_state_dict({"batches": 2})
    assert torch.equal(next(iter(resumed)), train[2])


def test_spawned_workers_read_what_was_decoded(clip: Path):
    data = VideoFilesData(clip, length=2)
    data.setup("fit")
    clip.unlink()
    loader = DataLoader(data.train_set, 4, num_workers=1, multiprocessing_context="spawn")
    assert levels(torch.cat([*loader])) == levels(data.train_set)


def test_the_memory_it_takes_is_said_before(clip: Path, caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="lightning.pytorch"):  # the demo mutes it
        VideoFilesData([clip, clip], length=2, size=(500, 1000)).setup("fit")
    (line,) = [x for x in caplog.messages if "decoding" in x]
    assert line == "decoding about 40 frames of 500x1000: 60 MB of memory in each process"


def test_files_are_decoded_once(clip: Path):
    data = VideoFilesData(clip, length=2)
    data.setup("fit")
    clip.unlink()
    data.setup("test")
    assert levels(data.test_set) == [[16, 17], [18, 19]]


BAD = {
    "missing": ({"files": "{tmp}/none"}, "no video file or folder {tmp}/none$"),
    "empty folder": (
        {"files": "{tmp}/empty"},
        "no video in {tmp}/empty: expected files named .avi",
    ),
    "empty list": ({"files": []}, "files is an empty list"),
    "unreadable": ({"files": "{tmp}/text.mp4"}, "{tmp}/text.mp4 is no video"),
    "short": ({"length": 21}, "clip.mkv has 20 frames, fewer than a window of 21"),
    "sizes": (
        {"files": ["{tmp}/clip.mkv", "{tmp}/wide.mkv"]},
        "clip.mkv has frames of 24x32, .*wide.mkv of 24x40: pass size",
    ),
    "size": ({"size": 512}, r"size is \(height, width\), got 512"),
    "three sizes": ({"size": (3, 8, 8)}, r"size is \(height, width\), got \(3, 8, 8\)"),
    "no size": ({"size": (0, 8)}, r"at least 1 pixel high and wide, got \(0, 8\)"),
    "length": ({"length": 0}, "length must be at least 1 frame, got 0"),
    "test_length": ({"test_length": -1}, "length must be at least 1 frame, got -1"),
    "stride": ({"stride": 0}, "stride must be at least 1 frame, got 0"),
    "negative": ({"val_fraction": -0.1}, "got -0.1 and 0.2"),
    "all": ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave some to train on, got 0.5 and 0.5"),
    "no training": (
        {"val_fraction": 0.4, "test_fraction": 0.5, "length": 3},
        "the train part, 0.1 of each file, leaves no window of 3 frames, at most 2: change",
    ),
    "no validation": ({"length": 3}, "the val part, 0.1 of each file, leaves no window"),
    "channels": ({"channels": 2}, r"channels must be 1 \(grey\) or 3 \(RGB\), got 2"),
    "fps": ({"fps": 0}, "fps must be above 0 frames a second, got 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, clip: Path):
    write(clip.parent / "wide.mkv", range(20), size=(24, 40))
    (clip.parent / "text.mp4").write_text("no video")
    (clip.parent / "empty").mkdir()
    options, message = BAD[case]
    files = options.get("files", "{tmp}/clip.mkv")
    named = [x.format(tmp=clip.parent) for x in ([files] if isinstance(files, str) else files)]
    with pytest.raises((ValueError, FileNotFoundError), match=message.format(tmp=clip.parent)) as e:
        VideoFilesData(**{**options, "files": named}).setup("fit")
    assert "\n" not in str(e.value)


def fit(folder: Path, *arguments: object) -> dict[str, torch.Tensor]:
    """The weights at the end of a training from the command line."""
    settings = {
        "trainer.default_root_dir": folder,
        "trainer.logger": False,
        "model.predictor.in_channels": 3,
        "data": "vidpred.data.VideoFilesData",
        "data.length": 5,
        "data.test_length": 4,
        "data.size": [16, 16],
        "data.batch_size": 2,
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    assert cli.main(["fit", "--config", str(CONF), *options, *map(str, arguments)]) == 0
    checkpoint = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return checkpoint["state_dict"]


def test_training_from_the_command_line_resumes_exactly(tmp_path: Path):
    for name in "ab":
        write(tmp_path / "videos" / f"{name}.mkv", range(0, 200, 5))
    files = f"--data.files={tmp_path / 'videos'}"
    whole = fit(tmp_path / "whole", files)
    listed = f"--data.files=[{tmp_path}/videos/a.mkv,{tmp_path}/videos/b.mkv]"
    fit(tmp_path / "half", listed, "--trainer.max_steps=2", "--data.num_workers=1")
    last = tmp_path / "half" / "checkpoints" / "last.ckpt"
    resumed = fit(tmp_path / "rest", listed, f"--ckpt_path={last}")
    for name, weight in whole.items():
        assert torch.equal(resumed[name], weight), name


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    write(tmp_path / "videos" / "clip.mkv", range(0, 200, 2))
    tiny = {
        "data.files": tmp_path / "videos",
        "data.size": [32, 32],
        "data.num_workers": 0,
        "model.predictor.hidden_channels": 4,
        "model.predictor.layers": 1,
        "model.discriminator.downsamplings": 4,
        "trainer.default_root_dir": tmp_path,
        "trainer.fast_dev_run": True,
    }
    options = [f"--{name}={value}" for name, value in tiny.items()]
    assert cli.main(["fit", "--config", str(file), *options]) == 0, capsys.readouterr().err
