"""Cells that can be run backwards, and a stack of them that keeps no activations."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils._pytree import tree_flatten, tree_leaves, tree_structure, tree_unflatten

from vidpred.cells.base import Cell
from vidpred.cells.wiring import Stack

Kept = TypeVar("Kept")


class ReversibleFlow(NamedTuple):
    """What rises in reversible cells: features in two halves, and the spatiotemporal memory."""

    x1: Tensor
    x2: Tensor
    m: Tensor


class Invertible(Cell[ReversibleFlow, Kept], Generic[Kept]):
    """A cell whose ``x1`` and ``x2`` can be told from those that it lets rise.

    Attributes:
        kept: What of the flow that enters the inverse does not bring back, or not to the last
            digits: a :class:`Reversible` stack keeps it.
    """

    wiring = Stack
    kept: tuple[str, ...] = ("m",)

    @abc.abstractmethod
    def inverse(self, flow: ReversibleFlow, state: Kept) -> ReversibleFlow:
        """Return the flow as it entered; ``m``, which no gate lets come back, stays as given.

        Args:
            flow: As it rose from the cell.
            state: As the cell returned it.
        """


class Inverse(Invertible[Kept]):
    """An invertible cell the other way round, with the same weights; the state stays as it is.

    Args:
        cell: What to invert.
    """

    def __init__(self, cell: Invertible[Kept]) -> None:
        super().__init__()
        self.cell = cell
        self.hidden_channels = cell.hidden_channels

    def init_state(self, like: Tensor) -> Kept:
        return self.cell.init_state(like)

    def forward(self, flow: ReversibleFlow, state: Kept) -> tuple[ReversibleFlow, Kept]:
        return self.cell.inverse(flow, state), state

    def inverse(self, flow: ReversibleFlow, state: Kept) -> ReversibleFlow:
        return self.cell(flow, state)[0]


def _climb(both_ways: Any, flow: Any, states: Any) -> tuple[Any, list[Any], list[Any]]:
    """Run the cells; return what rises, the states that are left, and what each keeps."""
    left, kept = [], []
    for (cell, _), state in zip(both_ways, states, strict=True):
        kept.append({name: getattr(flow, name) for name in cell.kept})
        flow, state = cell(flow, state)
        left.append(state)
    return flow, left, kept


class _Retraced(torch.autograd.Function):
    # The weights are arguments: autograd must know of them, and functional_call may have lent the
    # cells others for the time of the forward pass.

    @staticmethod
    def forward(ctx: Any, both_ways: Any, layout: Any, *tensors: Tensor) -> tuple[Tensor, ...]:
        flow, states, weights = tree_unflatten(tensors, layout)
        flow, left, kept = _climb(both_ways, flow, states)
        saved, ctx.layout = tree_flatten((flow, left, kept, states, weights))
        ctx.save_for_backward(*saved)
        ctx.both_ways = both_ways
        device = flow.x1.device.type
        ctx.autocast = device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device)
        return tuple(tree_leaves((flow, left)))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            raise RuntimeError("Reversible has no second derivatives; a Stack of its cells has")
        flow, left, kept, states, weights = tree_unflatten(ctx.saved_tensors, ctx.layout)
        to_flow, to_left = tree_unflatten(gradients, tree_structure((flow, left)))
        to_states, to_weights = [], []
        for i in reversed(range(len(states))):
            cell, inverse = ctx.both_ways[i]
            with torch.autocast(*ctx.autocast):
                named = {f"cell.{name}": weight for name, weight in weights[i].items()}
                flow, _ = functional_call(inverse, named, (flow, left[i]))
                flow = flow._replace(**kept[i])
                tensors, layout = tree_flatten((weights[i], flow, states[i]))
                tensors = [tensor.detach().requires_grad_() for tensor in tensors]
                with torch.enable_grad():
                    named, *entered = tree_unflatten(tensors, layout)
                    outputs = tree_leaves(functional_call(cell, named, tuple(entered)))
            found = torch.autograd.grad(
                outputs, tensors, tree_leaves((to_flow, to_left[i])), materialize_grads=True
            )
            to_weight, to_flow, to_state = tree_unflatten(found, layout)
            to_weights.insert(0, to_weight)
            to_states.insert(0, to_state)
        return None, None, *tree_leaves((to_flow, to_states, to_weights))


class Reversible(Stack):
    """A stack that recomputes in the backward pass what entered a cell from what rose from it.

    No activations are kept: only ``x1`` and ``x2`` at the top, what the recurrence keeps in any
    case, the states and ``m``, and where the inverse of a cell would lose digits of ``x2``
    (:attr:`Invertible.kept`), that. Numbers and gradients are those of a
    :class:`~vidpred.cells.Stack`, up to rounding.

    Args:
        cells: From bottom to top. An :class:`Inverse` brings no weights of its own: the cell that
            it inverts must be among the others.

    Example:
        >>> import torch
        >>> from vidpred.cells import ReversiblePMCell
        >>> cells = [ReversiblePMCell(8, 8), ReversiblePMCell(8, 8)]
        >>> core = ReversiblePMCell.wiring([Reversible(cells)])
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> core(x, core.init_state(x))[0].shape
        torch.Size([2, 24, 16, 16])
    """

    def __init__(self, cells: Sequence[Invertible[Any]]) -> None:
        super().__init__([cell for cell in cells if not isinstance(cell, Inverse)])
        if any(isinstance(cell, Inverse) and cell.cell not in self.cells for cell in cells):
            raise ValueError("the cell that an Inverse inverts must be in the same stack")
        self.volume = cells[0].volume
        # In a tuple, torch does not count the weights of these modules a second time.
        self.both_ways = tuple((cell, Inverse(cell)) for cell in cells)

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return tuple(cell.init_state(like) for cell, _ in self.both_ways)

    def forward(self, flow: Any, state: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        if torch.compiler.is_compiling():  # a compiler decides by itself what to keep
            flow, left, _ = _climb(self.both_ways, flow, state)
            return flow, tuple(left)
        weights = [dict(cell.named_parameters()) for cell, _ in self.both_ways]
        tensors, layout = tree_flatten((flow, list(state), weights))
        risen = _Retraced.apply(self.both_ways, layout, *tensors)
        flow, state = tree_unflatten(risen, tree_structure((flow, state)))
        return flow, state

    def inverse(self, flow: ReversibleFlow, state: tuple[Any, ...]) -> ReversibleFlow:
        """As :meth:`Invertible.inverse`, of all cells from top to bottom."""
        for (cell, _), left in zip(reversed(self.both_ways), reversed(state), strict=True):
            flow = cell.inverse(flow, left)
        return flow
