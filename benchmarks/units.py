"""Compares recurrent units in one encoder/decoder: size, work, time, memory and, trained, accuracy.

    python benchmarks/units.py                                    # size, work, time, memory
    python benchmarks/units.py --train 1000 --root data/mnist     # and accuracy after 1,000 steps
    python benchmarks/units.py --published                        # costs beside the papers'

Columns: `unit M` is the papers' count, the weights of one unit's convolutions / 2^20 (for ConvLSTM
they count two unused convolutions more: .98 where .78 are used); `trainable` all parameters of the
whole predictor; `unit MMAC` and `frame GMAC` the multiply-adds of one unit and of the predictor for
one frame; `forward s` forecasting one batch, `step s` one training step, `peak GB` its memory.
Trained from the same seed on the same sequences, for `trained min` minutes with validations (of
the last start, if it was resumed): MSE (summed over a frame), PSNR and SSIM of the
frames after the context, on test digits; `copy last frame` is what a useless model would reach.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import (
    Step,
    fit,
    interleaved,
    machine,
    peak_memory,
    same_settings,
    table,
    training_step,
    write_rows,
)
from costs import TABLES, beside_the_papers, counted, multiply_adds, weights_of
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from matplotlib.figure import Figure

from vidpred import cells, visual
from vidpred.data import MovingMNISTData
from vidpred.models import Predictor, zoo
from vidpred.sampling import ScheduledSampling
from vidpred.tasks import ForecastTask

UNITS = [unit.__name__ for unit in cells.UNITS]


def main() -> None:
    arguments = parse()
    if arguments.published:
        published(arguments.units, arguments.output)
        return
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(machine())
    predictors = {unit: build(arguments, unit).to(device) for unit in arguments.units}
    forwards = {unit: forward(arguments, model, device) for unit, model in predictors.items()}
    steps = {unit: step_of(arguments, model, device) for unit, model in predictors.items()}
    forward_seconds = interleaved(forwards, arguments.repeats, device)
    step_seconds = interleaved(steps, arguments.repeats, device)
    rows: list[dict[str, Any]] = [
        size_and_work(arguments, unit, predictor, device)
        | {
            "forward s": forward_seconds[unit],
            "step s": step_seconds[unit],
            "peak GB": peak_memory(two_steps, arguments, unit, device, device=device),
        }
        for unit, predictor in predictors.items()
    ]
    curves: dict[str, list[tuple[int, float]]] = {}
    if arguments.train:
        for row in rows:
            scores, curves[row["unit"]] = train(arguments, row["unit"])
            row.update(scores)
            print(f"{row['unit']}: {scores}", flush=True)
    print(table(rows))
    write_rows(rows, arguments.output / "units.csv")
    visual.save_figure(plot(rows, curves), arguments.output / "units.png")
    print(f"written: {arguments.output}/units.csv, units.png")


def published(units: Sequence[str], output: Path) -> None:
    """Print what the units cost at the papers' two settings, beside what the papers print."""
    for number, paper in enumerate(TABLES, start=1):
        rows = beside_the_papers(paper, units)
        print(f"{paper.name}, weights in 2^20\n{table(rows)}\n")
        write_rows(rows, output / f"published-{number}.csv")
    print(f"written: {output}/published-1.csv, published-2.csv")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", nargs="+", choices=UNITS, default=UNITS, metavar="UNIT")
    parser.add_argument("--published", action="store_true", help="costs beside the papers', only")
    parser.add_argument("--hidden", type=int, default=64, help="channels (default: 64)")
    parser.add_argument("--layers", type=int, default=4, help="stacked units (default: 4)")
    parser.add_argument("--batch", type=int, default=8, help="sequences (default: 8)")
    parser.add_argument("--length", type=int, default=20, help="frames of a sequence (default: 20)")
    parser.add_argument("--context", type=int, default=10, help="known frames (default: 10)")
    parser.add_argument("--size", type=int, default=64, help="side of a frame (default: 64)")
    parser.add_argument("--repeats", type=int, default=5, help="measured turns (default: 5)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--train", type=int, default=0, metavar="N", help="optimiser steps a unit")
    parser.add_argument("--root", type=Path, help="MNIST's idx files (default: bundled digits)")
    parser.add_argument("--lr", type=float, default=1e-3, help="of Adam (default: 1e-3)")
    parser.add_argument("--test-size", type=int, default=1000, help="test sequences")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--output", type=Path, default=Path("runs/units"), help="a killed training resumes there"
    )
    return parser.parse_args()


def build(arguments: argparse.Namespace, unit: str) -> Predictor:
    torch.manual_seed(arguments.seed)
    cell = getattr(cells, unit)
    return zoo.stacked(cell, hidden_channels=arguments.hidden, layers=arguments.layers)


def clip(arguments: argparse.Namespace, device: str) -> torch.Tensor:
    shape = (arguments.batch, arguments.length, 1, arguments.size, arguments.size)
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).to(device)


def size_and_work(
    arguments: argparse.Namespace, unit: str, predictor: Predictor, device: str
) -> dict[str, Any]:
    cell = getattr(cells, unit)(arguments.hidden, arguments.hidden)
    side = arguments.size // predictor.encoder.stride
    frame = torch.rand(1, 1, arguments.size, arguments.size, device=device)
    state = predictor.init_state(frame)
    return {
        "unit": unit,
        "unit M": weights_of(cell) / 2**20,
        "trainable": sum(p.numel() for p in predictor.parameters() if p.requires_grad),
        "unit MMAC": multiply_adds(cell, arguments.hidden, side) / 1e6,
        "frame GMAC": counted(lambda: predictor.step(frame, state)) / 1e9,
    }


def forward(arguments: argparse.Namespace, model: Predictor, device: str) -> Step:
    context = clip(arguments, device)[:, : arguments.context]

    def run() -> None:
        with torch.inference_mode():
            model(context, arguments.length - arguments.context)

    return run


def step_of(arguments: argparse.Namespace, model: Predictor, device: str) -> Step:
    """One step with the true frames entering in the context and predictions after it."""
    frames = clip(arguments, device)
    task = ForecastTask(model)
    keep = torch.arange(arguments.length - 1).expand(arguments.batch, -1) < arguments.context
    return training_step(model, lambda: task.loss(frames, keep), "fp32", device)


def two_steps(arguments: argparse.Namespace, unit: str, device: str) -> None:
    """In a process of its own, for its peak memory: the second step has the optimiser's state."""
    torch.set_num_threads(arguments.threads)
    step = step_of(arguments, build(arguments, unit).to(device), device)
    step()
    step()


class Curve(Callback):
    """Keeps the validation MSE over the steps, through an interruption too."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.points.append((trainer.global_step, trainer.callback_metrics["val_mse"].item()))

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [tuple(point) for point in state_dict["points"]]


def train(
    arguments: argparse.Namespace, unit: str
) -> tuple[dict[str, float], list[tuple[int, float]]]:
    """Train a unit and test it: its scores and its validation curve."""
    seed_everything(arguments.seed, verbose=False)
    data = MovingMNISTData(
        arguments.root,
        batch_size=arguments.batch,
        length=arguments.length,
        canvas=arguments.size,
        val_size=64,
        test_size=arguments.test_size,
        seed=arguments.seed,
    )
    # Half of the budget to go over from true to predicted frames, half to forecast freely.
    task = ForecastTask(
        build(arguments, unit),
        context_length=arguments.context,
        sampling=ScheduledSampling(slope=2 / arguments.train),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=arguments.lr),
        scheduler=None,
        seed=arguments.seed,
    )
    curve = Curve()
    folder = arguments.output / f"{unit}-{arguments.train}"
    same_settings(
        arguments, folder / "settings.json", elsewhere={"units", "repeats", "threads", "output"}
    )
    every = max(1, arguments.train // 10)
    checkpoint = ModelCheckpoint(folder, save_last=True, every_n_train_steps=every)
    start = time.perf_counter()
    trainer = fit(task, data, arguments.train, folder, [curve, checkpoint], gradient_clip_val=1.0)
    minutes = (time.perf_counter() - start) / 60
    trainer.test(task, data, verbose=False)
    scores = {"trained min": minutes} | {
        name: values.mean().item() for name, values in task.results["model"].items()
    }
    scores["MSE of copy last frame"] = task.results["copy last frame"]["MSE"].mean().item()
    return scores, curve.points


def plot(rows: list[dict[str, Any]], curves: dict[str, list[tuple[int, float]]]) -> Figure:
    """Size against time; of trained units scores, time and validation curves instead."""
    if curves:
        return plot_trained(rows, curves)
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        axes.scatter(row["unit M"], row["step s"], label=short(row))
    axes.set(xlabel="weights of a unit (2^20)", ylabel="training step (s)")
    axes.margins(0.25)
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def plot_trained(rows: list[dict[str, Any]], curves: dict[str, list[tuple[int, float]]]) -> Figure:
    rows = sorted(rows, key=lambda row: row["MSE"], reverse=True)  # the best on top
    colours = {row["unit"]: f"C{i % 10}" for i, row in enumerate(reversed(rows))}
    figure = Figure(figsize=(13, 2.5 + 0.22 * len(rows)), layout="constrained")
    *bars, right = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.6])
    columns = {"MSE": "MSE, sum over a frame", "SSIM": "SSIM", "step s": "training step (s)"}
    for axes, (column, label) in zip(bars, columns.items(), strict=True):
        drawn = axes.barh(
            [short(row) for row in rows],
            [row[column] for row in rows],
            color=[colours[row["unit"]] for row in rows],
        )
        axes.bar_label(drawn, fmt="%.3g", padding=2, fontsize=8)
        axes.margins(x=0.2)
        axes.set_xlabel(label)
        axes.set_yticks(range(len(rows)), [short(row) for row in rows] if axes is bars[0] else [])
    for i, row in enumerate(reversed(rows)):
        steps, errors = zip(*curves[row["unit"]], strict=True)
        style = ["-", "--", ":"][i // 10 % 3]  # ten colours, and again in another style
        right.plot(steps, errors, style, color=colours[row["unit"]], label=short(row))
    right.set(xlabel="step", ylabel="validation MSE, sum over a frame", yscale="log")
    right.yaxis.set_major_formatter("{x:.0f}")
    right.yaxis.set_minor_formatter("{x:.0f}")
    right.legend(fontsize=7, ncols=2)
    return figure


def short(row: dict[str, Any]) -> str:
    return str(row["unit"]).removesuffix("Cell")


if __name__ == "__main__":
    main()
