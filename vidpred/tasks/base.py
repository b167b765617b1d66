"""What the tasks have in common: optimiser and schedule, sound losses, checkpoints, sharding."""

from __future__ import annotations

import abc
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from vidpred.models import Predictor
from vidpred.models.pretrained import check
from vidpred.models.remat import RematSetting
from vidpred.tasks.strategy import shard

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]
MakeScheduler = Callable[[Optimizer], LRScheduler]


class Task(LightningModule, abc.ABC):
    """A LightningModule around a predictor that knows the first frames of each clip.

    Args:
        predictor: Any predictor, or ``None`` for a task that can do without.
        context_length: Known frames of a clip, at least 1.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the learning-rate schedule from the optimiser, or ``None``.
        remat: As for :class:`vidpred.tasks.ForecastTask`.

    Attributes:
        watched: The logged value that ``ReduceLROnPlateau`` watches, at every validation.

    Raises:
        ValueError: ``context_length`` is below 1, ``remat`` is no such thing.
    """

    watched: str

    def __init__(
        self,
        predictor: Predictor | None,
        context_length: int,
        optimizer: MakeOptimizer,
        scheduler: MakeScheduler | None,
        remat: RematSetting = None,
    ) -> None:
        super().__init__()
        if not isinstance(context_length, int) or context_length < 1:
            raise ValueError(f"context_length must be at least 1 known frame, got {context_length}")
        if not isinstance(predictor, Predictor | None):
            raise TypeError(
                f"predictor must be a vidpred.models.Predictor, got a {type(predictor).__name__}: "
                "vidpred.models.zoo.stau() makes one, predictor.core.compile() compiles it"
            )
        self.predictor = predictor
        if predictor is not None and remat is not None:
            predictor.remat = remat
        self.context_length = context_length
        self.optimizer = optimizer
        self.scheduler = scheduler
        self._update: tuple[int, dict[str, Any]] = -1, {}  # where the current one began

    def configure_model(self) -> None:
        if self.device_mesh is not None and self.predictor is not None:
            shard(self.predictor, self.device_mesh, "rollout_with_state")

    @abc.abstractmethod
    def _make_optimizers(self) -> list[Optimizer]:
        """Make the optimisers of this task, that of ``optimizer`` first."""

    def configure_optimizers(self) -> Any:
        (optimizer,) = self._make_optimizers()
        if self.scheduler is None:
            return optimizer
        schedule = {"scheduler": self.scheduler(optimizer), "interval": "step"}
        if isinstance(schedule["scheduler"], ReduceLROnPlateau):
            # Validations advance it. The Trainer would after the checkpoint is written, too late.
            schedule |= {"monitor": self.watched, "frequency": sys.maxsize}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def _schedules(self, plateau: bool) -> list[Any]:
        schedules = (config.scheduler for config in self.trainer.lr_scheduler_configs)
        return [x for x in schedules if isinstance(x, ReduceLROnPlateau) == plateau]

    def _log_scores(self, stage: str, scores: Mapping[str, Tensor | float]) -> None:
        """Log what an evaluation found; after a validation advance the schedules that watch it."""
        logged = {f"{stage}_{name.lower()}": score for name, score in scores.items()}
        # All processes have the same values; sync_dist says so to Lightning.
        self.log_dict(logged, prog_bar=True, sync_dist=True)
        if stage != "val":
            return
        if not all(map(math.isfinite, logged.values())):
            raise FloatingPointError(
                f"predictions are not finite in the validation at step {self.global_step}: lower "
                "the learning rate or clip gradients (gradient_clip_val)"
            )
        if self.trainer.state.fn != TrainerFn.FITTING or self.trainer.sanity_checking:
            return
        for scheduler in self._schedules(plateau=True):
            if self.watched not in logged:
                raise ValueError(
                    f"ReduceLROnPlateau watches {self.watched}, which is not among the scores "
                    f"{', '.join(logged)}: add its metric"
                )
            scheduler.step(logged[self.watched])

    def _check_clips(self, frames: Tensor) -> None:
        """Refuse what is no clip, and clips that end with their known frames."""
        if frames.dim() != 5:
            raise ValueError(f"clips must be (B, T, C, H, W), got shape {tuple(frames.shape)}")
        if frames.shape[1] <= self.context_length:
            raise ValueError(
                f"context_length={self.context_length} leaves nothing to predict of clips of "
                f"{frames.shape[1]} frames: use longer clips or a shorter context"
            )

    def _check_finite(self, loss: Tensor, batch_idx: int, name: str = "the loss") -> None:
        """Refuse to go on with a loss that is not finite."""
        if not loss.isfinite():
            raise FloatingPointError(
                f"{name} is {loss.item()} at step {self.global_step}, batch {batch_idx} of epoch "
                f"{self.current_epoch}: lower the learning rate, clip gradients "
                "(gradient_clip_val) or look at the frames of that batch"
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if isinstance(optimizer, LBFGS):  # flattens gradients as if they were not channels-last
            for parameter in self.parameters():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.contiguous()

    def on_train_start(self) -> None:
        if self._schedules(plateau=True) and not self.trainer.enable_validation:
            raise ValueError(
                "ReduceLROnPlateau waits for validations, and this run has none: give it clips to "
                "validate on, or another scheduler"
            )
        if (norm := self.trainer.gradient_clip_val or 0) < 0:
            raise ValueError(f"gradient_clip_val is a norm, and 0 for any gradient; got {norm}")

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self._update = self.global_step, self.trainer.fit_loop.state_dict()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # Gradients are not saved: within an update of several batches, which change nothing else,
        # a run that goes on takes all of these again.
        step, place = self._update
        if step == self.global_step:
            checkpoint["loops"]["fit_loop"] = place
        checkpoint["optimizer"] = self._optimizer_name()
        checkpoint["recipe"] = None if self.predictor is None else self.predictor.recipe

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if "state_dict" in checkpoint:  # ModelParallelStrategy has loaded it, and taken it out
            check(self, checkpoint["state_dict"])
        then = checkpoint.get("optimizer")
        if self._trainer is None or not self.trainer.training or then is None:
            return
        if then != (now := self._optimizer_name()):
            raise ValueError(
                f"the checkpoint was trained with {then}, this run has {now}: go on with "
                f"{then}, or start anew"
            )

    def _optimizer_name(self) -> str:
        return " and ".join(type(optimizer).__name__ for optimizer in self._make_optimizers())
