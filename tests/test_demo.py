"""The demonstration, as short as can be: what it prints and what it writes."""

import csv
from pathlib import Path

import pytest
from command import vidpred
from PIL import Image


def test_the_demo_shows_what_it_learned(tmp_path: Path) -> None:
    status, out, err = vidpred("demo", "--minutes", "0.02", "--output", tmp_path)
    assert status == 0, err
    assert "loss=" in err  # the progress bar
    assert {path.name for path in tmp_path.iterdir()} == {
        *("prediction.gif", "prediction.png", "test.csv", "test.png")
    }
    with (tmp_path / "test.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["step", "MSE", "MSE (copy)", "PSNR", "PSNR (copy)", "SSIM", "SSIM (copy)"]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "mean"]
    printed = [line.split() for line in out.splitlines()]
    for step, mse, *_ in rows:
        (shown,) = (words for words in printed if words[:1] == [step])
        assert float(shown[1]) == pytest.approx(float(mse), rel=1e-3)
    with Image.open(tmp_path / "prediction.png") as picture:
        assert picture.width > picture.height
    with Image.open(tmp_path / "prediction.gif") as animation:
        assert getattr(animation, "n_frames", 1) == 10
