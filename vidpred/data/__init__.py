"""Data sets, loaders that resume exactly, and Lightning data modules."""

from vidpred.data.datamodule import MovingMNISTData, VideoData
from vidpred.data.digits import load_digits
from vidpred.data.loader import EvaluationLoader, ResumableLoader
from vidpred.data.moving_mnist import FixedMovingMNIST, MovingMNIST
from vidpred.data.video import Frame, Video

__all__ = [
    "EvaluationLoader",
    "FixedMovingMNIST",
    "Frame",
    "MovingMNIST",
    "MovingMNISTData",
    "ResumableLoader",
    "Video",
    "VideoData",
    "load_digits",
]
