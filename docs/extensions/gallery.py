"""Fills the gallery: every exported unit, as its docstring describes it, with what it costs."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from vidpred import cells

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "benchmarks")]
from costs import CHANNELS, SIDE, multiply_adds, weights_of
from rest import to_markdown

MARKER = "<!-- units -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by MkDocs for every page."""
    if MARKER not in markdown:
        return markdown
    return markdown.replace(MARKER, "\n\n".join(map(entry, cells.UNITS)))


def entry(unit: type[cells.Cell]) -> str:
    """One unit: summary, equations with what stays and rises, source, cost."""
    documented = inspect.getdoc(unit) or ""
    description, _, sections = documented.partition("\nArgs:\n")
    source = re.search(r"^Reference:\n((?: {4}.*\n?|\n(?= ))+)", sections, re.MULTILINE)
    if source is None:
        raise ValueError(f"the docstring of {unit.__name__} has no section Reference")
    summary, _, body = description.strip().partition("\n\n")
    cell = unit(CHANNELS, CHANNELS)  # type: ignore[call-arg]
    cost = (
        f"{weights_of(cell) / 2**20:.2f} · 2²⁰ weights, {multiply_adds(cell) / 1e6:.0f} million "
        f"multiply-adds a step ({CHANNELS} channels, maps of {SIDE} x {SIDE})"
    )
    parts = [
        f"## [{unit.__name__}][vidpred.cells.{unit.__name__}]",
        summary,
        body,
        f"*Source.* {inspect.cleandoc(source[1])}",
        f"*Cost.* {cost}",
    ]
    return to_markdown("\n\n".join(parts))
