"""The processes that ``torchrun`` starts: each takes its share, and all know what each found."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

T = TypeVar("T")


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if _several() else 0


def count() -> int:
    """How many processes there are."""
    return distributed.get_world_size() if _several() else 1


@contextmanager
def joined() -> Iterator[None]:
    """Connect the processes of ``torchrun`` for the time of the block; without it there is one.

    What they tell each other is small and on the CPU.

    Raises:
        ConnectionError: Another process has gone.
    """
    if not (distributed.is_available() and distributed.is_torchelastic_launched()):
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    distributed.init_process_group("gloo")
    try:
        yield
    except RuntimeError as error:
        if not is_lost(error):
            raise
        raise lost(error, rank(), count(), "start again") from error
    finally:
        distributed.destroy_process_group()


def first(make: Callable[[], T]) -> T:
    """Return what the first process makes, alone: the others wait for it.

    Example:
        >>> first(lambda: 3)
        3
    """
    made = [make() if rank() == 0 else None]
    if _several():
        distributed.broadcast_object_list(made)
    return made[0]  # pyright: ignore[reportReturnType] -- None is of the others, before


def everyones(value: T) -> list[T]:
    """Return the values of all processes, in their order.

    Example:
        >>> everyones(3)
        [3]
    """
    if not _several():
        return [value]
    values: list[T] = [value] * count()
    distributed.all_gather_object(values, value)
    return values


def is_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process cannot be reached."""
    # gloo names itself in what it says, but has no exception of its own.
    return isinstance(error, distributed.DistError) or "gloo" in str(error)


def lost(error: RuntimeError, rank: int, count: int, advice: str) -> ConnectionError:
    """Say in a line that another process has gone, and how to go on."""
    line = re.sub(r"^\[\S+\] ", "", str(error)).splitlines()[0]
    reason = line.partition(". This is typically")[0]
    return ConnectionError(
        f"process {rank} of {count} has lost another, whose own output says why: {advice} "
        f"({reason})"
    )


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized()
