"""Callbacks that show and save what a task predicts. No training depends on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger, WandbLogger
from torch import Tensor

from vidpred import visual
from vidpred.files import replacing


def run_folder(trainer: Trainer) -> Path:
    """The folder of the current run: its logger's, or without one the trainer's root.

    W&B and other loggers that share one folder among their runs have ``PROJECT/ID`` in it, where
    Lightning too puts a run's checkpoints. Not W&B's own ``wandb/run-.../files``: it writes a
    ``config.yaml`` there itself.

    Every process must call it, as ``Trainer.log_dir``.
    """
    folder = Path(trainer.log_dir or trainer.default_root_dir)
    logger = trainer.logger
    if logger is not None and not isinstance(logger, TensorBoardLogger | CSVLogger):
        folder = folder / str(logger.name) / str(logger.version)
    return trainer.strategy.broadcast(folder)  # only the first process knows the id


class PredictionPicture(Callback):
    """Shows at every validation how the first clip is predicted.

    The picture (inputs, truth, prediction, error) goes to TensorBoard or W&B, if such a logger is
    there, else to ``pictures/`` in the run's folder. There is none of what cannot be shown: of
    classes, and of frames that are neither grey nor coloured.

    Example:
        >>> trainer = Trainer(callbacks=[PredictionPicture()], logger=False)
    """

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._folder = run_folder(trainer)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if batch_idx > 0 or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if not _shows(outputs) or not outputs.isfinite().all():  # of which the task will tell
            return
        step = trainer.global_step
        figure = visual.filmstrip(*_first(batch, outputs))
        boards = [x for x in trainer.loggers if isinstance(x, TensorBoardLogger | WandbLogger)]
        for board in boards:
            if isinstance(board, WandbLogger):
                board.log_image("prediction", [figure], step=step)
            else:
                board.experiment.add_figure("prediction", figure, step)
        if not boards:
            visual.save_figure(figure, self._folder / "pictures" / f"step={step:06d}.png")


class PredictionWriter(Callback):
    """Saves what ``Trainer.predict`` predicts, to ``predictions/`` in the run's folder.

    Every batch becomes one float32 array, frames ``(B, horizon, C, H, W)`` or the probabilities of
    classes ``(B, classes)``, batch 3 of process 0 the file ``0-00003.npy``. Of grey or coloured
    frames, the first clip is also drawn as ``prediction.png`` and ``prediction.gif``.
    Each file is written whole or not at all. What an earlier run wrote there is replaced.

    Example:
        >>> trainer = Trainer(callbacks=[PredictionWriter()], logger=False)
    """

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._folder = run_folder(trainer) / "predictions"
        self._written: set[Path] = set()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Tensor,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        path = self._folder / f"{trainer.global_rank}-{batch_idx:05d}.npy"
        with replacing(path) as temporary:
            np.save(temporary, outputs.float().cpu().numpy())
        self._written.add(path)
        if _shows(outputs) and batch_idx == 0 and trainer.is_global_zero:
            clip = _first(batch, outputs)
            visual.save_figure(visual.filmstrip(*clip), self._folder / "prediction.png")
            visual.gif(*clip, self._folder / "prediction.gif")

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Batches of an earlier, longer run would pass for batches of this one.
        for path in set(self._folder.glob("*.npy")) - self._written:
            batch = re.fullmatch(r"(\d+)-\d{5}\.npy", path.name)
            if batch and int(batch[1]) % trainer.world_size == trainer.global_rank:
                path.unlink()
        pl_module.print(f"predictions: {self._folder}")


def _shows(outputs: Any) -> bool:
    """Whether this is a batch of frames, grey or coloured."""
    return isinstance(outputs, Tensor) and outputs.dim() == 5 and outputs.shape[2] in (1, 3)


def _first(batch: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Context, truth and prediction of the first clip of a batch."""
    known = batch.shape[1] - prediction.shape[1]
    return batch[0, :known], batch[0, known:], prediction[0]
