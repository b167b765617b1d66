"""Data sets, loaders that resume exactly, Lightning data modules, and video files."""

from vidpred.data.datamodule import MovingMNISTData, VideoData
from vidpred.data.digits import load_digits
from vidpred.data.loader import EvaluationLoader, ResumableLoader
from vidpred.data.moving_mnist import FixedMovingMNIST, MovingMNIST
from vidpred.data.video import Frame, Video
from vidpred.data.video_files import VideoFilesData
from vidpred.data.video_writer import write_video
from vidpred.data.windows import VideoWindows

__all__ = [
    "EvaluationLoader",
    "FixedMovingMNIST",
    "Frame",
    "MovingMNIST",
    "MovingMNISTData",
    "ResumableLoader",
    "Video",
    "VideoData",
    "VideoFilesData",
    "VideoWindows",
    "load_digits",
    "write_video",
]
