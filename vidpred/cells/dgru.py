"""Double-mapping GRU and the fold it makes, the unit and the wiring of FRNN (Oliu et al., 2018)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import Cell, FreeRunning, Norm
from vidpred.cells.convgru import ConvGRUCell, ConvGRUState
from vidpred.cells.wiring import Stack


class Falling(NamedTuple):
    """What falls on a cell of a fold: the state above it, ``(B, hidden_channels, H, W)``."""

    h: Tensor


class DGRUState(NamedTuple):
    """The states on either side: ``low`` with ``in_channels``, ``high`` with ``hidden_channels``.

    ``(B, channels, H, W)`` both.
    """

    low: Tensor
    high: Tensor


class FoldState(NamedTuple):
    """The states of the cells from bottom to top, and that of forecasts above the highest."""

    cells: tuple[Any, ...]
    top: Tensor


class Fold(FreeRunning[FoldState]):
    r"""Cells that map both ways: upwards they take a feature map in, downwards they foresee one.

    To observe, what rises from one cell enters the next. To forecast, what falls from one cell is
    the state above the next lower one; from the lowest falls the feature map to decode. Then the
    highest cell takes in its new lower state, which moves the state of forecasts on.

    Args:
        cells: From bottom to top.
        strides: By what the sides of a feature map are divided below each cell: max pooling on the
            way up, repetition on the way down. None for no such steps.

    Shape:
        ``(B, in_channels, H, W)`` to the same; H and W multiples of all strides.

    Raises:
        ValueError: No cells, or strides that are not as many or below 1.

    Reference:
        Oliu et al., ECCV 2018, arXiv:1712.00311, and the authors' code.
    """

    wiring = Stack

    def __init__(
        self, cells: Sequence[Cell[Any, DGRUState]], strides: Sequence[int] | None = None
    ) -> None:
        super().__init__()
        if not cells:
            raise ValueError("a wiring needs at least one cell, got an empty list")
        self.cells = nn.ModuleList(cells)
        self.strides = (1,) * len(cells) if strides is None else tuple(strides)
        if len(self.strides) != len(cells) or min(self.strides) < 1:
            raise ValueError(
                f"strides must be one for each of {len(cells)} cell(s) and at least 1, got "
                f"{self.strides}"
            )
        self.stride = math.prod(self.strides)
        # What leaves a fold, leaves it where it came in.
        self.hidden_channels = cells[0].init_state(torch.empty(1, 1, 1, 1)).low.shape[1]

    def init_state(self, like: Tensor) -> FoldState:
        states = []
        for cell, stride in zip(self.cells, self.strides, strict=True):
            like = torch.empty_like(like[..., ::stride, ::stride])
            states.append(cell.init_state(like))  # type: ignore[operator]
        return FoldState(tuple(states), torch.zeros_like(states[-1].high))

    def observe(self, flow: Tensor, state: FoldState) -> FoldState:
        kept = []
        for cell, before, stride in zip(self.cells, state.cells, self.strides, strict=True):
            if stride > 1:
                flow = F.max_pool2d(flow, stride)
            flow, after = cell(flow, before)
            kept.append(after)
        return FoldState(tuple(kept), flow)

    def forecast(self, state: FoldState) -> tuple[Tensor, FoldState]:
        flow = Falling(state.top)
        kept: list[DGRUState] = []
        layers = zip(self.cells, state.cells, self.strides, strict=True)
        for cell, before, stride in reversed(list(layers)):
            flow, after = cell(flow, before)
            kept.insert(0, after)
            if stride > 1:
                flow = Falling(F.interpolate(flow.h, scale_factor=stride))
        top, _ = self.cells[-1](kept[-1].low, DGRUState(kept[-1].low, state.top))
        return flow.h, FoldState(tuple(kept), top)


class DGRUCell(Cell[Any, DGRUState]):
    r"""Double-mapping GRU: two sets of gates map either of two states to the other.

    .. math::
        \text{upwards: } & low' = x \qquad high' = GRU_{up}(x, high) \\
        \text{downwards: } & low' = GRU_{down}(h, low)

    where :math:`GRU(x, h)` is a :class:`~vidpred.cells.ConvGRUCell`, ``x`` is the feature map from
    below and ``h`` the state above: ``low'`` of the cell above, or of the highest cell ``high``.
    Stays: ``low, high``. Rises: ``high'``; falls: ``low'``. Wiring: :class:`~vidpred.cells.Fold`.

    Args:
        in_channels: Channels of the feature map arriving from below, and of ``low``.
        hidden_channels: Channels of ``high``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``, and :class:`Falling` of the
        latter to that of the former; any H, W.

    Reference:
        Oliu et al., FRNN, ECCV 2018, arXiv:1712.00311. Differs: a norm after each convolution; the
        authors' code learns the state before the first frame, here it is 0. The states between two
        cells are shared until a forecast begins: what it changes are the lower ones, so that
        ``high`` keeps what was observed.

    Example:
        >>> import torch
        >>> cell = DGRUCell(3, 8)
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = cell(x, cell.init_state(x))
        >>> h.shape, cell(Falling(h), state)[0].h.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 3, 16, 16]))
    """

    wiring = Fold

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.up = ConvGRUCell(in_channels, hidden_channels, kernel_size, norm=norm, size=size)
        self.down = ConvGRUCell(hidden_channels, in_channels, kernel_size, norm=norm, size=size)

    def init_state(self, like: Tensor) -> DGRUState:
        return DGRUState(self.down.init_state(like).h, self.up.init_state(like).h)

    def forward(self, flow: Tensor | Falling, state: DGRUState) -> tuple[Any, DGRUState]:
        low, high = state
        if isinstance(flow, Falling):
            low, _ = self.down(flow.h, ConvGRUState(low))
            return Falling(low), DGRUState(low, high)
        high, _ = self.up(flow, ConvGRUState(high))
        return high, DGRUState(flow.to(low.dtype), high)
