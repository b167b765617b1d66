"""Lightning data modules."""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import Dataset

from vidpred.data.digits import DigitSplit, load_digits
from vidpred.data.loader import EvaluationLoader, ResumableLoader
from vidpred.data.moving_mnist import STREAMS, FixedMovingMNIST, MovingMNIST, canvas_size


class VideoData(LightningDataModule):
    """Loaders over three data sets of video clips: the part that all data modules share.

    A subclass sets `train_set`, `val_set` and `test_set` in `setup`, as far as the stage needs
    them; their items are clips `(T, C, H, W)`, uint8 or floats in [0, 1], or pairs of a clip and
    its label. With a `val_set` of `None` a trainer fits without validation. A trainer calls
    `setup`; where nobody has, a loader does. The loaders hand the items on as they are; a trainer
    turns uint8 into floats once a batch is on the model's device. Training batches come in an order
    that resumes exactly, evaluation visits every clip once. Both work with any number of processes
    and any `Trainer(use_distributed_sampler=...)`.

    Args:
        batch_size: Clips in a batch of one process.
        num_workers: Worker processes per loader that fetch batches; 0 fetches them in the
            training process.
        epoch_size: Clips in a training epoch. `None`: as many as the training set has.
        shuffle: Training clips in a random order; `False`: in the order of the set.
        seed: Any integer; sets the random order.

    Attributes:
        settings: How the clips were made, in the terms of `vidpred data prepare`: the data set's
            name as `data`, and its settings. Empty where that is not known. Set by `setup`.

    Raises:
        ValueError: `num_workers` is below 0.
    """

    settings: Mapping[str, Any] = {}
    train_set: Dataset[Any]
    val_set: Dataset[Any] | None
    test_set: Dataset[Any]

    def __init__(
        self,
        batch_size: int = 16,
        num_workers: int = 0,
        epoch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if num_workers < 0:
            raise ValueError(f"num_workers must be 0 or more processes, got {num_workers}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.epoch_size = epoch_size
        self.shuffle = shuffle
        self.seed = seed

    def train_dataloader(self) -> ResumableLoader:
        return ResumableLoader(
            self._made("train_set", "fit"),
            self.batch_size,
            epoch_size=self.epoch_size,
            shuffle=self.shuffle,
            seed=self.seed,
            num_workers=self.num_workers,
            trainer=self.trainer,
        )

    def val_dataloader(self) -> Iterable[Any]:
        val_set = self._made("val_set", "validate")
        return [] if val_set is None else self._evaluation(val_set)

    def test_dataloader(self) -> EvaluationLoader:
        return self._evaluation(self._made("test_set", "test"))

    def predict_dataloader(self) -> EvaluationLoader:
        return self._evaluation(self._made("test_set", "predict"))

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Clips as the model takes them, floats in [0, 1]; labels as they are."""
        if isinstance(batch, list | tuple):
            frames, *labels = batch
            return (self._as_floats(frames), *labels)
        return self._as_floats(batch)

    def _as_floats(self, frames: Any) -> Any:
        if not isinstance(frames, Tensor) or frames.dtype != torch.uint8:
            return frames
        frames = frames.float().mul_(1 / 255)
        # Lightning has converted the batch to the precision before it was floats.
        return self.trainer.precision_plugin.convert_input(frames) if self.trainer else frames

    def _made(self, name: str, stage: str) -> Any:
        """One of the data sets; without a trainer nobody may have called for it."""
        if not hasattr(self, name):
            self.prepare_data()
            self.setup(stage)
        return getattr(self, name)

    def _evaluation(self, dataset: Dataset[Any]) -> EvaluationLoader:
        return EvaluationLoader(dataset, self.batch_size, self.num_workers, self.trainer)


class MovingMNISTData(VideoData):
    """Moving MNIST: an endless training stream, validation and test sets that never change.

    No two of the three share a digit or a trajectory. Without `root` the digits are those bundled
    with scikit-learn: real handwriting, but fewer and coarser than MNIST's, so not for comparison
    with published results.

    Args:
        root: Folder with MNIST's idx files, as for `load_digits`. `None`: the bundled digits.
        batch_size: Sequences in a batch of one process.
        num_workers: Worker processes per loader that generate batches; 0 generates them in the
            training process.
        length: Frames in a sequence, context and horizon together.
        digits: Digits in a sequence.
        canvas: Side of the square frames in pixels, or their height and width.
        epoch_size: Training sequences in an epoch. The stream is endless and an epoch goes on
            where the last one ended, so no sequence comes twice.
        val_size: Number of validation sequences.
        test_size: Number of generated test sequences, when `test_sequences` is not given.
        test_sequences: Path to the published test set, `mnist_test_seq.npy`. `None`: generate one
            from the test digits.
        download: Download MNIST to `root` if it is not there.
        seed: Any integer; sets the training sequences. Those for validation and test stay the
            same, so that runs with different seeds compare.

    Raises:
        ValueError: The published test set is asked for with sequences of another shape.

    Example:
        >>> data = MovingMNISTData(batch_size=4, length=12)
        >>> next(iter(data.train_dataloader())).shape
        torch.Size([4, 12, 1, 64, 64])
    """

    def __init__(
        self,
        root: str | Path | None = None,
        batch_size: int = 16,
        num_workers: int = 0,
        length: int = 20,
        digits: int = 2,
        canvas: int | tuple[int, int] = 64,
        epoch_size: int = 10_000,
        val_size: int = 1_000,
        test_size: int = 10_000,
        test_sequences: str | Path | None = None,
        download: bool = False,
        seed: int = 0,
    ) -> None:
        # The stream is random already and has no end to shuffle up to.
        super().__init__(batch_size, num_workers, epoch_size, shuffle=False, seed=seed)
        self.root = root
        self.length = length
        self.digits = digits
        self.canvas = canvas
        self.val_size = val_size
        self.test_size = test_size
        self.test_sequences = test_sequences
        self.download = download
        sizes = {"epoch_size": epoch_size, "val_size": val_size, "test_size": test_size}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1 sequence, got {size}")
        shape = (length, 1, *canvas_size(canvas))
        if test_sequences is not None and shape != FixedMovingMNIST.shape:
            raise ValueError(
                f"{test_sequences} holds 20 frames of 64x64: set length=20 and canvas=64 "
                f"(got {length} and {canvas}), or leave test_sequences out"
            )

    def prepare_data(self) -> None:
        if self.download:
            for split in ("train", "test"):
                load_digits(self.root, split, download=True)

    def setup(self, stage: str | None = None) -> None:
        sequences = self.test_sequences
        self.settings = {
            "data": "moving_mnist",
            "source": self.root and Path(self.root).name,
            "length": self.length,
            "digits": self.digits,
            "canvas": self.canvas,
            "test_clips": self.test_size,
            "test_sequences": sequences and Path(sequences).name,
        }
        if stage in ("fit", None):
            self.train_set = self._generate("train", sys.maxsize, self.seed)
        if stage in ("fit", "validate", None):
            self.val_set = self._generate("val", self.val_size, 0)
        if stage in ("test", "predict", None):
            if self.test_sequences is None:
                self.test_set = self._generate("test", self.test_size, 0)
            else:
                self.test_set = FixedMovingMNIST(self.test_sequences)

    def _generate(self, split: DigitSplit, sequences: int, seed: int) -> MovingMNIST:
        images = load_digits(self.root, split)
        stream = STREAMS[split]
        return MovingMNIST(
            images, self.length, self.digits, self.canvas, sequences, seed=seed, stream=stream
        )
