"""Early action recognition: training of a classifier on what a predictor makes of a front."""

from __future__ import annotations

import csv
import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from torchmetrics import Accuracy, MeanMetric, Metric

from vidpred.files import replacing
from vidpred.models import ActionClassifier, Predictor, hidden_states
from vidpred.models.frames import check_range
from vidpred.models.remat import RematSetting
from vidpred.tasks.base import MakeOptimizer, MakeScheduler, Task
from vidpred.tasks.callbacks import run_folder
from vidpred.tasks.strategy import shard


class ActionTask(Task):
    """Trains a classifier to tell the action of a clip from its first frames.

    Batches are ``(frames, labels)``: clips ``(B, T, C, H, W)`` in [0, 1], of which the first
    ``context_length`` frames are known, and the index of each clip's class ``(B,)``. The predictor,
    trained before by :class:`ForecastTask` on such clips, forecasts the rest; the classifier sees
    its hidden states at all T - 1 steps. Without predictor it sees the known frames: the baseline.
    Training minimises the cross-entropy and draws nothing at random: an interrupted run resumes
    exactly.

    Validation and test log the loss, ``val_loss``, and the shares of clips whose class is the most
    likely one and among the five most likely, ``val_top1`` and ``val_top5``, over the clips of all
    loaders. The test prints these and writes them to ``test.csv`` in the run's folder. Prediction
    gives the probabilities of the classes.

    Args:
        classifier: Of the channels of the predictor's hidden states, or of the frames.
        predictor: A trained one: :func:`vidpred.weights.load_predictor` of a checkpoint or folder,
            :meth:`vidpred.models.Predictor.from_pretrained`. ``None``: the baseline.
        context_length: Known frames of a clip, at least 1.
        frozen: Train the classifier alone; ``False``: the predictor with it.
        optimizer: Makes the optimiser from the parameters.
        scheduler: Makes the learning-rate schedule from the optimiser, or ``None``. It advances
            with every optimiser step; ``ReduceLROnPlateau`` with every validation, watching
            ``val_loss``.
        remat: As for :class:`ForecastTask`; of use where the predictor is trained.

    Attributes:
        results: Of the last validation or test: ``loss``, ``top1`` and ``top5``.

    Raises:
        ValueError: ``context_length`` is below 1, ``remat`` is no such thing. While running: a clip
            no longer than the context, frames of another shape or range than the predictor's,
            labels that are no classes, a classifier for other channels, a checkpoint of another
            model.
        FloatingPointError: While training, a loss that is not finite; in a validation, predictions.

    Reference:
        Chang et al., STAU, arXiv:2204.09456, section 4.3.1. Differs: the paper does not say whether
        the predictor learns with the classifier. Here it does not unless asked to.

    Example:
        >>> from vidpred.models import zoo
        >>> predictor = zoo.stau(in_channels=3, hidden_channels=16, layers=2)
        >>> task = ActionTask(ActionClassifier(16, classes=20), predictor, context_length=5)
        >>> task(torch.rand(2, 20, 3, 32, 32)).shape  # Trainer.fit(task, data) trains it
        torch.Size([2, 20])
    """

    watched = "val_loss"

    def __init__(
        self,
        classifier: ActionClassifier,
        predictor: Predictor | None = None,
        context_length: int = 5,
        frozen: bool = True,
        optimizer: MakeOptimizer = lambda params: torch.optim.Adam(params, lr=1e-3),
        scheduler: MakeScheduler | None = None,
        remat: RematSetting = None,
    ) -> None:
        super().__init__(predictor, context_length, optimizer, scheduler, remat)
        self.classifier = classifier
        if predictor is not None:
            predictor.requires_grad_(not frozen)
        self.results: dict[str, float] = {}
        # In a plain dict: metrics of one evaluation are no part of the model.
        self._running: dict[str, Metric] = {}

    def configure_model(self) -> None:
        super().configure_model()
        if self.device_mesh is not None:
            shard(self.classifier, self.device_mesh)

    def _make_optimizers(self) -> list[Optimizer]:
        return [self.optimizer([x for x in self.parameters() if x.requires_grad])]

    def forward(self, frames: Tensor) -> Tensor:
        """Return the logits ``(B, classes)`` of clips of which the first frames are looked at."""
        self._check_clips(frames)
        known = frames[:, : self.context_length]
        if self.predictor is not None:
            known = hidden_states(self.predictor, known, frames.shape[1] - self.context_length)
        return self.classifier(known)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        frames, labels = self._split(batch)
        if batch_idx == 0:
            check_range(frames)
        loss = F.cross_entropy(self(frames), labels)
        self._check_finite(loss, batch_idx)
        self.log("train_loss", loss, prog_bar=True, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._start()

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish("val")

    def on_test_epoch_start(self) -> None:
        self._start()

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(batch)

    def on_test_epoch_end(self) -> None:
        self._finish("test")
        path = run_folder(self.trainer) / "test.csv"
        if self.trainer.is_global_zero:
            with replacing(path) as temporary, temporary.open("w", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerows([self.results.keys(), self.results.values()])
            self.print(", ".join(f"{name} {value:.4f}" for name, value in self.results.items()))
            self.print(f"results: {path}")

    def predict_step(self, batch: Any, batch_idx: int) -> Tensor:
        frames = batch if isinstance(batch, Tensor) else self._split(batch)[0]
        return self(frames).softmax(dim=1)

    def _split(self, batch: Any) -> tuple[Tensor, Tensor]:
        """The frames and the labels of a batch, after checking them."""
        if not (isinstance(batch, list | tuple) and len(batch) == 2):
            raise TypeError(
                f"a batch is (frames, labels), got {type(batch).__name__}: let the data set return "
                "a label with each clip (labels=True)"
            )
        frames, labels = batch
        if labels.shape != frames.shape[:1] or labels.is_floating_point():
            raise ValueError(
                f"labels must be the index of the class of each of {len(frames)} clips, got "
                f"{labels.dtype} of shape {tuple(labels.shape)}"
            )
        low, high = (bound.item() for bound in torch.aminmax(labels))
        if low < 0 or high >= self.classifier.classes:
            raise ValueError(
                f"labels must lie between 0 and {self.classifier.classes - 1}, got {low} to {high}:"
                " give the classifier as many classes as the data set has"
            )
        return frames, labels

    def _start(self) -> None:
        classes = self.classifier.classes
        top1, top5 = (
            Accuracy("multiclass", num_classes=classes, top_k=min(k, classes), average="micro")
            for k in (1, 5)
        )
        metrics = {"loss": MeanMetric(nan_strategy="disable"), "top1": top1, "top5": top5}
        self._running = {name: metric.to(self.device) for name, metric in metrics.items()}

    def _score(self, batch: Any) -> None:
        frames, labels = self._split(batch)
        logits = self(frames)
        self._running["loss"].update(F.cross_entropy(logits, labels, reduction="none"))
        for name in ("top1", "top5"):
            self._running[name].update(logits, labels)

    def _finish(self, stage: str) -> None:
        self.results = {name: metric.compute().item() for name, metric in self._running.items()}
        if not math.isfinite(self.results["loss"]):  # what is most likely is then chance
            self.results = dict.fromkeys(self.results, math.nan)
        self._log_scores(stage, self.results)
