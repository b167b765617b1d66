"""Every benchmark runs, on the smallest setting that goes through all of it."""

import csv
import importlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from videos import write

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
# Arguments, and the table written.
SMALLEST = {
    "units": (
        "--units STGRUCell --hidden 4 --layers 1 --batch 1 --length 3 --context 1 --size 32 "
        "--repeats 1 --train 2 --test-size 1",
        "units.csv",
    ),
    "units --published": ("--units STGRUCell --published", "published-2.csv"),
    "step_time": ("--hidden 4 --batch 1 --length 11 --size 16 --repeats 1", "step_time.csv"),
    "losses": (
        "--losses 'MSE + GAN' --files clip.mp4 --steps 2 --size 32 32 --context 2 --horizon 2 "
        "--hidden 4 --layers 1 --patch 2 --downsamplings 1",
        "losses.csv",
    ),
    "memory": ("--sizes 32 --precision fp32 --remat none --repeats 1", "memory.csv"),
}


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Scripts find what they share where they are, and write elsewhere."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", SMALLEST)
def test_benchmark_runs(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, table = SMALLEST[case]
    write(Path("clip.mp4"), range(40))
    monkeypatch.setattr(sys, "argv", [case, *shlex.split(arguments), "--output", "out"])
    importlib.import_module(case.split()[0]).main()
    with Path("out", table).open(newline="") as file:
        assert list(csv.DictReader(file))


def test_only_the_authors_own_model_is_compared_with_theirs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = Path("core/models/STAU.py")
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    monkeypatch.setattr(sys, "argv", ["step_time", "--model", "mau", "--reference", "."])
    with pytest.raises(SystemExit):
        importlib.import_module("step_time").parse()
    assert "--reference is STAU alone: not for --model mau" in capsys.readouterr().err


@pytest.mark.slow
def test_data_benchmark_runs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data: Any = importlib.import_module("data")
    monkeypatch.setattr(data, "TURN", 16)
    monkeypatch.setattr(sys, "argv", ["data", "--rounds", "1", "--batch-size", "8"])
    data.main()
    assert "vidpred, to float32" in capsys.readouterr().out
    data.compare_files(rounds=1, clips=6, size=40)
    assert "peak memory, MB" in capsys.readouterr().out


@pytest.mark.slow
def test_traffic_benchmark_runs() -> None:
    torchrun = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    done = subprocess.run(
        [*torchrun, str(BENCHMARKS / "traffic.py")],
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS.parent)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "StepDDPStrategy" in done.stdout


def test_no_benchmark_is_left_out() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()}
    assert scripts == {case.split()[0] for case in SMALLEST} | {"data", "traffic"}
