"""Loaders that share samples out among processes; the one for training resumes exactly.

Under several processes Lightning rebuilds a `DataLoader` it is given, with a sampler of its own. It
leaves other iterables alone, so these keep their `DataLoader` to themselves.
"""

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader, Dataset, default_collate

from vidpred import processes
from vidpred.random import permutation, uniform


class ResumableLoader:
    """Training batches in an order that an interruption does not change.

    The samples form one endless stream: passes over the data set, each in a random order that is a
    function of (seed, pass). Batch number n of the training is the n-th piece of that stream, cut
    into one part per process. So what a batch holds depends on its number alone, and the number
    comes from the trainer, whose count of batches done a checkpoint restores: nothing is lost or
    repeated, whether training stopped within an epoch, at its end, or with batches in the workers'
    queues. A piece is `batch_size` times the number of processes: resume with the same.

    An epoch is `epoch_size` samples, rounded up to whole batches, and goes on where the last one
    ended, within a pass or across passes. Hence no sample is dropped and none is padded.

    A sample that is a function of its index resumes exactly, too. What a data set draws from the
    generators of a worker differs from epoch to epoch and from process to process, and comes out
    the same after an interruption between two epochs only.

    Args:
        dataset: Map-style data set. If it has `__getitems__(indices)`, that may return the batch
            as one tensor; a list of samples is collated.
        batch_size: Samples in a batch of one process, at least 1.
        epoch_size: Samples in an epoch, over all processes. `None`: as many as the data set has.
        shuffle: Each pass in a random order; `False`: in the order of the indices.
        seed: Any integer; sets the random orders.
        num_workers: Worker processes that fetch batches; 0 fetches them in this one.
        trainer: The trainer that iterates over this loader. It knows the number of processes and
            of batches done. `None`: the processes are those of `torch.distributed`, one where it
            is not in use, and the batches handed out are counted here.

    Raises:
        ValueError: An argument is out of range, or the data set is empty.

    Example:
        >>> loader = ResumableLoader(range(5), batch_size=2, seed=1)
        >>> [batch.tolist() for batch in loader]
        [[4, 0], [1, 2], [3, 2]]
        >>> loader.state_dict()
        {'batches': 3}
        >>> again = ResumableLoader(range(5), batch_size=2, seed=1)
        >>> again.load_state_dict({"batches": 2})
        >>> next(iter(again)).tolist()
        [3, 2]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        epoch_size: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        num_workers: int = 0,
        trainer: Trainer | None = None,
    ) -> None:
        size = _size(dataset)
        if epoch_size is None:
            epoch_size = size
        for name, value in (("batch_size", batch_size), ("epoch_size", epoch_size)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.num_workers = num_workers
        self.trainer = trainer
        self._size = size
        self._rank, self._processes = _place(trainer)
        self._length = -(-epoch_size // (batch_size * self._processes))
        self._handed_out = 0
        self._shuffled = -1, torch.empty(0)  # a pass and its order, kept while it lasts

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Any]:
        done = self._done()
        batches = (self._batch(number) for number in range(done, done + self._length))
        # What a data set of one's own draws in a worker is to differ from epoch to epoch.
        seed = int(uniform(self.seed, done, self._rank) * 2**31)
        pinned = _on_gpu(self.trainer)
        for batch in _fetch(self.dataset, batches, self.num_workers, pinned, seed):
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The number of batches trained on."""
        return {"batches": self._done()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue after that many batches. A trainer restores and uses its own count instead."""
        self._handed_out = state_dict["batches"]

    def _done(self) -> int:
        return self._handed_out if self.trainer is None else batches_done(self.trainer)

    def _batch(self, number: int) -> list[int]:
        """Indices of the samples of one batch of this process."""
        overfit = getattr(self.trainer, "overfit_batches", 0)
        if overfit:  # train on the first few over and over, or on that share of an epoch
            number %= overfit if isinstance(overfit, int) else max(1, int(overfit * self._length))
        first = (number * self._processes + self._rank) * self.batch_size
        places = (divmod(place, self._size) for place in range(first, first + self.batch_size))
        return [int(self._order(pass_)[offset]) for pass_, offset in places]

    def _order(self, pass_: int) -> range | torch.Tensor:
        """Indices of the data set in the order of a pass."""
        if not self.shuffle:
            return range(self._size)
        if self._shuffled[0] != pass_:
            self._shuffled = pass_, permutation(self._size, self.seed, pass_)
        return self._shuffled[1]


class EvaluationLoader:
    """Every sample of a data set once, in order, each process its own share.

    Process r of n takes samples r, r + n, r + 2 n, ... No sample is repeated to make shares equal,
    so sums and means over all processes are exact.

    Args:
        dataset: As for `ResumableLoader`.
        batch_size: Samples in a batch of one process, at least 1; the last may be smaller.
        num_workers: As for `ResumableLoader`.
        trainer: The trainer that iterates over this loader. `None`: the processes are those of
            `torch.distributed`, one where it is not in use.

    Raises:
        ValueError: An argument is out of range, the data set is empty, or a process of the
            trainer's has no share of it.

    Example:
        >>> [batch.tolist() for batch in EvaluationLoader(range(5), batch_size=2)]
        [[0, 1], [2, 3], [4]]
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batch_size: int,
        num_workers: int = 0,
        trainer: Trainer | None = None,
    ) -> None:
        size = _size(dataset)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.dataset = dataset
        self.batch_size = batch_size
        self.num_workers = num_workers
        rank, processes = _place(trainer)
        if trainer is not None and size < processes:  # they would wait for each other
            raise ValueError(
                f"{size} sample(s) cannot be shared among {processes} processes: use fewer devices"
            )
        share = range(rank, size, processes)
        self._pinned = _on_gpu(trainer)
        self._batches = [share[i : i + batch_size] for i in range(0, len(share), batch_size)]

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(_fetch(self.dataset, self._batches, self.num_workers, self._pinned))


def batches_done(trainer: Trainer) -> int:
    """The number of training batches done, in this process, since the very start of the training.

    Of Lightning's counts this one excludes a batch that was fetched but failed in training, and is
    restored from every checkpoint; `load_state_dict` is not called at an epoch's end.
    """
    counts = trainer.fit_loop.epoch_loop.batch_progress.total
    return counts.processed  # pyright: ignore[reportAttributeAccessIssue] -- declared as its base


def _fetch(
    dataset: Dataset[Any],
    batches: Iterable[Sequence[int]],
    num_workers: int,
    pinned: bool,
    seed: int = 0,
) -> DataLoader[Any]:
    return DataLoader(
        dataset,
        batch_sampler=batches,  # pyright: ignore[reportArgumentType] -- any iterable will do
        num_workers=num_workers,
        collate_fn=_collate,
        pin_memory=pinned,
        # Without its own, each epoch draws from the global generator, and a resumed run's would
        # not be where the uninterrupted run's is.
        generator=torch.Generator().manual_seed(seed),
    )


def _collate(batch: Any) -> Any:
    # A data set that made the whole batch at once returns it as a tensor: nothing is left to stack.
    if not isinstance(batch, list):
        return batch
    shapes = {tuple(clip.shape) for clip in batch if isinstance(clip, torch.Tensor)}
    if len(shapes) > 1:
        raise ValueError(
            f"clips of a batch differ in shape: {sorted(shapes)}; cut them to one length and size"
        )
    batch = default_collate(batch)
    return tuple(batch) if isinstance(batch, list) else batch  # pairs stay pairs


def _place(trainer: Trainer | None) -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if trainer is None:
        return processes.rank(), processes.count()
    return trainer.global_rank, trainer.world_size


def _on_gpu(trainer: Trainer | None) -> bool:
    """Whether batches go to a GPU: a machine may have one that this run leaves alone."""
    return trainer is not None and trainer.strategy.root_device.type == "cuda"


def _size(dataset: Dataset[Any]) -> int:
    if not isinstance(dataset, Sized) or len(dataset) == 0:
        raise ValueError(f"{type(dataset).__name__} holds no samples, or does not say how many")
    return len(dataset)
