"""How much memory, and how much time, do training and forecasting take at high resolution?

STIP as published, batch 1. A training step is one of the discriminator, then one of the predictor,
with mean squared error, LP-loss and adversarial loss; a forecast is that of the same frames, all
after the first four.
Peak memory is a whole process's that does it twice, what its imports take included; timed, all
variants take turns. `--remat` lists what `predictor.remat` is to be. With --reference, the same of
the authors' code (a clone of github.com/ZhengChang467/STIPHR), which has no such setting.

    python benchmarks/memory.py --sizes 256 512 1024 2160x3840 --reference ../STIPHR
    python benchmarks/memory.py --sizes 512 --frames 5 10 20 --reference ../STIPHR
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from common import (
    Step,
    autocast,
    interleaved,
    machine,
    peak_memory,
    table,
    training_step,
    write_rows,
)
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.models import Discriminator, zoo
from vidpred.models.remat import RematSetting

CONTEXT, LAYERS, WIDTH, DOWNSAMPLINGS = 4, 16, 64, 4
AUTHORS = "authors"


class Variant(NamedTuple):
    """A training step: of which frames, in which precision, and what of it is computed again."""

    height: int
    width: int
    frames: int
    precision: str
    remat: RematSetting | str

    @property
    def patch(self) -> int:
        """2 at 512 x 512, 4 at 1024 x 1024, 8 at 2160 x 3840."""
        return 2 if self.height <= 512 else 4 if self.height <= 1024 else 8

    @property
    def halvings(self) -> int:
        """Of the discriminator, down to one row of pixels."""
        return (self.height // self.patch).bit_length() - 1


class Models(NamedTuple):
    """What trains: ours or the authors', who alone measure probabilities."""

    predictor: nn.Module
    discriminator: nn.Module
    truth: Tensor  # what all predictions should be
    roll_out: Callable[[], Tensor]
    forecast: Callable[[], Tensor]
    cross_entropy: Callable[[Tensor, Tensor], Tensor]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(machine())
    print(f"of each peak on a CPU, {peak_memory(smallest_step):.2f} GB are the libraries'")
    remats = [*([AUTHORS] if arguments.reference else []), *arguments.remat]
    rows = []
    for (height, width), frames in product(arguments.sizes, arguments.frames):
        variants = [
            Variant(height, width, frames, precision, remat)
            for precision, remat in product(arguments.precision, remats)
        ]
        # Before anything is timed in this process, whose memory the others need.
        peaks = {
            (variant, run): peak_memory(
                twice, run, variant, arguments.reference, arguments.threads, device=device
            )
            for variant, run in product(variants, RUNS)
        }
        seconds = {}
        for run, make in RUNS.items():
            models = {v: build(v, arguments.reference, device) for v in variants}
            runs = {str(v): make(models[v], v.precision, device) for v in variants}
            seconds[run] = interleaved(runs, arguments.repeats, device)
        rows += [
            {
                "size": f"{v.height}x{v.width}",
                "frames": v.frames,
                "remat": v.remat,
                "precision": v.precision,
            }
            | {f"{run} GB": peaks[v, run] for run in RUNS}
            | {f"{run} s": seconds[run][str(v)] for run in RUNS}
            for v in variants
        ]
        print(table(rows[-len(variants) :]), flush=True)
        write_rows(rows, arguments.output / "memory.csv")
    plot(rows, arguments.output / "memory.png")
    print(f"written: {arguments.output}/memory.csv, memory.png")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", nargs="+", type=size, default=[(512, 512)], help="side or HEIGHTxWIDTH"
    )
    parser.add_argument("--frames", nargs="+", type=int, default=[5], help="of a clip (default: 5)")
    parser.add_argument(
        "--precision", nargs="+", choices=("fp32", "bf16"), default=("fp32", "bf16")
    )
    parser.add_argument(
        "--remat", nargs="+", type=remat, default=[None, "cells", 1], help="none, cells, or steps"
    )
    parser.add_argument("--repeats", type=int, default=3, help="measured turns (default: 3)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--reference", type=Path, help="clone of the authors' STIPHR code")
    parser.add_argument("--output", type=Path, default=Path("runs/memory"))
    arguments = parser.parse_args()
    if arguments.reference and not (arguments.reference / "core/models/STIP.py").is_file():
        parser.error(f"--reference: {arguments.reference} is no clone of the authors' STIPHR code")
    if min(arguments.frames) <= CONTEXT:
        parser.error(f"--frames must be at least {CONTEXT + 1}: {CONTEXT} are known")
    return arguments


def size(text: str) -> tuple[int, int]:
    height, _, width = text.partition("x")
    if min(int(height), int(width or height)) < 32:
        raise argparse.ArgumentTypeError(f"a side is at least 32 pixels, got {text}")
    return int(height), int(width or height)


def remat(text: str) -> RematSetting:
    return {"none": None, "cells": "cells"}[text] if text.isalpha() else int(text)


def twice(run: str, variant: Variant, reference: Path | None, threads: int) -> None:
    """In a process of its own, for its peak memory: the second step has the optimisers' states."""
    torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    step = RUNS[run](build(variant, reference, device), variant.precision, device)
    step()
    step()


def smallest_step() -> None:
    """With next to no memory but that of the libraries, some of which only a step loads."""
    weight = nn.Linear(1, 1)
    training_step(weight, lambda: weight(torch.ones(1, 1)).sum(), "fp32", "cpu")()


def train(models: Models, precision: str, device: str) -> Step:
    truth, discriminate = models.truth, models.discriminator
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models[:2]]

    def cross_entropy(x: Tensor, label: float) -> Tensor:
        return models.cross_entropy(x.float(), torch.full_like(x, label, dtype=torch.float32))

    def step() -> None:
        optimizer, discriminator_optimizer = optimizers
        with autocast(precision, device):
            predicted = models.roll_out()
            error = F.mse_loss(predicted.float(), truth)
            fake, real = (discriminate(frames)[0] for frames in (predicted.detach(), truth))
        (cross_entropy(fake, 0) + cross_entropy(real, 1)).backward()
        discriminator_optimizer.step()
        discriminator_optimizer.zero_grad()

        # The authors' code gives the discriminator gradients here too, to no purpose.
        discriminate.requires_grad_(models.cross_entropy is not with_logits)
        with autocast(precision, device):
            (fake, features), (_, wanted) = (discriminate(frames) for frames in (predicted, truth))
            lp = F.mse_loss(features.float(), wanted.float())
        (error + 0.01 * lp + 0.001 * cross_entropy(fake, 1)).backward()
        optimizer.step()
        for each in optimizers:
            each.zero_grad()
        discriminate.requires_grad_(True)

    return step


def forecast(models: Models, precision: str, device: str) -> Step:
    def run() -> None:
        with torch.inference_mode(), autocast(precision, device):
            models.forecast()

    return run


RUNS = {"training": train, "forecast": forecast}
with_logits = F.binary_cross_entropy_with_logits


def build(variant: Variant, reference: Path | None, device: str) -> Models:
    torch.manual_seed(0)
    frames = torch.rand(1, variant.frames, 3, variant.height, variant.width).to(device)
    make = theirs if variant.remat == AUTHORS else ours
    return make(variant, frames, reference)


def ours(variant: Variant, frames: Tensor, reference: Path | None) -> Models:
    patch = variant.patch
    predictor = zoo.stip(3, WIDTH, LAYERS, DOWNSAMPLINGS, patch=patch).to(frames.device)
    predictor.remat = variant.remat  # type: ignore[assignment]
    discriminator = Discriminator(3, WIDTH, variant.halvings, patch).to(frames.device)
    keep = (torch.arange(variant.frames - 1) < CONTEXT)[None]
    return Models(
        predictor,
        discriminator,
        frames[:, 1:],
        lambda: predictor.rollout(frames, keep),
        lambda: predictor(frames[:, :CONTEXT], horizon=variant.frames - CONTEXT),
        with_logits,
    )


def theirs(variant: Variant, frames: Tensor, reference: Path | None) -> Models:
    sys.path.insert(0, str(reference))
    # Their networks take folded frames whose sides the encoders can halve.
    stride = variant.patch * 2**DOWNSAMPLINGS
    bottom, right = (-side % stride for side in frames.shape[-2:])
    padded = F.pad(frames[0], (0, right, 0, bottom), mode="replicate")
    folded = F.pixel_unshuffle(padded, variant.patch)[None]
    *_, channels, height, width = folded.shape
    settings = SimpleNamespace(
        patch_size=variant.patch, img_channel=3, img_height=height * variant.patch,
        img_width=width * variant.patch, sr_size=2**DOWNSAMPLINGS, filter_size=(5, 5), stride=1,
        tau=5, time=2, time_stride=1, alpha=0.1, device=frames.device, input_length=CONTEXT,
        total_length=variant.frames,
    )  # fmt: skip
    predictor = importlib.import_module("core.models.STIP").RNN(LAYERS, [WIDTH] * LAYERS, settings)
    name = "Discriminator" if height == width else "Discriminator_4k"
    module = importlib.import_module(f"core.models.{name}")
    discriminator = module.Discriminator(height, width, channels, WIDTH)
    mask = folded.new_zeros(1, variant.frames - CONTEXT - 1, height, width, channels)
    return Models(
        predictor.to(frames.device),
        discriminator.to(frames.device),
        folded[:, 1:],
        lambda: predictor(folded, mask)[0],
        lambda: predictor(folded, mask)[0],
        F.binary_cross_entropy,
    )


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Peak memory and time of a step against the clip's pixels, a line for each variant."""
    # Not at the top: this would be part of every peak.
    from matplotlib.figure import Figure

    from vidpred import visual

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), ("training GB", "training s"), strict=True):
        for name in dict.fromkeys((row["remat"], row["precision"]) for row in rows):
            line = [row for row in rows if (row["remat"], row["precision"]) == name]
            pixels = [row["frames"] * pixels_of(row["size"]) / 1e6 for row in line]
            style = "--" if name[1] == "bf16" else "-"
            label = name[0] if name[0] == AUTHORS else f"remat={name[0]}"
            values = [row[column] for row in line]
            axes.plot(pixels, values, style, marker="o", label=f"{label}, {name[1]}")
        axes.set(xlabel="pixels of a clip (10^6)", ylabel=column, xscale="log", yscale="log")
    axes.legend()
    visual.save_figure(figure, path)


def pixels_of(size: str) -> int:
    height, width = size.split("x")
    return int(height) * int(width)


if __name__ == "__main__":
    main()
