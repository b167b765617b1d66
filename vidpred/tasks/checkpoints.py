"""Checkpoints that a run can always go on from."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch.optim import Optimizer

from vidpred.files import replacing
from vidpred.tasks.callbacks import run_folder


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it there.

    Lightning writes to the system's temporary folder; where that is another file system, the move
    is a copy, and a process killed in it leaves half a file under the final name.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        with replacing(path) as temporary:
            torch.save(checkpoint, temporary)


class ResumableCheckpoint(ModelCheckpoint):
    """Keeps the best model of all validations and, as ``last.ckpt``, the last sound state.

    Lightning's callback, but for this: ``last.ckpt`` is written at every validation, whether it
    found a better model or not, and when training ends; Ctrl-C waits for the end of an optimiser's
    step, so that what is saved goes on exactly; a run that diverged, that failed within a step or
    in one of several processes leaves the checkpoints before that as they are; files are whole or
    absent.

    Args:
        monitor: The logged value that tells the best model.
        mode: ``"min"`` or ``"max"``.
        dirpath: The folder; by default ``checkpoints/`` in the run's folder.
        every_n_train_steps: Write ``last.ckpt`` also between validations. Where nothing validates
            it is otherwise written when a validation would be due by ``val_check_interval``, a
            number of batches or a share of an epoch.

    Example:
        >>> trainer = Trainer(callbacks=[ResumableCheckpoint()], logger=False)
    """

    def __init__(
        self,
        monitor: str = "val_mse",
        mode: str = "min",
        dirpath: str | None = None,
        every_n_train_steps: int | None = None,
    ) -> None:
        super().__init__(dirpath=dirpath, monitor=monitor, mode=mode, save_last=True)
        self._every = every_n_train_steps
        self._step_of_last = 0  # nothing to save before the first step
        self._handler: Any = None
        self._interrupted = False
        self._updating = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if self.dirpath is None:
            self.dirpath = str(run_folder(trainer) / "checkpoints")
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        self._updating = True
        self._catch()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._is_due(trainer, batch_idx):
            self._save_last(trainer)
        self._updating = False
        self._release()
        if self._interrupted:
            self._interrupted = False
            raise KeyboardInterrupt

    def _is_due(self, trainer: Trainer, batch_idx: int) -> bool:
        # Not by Lightning's own setting: that saves nothing before the first validation, and
        # afterwards the best model once more.
        if self._every is not None:
            return trainer.global_step % self._every == 0
        every = trainer.val_check_batch
        if sum(trainer.num_val_batches) or every is None:
            return False
        in_all = trainer.check_val_every_n_epoch is None
        batches = trainer.fit_loop.epoch_loop.total_batch_idx if in_all else batch_idx
        return (batches + 1) % every == 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if not self._should_save_on_train_epoch_end(trainer):
            self._save_validated(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if self._should_save_on_train_epoch_end(trainer):
            self._save_validated(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save_last(trainer)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        updating, self._updating = self._updating, False
        self._release()
        # All processes must take part in saving. They stop together for SIGTERM alone; otherwise
        # the others may be gone, or wait elsewhere for this one.
        together = trainer.world_size == 1 or isinstance(exception, SIGTERMException)
        if together and not updating and not isinstance(exception, FloatingPointError):
            self._save_last(trainer)

    def _save_validated(self, trainer: Trainer) -> None:
        """Write ``last.ckpt`` with what a validation changed, unless a better model brought it."""
        if sum(trainer.num_val_batches) and self._last_global_step_saved != trainer.global_step:
            self._save_last(trainer, again=True)

    def _save_last(self, trainer: Trainer, again: bool = False) -> None:
        """Write ``last.ckpt``, ``again`` if it holds this step; not where nothing trains."""
        training = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        new = again or self._step_of_last != trainer.global_step
        if training and new and not trainer.fast_dev_run:  # pyright: ignore[reportAttributeAccessIssue]
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def _save_last_checkpoint(self, trainer: Trainer, monitor_candidates: Any) -> None:
        saved = self._last_global_step_saved
        super()._save_last_checkpoint(trainer, monitor_candidates)
        # A validation at a step that Lightning takes for saved would not keep the best model.
        self._last_global_step_saved = saved
        self._step_of_last = trainer.global_step

    def _catch(self) -> None:
        if self._handler is None and threading.current_thread() is threading.main_thread():
            self._interrupted = False
            self._handler = signal.signal(signal.SIGINT, self._hold)

    def _hold(self, *_: Any) -> None:
        if self._interrupted:  # pressed again: at once then
            raise KeyboardInterrupt
        self._interrupted = True

    def _release(self) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            self._handler = None
