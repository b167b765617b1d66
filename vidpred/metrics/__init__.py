"""Frame metrics: streaming, one value per predicted step, right under distributed training."""

from vidpred.metrics.base import FrameMetric
from vidpred.metrics.detections import DetectionScore
from vidpred.metrics.errors import MSE, PSNR, MSESum, mse, mse_sum, psnr
from vidpred.metrics.perceptual import LPIPS
from vidpred.metrics.structural import SSIM, ssim

__all__ = [
    "LPIPS",
    "MSE",
    "PSNR",
    "SSIM",
    "DetectionScore",
    "FrameMetric",
    "MSESum",
    "mse",
    "mse_sum",
    "psnr",
    "ssim",
]
