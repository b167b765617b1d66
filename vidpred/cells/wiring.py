"""How cells are put together: each wiring is itself a cell, a feature map in and a feature map out.

``Stack``: what rises from one cell enters the next. ``Zigzag``: besides, the memory that leaves the
top cell enters the bottom cell of the next frame. ``Ladder``: each cell also sees the lower layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from vidpred.cells.base import Cell, Flow, State, zeros


class Stack(Cell[Any, tuple[Any, ...]]):
    """Cells on top of each other. Stays: the states of all cells. Rises: what the cells let rise.

    Args:
        cells: From bottom to top.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell
        >>> stack = Stack([ConvGRUCell(3, 8), ConvGRUCell(8, 8)])
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> flow, state = stack(x, stack.init_state(x))
        >>> flow.shape, len(state)
        (torch.Size([2, 8, 16, 16]), 2)
    """

    def __init__(self, cells: Sequence[Cell[Any, Any]]) -> None:
        super().__init__()
        if not cells:
            raise ValueError("a wiring needs at least one cell, got an empty list")
        self.cells = nn.ModuleList(cells)
        self.hidden_channels = cells[-1].hidden_channels

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return tuple(cell.init_state(like) for cell in self.cells)  # type: ignore[operator]

    def forward(self, flow: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        kept = []
        for cell, before in zip(self.cells, state, strict=True):
            flow, after = cell(flow, before)
            kept.append(after)
        return flow, tuple(kept)


class ZigzagFlow(NamedTuple):
    """What rises in a zigzag: the features ``x`` and the memory ``m``, a map or more than one."""

    x: Tensor
    m: Any


class ZigzagState(NamedTuple):
    """What stays in a zigzag: the cells' states, and ``m`` on its way to the bottom cell."""

    cells: tuple[Any, ...]
    m: Any


class PastMemories(NamedTuple):
    """The last memories of a cell, or of a zigzag on their way through its layers, oldest first.

    ``missing``, ``(B, 1, ..., 1)``, tells how many of them do not exist yet: these are zero.
    """

    maps: tuple[Tensor, ...]
    missing: Tensor

    def append(self, new: Tensor) -> PastMemories:
        """The same with a new memory, without the oldest."""
        return PastMemories((*self.maps[1:], new), (self.missing - 1).clamp(min=0))


class Zigzag(Cell[Tensor, ZigzagState]):
    """A stack whose memory ``m`` leaves the top at t and enters the bottom at t+1 (PredRNN).

    Args:
        cells: From bottom to top; all with the same ``hidden_channels``, the channels of ``m``.
    """

    def __init__(self, cells: Sequence[Cell[Any, Any]]) -> None:
        super().__init__()
        self.stack = Stack(cells)
        widths = {cell.hidden_channels for cell in cells}
        if len(widths) > 1:
            raise ValueError(
                f"the cells of a zigzag share one memory: hidden_channels must be equal, got "
                f"{sorted(widths)}"
            )
        (self.hidden_channels,) = widths

    def init_state(self, like: Tensor) -> ZigzagState:
        return ZigzagState(self.stack.init_state(like), zeros(like, self.hidden_channels))

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        top, cells = self.stack(ZigzagFlow(flow, state.m), state.cells)
        return top.x, ZigzagState(cells, top.m)


class GatedFlow(NamedTuple):
    """What rises in a zigzag of past memories: ``x``, the last ``m``, and the output gate ``o``."""

    x: Tensor
    m: PastMemories
    o: Tensor


class PastZigzag(Zigzag):
    """A zigzag that hands on the last memories ``m``: as many as its cells keep of theirs.

    Args:
        cells: From bottom to top, such as keep ``past_c`` in their state; all with the same
            ``hidden_channels``.
    """

    def init_state(self, like: Tensor) -> ZigzagState:
        bottom = self.stack.cells[0].init_state(like)  # type: ignore[operator]
        return ZigzagState(self.stack.init_state(like), bottom.past_c)


class LadderFlow(NamedTuple):
    """What rises in a ladder: ``s``, and the rungs below: ``(S(t,j-1), T(t-1,j))`` of layer j."""

    s: Tensor
    rungs: tuple[tuple[Tensor, Tensor], ...]


class Ladder(Cell[Tensor, tuple[Any, ...]]):
    """A stack in which each cell also sees the spatial and temporal states of the layers below.

    Args:
        cells: From bottom to top.
    """

    def __init__(self, cells: Sequence[Cell[LadderFlow, Any]]) -> None:
        super().__init__()
        self.stack = Stack(cells)
        self.hidden_channels = self.stack.hidden_channels

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return self.stack.init_state(like)

    def forward(self, flow: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        risen, state = self.stack(LadderFlow(flow, ()), state)
        return risen.s, state


# From outside, each wiring is a cell for feature maps.
Stack.wiring = Zigzag.wiring = Ladder.wiring = Stack


class Remat(Cell[Flow, State]):
    """Computes a cell again in the backward pass: of its activations none are kept.

    It is a cell with :attr:`~vidpred.cells.Cell.remat` around one without. Setting that switch on
    the cell itself has the same effect and leaves the names of its weights alone.

    Args:
        cell: Any cell, a wiring included. Its numbers and its parameter gradients do not change.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell
        >>> cell = Remat(ConvGRUCell(3, 8))
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> cell(x, cell.init_state(x))[0].shape
        torch.Size([2, 8, 16, 16])
    """

    remat = True

    def __init__(self, cell: Cell[Flow, State]) -> None:
        super().__init__()
        self.cell = cell
        self.wiring = cell.wiring
        self.hidden_channels = cell.hidden_channels
        self.volume = cell.volume

    def init_state(self, like: Tensor) -> State:
        return self.cell.init_state(like)

    def forward(self, flow: Flow, state: State) -> tuple[Flow, State]:
        return self.cell(flow, state)
