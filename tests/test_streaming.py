from __future__ import annotations

import inspect
import re
import weakref
from fractions import Fraction

import pytest
import torch
from command import vidpred

from vidpred import cli, streaming
from vidpred.data import Video, write_video
from vidpred.models import zoo
from vidpred.streaming import forecasts

MODELS = {
    "stau": lambda: zoo.stau(hidden_channels=4, layers=2),
    "trajgru, which runs free": lambda: zoo.trajgru(hidden_channels=4),
    "e3d_lstm, which sees windows": lambda: zoo.e3d_lstm(hidden_channels=4, layers=2),
}


def clip(count, size=(18, 22), channels=1):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, *size, generator=generator)


@pytest.mark.parametrize("name", MODELS)
def test_forecasts_are_those_of_the_frames_seen_so_far(name):
    torch.manual_seed(0)
    predictor, frames = MODELS[name]().eval(), clip(8)
    shown = list(forecasts(predictor, frames, context=3, horizon=2))
    assert [step.ahead for step in shown] == [0, 0, 0, 1, 2, 1, 2, 1, 1, 2]
    truth = [step.truth for step in shown if step.truth is not None]
    assert torch.equal(torch.stack(truth), frames)
    assert all(step.truth is None for step in shown[8:])
    for seen, steps in {3: shown[3:5], 5: shown[5:7], 7: shown[7:8], 8: shown[8:]}.items():
        with torch.inference_mode():
            expected = predictor(frames[None, :seen], horizon=len(steps))[0]
        for prediction, step in zip(expected, steps, strict=True):
            torch.testing.assert_close(step.prediction, prediction, rtol=1e-4, atol=1e-5)
    assert all(step.prediction is None for step in shown[:3])


@pytest.mark.parametrize("count", [6, 30])
def test_frames_are_let_go(count):
    alive = weakref.WeakSet()

    def frames():
        for frame in clip(count):
            frame = frame.clone()
            alive.add(frame)
            assert len(alive) <= 2
            yield frame

    predictor = zoo.stau(hidden_channels=4, layers=1).eval()
    shown = weakref.WeakSet()
    for step in forecasts(predictor, frames(), context=2, horizon=3):
        assert len(shown) <= 2
        if step.prediction is not None:
            shown.add(step.prediction)
        del step


@pytest.mark.parametrize(
    ("context", "horizon", "message"),
    [
        (6, 1, r"the clip has 5 frame\(s\), fewer than the context of 6"),
        (0, 1, "context must be at least 1 frame, got 0"),
        (1, 0, "horizon must be at least 1 frame, got 0"),
    ],
)
def test_a_context_or_horizon_that_does_not_fit_is_refused(context, horizon, message):
    predictor = zoo.stau(hidden_channels=4, layers=1)
    with pytest.raises(ValueError, match=message):
        list(forecasts(predictor, clip(5), context, horizon))


TIMES = [Fraction(t, 100) for t in (0, 10, 25, 30, 55, 60, 70)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two models, two videos of an uneven rate and odd size, and some that are of no use."""
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(0)
    models = {1: zoo.stau(hidden_channels=4, layers=1)}
    models[3] = zoo.stau(in_channels=3, hidden_channels=4, layers=1)
    for channels, model in models.items():
        model.save_pretrained(folder / f"model{channels}")
        content = {"recipe": model.recipe, "state_dict": model.state_dict()}
        torch.save(content, folder / f"model{channels}.ckpt")
        with write_video(folder / f"video{channels}.gif", fps=10) as write:
            for frame, time in zip(clip(7, (21, 33), channels), TIMES, strict=True):
                write((255 * frame).byte(), time)
    torch.save({"state_dict": models[1].state_dict()}, folder / "weights.ckpt")
    torch.save({**content, "state_dict": models[1].state_dict()}, folder / "other.ckpt")
    gif = (folder / "video3.gif").read_bytes()
    (folder / "cut.gif").write_bytes(gif[: len(gif) * 2 // 3])
    return folder


@pytest.mark.parametrize("model", ["model1", "model3.ckpt"])
@pytest.mark.parametrize("output", ["out.mp4", "out.gif", "out"])
def test_a_video_becomes_a_film(files, tmp_path, model, output):
    status, out, err = vidpred(
        *("predict", "--ckpt", files / model, "--input", files / "video3.gif", "--context", 3),
        *("--horizon", 2, "--output", tmp_path / output, "--device", "cpu"),
    )
    assert (status, out) == (0, f"predictions: {tmp_path / output}\n"), err
    assert "9/9" in err  # the progress bar
    assert list(tmp_path.iterdir()) == [tmp_path / output]
    if output == "out":
        pictures = sorted(path.name for path in (tmp_path / output).iterdir())
        assert pictures == [f"{number:06d}.png" for number in range(1, 10)]
    else:
        interval = 1 / Video(files / "video3.gif").fps
        times = [*TIMES, TIMES[-1] + interval, TIMES[-1] + 2 * interval]
        written = [float(time) for _, time in Video(tmp_path / output)]
        assert written == pytest.approx([float(time) for time in times], abs=0.006)


def test_any_model_takes_any_video(files, tmp_path):
    """Also grey ones for colour, which a GIF cannot be: a folder shows what the panels hold."""
    for number, (model, video) in enumerate([("model1", "video3.gif"), ("model3", "video1.gif")]):
        output = tmp_path / str(number)
        arguments = ["--ckpt", files / model, "--input", files / video, "--max_frames", 4]
        status, _, err = vidpred("predict", *arguments, "--context", 2, "--output", output)
        assert status == 0, err
        assert len(list(output.iterdir())) == 4 + 10
        image, _ = next(iter(Video(output / "000001.png")))
        truth = image[:, 52:-14, 14 : 14 + 6 * 33]  # enlarged six times
        assert truth.float().std() > 20
        assert torch.equal(truth[0], truth[2])  # the model or the video is grey


def test_what_comes_before_a_damage_can_be_predicted(files, tmp_path):
    arguments = ["--ckpt", files / "model3", "--input", files / "cut.gif", "--context", 1]
    arguments += ["--horizon", 1, "--output", tmp_path / "out.gif"]
    _, _, err = vidpred("predict", *arguments)
    sound = int(err.rsplit(maxsplit=1)[-1])
    status, _, err = vidpred("predict", *arguments, "--max_frames", sound)
    assert status == 0, err
    assert len(list(Video(tmp_path / "out.gif"))) == sound + 1


GOOD = {
    "--ckpt": "{files}/model1",
    "--input": "{files}/video1.gif",
    "--output": "{tmp}/out.mp4",
    "--context": "3",
}
BAD = {
    "no model": ({"--ckpt": "{files}/no.ckpt"}, "no checkpoint at .*no.ckpt"),
    "no recipe": ({"--ckpt": "{files}/weights.ckpt"}, "weights.ckpt does not say which model .*im"),
    "weights": ({"--ckpt": "{files}/other.ckpt"}, "other.ckpt: these weights are of another"),
    "no folder": ({"--ckpt": "{files}"}, "no config.json in .*: expected a folder of"),
    "no checkpoint": ({"--ckpt": "{files}/cut.gif"}, "cut.gif is damaged or no checkpoint"),
    "no video": ({"--input": "{files}/no.mp4"}, "no video at .*no.mp4"),
    "damaged": ({"--input": "{files}/cut.gif"}, r"cut.gif is cut off or damaged after frame \d"),
    "model for video": ({"--input": "{files}/model1.ckpt"}, "model1.ckpt is no video"),
    "format": ({"--output": "{tmp}/out.docx"}, r"out.docx: expected .mp4, .gif or a folder"),
    "folder": ({"--output": "{files}/model1"}, "model1 is there already: give a folder that is"),
    "the input": ({"--output": "{files}/video1.gif"}, "video1.gif is the input: give --output an"),
    "context": ({"--context": "8"}, r"the clip has 7 frame\(s\), fewer than the context of 8"),
    "horizon": ({"--horizon": "0"}, "horizon must be at least 1 frame, got 0"),
    "frames": ({"--max_frames": "0"}, "max_frames is 0, fewer than the context of"),
    "number": ({"--horizon": "few"}, "horizon: .*few"),
    "device": ({"--device": "abacus"}, "there is no device abacus here"),
    "setting": ({"--speed": "3"}, "--speed"),
    "nothing": ({"--input": None}, "input"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_leaves_no_file(case, files, tmp_path):
    change, message = BAD[case]
    before = sorted((path, path.stat().st_mtime_ns) for path in files.rglob("*"))
    options = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    words = [word.format(files=files, tmp=tmp_path) for item in options.items() for word in item]
    status, _, err = vidpred("predict", *words)
    assert status == 2
    last = err.splitlines()[-1]
    assert last.startswith("vidpred: error: ")
    assert re.search(message, last), last
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())
    assert sorted((path, path.stat().st_mtime_ns) for path in files.rglob("*")) == before


def test_help_names_every_option():
    options = set(re.findall(r"^  --(\w+) ", cli.PREDICT_HELP, re.MULTILINE))
    parameters = inspect.signature(streaming.predict).parameters
    assert options == set(parameters)
    for name in ("context", "horizon"):
        assert f"({parameters[name].default})" in cli.PREDICT_HELP
