"""The demonstration: a small model learns Moving MNIST in two minutes and shows what it learned."""

from __future__ import annotations

import logging
import math
import time
import warnings
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from tqdm.auto import tqdm

from vidpred import visual
from vidpred.cells import STGRUCell
from vidpred.data import MovingMNISTData
from vidpred.models import zoo
from vidpred.sampling import ScheduledSampling
from vidpred.tasks import ForecastTask

LEARNING_RATE = 3e-3
CONTEXT_LENGTH = HORIZON = 5


def demo(root: str | None = None, minutes: float = 2.0, output: str = "runs/demo") -> ForecastTask:
    """Train a small STGRU model on Moving MNIST and show what it predicts.

    Args:
        root: Folder with MNIST; without it, the digits that come with scikit-learn.
        minutes: How long to train.
        output: Where to put the table (test.csv), the curves (test.png), a picture
            (prediction.png) and an animation (prediction.gif) of the first test clip.

    Returns:
        The trained task.

    Raises:
        ValueError: ``minutes`` is not above 0, or the digits are damaged.
        FileNotFoundError: There are no digits in ``root``.
    """
    if not 0 < minutes < math.inf:
        raise ValueError(f"minutes must be above 0, got {minutes}")
    Path(output).mkdir(parents=True, exist_ok=True)  # fails now rather than after the training
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    # Tensors this small gain little from a second thread, and lose much on a busy machine.
    torch.set_num_threads(1)
    seed_everything(0, verbose=False)
    data = MovingMNISTData(
        root, batch_size=4, length=CONTEXT_LENGTH + HORIZON, digits=1, canvas=48, test_size=200
    )
    task = ForecastTask(
        zoo.stacked(partial(STGRUCell, kernel_size=3), hidden_channels=24, layers=3),
        CONTEXT_LENGTH,
        ScheduledSampling(slope=1 / 400),
        optimizer=partial(torch.optim.Adam, lr=LEARNING_RATE),
        scheduler=None,
    )
    trainer = Trainer(
        devices=1,
        max_epochs=-1,
        max_time=timedelta(minutes=minutes),
        limit_val_batches=0,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        callbacks=[_Clock(60 * minutes)],
        default_root_dir=output,
    )
    trainer.fit(task, data)
    trainer.test(task, data, verbose=False)
    clip = next(iter(data.test_dataloader()))[:1] / 255
    prediction = task.predict_step(clip.to(task.device), 0).detach()
    shown = clip[0, :CONTEXT_LENGTH], clip[0, CONTEXT_LENGTH:], prediction[0].cpu()
    visual.save_figure(visual.filmstrip(*shown), Path(output, "prediction.png"))
    visual.gif(*shown, Path(output, "prediction.gif"))
    print(f"predictions: {Path(output, 'prediction.png')}, {Path(output, 'prediction.gif')}")
    return task


def main(args: Sequence[str]) -> None:
    """Run ``vidpred demo``.

    Args:
        args: The arguments after ``demo``.
    """
    auto_cli(demo, args=list(args), prog="vidpred demo", as_positional=False, exit_on_error=False)


class _Clock(Callback):
    """A progress bar of the time, by which the learning rate also falls to zero."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.began = time.monotonic()
        self.bar = tqdm(
            total=round(self.seconds), bar_format="{desc} {bar} {n_fmt}/{total_fmt} s{postfix}"
        )

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        done = min(1.0, (time.monotonic() - self.began) / self.seconds)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = LEARNING_RATE * math.cos(done * math.pi / 2)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        self.bar.n = min(self.bar.total, round(time.monotonic() - self.began))
        self.bar.set_description_str("training")
        self.bar.set_postfix(step=trainer.global_step, loss=f"{outputs['loss'].item():.4f}")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.close()
