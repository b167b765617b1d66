"""Data sets in the layouts that they are downloaded in, each a function that gives its clips."""

from vidpred.data.sources.arrays import array, moving_mnist
from vidpred.data.sources.base import Clip, Source, Split
from vidpred.data.sources.caltech import caltech
from vidpred.data.sources.files import frame_folders, videos
from vidpred.data.sources.human36m import human36m
from vidpred.data.sources.kitti import kitti
from vidpred.data.sources.sjtu4k import sjtu4k
from vidpred.data.sources.something_something import something_something
from vidpred.data.sources.town_centre import town_centre
from vidpred.data.sources.ucf101 import ucf101
from vidpred.data.sources.ucf_sports import ucf_sports

__all__ = [
    "Clip",
    "Source",
    "Split",
    "array",
    "caltech",
    "frame_folders",
    "human36m",
    "kitti",
    "moving_mnist",
    "sjtu4k",
    "something_something",
    "town_centre",
    "ucf101",
    "ucf_sports",
    "videos",
]
