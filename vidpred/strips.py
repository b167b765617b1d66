"""Rows of pictures under each other, as film strips lie on a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Strip(NamedTuple):
    """A row of pictures.

    Attributes:
        name: What stands in front.
        pictures: ``(T, H, W, 3)`` in [0, 1], or ``(T, H, W)`` of values that have colours.
        captions: What stands above each picture.
        scale: The values of the first and the last colour, for ``(T, H, W)``.
        colours: A colour map of matplotlib's.
    """

    name: str
    pictures: np.ndarray
    captions: Sequence[str] = ()
    scale: tuple[float, float] | None = None
    colours: str = "viridis"


def strips(rows: Sequence[Strip], title: str = "") -> Figure:
    """Draw rows of pictures, with the scale of its colours at the end of each that has one.

    Args:
        rows: From top to bottom; the first picture's sides are those of all.
        title: What stands above all.

    Returns:
        A figure to save with :func:`vidpred.visual.save_figure`.

    Example:
        >>> gates = np.random.rand(3, 16, 16)
        >>> len(strips([Strip("update gate", gates, ["t=1", "t=2", "t=3"], (0, 1))]).axes)
        2
    """
    from matplotlib.figure import Figure

    # One set of axes covers the figure, with inches as its unit.
    columns = max(len(row.pictures) for row in rows)
    width = min(2.0, max(1.0, 10 / columns))
    height = width * rows[0].pictures.shape[1] / rows[0].pictures.shape[2]
    gap, caption, right = 1 / 16, 1 / 4, 3 / 4
    left = 1 / 4 + max(len(row.name) for row in rows) / 11
    above = caption * bool(title) + gap
    figure_width = left + columns * (width + gap) + right
    captions = sum(caption for row in rows if row.captions)
    figure_height = above + len(rows) * (height + gap) + captions
    figure = Figure(figsize=(figure_width, figure_height), dpi=128, facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    plain: Any = {"parse_math": False}  # in a user's name two dollars are no formula
    place = left / figure_width, 1 - gap / figure_height
    figure.text(*place, title, va="top", fontsize=12, **plain)
    y = above
    for row in rows:
        y += caption if row.captions else 0
        place = left - 0.12, y + height / 2
        axes.text(*place, row.name, ha="right", va="center", fontsize=11, **plain)
        low, high = row.scale or (None, None)
        for column, picture in enumerate(row.pictures):
            x = left + column * (width + gap)
            image = axes.imshow(
                picture,
                extent=(x, x + width, y + height, y),
                cmap=row.colours,
                vmin=low,
                vmax=high,
            )
            if row.captions:
                text = row.captions[column]
                place = x + width / 2, y - 0.05
                axes.text(*place, text, ha="center", va="bottom", fontsize=9, **plain)
        y += height + gap
        if row.scale:
            x = left + len(row.pictures) * (width + gap) + gap
            bar = figure.add_axes(
                (
                    x / figure_width,
                    1 - (y - gap) / figure_height,
                    1 / 8 / figure_width,
                    height / figure_height,
                )
            )
            figure.colorbar(image, cax=bar, ticks=row.scale, format="%.2g")
            bar.tick_params(labelsize=9, length=2)
            lowest, *_, highest = bar.get_yticklabels()  # clear of those of the next row
            lowest.set_verticalalignment("bottom")
            highest.set_verticalalignment("top")
    axes.set(xlim=(0, figure_width), ylim=(figure_height, 0))
    return figure


def spread(count: int, limit: int = 20) -> list[int]:
    """Return at most ``limit`` indices below ``count``, evenly spread, first and last included."""
    return np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()
