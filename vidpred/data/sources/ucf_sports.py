"""UCF Sports."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from torch import Tensor

from vidpred.data.sources.base import Clip, Source
from vidpred.data.sources.images import image_files, image_frames
from vidpred.data.sources.layout import by_number, expect, portion, video_frames

# Folders are named after an action and, where there are several, the side that it is seen from.
_ACTIONS = (
    "Diving",
    "Golf-Swing",
    "Kicking",
    "Lifting",
    "Riding-Horse",
    "Run",
    "SkateBoarding",
    "Swing-Bench",
    "Swing-Side",
    "Walk",
)


def ucf_sports(
    source: Path,
    val_fraction: float = 0.05,
    size: tuple[int, int] | None = (512, 512),
    length: int = 10,
) -> Source:
    """UCF Sports: 150 clips of ten actions from broadcast television, most of them 480x720.

    Args:
        source: What ``ucf_sports_actions.zip`` unpacks to, or the folder ``ucf action`` in it. In
            the folders of clips, such as ``Diving-Side/001``, a video is read, and where there is
            none the pictures, there or in a folder ``jpeg``.
        val_fraction: Share of the clips to train on to validate on instead.
        size: Height and width that frames are cut and scaled to. ``None``: as they are.
        length: Frames in a sample: 4 to see and 6 to predict in STIP, 10 and 4 (14) in STAE.

    Returns:
        A clip for each folder. Every tenth tests.

    Raises:
        FileNotFoundError: An action has no clip, or a folder neither a video nor pictures.
        ValueError: A folder holds several videos, or a fraction is out of range.

    Reference:
        Rodriguez et al., CVPR 2008. Protocol: Chang et al., STIP, arXiv:2206.04381. Differs: its
        test samples share frames with those to train on; here no clip is in both.
    """
    root = expect(source, "the folder of UCF Sports")
    root = root / "ucf action" if (root / "ucf action").is_dir() else root
    folders: dict[Path, int] = {}
    for label, action in enumerate(_ACTIONS):
        found = [x for x in sorted(root.glob(f"{action}*/*"), key=by_number) if x.is_dir()]
        if not found:
            raise FileNotFoundError(
                f"no clip of {action} in {root}: expected folders {action}.../001 and so on"
            )
        folders |= dict.fromkeys(found, label)
    tests = portion(list(folders), 0.1)
    validate = portion([folder for folder in folders if folder not in tests], val_fraction)
    clips = []
    for folder, label in folders.items():
        split = "test" if folder in tests else "val" if folder in validate else "train"
        files, frames = _read(folder)
        clips.append(Clip(f"{folder.parent.name}/{folder.name}", split, files, frames, label))
    return Source(
        clips,
        length,
        size,
        _ACTIONS,
        protocol=f"UCF Sports, {len(clips)} clips, every tenth to test, {val_fraction:g} of the "
        "others to validate",
    )


def _read(folder: Path) -> tuple[list[Path], Callable[[], Iterator[Tensor]]]:
    """The files of a clip, and what decodes them."""
    videos = sorted(x for x in folder.glob("*.avi") if not x.name.startswith("."))
    if len(videos) > 1:
        raise ValueError(f"{folder} holds {len(videos)} videos: expected one")
    if videos:
        return videos, partial(video_frames, videos[0])
    files = image_files(folder / "jpeg" if (folder / "jpeg").is_dir() else folder)
    return files, partial(image_frames, files)
