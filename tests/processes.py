"""Processes of their own that import nothing anew: forked from one that has, and has no threads."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

from torch.multiprocessing.spawn import start_processes

multiprocessing.set_forkserver_preload(["vidpred.data", "vidpred.tasks"])
FORKED = multiprocessing.get_context("forkserver")


def in_two_processes(function: Callable[..., None], *arguments: Any) -> None:
    """Call a function in two processes that find each other as those of torchrun do."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start_processes(_one, (port, function, arguments), nprocs=2, start_method="forkserver")


def _one(rank: int, port: int, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2}
    place |= {"LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {name: str(value) for name, value in place.items()}
    os.environ["TORCHELASTIC_RUN_ID"] = "tests"  # by which Lightning knows torchrun
    function(*arguments)
