"""Metrics: streaming, right under distributed training; of frames, per predicted step, and FVD."""

from vidpred.metrics.base import FrameMetric
from vidpred.metrics.detections import DetectionScore
from vidpred.metrics.errors import MSE, PSNR, MSESum, mse, mse_sum, psnr
from vidpred.metrics.fvd import FVD, frechet_distance
from vidpred.metrics.perceptual import LPIPS
from vidpred.metrics.protocols import STANDARD, Column, protocols
from vidpred.metrics.structural import SSIM, ssim

__all__ = [
    "FVD",
    "LPIPS",
    "MSE",
    "PSNR",
    "SSIM",
    "STANDARD",
    "Column",
    "DetectionScore",
    "FrameMetric",
    "MSESum",
    "frechet_distance",
    "mse",
    "mse_sum",
    "protocols",
    "psnr",
    "ssim",
]
