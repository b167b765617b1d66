"""Rematerialisation: what training does not keep and the backward pass computes again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from vidpred.cells import Cell, Remat, Reversible

RematSetting = int | Literal["cells"] | None


def check_remat(remat: Any) -> None:
    """Refuse what is no :attr:`vidpred.models.Predictor.remat`."""
    steps = isinstance(remat, int) and not isinstance(remat, bool) and remat >= 1
    if not (steps or remat in ("cells", None)):
        raise ValueError(
            "remat is a number of time steps, at least 1, that the backward pass computes again at "
            f"once, or 'cells', or None; got {remat!r}"
        )


def units(core: Cell[Any, Any]) -> Iterator[Cell[Any, Any]]:
    """The cells that a core, a wiring of wirings, puts together and that keep activations.

    A wiring has its cells in a list; the cells that a unit is made of are attributes of it.
    """
    lists = (part for part in core.modules() if isinstance(part, nn.ModuleList))
    if isinstance(core, Reversible):
        return
    if not any(isinstance(part, Cell) for parts in lists for part in parts):
        if not isinstance(core, Remat):
            yield core
        return
    for child in core.children():
        for part in child if isinstance(child, nn.ModuleList) else [child]:
            if isinstance(part, Cell):
                yield from units(part)
