"""Evaluation of models on a test set: their scores, what they cost, and clips to look at."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from tqdm.auto import tqdm

from vidpred.data import VideoData
from vidpred.metrics import Column, psnr

Forecaster: TypeAlias = Callable[[Tensor, int], Tensor]
Protocols: TypeAlias = Mapping[str, Mapping[str, Column]]


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


@dataclass(frozen=True)
class Shown:
    """A test clip to look at.

    Attributes:
        place: ``"best"``, ``"median"`` or ``"worst"`` by the first model's PSNR.
        index: In the test set, from 0.
        psnr: The first model's, its mean over the predicted frames.
        frames: ``(T, C, H, W)`` in [0, 1], known and future ones.
    """

    place: str
    index: int
    psnr: float
    frames: Tensor


@dataclass(frozen=True)
class Result:
    """What was found of a model.

    Attributes:
        scores: By protocol and column, in the units of the column: ``(T,)``, a value per predicted
            step, or of a metric of whole sequences a scalar.
        cost: Of one clip.
        forecasts: Of the shown clips, ``(T, C, H, W)``, not clipped.
    """

    scores: Mapping[str, Mapping[str, Tensor]]
    cost: Cost
    forecasts: list[Tensor]


@dataclass(frozen=True)
class Evaluation:
    """What was found of all models on one test set.

    Attributes:
        results: By model.
        shown: Clips to look at.
        clips: How many were scored.
        context: Known frames of each.
        horizon: Predicted frames of each.
        protocols: The columns that were asked for.
    """

    results: Mapping[str, Result]
    shown: list[Shown]
    clips: int
    context: int
    horizon: int
    protocols: Protocols


@torch.inference_mode()
def evaluate(
    models: Iterable[tuple[str, Forecaster]],
    data: VideoData,
    context: int,
    horizon: int,
    protocols: Protocols,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Score models on the first ``context + horizon`` frames of every clip of a test set.

    The models come one after another, each in a pass of its own over the data: one model, one batch
    and the sums of the metrics are in memory. The clip that the first model predicts best, the one
    that it predicts worst and the one in the middle are kept with everyone's forecasts.

    Args:
        models: Name and model, or any function from known frames ``(B, T, C, H, W)`` in [0, 1] and
            a number of frames to that many predicted frames.
        data: Whose test set to take, with its batches and workers.
        context: Known frames, at least 1.
        horizon: Predicted frames, at least 1.
        protocols: Such as those of :func:`vidpred.metrics.protocols`.
        device: Where models and metrics run.

    Raises:
        ValueError: Clips are too short, a model does not take such frames, a metric does not take
            such a horizon, there is no model or two have one name.
        FloatingPointError: A model predicts values that are not finite.

    Example:
        >>> from vidpred.data import MovingMNISTData
        >>> from vidpred.metrics import protocols
        >>> from vidpred.tasks.forecast import copy_last_frame
        >>> data = MovingMNISTData(batch_size=4, length=6, test_size=8)
        >>> found = evaluate([("copy", copy_last_frame)], data, 4, 2, protocols())
        >>> found.results["copy"].scores["standard"]["PSNR"].shape
        torch.Size([2])
        >>> [clip.place for clip in found.shown]
        ['best', 'median', 'worst']
    """
    for name, value in {"context": context, "horizon": horizon}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1 frame, got {value}")
    device = torch.device(device)
    data.prepare_data()
    data.setup("test")
    batches = data.test_dataloader()
    columns = {column.metric for table in protocols.values() for column in table.values()}
    metrics = {make: make(horizon).to(device) for make in columns}
    results: dict[str, Result] = {}
    shown: list[Shown] = []
    clips = 0
    for name, model in models:
        if name in results:
            raise ValueError(f"two models are named {name!r}: models are told apart by their names")
        if isinstance(model, nn.Module):
            model.eval().to(device)
        first = _clip(data, batches.dataset[0], context + horizon, device)
        cost = _cost(model, first[:, :context], horizon)
        ratings: list[float] = []
        for metric in metrics.values():
            metric.reset()
        for batch in tqdm(batches, desc=name, unit=" batches"):
            frames = _clip(data, batch, context + horizon, device)
            prediction, truth = _forecast(model, frames[:, :context], horizon), frames[:, context:]
            for metric in metrics.values():
                metric.update(prediction, truth)
            ratings += psnr(prediction.clamp(0, 1), truth).mean(dim=1).tolist()
        scores = _scores(protocols, metrics)
        if not all(x.isfinite().all() for table in scores.values() for x in table.values()):
            raise FloatingPointError(f"{name} predicts values that are not finite")
        if not results:
            clips = len(ratings)
            for place, index in _chosen(ratings).items():
                frames = _clip(data, batches.dataset[index], context + horizon, device)
                shown.append(Shown(place, index, ratings[index], frames[0].cpu()))
        known = (clip.frames[None, :context].to(device) for clip in shown)
        forecasts = [_forecast(model, frames, horizon)[0].cpu() for frames in known]
        results[name] = Result(scores, cost, forecasts)
    if not results:
        raise ValueError("expected at least one model, got none")
    return Evaluation(results, shown, clips, context, horizon, protocols)


def _clip(data: VideoData, batch: Any, length: int, device: torch.device) -> Tensor:
    """The first frames of a batch, or of one sample, as floats ``(B, T, C, H, W)``."""
    if not isinstance(batch, Tensor) or batch.dim() not in (4, 5):
        kind = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(f"clips are one tensor (B, T, C, H, W), got {kind}")
    clips = batch if batch.dim() == 5 else batch[None]
    if clips.shape[1] < length:
        raise ValueError(
            f"clips of {clips.shape[1]} frames are too short: context and horizon are {length}"
        )
    return data.on_after_batch_transfer(clips[:, :length].to(device), 0)


def _forecast(model: Forecaster, known: Tensor, horizon: int) -> Tensor:
    """Forecast in the dtype of a model's weights."""
    weights = next(model.parameters(), known) if isinstance(model, nn.Module) else known
    prediction = model(known.to(weights.dtype), horizon).to(known.dtype)
    expected = (len(known), horizon, *known.shape[2:])
    if prediction.shape != expected:
        raise ValueError(f"a model forecast {tuple(prediction.shape)} instead of {expected}")
    return prediction


def _scores(
    protocols: Protocols, metrics: Mapping[Callable[[int], Metric], Metric]
) -> dict[str, dict[str, Tensor]]:
    values = {make: metric.compute().cpu() for make, metric in metrics.items()}
    return {
        protocol: {name: column.times * values[column.metric] for name, column in table.items()}
        for protocol, table in protocols.items()
    }


def _chosen(ratings: list[float]) -> dict[str, int]:
    """The clips to show, each once."""
    order = sorted(range(len(ratings)), key=lambda clip: -ratings[clip])
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    first = {clip: place for place, clip in reversed(places.items())}
    return {place: clip for place, clip in places.items() if first[clip] == place}


def _cost(model: Forecaster, known: Tensor, horizon: int) -> Cost:
    place = known.device

    def seconds() -> float:
        start = time.perf_counter()
        _forecast(model, known, horizon)
        if place.type == "cuda":
            torch.cuda.synchronize(place)
        return time.perf_counter() - start

    seconds()  # warms up
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
