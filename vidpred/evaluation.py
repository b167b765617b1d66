"""Evaluation of models on a test set: their scores, what they cost, and clips to look at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, TypeAlias

import torch
from torch import Tensor
from torchmetrics import Metric
from tqdm.auto import tqdm

from vidpred import processes
from vidpred.cost import Cost, Forecaster, forecast, measure, placed
from vidpred.data import VideoData
from vidpred.metrics import Column, psnr

Protocols: TypeAlias = Mapping[str, Mapping[str, Column]]


@dataclass(frozen=True)
class Shown:
    """A test clip to look at.

    Attributes:
        place: ``"best"``, ``"median"`` or ``"worst"`` by the PSNR of the first model with scores.
        index: In the test set, from 0.
        psnr: That model's, its mean over the predicted frames.
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
        broken: Models without scores, and what is wrong with each.
        shown: Clips to look at.
        clips: How many were scored.
        context: Known frames of each.
        horizon: Predicted frames of each.
        protocols: The columns that were asked for.
    """

    results: Mapping[str, Result]
    broken: Mapping[str, str]
    shown: list[Shown]
    clips: int
    context: int
    horizon: int
    protocols: Protocols

    def scores(self, protocol: str, column: str) -> dict[str, Tensor]:
        """A column of scores by model; those that are broken come last and have NaN."""
        found = {name: x.scores[protocol][column] for name, x in self.results.items()}
        like = next(iter(found.values()))
        return found | {name: torch.full_like(like, torch.nan) for name in self.broken}


@torch.no_grad()
def evaluate(
    models: Iterable[tuple[str, Forecaster]],
    data: VideoData,
    context: int,
    horizon: int,
    protocols: Protocols,
    device: torch.device | str = "cpu",
) -> Evaluation:
    """Score models on the first ``context + horizon`` frames of every clip of a test set.

    All models are tried on one clip, then they come one after another, each in a pass of its own
    over the data: one model, one batch and the sums of the metrics are on the device. A model whose
    predictions are not finite has no scores; those of the others stand. The clip that the first
    model predicts best, the one that it predicts worst and the one in the middle are kept with
    everyone's forecasts.

    Where ``torch.distributed`` connects several processes, all of which call this, each takes its
    share of the clips, and all return what was found on all of them.

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
        FloatingPointError: No model predicts finite values.

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
    named = _named(models)
    device = torch.device(device)
    processes.first(data.prepare_data)
    data.setup("test")
    batches = data.test_dataloader()
    # In one order, in which processes exchange their sums.
    columns = (column.metric for table in protocols.values() for column in table.values())
    metrics = {make: make(horizon) for make in dict.fromkeys(columns)}
    known = _clip(data, batches.dataset[0], context + horizon, device)[:, :context]
    # By one process, undisturbed by the others.
    costs = processes.first(lambda: {name: measure(name, x, known, horizon) for name, x in named})
    results: dict[str, Result] = {}
    broken: dict[str, str] = {}
    shown: list[Shown] = []
    total = 0
    for name, model in named:
        bar = tqdm(batches, name, unit=" batches", disable=processes.rank() > 0)
        with placed(model, device), bar:
            for metric in metrics.values():
                metric.to(device).reset()
            clips = (_clip(data, batch, context + horizon, device) for batch in bar)
            share = _rate(model, clips, context, metrics.values())
            ratings = _interleaved(processes.everyones(share))
            if any(map(math.isnan, ratings)):
                broken[name] = "predicts values that are not finite"
                continue
            scores = _scores(protocols, metrics)
            if not results:
                total = len(ratings)
                for place, index in _chosen(ratings).items():
                    frames = _clip(data, batches.dataset[index], context + horizon, device)
                    shown.append(Shown(place, index, ratings[index], frames[0].cpu()))
            inputs = (clip.frames[None, :context].to(device) for clip in shown)
            forecasts = [forecast(model, frames, horizon)[0].cpu() for frames in inputs]
            results[name] = Result(scores, costs[name], forecasts)
    if not results:
        raise FloatingPointError("; ".join(f"{name} {wrong}" for name, wrong in broken.items()))
    return Evaluation(results, broken, shown, total, context, horizon, protocols)


def _named(models: Iterable[tuple[str, Forecaster]]) -> list[tuple[str, Forecaster]]:
    """The models, after checking that their names tell them apart."""
    named = list(models)
    if not named:
        raise ValueError("expected at least one model, got none")
    for name, times in Counter(name for name, _ in named).items():
        if times > 1:
            raise ValueError(f"{times} models are named {name!r}: names tell models apart")
    return named


def _clip(data: VideoData, batch: Any, length: int, device: torch.device) -> Tensor:
    """The first frames of a batch, or of one sample, as floats ``(B, T, C, H, W)``."""
    if not isinstance(batch, Tensor) or batch.dim() not in (4, 5):
        kind = f"shape {tuple(batch.shape)}" if isinstance(batch, Tensor) else type(batch).__name__
        raise ValueError(f"clips are one tensor (B, T, C, H, W), got {kind}")
    clips = batch if batch.dim() == 5 else batch[None]
    if clips.shape[1] < length:
        raise ValueError(
            f"clips of {clips.shape[1]} frames are too short for {length} frames of context and "
            "horizon: take a smaller horizon, or a longer test_length"
        )
    return data.on_after_batch_transfer(clips[:, :length].to(device), 0)


def _rate(
    model: Forecaster, clips: Iterable[Tensor], context: int, metrics: Collection[Metric]
) -> list[float]:
    """Add clips to the metrics; return the PSNR of each, or NaN for all if one is not finite."""
    ratings: list[float] = []
    for frames in clips:
        known, truth = frames[:, :context], frames[:, context:]
        prediction = forecast(model, known, truth.shape[1])
        if not prediction.isfinite().all():
            return [math.nan]
        for metric in metrics:
            metric.update(prediction, truth)
        ratings += psnr(prediction.clamp(0, 1), truth).mean(dim=1).tolist()
    return ratings


def _scores(
    protocols: Protocols, metrics: Mapping[Callable[[int], Metric], Metric]
) -> dict[str, dict[str, Tensor]]:
    # On the CPU, where processes exchange their sums.
    values = {make: metric.cpu().compute() for make, metric in metrics.items()}
    return {
        protocol: {name: column.times * values[column.metric] for name, column in table.items()}
        for protocol, table in protocols.items()
    }


def _interleaved(shares: list[list[float]]) -> list[float]:
    """Put the shares of the processes, every n-th each, in the order of the test set."""
    rows = zip_longest(*shares)
    return [rating for row in rows for rating in row if rating is not None]


def _chosen(ratings: list[float]) -> dict[str, int]:
    """The clips to show, each once."""
    order = sorted(range(len(ratings)), key=lambda clip: -ratings[clip])
    places = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    first = {clip: place for place, clip in reversed(places.items())}
    return {place: clip for place, clip in places.items() if first[clip] == place}
