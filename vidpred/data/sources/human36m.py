"""Human3.6M."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from vidpred.data.sources.base import Clip, Source, Split
from vidpred.data.sources.layout import by_number, expect, portion, video_frames
from vidpred.data.video import check_fps


def human36m(
    source: Path,
    train: Sequence[str] = ("S1", "S5", "S6", "S7", "S8"),
    test: Sequence[str] = ("S9", "S11"),
    val_fraction: float = 0.05,
    fps: float = 10,
    size: tuple[int, int] | None = (1024, 1024),
    length: int = 8,
) -> Source:
    """Human3.6M: actors in a studio, seen by four cameras, 1000x1000, 50 frames a second.

    Args:
        source: Folder with ``S1/Videos`` and so on, as the archives of videos unpack.
        train: Subjects to train on.
        test: Subjects to test on.
        val_fraction: Share of the performances to train on to validate on instead. What the four
            cameras saw of one stays together.
        fps: Frames a second to resample to.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample: 4 to see and 4 to predict.

    Returns:
        A clip for each video but those of all activities at once, ``_ALL``.

    Raises:
        FileNotFoundError: A subject is missing, or has no video.
        ValueError: A subject is named twice, in train, in test or in both, or a number is out of
            range.

    Reference:
        Ionescu et al., PAMI 2014, whose subjects with poses are split as is usual. Protocol: Chang
        et al., STIP, arXiv:2206.04381. Differs: it trains and tests on all seven subjects.
    """
    check_fps(fps)
    if again := [name for name, times in Counter([*train, *test]).items() if times > 1]:
        raise ValueError(f"{again[0]} is named twice in train and test: expected each subject once")
    videos = {subject: _videos(source, subject) for subject in (*train, *test)}
    performed = list(dict.fromkeys(_performance(x) for subject in train for x in videos[subject]))
    validate = portion(performed, val_fraction)
    clips = []
    for subject, files in videos.items():
        for file in files:
            trains: Split = "val" if _performance(file) in validate else "train"
            split = "test" if subject in test else trains
            frames = partial(video_frames, file, fps)
            clips.append(Clip(f"{subject}/{file.stem}", split, [file], frames))
    return Source(
        clips,
        length,
        size,
        protocol=f"Human3.6M at {fps:g} frames a second, {', '.join(train)} to train, "
        f"{', '.join(test)} to test, {val_fraction:g} of the others to validate",
    )


def _videos(source: Path, subject: str) -> list[Path]:
    folder = expect(source / subject / "Videos", f"the videos of subject {subject}")
    # Neither those of all activities, _ALL, nor hidden files.
    files = [x for x in sorted(folder.glob("*.mp4"), key=by_number) if x.name[0] not in "._"]
    if not files:
        raise FileNotFoundError(f"no video in {folder}: expected Directions.54138969.mp4 ...")
    return files


def _performance(file: Path) -> tuple[str, str]:
    """Subject and activity of ``S1/Videos/Directions 1.54138969.mp4``, seen by four cameras."""
    return file.parents[1].name, file.stem.partition(".")[0]
