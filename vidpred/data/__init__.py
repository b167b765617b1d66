"""Data sets, loaders that resume exactly, Lightning data modules, and video files."""

from vidpred.data.checks import check
from vidpred.data.clip_data import ClipsData
from vidpred.data.clips import ClipsFile, StoredClip
from vidpred.data.datamodule import MovingMNISTData, VideoData
from vidpred.data.digits import load_digits
from vidpred.data.loader import EvaluationLoader, ResumableLoader
from vidpred.data.moving_mnist import FixedMovingMNIST, MovingMNIST
from vidpred.data.preparation import prepare
from vidpred.data.video import Frame, Video
from vidpred.data.video_writer import write_video
from vidpred.data.windows import VideoWindows

__all__ = [
    "ClipsData",
    "ClipsFile",
    "EvaluationLoader",
    "FixedMovingMNIST",
    "Frame",
    "MovingMNIST",
    "MovingMNISTData",
    "ResumableLoader",
    "StoredClip",
    "Video",
    "VideoData",
    "VideoWindows",
    "check",
    "load_digits",
    "prepare",
    "write_video",
]
