"""Trains one predictor with the three losses of the STIP paper's Table VIII, on equal budgets.

    python benchmarks/losses.py --files VIDEO_OR_FOLDER ... --steps 500

The losses are MSE, MSE + GAN and MSE + GAN + LP. Each training starts from the same weights, takes
the same number of steps on the same windows, and predicts the last part of the videos, of which
nothing was trained on. `trained min` is the time of the training steps alone; `copy last frame` is
what a useless model would reach. SSIM (paper) is that of the papers' protocol, `data_range=2`, and
LPIPS (x100) is there if the weights of its trunk are.

Written to --output: losses.csv (the means), steps.csv and steps.png (each predicted step),
prediction.png (the window with most motion, and where in it most moves) and discriminator.csv and
.png (what the discriminators made of true and predicted frames). A killed run, started again, goes
on where it was.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import torch
from common import fit, machine, same_settings, table, write_rows
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor
from torch.nn import functional as F

from vidpred import tables, visual
from vidpred.data import ClipsData, prepare
from vidpred.data.sources import videos
from vidpred.metrics import LPIPS, PSNR, SSIM, FrameMetric
from vidpred.models import Discriminator, zoo
from vidpred.tasks import AdversarialTask, ResumableCheckpoint

LOSSES = {  # weights of the LP-loss and of the adversarial loss
    "MSE": (0.0, 0.0),
    "MSE + GAN": (0.0, 0.001),
    "MSE + GAN + LP": (0.01, 0.001),
}
COPY = "copy last frame"
REAL, FAKE = "log_d_real", "log_d_fake"
Measures: TypeAlias = dict[str, Callable[[int], FrameMetric]]


def main() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    print(machine())
    same_settings(
        arguments, arguments.output / "settings.json", elsewhere={"losses", "threads", "output"}
    )
    measures = metrics()
    data = ClipsData(
        prepared(arguments),
        batch_size=arguments.batch,
        test_length=arguments.context + arguments.horizon,
        seed=arguments.seed,
    )
    data.setup("test")
    moving = most_motion(data, arguments.context)
    known = moving[:, : arguments.context]
    scores: dict[str, dict[str, Tensor]] = {}
    predictions: dict[str, Tensor] = {}
    courses: dict[str, Course] = {}
    rows: list[dict[str, Any]] = []
    for name in arguments.losses:
        task, courses[name] = train(arguments, name, data, measures)
        scores[name] = task.results["model"]
        scores[COPY] = task.results[COPY]
        with torch.inference_mode():
            predictions[name] = task.eval().predictor(known, arguments.horizon)[0]
        row = {"loss": name, "trained min": courses[name].seconds / 60}
        rows.append(row | means(scores[name]))
        print(table([rows[-1]]), flush=True)
    rows.append({"loss": COPY, "trained min": 0.0} | means(scores[COPY]))

    print(table(rows))
    output = arguments.output
    write_rows(rows, output / "losses.csv")
    steps = {f"{metric} {loss}": x for loss, all in scores.items() for metric, x in all.items()}
    tables.write_csv(steps, output / "steps.csv")
    visual.save_figure(visual.plot_curves(scores), output / "steps.png")
    visual.save_figure(
        picture(moving[0], predictions, arguments.context), output / "prediction.png"
    )
    adversarial = {name: course.points for name, course in courses.items() if course.points}
    if adversarial:
        write_rows(
            [
                {"loss": name, "step": step, REAL: real, FAKE: fake}
                for name, points in adversarial.items()
                for step, real, fake in points
            ],
            output / "discriminator.csv",
        )
        visual.save_figure(plot_discriminators(adversarial), output / "discriminator.png")
    print(f"written: tables and pictures in {output}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--files", nargs="+", type=Path, required=True, help="videos, or folders of them"
    )
    parser.add_argument("--losses", nargs="+", choices=LOSSES, default=list(LOSSES), metavar="LOSS")
    parser.add_argument("--steps", type=int, default=500, help="of each training (default: 500)")
    parser.add_argument("--size", type=int, nargs=2, default=[512, 512], metavar=("H", "W"))
    parser.add_argument("--fps", type=float, help="frames a second (default: each file's own)")
    parser.add_argument("--context", type=int, default=4, help="known frames (default: 4)")
    parser.add_argument("--horizon", type=int, default=6, help="tested frames (default: 6)")
    parser.add_argument("--hidden", type=int, default=32, help="channels (default: 32)")
    parser.add_argument("--layers", type=int, default=4, help="stacked units (default: 4)")
    parser.add_argument("--patch", type=int, default=4, help="side of a folded patch (default: 4)")
    parser.add_argument("--downsamplings", type=int, default=2, help="of the encoders (default: 2)")
    parser.add_argument("--recall", type=float, default=0.1, help="weight of recall (default: 0.1)")
    parser.add_argument("--batch", type=int, default=1, help="windows (default: 1)")
    parser.add_argument("--lr", type=float, default=1e-3, help="the predictor's (default: 1e-3)")
    parser.add_argument("--lr-d", type=float, default=5e-4, help="discriminator's (default: 5e-4)")
    parser.add_argument("--precision", default="32-true", help="as for Lightning's Trainer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/losses"))
    return parser.parse_args()


def prepared(arguments: argparse.Namespace) -> Path:
    """The file of the videos: of each the first part trains, the last tests."""
    path = arguments.output / "clips.h5"
    if not path.exists():
        size, length = tuple(arguments.size), arguments.context + 1
        sources = [videos(x, size, length, arguments.fps, split_by="time") for x in arguments.files]
        prepare(replace(sources[0], clips=[clip for x in sources for clip in x.clips]), path)
    return path


def build(arguments: argparse.Namespace, name: str, measures: Measures) -> AdversarialTask:
    predictor = zoo.stip(
        3,
        arguments.hidden,
        arguments.layers,
        arguments.downsamplings,
        patch=arguments.patch,
        recall=arguments.recall,
    )
    # Its last feature map is one pixel high, as in the paper.
    halvings = (min(arguments.size) // arguments.patch).bit_length() - 1
    lp_weight, gan_weight = LOSSES[name]
    return AdversarialTask(
        predictor,
        Discriminator(3, downsamplings=halvings, patch=arguments.patch),
        lp_weight=lp_weight,
        gan_weight=gan_weight,
        context_length=arguments.context,
        optimizer=partial(torch.optim.Adam, lr=arguments.lr),
        scheduler=None,
        discriminator_optimizer=partial(torch.optim.Adam, lr=arguments.lr_d),
        discriminator_scheduler=None,
        gradient_clip_val=1.0,
        metrics=measures,
        seed=arguments.seed,
    )


def metrics() -> dict[str, Any]:
    found: dict[str, Any] = {
        "PSNR": PSNR,
        "SSIM": SSIM,
        "SSIM (paper)": partial(SSIM, data_range=2),
    }
    try:
        LPIPS(1)
    except FileNotFoundError as error:
        print(f"no LPIPS: {error}")
        return found
    return found | {"LPIPS": LPIPS}


class Course(Callback):
    """Keeps what the discriminator makes of frames, and the seconds of training.

    Through an interruption too.
    """

    def __init__(self) -> None:
        self.points: list[tuple[int, float, float]] = []
        self.seconds = 0.0
        self._start = 0.0

    def on_train_batch_start(self, *_: Any, **__: Any) -> None:
        self._start = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        self.seconds += time.perf_counter() - self._start
        logged = trainer.callback_metrics
        if REAL in logged:
            step = trainer.global_step
            self.points.append((step, logged[REAL].item(), logged[FAKE].item()))

    def state_dict(self) -> dict[str, Any]:
        return {"points": self.points, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.points = [tuple(point) for point in state_dict["points"]]
        self.seconds = state_dict["seconds"]


def train(
    arguments: argparse.Namespace, name: str, data: ClipsData, measures: Measures
) -> tuple[AdversarialTask, Course]:
    """Train with one of the losses, or go on with it, and test what comes of it."""
    seed_everything(arguments.seed, verbose=False)
    task, course = build(arguments, name, measures), Course()
    folder = arguments.output / name.replace(" + ", "-").lower()
    checkpoint = ResumableCheckpoint("val_psnr", "max", str(folder))
    callbacks: list[Callback] = [course, checkpoint]
    trainer = fit(task, data, arguments.steps, folder, callbacks, precision=arguments.precision)
    trainer.test(task, data, verbose=False)
    return task, course


def means(scores: dict[str, Tensor]) -> dict[str, float]:
    scale = {"LPIPS": 100}
    return {name: x.mean().item() * scale.get(name, 1) for name, x in scores.items()}


def most_motion(data: ClipsData, context: int) -> Tensor:
    """The test window `(1, T, C, H, W)` whose frames differ most from the last known one."""
    windows = (data.on_after_batch_transfer(x[None], 0) for x in data.test_set)
    return max(windows, key=lambda x: (x[:, context:] - x[:, context - 1 : context]).abs().mean())


def picture(clip: Tensor, predictions: dict[str, Tensor], context: int) -> Figure:
    """The last input, the truth and all predictions, with an enlarged part where most moves."""
    truth, last = clip[context:], clip[context - 1]
    side = min(clip.shape[-2:]) // 4
    motion = F.avg_pool2d((truth[-1] - last).abs().mean(0, keepdim=True), side, stride=side // 4)
    place = int(motion.argmax())
    top, left = (side // 4 * x for x in divmod(place, motion.shape[-1]))
    steps = [0, len(truth) - 1]
    figure = Figure(figsize=(3 * (2 + len(predictions)), 6 * len(steps)), layout="constrained")
    axes = figure.subplots(2 * len(steps), 2 + len(predictions), squeeze=False)
    for i, step in enumerate(steps):
        frames = {f"input, t={context}": last, f"truth, t={context + step + 1}": truth[step]}
        frames |= {name: prediction[step] for name, prediction in predictions.items()}
        for whole, part, (name, frame) in zip(
            *axes[2 * i : 2 * i + 2], frames.items(), strict=True
        ):
            image = frame.detach().float().clamp(0, 1).permute(1, 2, 0).numpy()
            whole.imshow(image)
            whole.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor="#e07b00"))
            whole.set_title(name)
            part.imshow(image[top : top + side, left : left + side])
            whole.axis("off")
            part.axis("off")
    return figure


def plot_discriminators(courses: dict[str, list[tuple[int, float, float]]]) -> Figure:
    figure = Figure(figsize=(5 * len(courses), 3.6), layout="constrained")
    for axes, (name, points) in zip(
        figure.subplots(1, len(courses), squeeze=False, sharey=True)[0],
        courses.items(),
        strict=True,
    ):
        steps, real, fake = zip(*points, strict=True)
        axes.plot(steps, real, label="log D(real)")
        axes.plot(steps, fake, label="log D(fake)")
        axes.axhline(-0.693, color="#7f7f7f", linestyle=":", label="log 1/2")
        axes.set(title=name, xlabel="step")
        axes.legend(loc="upper left", bbox_to_anchor=(0, -0.2), ncols=3, frameon=False)
    return figure


if __name__ == "__main__":
    main()
