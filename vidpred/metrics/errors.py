"""Pixel errors: mean squared error in the literature's two conventions, and PSNR."""

from __future__ import annotations

import torch
from torch import Tensor

from vidpred.metrics.base import FrameMetric, matched

_FRAME = (-3, -2, -1)


def mse_sum(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error summed over the channels and pixels of a frame.

    Args:
        prediction: ``(..., C, H, W)``; not clipped.
        target: The same shape.

    Returns:
        ``(...)``, one value per frame.

    Raises:
        ValueError: If shapes differ or a dtype is not floating point.

    Example:
        >>> mse_sum(torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 8, 8))
        tensor([64., 64.])
    """
    prediction, target = matched(prediction, target)
    return (prediction - target).square().sum(dim=_FRAME)


def mse(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error averaged over the channels and pixels of a frame.

    Args:
        prediction: ``(..., C, H, W)``; not clipped.
        target: The same shape.

    Returns:
        ``(...)``, one value per frame.

    Raises:
        ValueError: If shapes differ or a dtype is not floating point.

    Example:
        >>> mse(torch.zeros(2, 1, 8, 8), torch.full((2, 1, 8, 8), 0.5))
        tensor([0.2500, 0.2500])
    """
    prediction, target = matched(prediction, target)
    return (prediction - target).square().mean(dim=_FRAME)


def psnr(prediction: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each frame in decibels, for a peak of 1.

    Capped at 100 dB (a mean squared error of 1e-10, far below what 8 bits resolve), so that a
    perfect frame, whose ratio is infinite, does not make an average infinite.

    Args:
        prediction: ``(..., C, H, W)``; not clipped.
        target: The same shape.

    Returns:
        ``(...)``, one value per frame, at most 100.

    Raises:
        ValueError: If shapes differ or a dtype is not floating point.

    Example:
        >>> target = torch.full((1, 8, 8), 0.5)
        >>> psnr(target + 0.1, target), psnr(target, target)
        (tensor(20.0000), tensor(100.))
    """
    return -10 * torch.log10(mse(prediction, target).clamp(min=1e-10))


class MSESum(FrameMetric):
    """Squared error summed over a frame, averaged over samples: the Moving MNIST convention.

    Args:
        horizon: Number of predicted steps.

    Example:
        >>> metric = MSESum(horizon=2)
        >>> metric.update(torch.zeros(4, 2, 1, 8, 8), torch.ones(4, 2, 1, 8, 8))
        >>> metric.compute()
        tensor([64., 64.])
    """

    higher_is_better = False

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return mse_sum(prediction, target)


class MSE(FrameMetric):
    """Squared error averaged over a frame and over samples; papers print it times 1000.

    Args:
        horizon: Number of predicted steps.

    Example:
        >>> metric = MSE(horizon=2)
        >>> metric.update(torch.zeros(4, 2, 1, 8, 8), torch.ones(4, 2, 1, 8, 8))
        >>> metric.compute()
        tensor([1., 1.])
    """

    higher_is_better = False

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return mse(prediction, target)


class PSNR(FrameMetric):
    """Peak signal-to-noise ratio in decibels, taken per frame and then averaged.

    A frame counts at most 100 dB: see :func:`psnr`.

    Args:
        horizon: Number of predicted steps.

    Example:
        >>> metric = PSNR(horizon=1)
        >>> metric.update(torch.full((4, 1, 1, 8, 8), 0.5), torch.full((4, 1, 1, 8, 8), 0.6))
        >>> metric.compute()
        tensor([20.0000])
    """

    higher_is_better = True

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return psnr(prediction, target)
