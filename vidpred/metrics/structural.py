"""Structural similarity, equal to scikit-image's."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vidpred.metrics.base import FrameMetric, matched

_WINDOW = 7


def ssim(prediction: Tensor, target: Tensor, data_range: float) -> Tensor:
    """Mean structural similarity of each frame.

    Equal to ``skimage.metrics.structural_similarity`` with its defaults: a uniform 7x7 window,
    sample covariance, windows that lie wholly inside the frame, each channel alone, then the mean.

    Args:
        prediction: ``(..., C, H, W)``, H and W at least 7; not clipped.
        target: The same shape.
        data_range: Difference between the largest and smallest possible value: 1 for frames in
            [0, 1]. 2 gives the higher values of papers whose code called scikit-image on floats
            without a range, which then meant 2.

    Returns:
        ``(...)``, one value per frame, at most 1.

    Raises:
        ValueError: If shapes differ, frames are smaller than the window, a dtype is not floating
            point or ``data_range`` is not positive.

    Example:
        >>> frame = torch.rand(3, 16, 16)
        >>> ssim(frame, frame, data_range=1)
        tensor(1.)
    """
    _check_range(data_range)
    prediction, target = matched(prediction, target)
    if min(prediction.shape[-2:]) < _WINDOW:
        raise ValueError(
            f"SSIM needs frames of at least {_WINDOW}x{_WINDOW} pixels, got "
            f"{prediction.shape[-2]}x{prediction.shape[-1]}"
        )
    dtype, device = prediction.dtype, prediction.device
    if device.type == "mps":  # it has no float64
        prediction, target = prediction.cpu(), target.cpu()
    # E[x^2] - E[x]^2 loses the small variances of flat regions in float32.
    x, y = prediction.double(), target.double()
    mean_x, mean_y = _window_mean(x), _window_mean(y)
    to_sample = _WINDOW**2 / (_WINDOW**2 - 1)
    var_x = to_sample * (_window_mean(x * x) - mean_x * mean_x)
    var_y = to_sample * (_window_mean(y * y) - mean_y * mean_y)
    covariance = to_sample * (_window_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).mean(dim=(-3, -2, -1)).to(device=device, dtype=dtype)


class SSIM(FrameMetric):
    """Structural similarity with scikit-image's default window; see :func:`ssim`.

    Args:
        horizon: Number of predicted steps.
        data_range: 1 for frames in [0, 1]; 2 for the protocol of the papers' code, which reads
            higher.

    Raises:
        ValueError: If an argument is not positive.

    Example:
        >>> target = torch.rand(4, 2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        >>> metric, paper_protocol = SSIM(horizon=2), SSIM(horizon=2, data_range=2)
        >>> metric.update(0.5 * target, target)
        >>> paper_protocol.update(0.5 * target, target)
        >>> bool((paper_protocol.compute() > metric.compute()).all())
        True
    """

    higher_is_better = True

    def __init__(self, horizon: int, data_range: float = 1.0) -> None:
        super().__init__(horizon)
        _check_range(data_range)
        self.data_range = data_range

    def score(self, prediction: Tensor, target: Tensor) -> Tensor:
        return ssim(prediction, target, self.data_range)


def _check_range(data_range: float) -> None:
    if not (math.isfinite(data_range) and data_range > 0):
        raise ValueError(f"data_range must be a positive number, got {data_range}")


def _window_mean(frames: Tensor) -> Tensor:
    """Mean over every 7x7 window that lies inside ``(..., C, H, W)``."""
    planes = frames.flatten(end_dim=-4) if frames.ndim > 4 else frames
    pool = torch.nn.functional.avg_pool2d
    # Rows, then columns: 14 additions a pixel in place of 49.
    means = pool(pool(planes, (_WINDOW, 1), 1), (1, _WINDOW), 1)
    return means.reshape(*frames.shape[:-2], *means.shape[-2:])
