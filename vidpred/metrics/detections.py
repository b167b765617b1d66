"""How much a detector finds on frames, and how sure it is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric


class FoundOnFrames(NamedTuple):
    """What a detector found; NaN stands where there was no frame, or no detection to be sure of.

    Attributes:
        count: Mean number of detections a frame, for every predicted step, ``(T,)``.
        confidence: Their mean confidence, ``(T,)``.
        mean_count: The number for a frame of any step.
        mean_confidence: The confidence of all detections.
    """

    count: Tensor
    confidence: Tensor
    mean_count: Tensor
    mean_confidence: Tensor


class DetectionScore(Metric):
    """Detections a frame, and their mean confidence, for every predicted step.

    Only detections of at least the ``threshold`` count. Truth and predictions have a metric each:
    predictions are good where a detector finds on them as much, and as surely, as on the truth.

    Args:
        horizon: Number of predicted steps T.
        threshold: The least confidence that counts; the papers' is 0.8.

    Raises:
        ValueError: ``horizon`` is below 1, or ``threshold`` no probability.

    Reference:
        Chang et al., STAU, arXiv:2204.09456, section 4.3.2, and STIP, arXiv:2206.04381, Fig. 8.
        Differs: these show single frames; the means over many are ours.

    Example:
        >>> metric = DetectionScore(horizon=2)
        >>> metric.update(1, torch.tensor([0.9, 0.5]))  # of a frame that is one step ahead
        >>> metric.update(1, torch.tensor([0.9, 0.8]))
        >>> metric.update(2, torch.tensor([0.6]))
        >>> scores = metric.compute()
        >>> scores.count, scores.mean_count
        (tensor([1.5000, 0.0000]), tensor(1.))
        >>> scores.confidence, scores.mean_confidence
        (tensor([0.8667,    nan]), tensor(0.8667))
    """

    full_state_update = False
    is_differentiable = False
    frames: Tensor
    found: Tensor
    confidence: Tensor

    def __init__(self, horizon: int, threshold: float = 0.8) -> None:
        super().__init__()
        if horizon < 1 or not 0 <= threshold <= 1:
            raise ValueError(
                "expected a horizon of at least 1 predicted step and a threshold between 0 and 1, "
                f"got {horizon} and {threshold}"
            )
        self.horizon = horizon
        self.threshold = threshold
        for name in ("frames", "found", "confidence"):
            self.add_state(name, torch.zeros(horizon, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, step: int, scores: Tensor) -> None:
        """Add a frame.

        Args:
            step: How many frames ahead it is, from 1 to the horizon.
            scores: The confidence of each detection on it, ``(n,)``.

        Raises:
            ValueError: ``step`` is out of range.
        """
        if not 1 <= step <= self.horizon:
            raise ValueError(f"step must lie between 1 and {self.horizon}, got {step}")
        counted = scores[scores >= self.threshold].to(self.confidence)
        self.frames[step - 1] += 1
        self.found[step - 1] += len(counted)
        self.confidence[step - 1] += counted.sum()

    def compute(self) -> FoundOnFrames:
        """Return the detections a frame and their mean confidence."""
        frames, found, confidence = (x.sum() for x in (self.frames, self.found, self.confidence))
        return FoundOnFrames(
            (self.found / self.frames).float(),
            (self.confidence / self.found).float(),
            (found / frames).float(),
            (confidence / found).float(),
        )
