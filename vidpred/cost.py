"""What a model makes of known frames, and what that takes: time, memory, weights."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

Forecaster: TypeAlias = Callable[[Tensor, int], Tensor]


class Cost(NamedTuple):
    """What it takes to forecast one clip.

    Attributes:
        seconds: Median of three forecasts, after one that warms up.
        memory: Most gigabytes in use while forecasting, beyond those in use before, which the
            weights are among; ``None`` where the system does not tell.
        weights: How many a model has.
    """

    seconds: float
    memory: float | None
    weights: int


@contextmanager
def placed(model: Forecaster, device: torch.device) -> Iterator[None]:
    """Put a model on a device, ready to predict, and back where it was to make room."""
    if not isinstance(model, nn.Module):
        yield
        return
    home = next((x.device for x in model.parameters()), device)
    model.eval().to(device)
    try:
        yield
    finally:
        model.to(home)


def forecast(model: Forecaster, known: Tensor, horizon: int) -> Tensor:
    """Forecast in the dtype of a model's weights."""
    weights = next(model.parameters(), known) if isinstance(model, nn.Module) else known
    prediction = model(known.to(weights.dtype), horizon).to(known.dtype)
    expected = (len(known), horizon, *known.shape[2:])
    if prediction.shape != expected:
        raise ValueError(f"a model forecast {tuple(prediction.shape)} instead of {expected}")
    return prediction


def measure(name: str, model: Forecaster, known: Tensor, horizon: int) -> Cost:
    """Try a model on a clip."""
    place = known.device

    def seconds() -> float:
        start = time.perf_counter()
        forecast(model, known, horizon)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return time.perf_counter() - start

    with placed(model, place):
        try:
            seconds()  # warms up
        except ValueError as error:
            raise ValueError(f"{name} does not predict these clips: {error}") from error
        before = _memory(place, reset=True)
        median = statistics.median(seconds() for _ in range(3))
        after = _memory(place)
    memory = None if before is None or after is None else max(0, after - before) / 1e9
    weights = sum(x.numel() for x in model.parameters()) if isinstance(model, nn.Module) else 0
    return Cost(median, memory, weights)


def _memory(device: torch.device, reset: bool = False) -> int | None:
    """The most bytes in use since the last reset, or with ``reset`` those in use now."""
    if device.type == "cuda":
        if reset:
            torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.max_memory_allocated(device)
    process = Path("/proc/self")
    try:
        if reset:
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)  # else a forecast takes what is free but not returned
            (process / "clear_refs").write_text("5")  # the peak falls to what is in use now
        status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    except (OSError, AttributeError):  # no Linux, no glibc, or not allowed
        return None
    return int(status["VmHWM"].split()[0]) * 1024
