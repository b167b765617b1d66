"""Training and evaluation of a predictor on video clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from vidpred import tables, visual
from vidpred.cells import total_penalty
from vidpred.metrics import STANDARD, FrameMetric
from vidpred.models import Predictor
from vidpred.models.frames import check_range
from vidpred.models.remat import RematSetting
from vidpred.sampling import Sampling, ScheduledSampling, draw_keep
from vidpred.tasks.base import MakeOptimizer, MakeScheduler, Task
from vidpred.tasks.callbacks import run_folder
from vidpred.tasks.schedule import DelayedStepLR

MODEL, COPY = "model", "copy last frame"


def copy_last_frame(context: Tensor, horizon: int) -> Tensor:
    """Forecast that nothing moves: what every model has to beat.

    Args:
        context: Known frames ``(B, T, C, H, W)``.
        horizon: Number of frames to forecast.

    Returns:
        ``(B, horizon, C, H, W)``, a view.
    """
    return context[:, -1:].expand(-1, horizon, -1, -1, -1)


class ForecastTask(Task):
    """Trains a predictor to forecast the frames after a context, and tells how well it does.

    Batches are clips ``(B, T, C, H, W)`` in [0, 1], of which the first ``context_length`` frames
    are known and the rest is to be predicted. Training minimises the mean squared error of all
    predictions, those within the context included, plus the penalty that the predictor's units may
    have (:class:`vidpred.cells.Penalty`), and feeds true or predicted frames as ``sampling`` says.
    All it draws at random depends on (seed, step, rank) alone: an interrupted run resumes exactly.

    Validation and test forecast without targets and log the mean of each metric as ``val_mse`` and
    so on, over the clips of all loaders; ``MSE`` is the squared error summed over a frame. The test
    also prints its metrics for every predicted step, next to those of repeating the last known
    frame, and writes them to ``test.csv`` and ``test.png`` in the run's folder. Prediction gives
    frames clipped to [0, 1].

    Args:
        predictor: Any predictor.
        context_length: Known frames of a clip, at least 1.
        sampling: When to feed the true frame in training.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the learning-rate schedule from the optimiser, or ``None``. It advances
            with every optimiser step; ``ReduceLROnPlateau`` with every validation, watching
            ``val_mse``.
        metrics: Name and metric, made from the number of predicted frames.
        seed: Any integer; sets the random decisions of ``sampling``.
        remat: What training computes again instead of keeping it, for less memory:
            :attr:`vidpred.models.Predictor.remat`, which ``None`` leaves as it is.

    Attributes:
        results: Of the last validation or test: for ``"model"``, and after a test for ``"copy last
            frame"``, every metric's values ``(horizon,)``.

    Raises:
        ValueError: ``context_length`` is below 1, ``remat`` is no such thing. While running: a clip
            no longer than the context, frames of another shape or range than the predictor's, a
            checkpoint of another model.
        FloatingPointError: While training, a loss that is not finite; in a validation, predictions.

    Example:
        >>> from vidpred.models import zoo
        >>> task = ForecastTask(zoo.stau(hidden_channels=4, layers=1), context_length=3)
        >>> clips = torch.rand(2, 5, 1, 32, 32)  # Trainer.fit(task, data) trains on such batches
        >>> task.predict_step(clips, batch_idx=0).shape
        torch.Size([2, 2, 1, 32, 32])
    """

    watched = "val_mse"
    predictor: Predictor

    def __init__(
        self,
        predictor: Predictor,
        context_length: int = 10,
        sampling: Sampling = ScheduledSampling(),  # noqa: B008 -- frozen
        optimizer: MakeOptimizer = lambda params: torch.optim.Adam(params, lr=1e-3),
        scheduler: MakeScheduler | None = DelayedStepLR,
        metrics: Mapping[str, Callable[[int], FrameMetric]] = STANDARD,
        seed: int = 0,
        remat: RematSetting = None,
    ) -> None:
        super().__init__(predictor, context_length, optimizer, scheduler, remat)
        self.sampling = sampling
        self.metrics = dict(metrics)
        self.seed = seed
        self.results: dict[str, dict[str, Tensor]] = {}
        # In plain dicts: metrics of one evaluation are no part of the model.
        self._running: dict[str, dict[str, FrameMetric]] = {}

    def _make_optimizers(self) -> list[Optimizer]:
        return [self.optimizer(self.predictor.parameters())]

    def training_step(self, frames: Tensor, batch_idx: int) -> Tensor:
        loss = self.loss(frames, self._draw_keep(frames, batch_idx))
        self._check_finite(loss, batch_idx)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def _draw_keep(self, frames: Tensor, batch_idx: int) -> Tensor:
        """Check a training batch, and draw which of its frames enter."""
        self._check(frames)
        if batch_idx == 0:
            check_range(frames)
        batch, length = frames.shape[:2]
        return draw_keep(
            self.sampling,
            batch,
            length,
            self.context_length,
            step=self.global_step,
            batch=batch_idx % self.trainer.accumulate_grad_batches,
            rank=self.global_rank,
            seed=self.seed,
        )

    def loss(self, frames: Tensor, keep: Tensor) -> Tensor:
        """What training minimises, from clips and from which of their frames enter.

        Args:
            frames: ``(B, T, C, H, W)`` in [0, 1].
            keep: Boolean ``(B, T-1)``, as :meth:`vidpred.models.Predictor.rollout` takes it.
        """
        _, error, penalty = self._rollout(frames, keep)
        return error + penalty

    def _rollout(self, frames: Tensor, keep: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Predict as training does: the predictions, their mean squared error and the penalty."""
        prediction, state = self.predictor.rollout_with_state(frames, keep)
        prediction = prediction.to(frames.dtype)
        error = F.mse_loss(prediction, frames[:, 1:])
        return prediction, error, total_penalty(state) / prediction.shape[1]

    def on_validation_epoch_start(self) -> None:
        self._running = {}

    def validation_step(self, frames: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        prediction = self._forecast(frames)
        self._score(MODEL, prediction, frames)
        return prediction

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_start(self) -> None:
        self._running = {}

    def test_step(self, frames: Tensor, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        prediction = self._forecast(frames)
        self._score(MODEL, prediction, frames)
        known = frames[:, : self.context_length]
        self._score(COPY, copy_last_frame(known, prediction.shape[1]), frames)
        return prediction

    def on_test_epoch_end(self) -> None:
        self._finish("test")
        folder = run_folder(self.trainer)
        if self.trainer.is_global_zero:
            self.print(self.table())
            tables.write_csv(self._columns(), folder / "test.csv")
            visual.save_figure(visual.plot_curves(self.results), folder / "test.png")
            self.print(f"table and curves: {folder / 'test.csv'}, {folder / 'test.png'}")

    def predict_step(self, frames: Tensor, batch_idx: int) -> Tensor:
        return self._forecast(frames).clamp(0, 1)

    def table(self) -> str:
        """The results as text, a row per predicted step; beside each metric that of the copy."""
        return tables.metric_table(self._columns())

    def _columns(self) -> dict[str, Tensor]:
        return {
            name if model == MODEL else f"{name} (copy)": self.results[model][name]
            for name in self.metrics
            for model in self.results
        }

    def _check(self, frames: Any) -> None:
        if not isinstance(frames, Tensor):
            raise TypeError(
                f"a batch is one tensor (B, T, C, H, W), got {type(frames).__name__}; let the data "
                "set return the clip alone"
            )
        self._check_clips(frames)

    def _forecast(self, frames: Tensor) -> Tensor:
        self._check(frames)
        known, future = frames[:, : self.context_length], frames[:, self.context_length :]
        return self.predictor(known, future.shape[1])

    def _score(self, model: str, prediction: Tensor, frames: Tensor) -> None:
        truth = frames[:, self.context_length :]
        if model not in self._running:
            self._running[model] = {
                name: make(truth.shape[1]).to(truth.device) for name, make in self.metrics.items()
            }
        for metric in self._running[model].values():
            metric.update(prediction, truth)

    def _finish(self, stage: str) -> None:
        self.results = {
            model: {name: metric.compute() for name, metric in metrics.items()}
            for model, metrics in self._running.items()
        }
        means = {name: values.mean() for name, values in self.results[MODEL].items()}
        self._log_scores(stage, means)
