"""``vidpred inspect``: pictures and numbers of what happens within a model."""

from __future__ import annotations

import csv
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from vidpred.cells import record
from vidpred.cli import main
from vidpred.data import write_video
from vidpred.inspector import draw, observe
from vidpred.models import Predictor, zoo


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.manual_seed(0)
    return zoo.stau(hidden_channels=4, layers=2).eval()


@pytest.fixture(scope="module")
def model(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    predictor.save_pretrained(folder)
    return folder


def test_what_is_observed_is_the_mean_of_what_is_recorded(predictor: Predictor) -> None:
    context = torch.rand(3, 1, 16, 16)
    with torch.no_grad(), record(predictor) as layers:
        prediction = predictor(context[None], horizon=3)
    seen = observe(predictor, context, horizon=3)
    assert seen.known == 3
    frames = torch.cat([context, prediction[0, :-1].clamp(0, 1)])
    np.testing.assert_allclose(seen.frames[..., 0], frames[:, 0], atol=1e-6)
    assert {series.layer for series in seen.series} == set(layers)
    for layer, kind, name, values in seen.series:
        recorded = torch.cat(getattr(layers[layer], kind)[name])
        expected = recorded if kind == "attention" else recorded.mean(dim=1)
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_a_layer_that_does_not_run_leaves_a_gap() -> None:
    seen = observe(zoo.trajgru(hidden_channels=4), torch.rand(2, 1, 32, 32), horizon=2)
    gaps = {
        series.layer.split(".")[1]: np.isnan(series.values).any(axis=(1, 2)).tolist()
        for series in seen.series
    }
    assert gaps == {"encoder": [False, False, True], "forecaster": [False, False, False]}


def test_models_of_any_precision_are_seen_through() -> None:
    predictor = zoo.stau(hidden_channels=4, layers=1).bfloat16()
    seen = observe(predictor, torch.rand(2, 1, 16, 16).bfloat16(), horizon=1)
    assert all(np.isfinite(series.values).all() for series in seen.series)
    assert seen.frames.dtype == np.float32


def test_large_maps_are_drawn_small() -> None:
    seen = observe(zoo.stau(hidden_channels=2, layers=1), torch.rand(1, 1, 1040, 16), horizon=1)
    sides = {max(series.values.shape[1:]) for series in seen.series if series.kind == "gates"}
    assert (seen.frames.shape, sides) == ((1, 256, 3, 3), {256})


def test_the_command_draws_every_layer(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "clip.mp4"
    with write_video(video, fps=10) as write:
        for t in range(4):
            write(torch.full((3, 32, 32), 60 * t, dtype=torch.uint8), Fraction(t, 10))
    asked = ["inspect", "--ckpt", str(model), "--input", str(video), "--context", "3"]
    asked += ["--horizon", "2", "--output", str(tmp_path / "out")]
    assert main(asked) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    layers = [f"core.stack.cells.{k}" for k in range(2)]
    kinds = ["gates", "attention", "states"]
    pictures = [f"{layer}-{kind}.png" for layer in layers for kind in kinds]
    assert names == [*pictures, "core-states.png", "overview.png", "means.csv"]
    for name in names[:-1]:
        assert imread(tmp_path / "out" / name).std() > 0.05
    with open(tmp_path / "out" / "means.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    gates = [row for row in rows if row["kind"] == "gates"]
    assert len(gates) == 2 * 4 * 4  # layers, gates, steps
    assert all(0 < float(row["mean"]) < 1 for row in gates)
    weights = [row for row in rows if row["name"] == "temporal attention" and row["t"] == "2"]
    assert sum(float(row["mean"]) for row in weights) == pytest.approx(2)  # one for each layer

    for wrong, message in {
        ("--layer", "core.cells.9"): "no layer core.cells.9; expected one of core.stack.cells.0",
        ("--context", "5"): "has 4 frame(s), fewer than the context of 5: take a smaller one",
        ("--context", "0"): "context must be at least 1 frame, got 0",
        ("--horizon", "0"): "horizon must be at least 1 frame, got 0",
        ("--ckpt", "nothing.ckpt"): "no checkpoint at nothing.ckpt",
        ("--input", "nothing.mp4"): "nothing.mp4",
        ("--device", "abacus"): "there is no device abacus here",
        ("--output", "/proc/out", "--ckpt", "nothing.ckpt"): "cannot write to /proc/out: ",
    }.items():
        assert main([*asked, *wrong]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line


def test_one_layer_alone(predictor: Predictor, tmp_path: Path) -> None:
    seen = observe(predictor, torch.rand(2, 1, 16, 16), horizon=1)
    chosen = [series for series in seen.series if series.layer == "core"]
    assert [path.name for path in draw(seen._replace(series=chosen), tmp_path)] == [
        "core-states.png",
        "means.csv",
    ]
