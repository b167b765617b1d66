"""Data sets, loaders that resume exactly, and Lightning data modules."""

from vidpred.data.datamodule import MovingMNISTData, VideoData
from vidpred.data.digits import load_digits
from vidpred.data.loader import EvaluationLoader, ResumableLoader
from vidpred.data.moving_mnist import FixedMovingMNIST, MovingMNIST

__all__ = [
    "EvaluationLoader",
    "FixedMovingMNIST",
    "MovingMNIST",
    "MovingMNISTData",
    "ResumableLoader",
    "VideoData",
    "load_digits",
]
