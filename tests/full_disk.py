"""A disk that is full: no file of the process may grow beyond a limit."""

from __future__ import annotations

import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from processes import FORKED


def error_on_a_full_disk(
    limit: int, function: Callable[..., Any], *arguments: Any
) -> BaseException | None:
    """What a function raises, in a process of its own: the limit holds for a whole process."""
    sizes = limit, limit
    with ProcessPoolExecutor(
        1,
        FORKED,
        initializer=resource.setrlimit,
        initargs=(resource.RLIMIT_FSIZE, sizes),
    ) as pool:
        return pool.submit(function, *arguments).exception()
