"""A data module for training on video files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from vidpred.data.crop import check_size, crop_and_resize
from vidpred.data.datamodule import VideoData
from vidpred.data.video import SUFFIXES, Video
from vidpred.data.windows import VideoWindows, check_fractions, split_by_time


class VideoFilesData(VideoData):
    """Windows of video files, split by time: of each file the first part trains, the last tests.

    A part between the two validates. No window leaves its part, so none of one set shares a frame
    with one of another. Windows to train on may overlap, those to validate and to test on follow
    one another. Parts shorter than a window have none.

    Every process decodes all files once, when the first set is asked for, and keeps the cut frames
    in memory, as bytes: a minute of 25 frames a second takes 1.2 GB at 512x512. How much it will be
    is said before. Worker processes share them.

    Args:
        files: A video file, a folder of them (those in folders below are left out), or a list.
        batch_size: Windows in a batch of one process.
        num_workers: Worker processes per loader that fetch batches; 0 fetches them in the training
            process.
        length: Frames in a training window, context and horizon together.
        test_length: Frames in a window to validate and test on. `None`: as in training.
        size: Height and width of the frames: each is cut to their ratio, at its centre, and scaled.
            `None`: frames as they are, of one size in all files.
        channels: 3 for RGB, 1 for grey.
        fps: Frames a second to resample to, by leaving out; of slower videos frames come twice.
            `None`: all frames.
        stride: Frames from the start of a training window to that of the next.
        val_fraction: Share of each file's frames to validate on.
        test_fraction: Share of each file's frames to test on, the last ones.
        labels: With each window the index of its file, for :class:`vidpred.tasks.ActionTask`: as
            many classes as files, each with windows of one and the same clip in all three parts.
        epoch_size: Windows in a training epoch. `None`: all of them.
        seed: Any integer; sets the order of the training windows.

    Raises:
        FileNotFoundError: There is no such file or folder.
        ValueError: An argument is out of range. When the files are read: a folder without videos, a
            file that is damaged, of another size than the others or shorter than a window,
            fractions that leave no window.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = Path(tempfile.mkdtemp(), "clip.gif")
        >>> frames = [Image.new("RGB", (32, 24), (8 * t, 0, 0)) for t in range(30)]
        >>> frames[0].save(path, save_all=True, append_images=frames[1:])
        >>> data = VideoFilesData(path, batch_size=2, length=5, size=(16, 16), test_fraction=0.5)
        >>> data.setup("test")
        >>> [batch.shape for batch in data.test_dataloader()]
        [torch.Size([2, 5, 3, 16, 16]), torch.Size([1, 5, 3, 16, 16])]
    """

    def __init__(
        self,
        files: str | Path | Sequence[str | Path],
        batch_size: int = 16,
        num_workers: int = 0,
        length: int = 20,
        test_length: int | None = None,
        size: tuple[int, int] | None = None,
        channels: Literal[1, 3] = 3,
        fps: float | None = None,
        stride: int = 1,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        labels: bool = False,
        epoch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, epoch_size, seed=seed)
        self.files = files
        self.length = length
        self.test_length = length if test_length is None else test_length
        self.size = size
        self.channels: Literal[1, 3] = channels
        self.fps = fps
        self.stride = stride
        self.labels = labels
        self.fractions = {
            "train": 1 - val_fraction - test_fraction,
            "val": val_fraction,
            "test": test_fraction,
        }
        self._parts: dict[str, list[Tensor]] = {}
        check_size(size)
        check_fractions(val_fraction, test_fraction)
        VideoWindows([], length, stride)  # refuses what is out of range before it decodes anything
        VideoWindows([], self.test_length)

    def setup(self, stage: str | None = None) -> None:
        if not self._parts:
            clips = self._decode()
            val, test = self.fractions["val"], self.fractions["test"]
            parts = zip(*(split_by_time(clip, val, test) for clip in clips), strict=True)
            self._parts = dict(zip(self.fractions, map(list, parts), strict=True))
        if stage in ("fit", None):
            self.train_set = self._windows("train", self.length, self.stride)
        if stage in ("fit", "validate", None):
            self.val_set = self._windows("val", self.test_length, self.test_length)
        if stage in ("test", "predict", None):
            self.test_set = self._windows("test", self.test_length, self.test_length)

    def _windows(self, split: str, length: int, stride: int) -> VideoWindows:
        parts = self._parts[split]
        labels = range(len(parts)) if self.labels else None
        windows = VideoWindows(parts, length, stride, labels)
        if not len(windows):
            longest = max(map(len, parts))
            raise ValueError(
                f"the {split} part, {self.fractions[split]:.3g} of each file, leaves no window of "
                f"{length} frames, at most {longest}: change val_fraction and test_fraction, "
                "or take a smaller length or longer files"
            )
        return windows

    def _decode(self) -> list[Tensor]:
        """The frames of all files, uint8 `(T, C, H, W)` each."""
        videos = [Video(path, self.channels, self.fps) for path in find_videos(self.files)]
        for video in videos if self.size is None else []:
            if video.size != videos[0].size:
                (h, w), (other_h, other_w) = videos[0].size, video.size
                raise ValueError(
                    f"{videos[0].path} has frames of {h}x{w}, {video.path} of {other_h}x{other_w}: "
                    "pass size=(height, width)"
                )
        height, width = self.size or videos[0].size
        frames = sum(video.length or 0 for video in videos)
        megabytes = frames * self.channels * height * width / 1e6
        rank_zero_info(
            f"decoding about {frames:,} frames of {height}x{width}: {megabytes:,.0f} MB of memory "
            "in each process"
        )
        clips = []
        for video in videos:
            pixels = bytearray()  # grows in place; a list of frames would have to be copied
            for image, _ in video:
                frame = crop_and_resize(image[None], (height, width))
                pixels += frame.contiguous().numpy().data
            clip = torch.frombuffer(pixels, dtype=torch.uint8)
            clips.append(clip.view(-1, self.channels, height, width))
            if len(clips[-1]) < self.length:
                raise ValueError(
                    f"{video.path} has {len(clips[-1])} frames, fewer than a window of "
                    f"{self.length}: take a smaller length or leave it out"
                )
        return clips


def find_videos(files: str | Path | Sequence[str | Path]) -> list[Path]:
    """The video files that a path, or a list of paths, stands for; those of a folder by name."""
    found = []
    for path in map(Path, [files] if isinstance(files, str | Path) else files):
        if not path.exists():
            raise FileNotFoundError(f"no video file or folder {path}")
        if path.is_file():
            found.append(path)
            continue
        inside = sorted(x for x in path.iterdir() if x.suffix.lower() in SUFFIXES)
        if not inside:
            raise ValueError(f"no video in {path}: expected files named {' '.join(SUFFIXES)}")
        found += inside
    if not found:
        raise ValueError("files is an empty list: name at least one video file or folder")
    return found
