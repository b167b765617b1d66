"""A data module for training on one file of clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidpred.data.augment import DRAWS, augment
from vidpred.data.clips import ClipsFile
from vidpred.data.datamodule import VideoData
from vidpred.data.loader import batches_done
from vidpred.data.sources.base import Split
from vidpred.data.windows import VideoWindows
from vidpred.random import uniform

_STREAM = 7  # tells these random numbers from others of the same seed


class ClipsData(VideoData):
    """Windows of the clips in a file of ``vidpred data prepare``.

    Windows to train on may overlap, those to validate and to test on follow one another. Clips
    shorter than a window have none. Only the frames of the batches asked for are read, so memory
    does not grow with the file. Where no clips are to validate on, all else trains as ever.

    Reversal, flips and crops change training batches alone, on the device of the model, in a
    trainer. They are the same for all frames of a clip, and a function of the seed and of the
    clip's place in the training: a run that goes on makes the very same.

    Args:
        path: The file.
        batch_size: Windows in a batch of one process.
        num_workers: Worker processes per loader that read batches; 0 reads them in the training
            process.
        length: Frames in a training window, context and horizon together. ``None``: as many as the
            protocol of the file says.
        test_length: Frames in a window to validate and test on. ``None``: as in training.
        stride: Frames from the start of a training window to that of the next.
        labels: Batches are (frames, labels), the labels indices of the file's classes.
        reversal: Play one training clip of two backwards.
        horizontal_flip: Exchange left and right in one of two.
        vertical_flip: Exchange top and bottom in one of two.
        crop: Height and width to cut out of training clips, each at a place of its own. ``None``:
            whole frames, as in validation and test.
        epoch_size: Windows in a training epoch. ``None``: all of them.
        seed: Any integer; sets the order of the training windows and what changes them.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: An argument is out of range. When the file is read: it is damaged or foreign,
            has no window of that length in a split, no labels, or frames smaller than the crop.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from vidpred.data import prepare, sources
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "a.npy", np.zeros((8, 10, 16, 16), np.uint8))
        >>> path = prepare(sources.array(folder / "a.npy", length=5), folder / "a.h5")
        >>> data = ClipsData(path, batch_size=4)
        >>> next(iter(data.train_dataloader())).shape
        torch.Size([4, 5, 1, 16, 16])
    """

    def __init__(
        self,
        path: str | Path,
        batch_size: int = 16,
        num_workers: int = 0,
        length: int | None = None,
        test_length: int | None = None,
        stride: int = 1,
        labels: bool = False,
        reversal: bool = False,
        horizontal_flip: bool = False,
        vertical_flip: bool = False,
        crop: tuple[int, int] | None = None,
        epoch_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, epoch_size, seed=seed)
        self.path = path
        self.length = length
        self.test_length = test_length
        self.stride = stride
        self.labels = labels
        self.changes = {
            "reversal": reversal,
            "horizontal_flip": horizontal_flip,
            "vertical_flip": vertical_flip,
            "crop": crop,
        }
        self.file: ClipsFile | None = None
        if crop is not None and not (isinstance(crop, Sequence) and len(crop) == 2):
            raise ValueError(f"crop is (height, width), got {crop}")
        for frames in (length, test_length):  # refused before a file is opened
            VideoWindows([], 1 if frames is None else frames, stride)

    def setup(self, stage: str | None = None) -> None:
        if self.file is None:
            self.file = ClipsFile(self.path)
            self.settings = {**self.file.settings, "protocol": self.file.protocol}
        length = self.file.length if self.length is None else self.length
        test_length = length if self.test_length is None else self.test_length
        if stage in ("fit", None):
            _, height, width = self.file.shape
            crop = self.changes["crop"] or (height, width)
            if not (1 <= crop[0] <= height and 1 <= crop[1] <= width):
                raise ValueError(
                    f"crop {crop} is not within the frames of {self.path}: expected 1x1 to "
                    f"{height}x{width} pixels"
                )
            self.train_set = self._windows(self.file, "train", length, self.stride)
        if stage in ("fit", "validate", None):
            # The papers' protocols have none: a training can do without, a validation cannot.
            none = stage != "validate" and not self.file.clips("val")
            self.val_set = (
                None if none else self._windows(self.file, "val", test_length, test_length)
            )
        if stage in ("test", "predict", None):
            self.test_set = self._windows(self.file, "test", test_length, test_length)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Clips as the model takes them, floats in [0, 1]; those to train on changed at random."""
        batch = super().on_after_batch_transfer(batch, dataloader_idx)
        trainer = self.trainer
        if trainer is None or not trainer.training or not any(self.changes.values()):
            return batch
        frames, *labels = batch if self.labels else [batch]
        number = batches_done(trainer) * trainer.world_size + trainer.global_rank
        places = number * self.batch_size + torch.arange(len(frames))
        draws = uniform(self.seed, _STREAM, places, shape=(DRAWS,))
        frames = augment(frames, draws, **self.changes)
        return (frames, *labels) if labels else frames

    def _windows(self, file: ClipsFile, split: Split, length: int, stride: int) -> VideoWindows:
        clips = file.clips(split)
        labels = [clip.label for clip in clips] if self.labels else None
        if (lack := lacking(file, split, length)) is not None:
            raise ValueError(lack)
        if labels and min(labels) < 0:
            raise ValueError(f"{file.path} has {split} clips without a label: set labels to false")
        return VideoWindows(clips, length, stride, labels)


def lacking(file: ClipsFile, split: Split, length: int) -> str | None:
    """Why a split has no window of ``length`` frames, and what to do; ``None`` where it has one."""
    longest = max(map(len, file.clips(split)), default=0)
    if longest >= length:
        return None
    share = f"{split}_fraction"
    larger = f"a larger --{share}" if share in file.settings else None
    if not longest:
        return f"{file.path} has no {split} clips: prepare it with {larger or 'a share of them'}"
    # A larger share is of no use where no clip is long enough.
    ways = ["longer clips", larger] if larger and file.frames.max() >= length else ["longer clips"]
    setting = "length" if split == "train" else "test_length"
    return (
        f"{file.path} has {split} clips of up to {longest} frames, too short for a window of "
        f"{length}: take a smaller {setting}, or prepare it with {' or '.join(ways)}"
    )
