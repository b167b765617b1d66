"""What the benchmarks share: the machine's name, steps, interleaved timing, peak memory, tables."""

from __future__ import annotations

import argparse
import csv
import json
import multiprocessing
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vidpred.files import replacing

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer

Step = Callable[[], None]


def machine() -> str:
    """One line that names hardware, versions and commit, for the head of every result."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2] for line in info.read_text().splitlines() if "model name" in line
        ]
        cpu = names[0].strip() if names else cpu
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else cpu
    matrix = " with AMX" if torch.cpu._is_amx_tile_supported() else ""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"{device}{matrix if device == cpu else ''}, {torch.get_num_threads()} CPU threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"commit {commit or 'unknown'}"
    )


def interleaved(
    runs: Mapping[str, Callable[[], Any]], repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each run: they take turns, so that a noisy machine disturbs all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn > 0:  # the first turn warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(run: Callable[..., Any], *arguments: Any, device: str = "cpu") -> float:
    """Peak memory in GB of ``run(*arguments)`` in a fresh process: all of its, or its tensors'."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_high_water_mark, (device, run, *arguments))


def _high_water_mark(device: str, run: Callable[..., Any], *arguments: Any) -> float:
    run(*arguments)
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e9
    # Not getrusage: a child inherits the parent's maximum there.
    status = Path("/proc/self/status").read_text()
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return int(kilobytes) * 1024 / 1e9


def training_step(
    module: nn.Module, loss: Callable[[], Tensor], precision: str, device: str
) -> Step:
    """Gradients of a loss, and an update of the weights by Adam."""
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        with autocast(precision, device):
            value = loss()
        value.backward()
        optimizer.step()

    return step


def autocast(precision: str, device: str) -> torch.autocast | nullcontext[None]:
    return torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext()


def fit(
    task: LightningModule,
    data: LightningDataModule,
    steps: int,
    folder: Path,
    callbacks: list[Callback],
    **settings: Any,
) -> Trainer:
    """Train for so many steps, or go on from ``last.ckpt`` in the folder, validating ten times."""
    # Not at the top: it would be part of every peak.
    from lightning.pytorch import Trainer

    trainer = Trainer(
        max_steps=steps,
        val_check_interval=max(1, steps // 10),
        check_val_every_n_epoch=None,
        callbacks=callbacks,
        default_root_dir=folder,
        logger=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_model_summary=False,
        **settings,
    )
    last = folder / "last.ckpt"
    trainer.fit(task, data, ckpt_path=last if last.exists() else None, weights_only=True)
    return trainer


def same_settings(arguments: argparse.Namespace, path: Path, elsewhere: set[str]) -> None:
    """Refuse to go on with a training that was begun with other settings.

    Those ``elsewhere`` have no part in it, and are not compared.
    """
    settings = {name: str(x) for name, x in vars(arguments).items() if name not in elsewhere}
    if path.exists():
        begun = json.loads(path.read_text())
        if other := [f"--{name} {begun[name]}" for name in begun if begun[name] != settings[name]]:
            sys.exit(f"{path.parent} was begun with {' '.join(other)}: choose another --output")
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(settings))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A plain-text table of equal-keyed rows."""
    cells = [list(rows[0])] + [[_text(value) for value in row.values()] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )


def write_rows(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write equal-keyed rows as CSV."""
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
