"""What all frame metrics share: input checks and streaming sums per predicted step."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torchmetrics import Metric


class FrameMetric(Metric, abc.ABC):
    """Mean score of predicted frames, for every predicted step.

    ``update(prediction, target)`` adds a batch of frames ``(B, T, C, H, W)`` in [0, 1];
    ``compute()`` returns the mean over all samples so far as a tensor ``(T,)``, of which
    ``.mean()`` is the score over all predicted frames. Predictions are clipped to [0, 1] first:
    a frame is judged as it would be shown. Scores are taken outside autocast, in float32 or better.

    The sums have a fixed shape, so processes may see different numbers of samples, or none. A
    subclass gives ``score``. In a ``torchmetrics.MetricCollection`` pass ``compute_groups=False``:
    its grouping takes two metrics that agree on the first batch for the same metric.

    Args:
        horizon: Number of predicted steps T.

    Raises:
        ValueError: If ``horizon`` is not a positive integer.

    Example:
        >>> class MeanAbsoluteError(FrameMetric):
        ...     def score(self, prediction, target):
        ...         return (prediction - target).abs().mean(dim=(-3, -2, -1))
        >>> metric = MeanAbsoluteError(horizon=2)
        >>> metric.update(torch.zeros(4, 2, 1, 8, 8), torch.ones(4, 2, 1, 8, 8))
        >>> metric.compute()
        tensor([1., 1.])
    """

    full_state_update = False
    is_differentiable = False
    total: Tensor
    residue: Tensor
    count: Tensor

    def __init__(self, horizon: int) -> None:
        super().__init__()
        self.horizon = positive(horizon)
        self.add_state("total", torch.zeros(horizon), dist_reduce_fx="sum")
        self.add_state("residue", torch.zeros(horizon), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    @abc.abstractmethod
    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Score the frames of one time step.

        Args:
            prediction: ``(B, C, H, W)`` in [0, 1], float32 or float64.
            target: The same shape and dtype.

        Returns:
            ``(B,)``.
        """

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Add a batch.

        Args:
            prediction: Predicted frames ``(B, T, C, H, W)``; clipped to [0, 1].
            target: True frames in [0, 1], same shape.

        Raises:
            ValueError: If shapes, dtypes, T or the range of ``target`` are not as described.
        """
        prediction, target = future(type(self).__name__, self.horizon, prediction, target)
        with torch.autocast(prediction.device.type, enabled=False):
            # One step at a time keeps the temporaries of high-resolution frames small.
            scores = torch.stack(
                [
                    self.score(prediction[:, t].clamp(0, 1), target[:, t]).sum()
                    for t in range(self.horizon)
                ]
            ).to(self.total)
        # Neumaier's compensated sum: float32 sums drift, and not every device has float64.
        total = self.total + scores
        small_lost = (self.total - total) + scores
        large_lost = (scores - total) + self.total
        lost = torch.where(self.total.abs() >= scores.abs(), small_lost, large_lost)
        self.residue = self.residue + lost
        self.total = total
        self.count = self.count + prediction.shape[0]

    def _wrap_compute(self, compute: Callable[[], Tensor]) -> Callable[[], Tensor]:
        # The base class turns one-element results into scalars; horizon=1 must stay (1,).
        wrapped = super()._wrap_compute(compute)

        @functools.wraps(compute)
        def per_step() -> Tensor:
            return wrapped().reshape(-1)

        return per_step

    def compute(self) -> Tensor:
        """Return the mean score of every predicted step, ``(T,)``.

        Raises:
            ValueError: If no batch was added.
        """
        if self.count == 0:
            raise ValueError(f"{type(self).__name__} has seen no frames: call update first")
        return (self.total + self.residue) / self.count


def positive(horizon: int) -> int:
    """Return ``horizon``, after checking that it is a number of predicted steps.

    Raises:
        ValueError: If it is no positive integer.
    """
    if not isinstance(horizon, int) or isinstance(horizon, bool) or horizon < 1:
        raise ValueError(f"horizon must be a positive number of predicted steps, got {horizon!r}")
    return horizon


def future(metric: str, horizon: int, prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return both detached and in one dtype, after checking that they are what a metric takes.

    Args:
        metric: Its name, for errors.
        horizon: Number of predicted steps T that it was made for.
        prediction: Predicted frames ``(B, T, C, H, W)``.
        target: True frames in [0, 1], same shape.

    Raises:
        ValueError: If shapes, dtypes, T or the range of ``target`` are not as described.
    """
    prediction, target = matched(prediction.detach(), target.detach())
    if prediction.ndim != 5:
        raise ValueError(
            f"{metric} expects frames (B, T, C, H, W), got shape {tuple(prediction.shape)}"
        )
    if prediction.shape[1] != horizon:
        raise ValueError(
            f"{metric} was made for horizon={horizon}, got {prediction.shape[1]} predicted frames"
        )
    # The tolerance lets through what resizing in floating point may overshoot.
    if not (target.min() >= -1e-3 and target.max() <= 1 + 1e-3):  # NaN is neither
        raise ValueError(
            f"target frames must lie in [0, 1], got values from {target.min():.4g} to "
            f"{target.max():.4g}: rescale the data"
        )
    return prediction, target


def matched(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in one dtype, float32 or float64, after checking that they can be compared.

    Args:
        prediction: Floating-point frames ``(..., C, H, W)``.
        target: The same shape.

    Raises:
        ValueError: If shapes differ, a dimension is missing or empty, or a dtype is not floating.

    Example:
        >>> frame = torch.ones(1, 4, 4)
        >>> [x.dtype for x in matched(frame.bfloat16(), frame)]
        [torch.float32, torch.float32]
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"prediction and target must have one shape, got {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    if prediction.ndim < 3 or prediction.numel() == 0:
        raise ValueError(f"expected frames (..., C, H, W), got shape {tuple(prediction.shape)}")
    for name, frames in (("prediction", prediction), ("target", target)):
        if not frames.is_floating_point():
            raise ValueError(
                f"{name} must be floating point in [0, 1], got {frames.dtype}: convert and rescale"
            )
    dtype = torch.promote_types(prediction.dtype, target.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    return prediction.to(dtype), target.to(dtype)
