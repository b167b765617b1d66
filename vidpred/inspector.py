"""``vidpred inspect``: gates, attention weights and states of a model over time, in pictures."""

from __future__ import annotations

import csv
import math
import os
import textwrap
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.nn import functional as F

from vidpred.cells import record
from vidpred.files import output_folder, replacing
from vidpred.models import Predictor
from vidpred.streaming import check_lengths, find_device, load
from vidpred.strips import Strip, spread, strips
from vidpred.visual import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LARGEST = 256  # pixels of a side; of what is larger, means are drawn


def inspect(
    ckpt: str,
    input: str,
    output: str,
    context: int = 10,
    horizon: int = 10,
    layer: str | None = None,
    device: str | None = None,
) -> None:
    """Draw what happens within a model while it predicts a video.

    Args:
        ckpt: Checkpoint of a run, or a model folder.
        input: Video file of any format that FFmpeg reads, of any size; turned to grey or to colour
            as the model needs.
        output: Folder for the pictures.
        context: How many frames the model sees, from the first of the video.
        horizon: How many frames it predicts after them.
        layer: The only one to draw, such as core.cells.0; by default all, and an overview.
        device: Such as cpu or cuda; by default cuda where there is such a device.

    Raises:
        FileNotFoundError: No such checkpoint or video.
        ValueError: One of them is damaged, the video is shorter than the context, there is no such
            layer, or an argument is out of range.
    """
    check_lengths(context, horizon)
    place = find_device(device)
    output_folder(output)
    predictor, video = load(ckpt, input, place)
    images = [image for image, _ in islice(video, context)]
    if len(images) < context:
        few = f"{len(images)} frame(s), fewer than the context of {context}: take a smaller one"
        raise ValueError(f"{input} has {few}")
    dtype = next(predictor.parameters()).dtype
    seen = observe(predictor, torch.stack(images).to(place, dtype) / 255, horizon)
    layers = dict.fromkeys(series.layer for series in seen.series)
    if layer is not None:
        if layer not in layers:
            raise ValueError(f"there is no layer {layer}; expected one of {', '.join(layers)}")
        seen = seen._replace(series=[series for series in seen.series if series.layer == layer])
    for path in draw(seen, output):
        print(path)


def main(args: Sequence[str]) -> None:
    """Run ``vidpred inspect``.

    Args:
        args: The arguments after ``inspect``.
    """
    auto_cli(
        inspect, args=list(args), prog="vidpred inspect", as_positional=False, exit_on_error=False
    )


class Series(NamedTuple):
    """A gate, attention weights or a state of a layer at every step of a clip.

    ``values`` are maps ``(T, H, W)``, means over channels and depth; of attention ``(T, n)``, the
    mean weight of each of the ``n`` past states or lower layers. NaN where the layer did not run.
    """

    layer: str
    kind: str
    name: str
    values: np.ndarray


class Observation(NamedTuple):
    """What happened within a predictor: the series, and ``(T, H, W, 3)``, the frames that entered.

    Of these, the first ``known`` are true and the others its predictions.
    """

    series: list[Series]
    frames: np.ndarray
    known: int


def observe(predictor: Predictor, context: Tensor, horizon: int) -> Observation:
    """Let a predictor forecast a clip, and look inside at every step.

    Kept are means over channels: the full maps are there for one step at a time.

    Args:
        predictor: Any predictor.
        context: The known frames ``(T, C, H, W)`` in [0, 1].
        horizon: How many frames to predict, at least 1; so many less one are fed back.

    Raises:
        ValueError: ``context`` does not fit the predictor, or ``horizon`` is below 1.

    Example:
        >>> from vidpred.models import zoo
        >>> predictor = zoo.mau(hidden_channels=8, layers=1)
        >>> seen = observe(predictor, torch.rand(4, 1, 32, 32), horizon=3)
        >>> for layer, kind, name, values in seen.series[2:4]:
        ...     print(layer, kind, name, values.shape)
        core.cells.0 gates spatial update gate (6, 8, 8)
        core.cells.0 attention temporal attention (6, 5)
    """
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1 frame, got {horizon}")
    known, steps = len(context), len(context) + horizon - 1
    found: dict[tuple[str, str, str], dict[int, np.ndarray]] = {}
    frames, prediction, state = [], context[:1], predictor.init_state(context[:1])
    for t in range(steps):
        frame = context[t : t + 1] if t < known else prediction
        frames.append(_small(frame[0].float().clamp(0, 1)).expand(3, -1, -1).permute(1, 2, 0))
        with torch.no_grad(), record(predictor) as layers:
            prediction, state = predictor.step(frame, state, known=t < known)
        for path, layer in layers.items():
            for kind, named in zip(layer._fields, layer, strict=True):
                for name, values in named.items():
                    mean = _weights if kind == "attention" else _map
                    found.setdefault((path, kind, name), {})[t] = mean(values[-1][0].float())
    series = []
    for key, values in found.items():
        missing = np.full_like(next(iter(values.values())), np.nan)
        series.append(Series(*key, np.stack([values.get(t, missing) for t in range(steps)])))
    return Observation(series, torch.stack(frames).cpu().numpy(), known)


def draw(seen: Observation, output: str | os.PathLike[str]) -> list[Path]:
    """Write pictures of what :func:`observe` saw, and a table.

    Of every layer, as far as it has them, ``LAYER-gates.png``, ``LAYER-attention.png`` and
    ``LAYER-states.png``; of all gates together ``overview.png``, their mean openness over time; and
    ``means.csv``, the mean of everything at every step.

    Args:
        seen: Or only some of its series.
        output: The folder. What is in it stays, but for files of these names.

    Returns:
        The files.

    Example:
        >>> import tempfile
        >>> from vidpred.models import zoo
        >>> predictor = zoo.mau(hidden_channels=8, layers=1)
        >>> seen = observe(predictor, torch.rand(4, 1, 32, 32), horizon=3)
        >>> for path in draw(seen, tempfile.mkdtemp()):
        ...     print(path.name)
        core.cells.0-gates.png
        core.cells.0-attention.png
        core.cells.0-states.png
        core-states.png
        overview.png
        means.csv
    """
    output, paths = Path(output), []
    for layer in dict.fromkeys(series.layer for series in seen.series):
        for kind, figure in {"gates": _maps, "attention": _attention, "states": _maps}.items():
            chosen = [s for s in seen.series if (s.layer, s.kind) == (layer, kind)]
            if chosen:
                paths.append(output / f"{layer}-{kind}.png")
                save_figure(figure(chosen, seen), paths[-1])
    gates = [series for series in seen.series if series.kind == "gates"]
    if gates:
        paths.append(output / "overview.png")
        save_figure(_overview(gates, seen.known), paths[-1])
    paths.append(output / "means.csv")
    with replacing(paths[-1]) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["layer", "kind", "name", "t", "distance", "mean"])
        for layer, kind, name, values in seen.series:
            for t, value in enumerate(values, start=1):
                means = value[::-1] if kind == "attention" else [value.mean()]
                for distance, mean in enumerate(means, start=1):
                    writer.writerow(
                        [layer, kind, name, t, distance if kind == "attention" else "", mean]
                    )
    return paths


def _small(picture: Tensor) -> Tensor:
    """A picture ``(C, H, W)``, no larger than what is drawn."""
    largest = max(picture.shape[1:])
    if largest <= _LARGEST:
        return picture
    size = [max(1, side * _LARGEST // largest) for side in picture.shape[1:]]
    return F.interpolate(picture[None], size, mode="area")[0]


def _map(value: Tensor) -> np.ndarray:
    """The mean ``(H, W)`` of a map or volume."""
    return _small(value.flatten(0, -3).mean(dim=0, keepdim=True))[0].cpu().numpy()


def _weights(value: Tensor) -> np.ndarray:
    """The mean ``(n,)`` of attention weights that may differ from place to place."""
    return value.reshape(len(value), -1).mean(dim=1).cpu().numpy()


def _maps(chosen: Sequence[Series], seen: Observation) -> Figure:
    """Rows of maps below the frames that entered; a row's colours mean the same at all steps."""
    steps = spread(len(seen.frames))
    times = [f"t={t + 1}" if t < seen.known else f"t={t + 1} pred." for t in steps]
    rows = [Strip("frame", seen.frames[steps], times)]
    for _, kind, name, values in chosen:
        if kind == "gates":
            low, high, colours = np.nanmin(values), np.nanmax(values), "viridis"
        else:
            high, colours = np.nanmax(np.abs(values)), "RdBu_r"
            low = -high
        rows.append(Strip(name, values[steps], scale=(low, high), colours=colours))
    return strips(rows, f"{chosen[0].layer}: {chosen[0].kind}, mean over channels")


def _attention(chosen: Sequence[Series], seen: Observation) -> Figure:
    """A heat map for each: steps from left to right, the nearest state at the bottom."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    steps = len(seen.frames)
    heights = [1 + 0.25 * series.values.shape[1] for series in chosen]
    size = 1.5 + 0.3 * steps, 0.4 + sum(heights)
    figure = Figure(figsize=size, dpi=128, layout="constrained")
    figure.suptitle(f"{chosen[0].layer}: attention weights", fontsize=12)
    all_axes = figure.subplots(len(chosen), squeeze=False, height_ratios=heights)[:, 0]
    for axes, series in zip(all_axes, chosen, strict=True):
        count = series.values.shape[1]
        image = axes.imshow(
            series.values.T[::-1],
            aspect="auto",
            origin="lower",
            extent=(0.5, steps + 0.5, 0.5, count + 0.5),
            vmin=0,
        )
        axes.axvline(seen.known + 0.5, color="white", ls="--", lw=1)
        axes.set(title=series.name, ylabel="distance")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        figure.colorbar(image, ax=axes)
    all_axes[-1].set_xlabel("t")
    return figure


def _overview(gates: Sequence[Series], known: int) -> Figure:
    """The mean openness of gates: a panel for each layer, a line for each gate."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    layers = list(dict.fromkeys(gate.layer for gate in gates))
    names = list(dict.fromkeys(gate.name for gate in gates))
    columns = min(len(layers), 3)
    rows = math.ceil(len(layers) / columns)
    figure = Figure(figsize=(4.2 * columns, 3 * rows + 0.6), dpi=128, layout="constrained")
    lines = {}
    for index, layer in enumerate(layers):
        axes = figure.add_subplot(rows, columns, index + 1)
        for gate in gates:
            if gate.layer == layer:
                means = gate.values.mean(axis=(1, 2))
                steps, style = range(1, len(means) + 1), f"C{names.index(gate.name)}o-"
                (lines[gate.name],) = axes.plot(steps, means, style, ms=3, label=gate.name)
        axes.axvline(known + 0.5, color="#7f7f7f", ls="--", lw=1)
        axes.set(title=layer, xlabel="t", ylim=(0, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e5e5e5")
        axes.spines[["top", "right"]].set_visible(False)
    title = "mean openness of the gates; right of the line predictions are fed back"
    figure.suptitle(textwrap.fill(title, 40 * columns))
    figure.legend(handles=list(lines.values()), loc="outside lower center", ncols=4, frameon=False)
    return figure
