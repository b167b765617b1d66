"""Pictures of predictions: film strips, animations and curves over the predicted steps."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vidpred import panels
from vidpred.files import output_folder, replacing
from vidpred.strips import Strip, spread, strips
from vidpred.tables import PerStep, with_mean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KNOWN, _PREDICTED = "#7f7f7f", "#e07b00"


def filmstrip(context: Tensor, truth: Tensor, prediction: Tensor | Mapping[str, Tensor]) -> Figure:
    """Draw one sequence as rows of frames: inputs, truth, prediction and absolute error.

    Frames are labelled with their time step from t=1. The error is averaged over channels; its
    colours span zero to the largest error. Of more than 20 frames, 20 spread evenly are shown.

    Args:
        context: Known frames ``(T_in, C, H, W)`` in [0, 1], grey (C=1) or colour (C=3).
        truth: True future frames ``(T_out, C, H, W)``.
        prediction: Predicted frames, same shape as ``truth``; clipped to [0, 1]. Of several models:
            by name, a row and an error for each.

    Returns:
        A figure to save with :func:`save_figure` or to hand to a logger.

    Raises:
        ValueError: If shapes do not fit together or a value is not finite.

    Example:
        >>> import torch
        >>> known, future = torch.rand(4, 1, 16, 16), torch.rand(3, 1, 16, 16)
        >>> figure = filmstrip(known, future, 0.5 * future)
        >>> len(figure.axes)  # the frames, and the scale of the error
        2
    """
    named = prediction if isinstance(prediction, Mapping) else {"prediction": prediction}
    drawn = {name: panels.to_rgb(context, truth, frames) for name, frames in named.items()}
    largest = max(float(error.max()) for *_, error in drawn.values()) or 1.0
    known, true, *_ = next(iter(drawn.values()))
    inputs, outputs = spread(len(known)), spread(len(true))
    rows = [
        Strip("inputs", known[inputs], [f"t={t + 1}" for t in inputs]),
        Strip("truth", true[outputs], [f"t={len(known) + t + 1}" for t in outputs]),
    ]
    for name, (_, _, predicted, error) in drawn.items():
        scale, colours = (0, largest), panels.ERROR_COLOURS
        rows.append(Strip(name, predicted[outputs]))
        rows.append(Strip("error", error[outputs], scale=scale, colours=colours))
    return strips(rows)


def gif(context: Tensor, truth: Tensor, prediction: Tensor, path: str | os.PathLike[str]) -> None:
    """Write one sequence as an animation of truth, prediction and absolute error, side by side.

    During the known frames the prediction panel repeats the input and both frame and caption are
    grey; they turn orange when prediction starts. The file is written whole or not at all.

    Args:
        context: Known frames ``(T_in, C, H, W)`` in [0, 1], grey (C=1) or colour (C=3).
        truth: True future frames ``(T_out, C, H, W)``.
        prediction: Predicted frames, same shape as ``truth``; clipped to [0, 1].
        path: The GIF file.

    Raises:
        ValueError: If shapes do not fit together or a value is not finite.

    Example:
        >>> import tempfile, torch
        >>> known, future = torch.rand(4, 1, 16, 16), torch.rand(3, 1, 16, 16)
        >>> path = os.path.join(tempfile.mkdtemp(), "prediction.gif")
        >>> gif(known, future, 0.5 * future, path)
        >>> from PIL import Image
        >>> Image.open(path).n_frames
        7
    """
    *clips, error = panels.to_rgb(context, truth, prediction)
    known, true, predicted = (np.rint(255 * clip).astype(np.uint8) for clip in clips)
    largest = float(error.max()) or 1.0
    heat = panels.heat(error, largest)
    drawn = {
        "truth": np.concatenate([known, true]),
        "prediction": np.concatenate([known, predicted]),
        f"error, 0 to {largest:.2g}": np.concatenate([np.zeros_like(known), heat]),
    }
    pictures = []
    for t in range(len(known) + len(true)):
        state, colour = ("predicted", _PREDICTED) if t >= len(known) else ("input", _KNOWN)
        frames = {name: frames[t] for name, frames in drawn.items()}
        label = f"t={t + 1}  {state}"
        picture = panels.side_by_side(frames, known.shape[1:3], label, colour, widest=400)
        # Pillow's plain palette drops the colours of small objects. K-means keeps them; it stops
        # when under one pixel in a hundred changes, since the rest costs seconds a picture.
        pixels = picture.width * picture.height
        pictures.append(picture.quantize(256, kmeans=pixels // 100))
    durations = [200] * (len(pictures) - 1) + [1000]  # the pause shows where it starts again
    with replacing(path) as temporary:
        pictures[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations,
            loop=0,
        )


def comparison(truth: Tensor | None, prediction: Tensor | None, caption: str) -> Tensor:
    """Draw one frame of a film that shows truth, prediction and absolute error, side by side.

    The colours of the error span 0 to 0.25 in every frame, so that frames compare. The frame
    around the panels is orange where something is predicted, else grey.

    Args:
        truth: ``(C, H, W)`` in [0, 1], grey (C=1) or colour (C=3), or ``None``: not known.
        prediction: Of the same shape, clipped to [0, 1], or ``None``: there is none. A panel for
            which there is nothing to draw stays empty.
        caption: Written above.

    Returns:
        uint8 ``(3, height, width)``. Small frames are enlarged, those over 1280 pixels wide shrunk.

    Raises:
        ValueError: If shapes do not fit together, a value is not finite, or both are ``None``.

    Example:
        >>> import torch
        >>> comparison(torch.rand(1, 64, 96), torch.rand(1, 64, 96), "5 frames ahead").shape
        torch.Size([3, 194, 632])
    """
    given = prediction if truth is None else truth
    if given is None:
        raise ValueError("expected truth, prediction or both, got neither")
    frames = [given if frame is None else frame for frame in (given, truth, prediction)]
    _, true, predicted, error = panels.to_rgb(*(frame[None] for frame in frames))
    pictures = {
        "truth": None if truth is None else np.rint(255 * true[0]).astype(np.uint8),
        "prediction": None if prediction is None else np.rint(255 * predicted[0]).astype(np.uint8),
        "error, 0 to 0.25": panels.heat(error[0], 0.25),
    }
    if truth is None or prediction is None:
        pictures["error, 0 to 0.25"] = None
    colour = _KNOWN if prediction is None else _PREDICTED
    picture = panels.side_by_side(pictures, error[0].shape, caption, colour, widest=1280)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def plot_curves(models: Mapping[str, PerStep]) -> Figure:
    """Plot metrics over the predicted steps: a panel per metric, a line per model.

    Args:
        models: For every model name its metrics, as :func:`~vidpred.tables.metric_table` takes
            them. Models may differ in metrics and in length.

    Returns:
        A figure to save with :func:`save_figure` or to hand to a logger.

    Raises:
        ValueError: If there are no values or columns of a model differ in length.

    Example:
        >>> figure = plot_curves(
        ...     {"stgru": {"SSIM": [0.95, 0.93]}, "copy last frame": {"SSIM": [0.8, 0.6]}}
        ... )
        >>> [line.get_label() for line in figure.axes[0].lines]
        ['stgru', 'copy last frame']
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    tables = {model: with_mean(per_step)[1] for model, per_step in models.items()}
    metrics = list(dict.fromkeys(name for table in tables.values() for name in table))
    if not metrics:
        raise ValueError("expected the metrics of at least one model, got none")
    columns = min(len(metrics), 3)
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), dpi=128, layout="constrained")
    lines = {}
    for index, metric in enumerate(metrics):
        axes = figure.add_subplot(rows, columns, index + 1)
        for colour, (model, table) in enumerate(tables.items()):
            if metric in table:
                values = table[metric][:-1]
                steps = range(1, len(values) + 1)
                (lines[model],) = axes.plot(steps, values, f"C{colour}o-", ms=3.5, label=model)
        axes.set(title=metric, xlabel="predicted step")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color="#e5e5e5")
        axes.spines[["top", "right"]].set_visible(False)
    if len(lines) > 1:
        entry = 0.6 + 0.09 * max(map(len, lines))  # inches
        legend = figure.legend(
            handles=list(lines.values()),
            loc="outside lower center",
            ncols=min(4, max(1, int(4.2 * columns / entry))),
            frameon=False,
        )
        for name in legend.get_texts():
            name.set_parse_math(False)  # a user's, in which two dollars are no formula
    return figure


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Save a figure, whole or not at all.

    Args:
        figure: A figure of this module or any other of matplotlib's.
        path: The picture; its suffix gives the format.

    Raises:
        ValueError: If matplotlib cannot write that format.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "curves.png")
        >>> save_figure(plot_curves({"stgru": {"SSIM": [0.95, 0.93]}}), path)
        >>> os.path.exists(path)
        True
    """
    with replacing(figure_path(path)) as temporary:
        figure.savefig(temporary, format=temporary.suffix[1:] or "png")


def figure_path(path: str | os.PathLike[str]) -> Path:
    """Where a figure can go once it is drawn: seen before that takes its time.

    Raises:
        ValueError: If matplotlib cannot write that format.
        OSError: If ``path`` is a folder, or its folder a file.

    Example:
        >>> figure_path("runs/curves.png").name
        'curves.png'
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path, known = Path(path), FigureCanvasBase.get_supported_filetypes()
    if path.suffix and path.suffix[1:].lower() not in known:
        raise ValueError(f"no picture {path}: expected a file named .{' .'.join(sorted(known))}")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give the path of a file")
    output_folder(path.parent)
    return path
