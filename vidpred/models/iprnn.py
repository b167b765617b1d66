"""What IPRNN adds to a stack of STGRUs: both final states are decoded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vidpred.cells import Cell, Stack, STGRUCell


class MergedStack(Cell[Tensor, tuple[Any, ...]]):
    r"""A stack of STGRUs from which :math:`ST = W_{1 \times 1} * [T_N, S_N]` rises.

    Args:
        cells: From bottom to top.

    Reference:
        Chang et al., IPRNN, ICIP 2021, eq. 1.

    Example:
        >>> import torch
        >>> stack = MergedStack([STGRUCell(8, 8), STGRUCell(8, 8)])
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> stack(x, stack.init_state(x))[0].shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Stack

    def __init__(self, cells: list[STGRUCell]) -> None:
        super().__init__()
        self.stack = Stack(cells)
        self.hidden_channels = self.stack.hidden_channels
        self.merge = nn.Conv2d(2 * self.hidden_channels, self.hidden_channels, 1)

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return self.stack.init_state(like)

    def forward(self, flow: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        s, state = self.stack(flow, state)
        return self.merge(torch.cat([state[-1].t, s], dim=1)).to(s.dtype), state
