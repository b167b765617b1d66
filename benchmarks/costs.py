"""What a unit costs: its weights, counted as the papers do, and its multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from vidpred import cells
from vidpred.cells import Cell

CHANNELS, SIDE = 64, 16  # the papers' setting for Moving MNIST


def weights_of(cell: Cell[Any, Any]) -> int:
    """Weights of the convolutions alone, without biases and norms."""
    return sum(weight.numel() for weight in cell.parameters() if weight.dim() >= 4)


def multiply_adds(cell: Cell[Any, Any], channels: int = CHANNELS, side: int = SIDE) -> float:
    """Of the convolutions and matrix products of one unit, for one feature map."""
    wired = cell.wiring([cell])  # type: ignore[call-arg]
    features = torch.zeros(1, channels, side, side)
    state = wired.init_state(features)
    return counted(lambda: wired(features, state))


def counted(run: Callable[[], Any]) -> float:
    """Multiply-adds of the convolutions and matrix products in a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2


class Printed(NamedTuple):
    """A row of a paper's table, and why ours differs."""

    unit: str
    cell: str
    weights: float
    work: float
    reason: str = ""
    options: Mapping[str, Any] = MappingProxyType({})


class Table(NamedTuple):
    """A paper's table: weights in 2^20, the multiply-adds of a step in ``unit``."""

    name: str
    channels: int
    unit: int
    rows: tuple[Printed, ...]


_ATTENTION = "work: the paper adds that of the attention, which is no convolution"
_CAUSAL = "18.4 convolutions of 5x5 in print, 22 in the equations and the authors' code"
_DEPTH = "work: here the weights see a volume of two maps, in the paper's count one"
_PLANAR = "18 convolutions of 5x5 in print; in the authors' code 22 of 3x3x3 with half the channels"
# Chang et al., STAU, arXiv:2204.09456, Table 6, and STIP, arXiv:2206.04381, Table VII. Work
# there is weights times the 16 x 16 places of a feature map.
TABLES = (
    Table(
        "STAU, Table 6: 64 channels, multiply-adds in 2^20",
        64,
        2**20,
        (
            Printed(
                "ConvLSTM", "ConvLSTMCell", 0.98, 250.88, "the paper counts two convolutions unused"
            ),
            Printed("ST-LSTM", "STLSTMCell", 1.57, 401.92),
            Printed("Causal LSTM", "CausalLSTMCell", 1.80, 460.80, _CAUSAL),
            Printed(
                "MIM",
                "MIMCell",
                3.03,
                775.68,
                "3.03 is 31 convolutions of 5x5; the authors' code has 27 in use",
            ),
            Printed("E3D-LSTM", "E3DLSTMCell", 4.70, 1363.20, _DEPTH),
            Printed(
                "MotionGRU",
                "MotionLSTMCell",
                1.16,
                296.96,
                "1.16 is for no host that the paper names; ours is with an ST-LSTM, itself 1.57",
            ),
            Printed("RPM (CrevNet)", "ReversiblePMCell", 1.77, 453.12, _PLANAR),
            Printed("MAU", "MAUCell", 0.78, 265.37, _ATTENTION),
            Printed("STAU", "STAUCell", 0.78, 267.48, _ATTENTION),
        ),
    ),
    Table(
        "STIP, Table VII: 128 channels, multiply-adds in 2^30",
        128,
        2**30,
        (
            Printed("ConvGRU", "ConvGRUCell", 2.34, 0.59),
            Printed(
                "TrajGRU-L9",
                "TrajGRUCell",
                1.68,
                0.42,
                "1.68 it would be with 3x3 where the flows see input and state, not 5x5",
                {"links": 9},
            ),
            Printed(
                "dGRU",
                "DGRUCell",
                4.69,
                1.17,
                "work: the highest layer takes in what it foresaw, a third pass",
            ),
            Printed("Causal LSTM", "CausalLSTMCell", 7.20, 1.80, _CAUSAL),
            Printed("E3D-LSTM", "E3DLSTMCell", 18.80, 4.70, _DEPTH),
            Printed("Reversible PM", "ReversiblePMCell", 7.08, 1.77, _PLANAR),
            Printed(
                "RPM", "RPMCell", 6.72, 1.68, "the paper counts the lowest layer's residual, 0.05"
            ),
            Printed("STGRU", "STGRUCell", 3.14, 0.79, "eight 5x5 convolutions are 3.125"),
        ),
    ),
)


def beside_the_papers(table: Table, units: Sequence[str]) -> list[dict[str, Any]]:
    """What all units cost at the setting of a paper's table, beside what it prints."""
    printed = {row.cell: row for row in table.rows}
    rows = []
    for unit in units:
        row = printed.get(unit)
        cell = getattr(cells, unit)(table.channels, table.channels, **(row.options if row else {}))
        rows.append(
            {
                "unit": unit,
                "weights": round(weights_of(cell) / 2**20, 2),
                "printed weights": row.weights if row else "",
                "work": round(multiply_adds(cell, table.channels) / table.unit, 2),
                "printed work": row.work if row else "",
                "there": row.unit if row else "",
                "where they differ": row.reason if row else "",
            }
        )
    return rows
