"""Tables of metrics: one row per predicted step, then the mean."""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from torch import Tensor

from vidpred.files import replacing

PerStep: TypeAlias = Mapping[str, "Sequence[float] | Tensor"]


def metric_table(per_step: PerStep, means: Mapping[str, float] | None = None) -> str:
    """Format metrics as a plain-text table: one row per predicted step, then the mean.

    Args:
        per_step: For every column name the values of steps 1..T; all of one length.
        means: Of every column; ``None``: those of the steps.

    Returns:
        The table, without a final line break.

    Raises:
        ValueError: If there are no values or columns differ in length.

    Example:
        >>> print(metric_table({"MSE": [20.5, 31.25], "SSIM": [0.9512, 0.93]}))
        step    MSE    SSIM
           1  20.50  0.9512
           2  31.25  0.9300
        mean  25.88  0.9406
    """
    steps, columns = with_mean(per_step, means)
    return text_table("step", steps, columns)


def text_table(head: str, labels: Sequence[str], columns: Mapping[str, Sequence[float]]) -> str:
    """Format columns of numbers as plain text.

    Args:
        head: What the labels are.
        labels: Of the rows.
        columns: For every name as many values as there are labels.

    Returns:
        The table, without a final line break.

    Example:
        >>> print(text_table("model", ["stau", "copy"], {"PSNR": [21.5, 9.25]}))
        model   PSNR
         stau  21.50
         copy   9.25
    """
    cells = [[head, *labels], *([name, *decimals(column)] for name, column in columns.items())]
    widths = [max(map(len, column)) for column in cells]
    padded = ([cell.rjust(w) for cell in column] for column, w in zip(cells, widths, strict=True))
    return "\n".join("  ".join(line) for line in zip(*padded, strict=True))


def decimals(values: Sequence[float]) -> list[str]:
    """Format a column of numbers with decimals for four digits of its largest, two of its smallest.

    Example:
        >>> decimals([20.5, 131.25])
        ['20.5', '131.2']
        >>> decimals([0.0123, 131.25])
        ['0.012', '131.250']
    """
    sizes = [abs(value) for value in values if value and math.isfinite(value)] or [1]
    largest, smallest = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    places = min(max(3 - largest, 1 - smallest, 0), 9)
    return [f"{value:.{places}f}" for value in values]


def write_csv(
    per_step: PerStep, path: str | os.PathLike[str], means: Mapping[str, float] | None = None
) -> None:
    """Write the rows of :func:`metric_table` as CSV, in full precision; whole or not at all.

    Args:
        per_step: For every column name the values of steps 1..T; all of one length.
        path: The CSV file.
        means: Of every column; ``None``: those of the steps.

    Raises:
        ValueError: If there are no values or columns differ in length.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "metrics.csv")
        >>> write_csv({"MSE": [20.5, 31.25]}, path)
        >>> print(open(path).read().strip())
        step,MSE
        1,20.5
        2,31.25
        mean,25.875
    """
    steps, columns = with_mean(per_step, means)
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["step", *columns])
        writer.writerows(zip(steps, *columns.values(), strict=True))


def with_mean(
    per_step: PerStep, means: Mapping[str, float] | None = None
) -> tuple[list[str], dict[str, list[float]]]:
    """Return row labels, and every column with its mean at the end.

    Args:
        per_step: For every column name the values of steps 1..T; all of one length.
        means: Of every column; ``None``: those of the steps.

    Raises:
        ValueError: If there are no values or columns differ in length.

    Example:
        >>> with_mean({"MSE": [20.5, 31.25]})
        (['1', '2', 'mean'], {'MSE': [20.5, 31.25, 25.875]})
    """
    columns = {name: [float(value) for value in values] for name, values in per_step.items()}
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        raise ValueError(
            f"expected metrics with one value per predicted step each, got lengths {lengths}"
        )
    for name, values in columns.items():
        values.append(sum(values) / len(values) if means is None else means[name])
    steps = range(1, max(lengths.values()) + 1)
    return [*map(str, steps), "mean"], columns
