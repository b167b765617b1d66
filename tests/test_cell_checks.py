"""What a cell refuses to be called with, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import torch
from torch import Tensor

from vidpred.cells import Cell, ConvGRUCell, GHUCell, LadderFlow, RPMCell, Stack, STLSTMCell, Zigzag

if TYPE_CHECKING:
    from somewhere import Something  # pyright: ignore[reportMissingImports]

X = torch.rand(2, 4, 6, 5)


class Pair(NamedTuple):
    a: Tensor
    b: Tensor


class Unit(Cell[Any, Any]):
    """One of a user's own, from which its input rises."""

    hidden_channels = 4

    def init_state(self, like: Tensor) -> Any:
        return ()


class Optional(Unit):
    def forward(self, x: Tensor | None, kept: tuple[Tensor, ...]) -> tuple[Any, Any]:
        return x, kept


class Pairs(Unit):
    def forward(self, flow: Pair, state: Any) -> tuple[Pair, Any]:
        return flow, state


class Unknown(Unit):
    def forward(self, flow: Something, state: tuple[()]) -> tuple[Something, tuple[()]]:
        return flow, state


@pytest.mark.parametrize(
    ("cell", "flow", "state", "says"),
    [
        (
            GHUCell(4, 4),
            X,
            GHUCell(4, 4).init_state(X),
            "GHUCell takes ZigzagFlow(x, m) as its flow, got a tensor of shape (2, 4, 6, 5): "
            "cell.wiring([cell]) takes feature maps",
        ),
        (
            Stack([STLSTMCell(4, 4)]),
            X,
            Stack([STLSTMCell(4, 4)]).init_state(X),
            "STLSTMCell takes ZigzagFlow(x, m) as its flow, got a tensor of shape (2, 4, 6, 5): "
            "cell.wiring([cell]) takes feature maps",
        ),
        (
            RPMCell(4, 4),
            LadderFlow(X, ()),
            RPMCell(4, 4).init_state(X),
            "RPMCell takes GatedFlow(x, m, o) or ZigzagFlow(x, m) as its flow, got "
            "LadderFlow(s, rungs): cell.wiring([cell]) takes feature maps",
        ),
        (
            ConvGRUCell(4, 4),
            (X, X),
            ConvGRUCell(4, 4).init_state(X),
            "ConvGRUCell takes a tensor as its flow, got tuple: cell.wiring([cell]) takes feature "
            "maps",
        ),
        (
            Zigzag([STLSTMCell(4, 4)]),
            X,
            None,
            "Zigzag takes ZigzagState(cells, m) as its state, got NoneType: begin with "
            "cell.init_state(x)",
        ),
        (
            Pairs(),
            X,
            (),
            "Pairs takes Pair(a, b) as its flow, got a tensor of shape (2, 4, 6, 5): "
            "cell.wiring([cell]) takes feature maps",
        ),
        (
            Optional(),
            X,
            X,
            "Optional takes tuple as its state, got a tensor of shape (2, 4, 6, 5): begin with "
            "cell.init_state(x)",
        ),
    ],
)
def test_a_cell_says_what_it_takes(cell: Cell, flow: Any, state: Any, says: str) -> None:
    with pytest.raises(TypeError) as error:
        cell(flow, state)
    assert str(error.value) == says


def test_what_annotations_do_not_tell_is_not_refused() -> None:
    anything = object()
    assert Optional()(anything, ()) == (anything, ())
    assert Pairs()(Pair(X, X), anything)[1] is anything
    assert Unknown()(anything, anything) == (anything, anything)
