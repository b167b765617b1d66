"""The TownCentreXVID video."""

from functools import partial
from pathlib import Path

from vidpred.data.sources.base import Source
from vidpred.data.sources.files import find_videos
from vidpred.data.sources.layout import by_time, video_frames


def town_centre(
    source: Path,
    train_frames: int = 4000,
    test_frames: int = 3500,
    val_fraction: float = 0.05,
    size: tuple[int, int] | None = (1088, 1920),
    length: int = 8,
) -> Source:
    """TownCentreXVID: one video of people in a pedestrian street, 1080x1920, 25 frames a second.

    Args:
        source: The video, or the folder that holds it and no other.
        train_frames: Frames at the start, to train on.
        test_frames: Frames that follow, to test on.
        val_fraction: Share of the frames to train on, the last ones, to validate on instead.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample: 4 to see and 4 to predict.

    Returns:
        A clip of the frames for each split.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: The folder holds no video, or several, or a number is out of range.

    Reference:
        Benfold and Reid, CVPR 2011. Protocol: Chang et al., STAU, arXiv:2204.09456.
    """
    for name, count in (("train_frames", train_frames), ("test_frames", test_frames)):
        if count < 0:
            raise ValueError(f"{name} must be at least 0 frames, got {count}")
    videos = find_videos(source)
    if len(videos) > 1:
        raise ValueError(f"{source} holds {len(videos)} videos: name the one to read")
    (video,) = videos
    frames = partial(video_frames, video)
    clips = by_time("", video, frames, train_frames, train_frames + test_frames, val_fraction)
    return Source(
        list(clips),
        length,
        size,
        protocol=f"TownCentreXVID, {train_frames} frames to train, the next {test_frames} to test, "
        f"{val_fraction:g} of the others to validate",
    )
