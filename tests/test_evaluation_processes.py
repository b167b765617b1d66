"""An evaluation in two processes finds what one process finds, and writes once."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from command import vidpred
from processes import in_two_processes

from vidpred import cli
from vidpred.models import zoo

# Five clips in batches of two: one process has three of them, the other two.
DATA = ["--data", "vidpred.data.MovingMNISTData", "--data.test_size", "5", "--data.batch_size", "2"]


def command(*args: str) -> list[str]:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    return [*torchrun, "-m", "vidpred", "evaluate", *DATA, *args]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        predictor = zoo.stau(hidden_channels=4, layers=1)
    predictor.save_pretrained(folder / "stau")
    for weight in predictor.parameters():
        torch.nn.init.constant_(weight, torch.nan)
    predictor.save_pretrained(folder / "nan")
    return [str(folder / name) for name in ("nan", "stau")]


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "evaluation.json").read_text())


def evaluate(*args: str) -> None:
    """Evaluate, and write what is printed beside the folder of results."""
    Path(f"{args[-1]}-{os.environ['RANK']}.json").write_text(
        json.dumps(vidpred("evaluate", *DATA, *args))
    )


@pytest.mark.slow
def test_two_processes_find_what_one_finds(models: list[str], tmp_path: Path) -> None:
    args = ["--ckpt", *models, "--horizon", "3"]
    assert cli.main(["evaluate", *DATA, *args, "--out", str(tmp_path / "one")]) == 1
    in_two_processes(evaluate, *args, "--out", str(tmp_path / "two"))
    said = [json.loads((tmp_path / f"two-{rank}.json").read_text()) for rank in range(2)]
    assert [status for status, _, _ in said] == [1, 1]  # of the broken model
    assert [out.count("report: ") for _, out, _ in said] == [1, 0]
    assert "nan predicts values that are not finite" in said[0][2]
    one, two = record(tmp_path / "one"), record(tmp_path / "two")
    assert two["facts"]["Device"].startswith("2 processes")
    assert two["clips"] == one["clips"] == 5
    assert list(two["broken"]) == list(one["broken"]) == ["nan"]
    assert list(two["models"]) == list(one["models"]) == ["stau", "copy last frame"]
    assert [(k, v["index"]) for k, v in two["shown"].items()] == [
        (k, v["index"]) for k, v in one["shown"].items()
    ]
    for name, found in one["models"].items():
        for protocol, table in found["scores"].items():
            for column, scores in table.items():
                other = two["models"][name]["scores"][protocol][column]
                assert other["per_step"] == pytest.approx(scores["per_step"], rel=1e-6)
    # The clips are of both shares; curves may differ in a pixel where scores do in the last digit.
    for picture in (tmp_path / "one" / "clips").glob("*.png"):
        other = tmp_path / "two" / picture.relative_to(tmp_path / "one")
        assert other.read_bytes() == picture.read_bytes()
    with (tmp_path / "two" / "standard.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == 1 + 3 * 4


@pytest.mark.slow
def test_a_killed_evaluation_leaves_the_last_one_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "report.html").write_text("of the last one")
    many = [*command("--out", str(out)), "--data.test_size", "100000"]
    running = subprocess.Popen(many, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert running.stderr is not None
    for line in running.stderr:  # until it scores
        if "batches" in line:
            break
    os.killpg(running.pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.poll() is not None
    assert [(x.name, x.read_text()) for x in out.iterdir()] == [("report.html", "of the last one")]
