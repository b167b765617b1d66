"""What STIP puts around its units: a temporal and a spatial domain, below them and above."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vidpred.cells import Cell, Stack, STGRUCell


class DomainStack(Cell[Tensor, tuple[Any, ...]]):
    r"""A stack of STGRUs that both domains enter, and from which both rise.

    The spatial features enter as the lowest unit's ``S``. The temporal ones are merged into its
    ``T``: :math:`T_{t-1} := W_{1 \times 1} * [T_{t-1}, T_E]`.

    Args:
        cells: From bottom to top.

    Shape:
        ``[T_E, S_E]`` of ``(B, 2 * hidden_channels, H, W)`` to ``[T_N, S_N]`` of the same.

    Reference:
        Chang et al., STIP, arXiv:2206.04381, Algorithm 1.

    Example:
        >>> import torch
        >>> stack = DomainStack([STGRUCell(8, 8), STGRUCell(8, 8)])
        >>> x = torch.zeros(2, 16, 16, 16)
        >>> stack(x, stack.init_state(x))[0].shape
        torch.Size([2, 16, 16, 16])
    """

    wiring = Stack

    def __init__(self, cells: list[STGRUCell]) -> None:
        super().__init__()
        self.stack = Stack(cells)
        width = self.stack.hidden_channels
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.hidden_channels = 2 * width

    def init_state(self, like: Tensor) -> tuple[Any, ...]:
        return self.stack.init_state(like)

    def forward(self, flow: Tensor, state: tuple[Any, ...]) -> tuple[Tensor, tuple[Any, ...]]:
        t, s = flow.chunk(2, dim=1)
        bottom, *above = state
        merged = self.merge(torch.cat([bottom.t, t], dim=1)).to(bottom.t.dtype)
        s, state = self.stack(s, (bottom._replace(t=merged), *above))
        return torch.cat([state[-1].t, s], dim=1), state


class SharedCore(Cell[Tensor, Any]):
    r"""Lets any core stand where one for both domains does.

    :math:`W_{1 \times 1} * [T_E, S_E]` enters, and what rises is decoded in both domains.

    Args:
        core: Of units that have one flow and one state, not a temporal and a spatial one.
        width: Channels of a domain's features.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell
        >>> core = SharedCore(Stack([ConvGRUCell(4, 8)]), 4)
        >>> x = torch.zeros(2, 2 * 4, 16, 16)
        >>> core(x, core.init_state(x))[0].shape
        torch.Size([2, 16, 16, 16])
    """

    wiring = Stack

    def __init__(self, core: Cell[Tensor, Any], width: int) -> None:
        super().__init__()
        self.merge = nn.Conv2d(2 * width, width, 1)
        self.core = core
        self.hidden_channels = 2 * core.hidden_channels

    def init_state(self, like: Tensor) -> Any:
        return self.core.init_state(like)

    def forward(self, flow: Tensor, state: Any) -> tuple[Tensor, Any]:
        top, state = self.core(self.merge(flow).to(flow.dtype), state)
        return torch.cat([top, top], dim=1), state
