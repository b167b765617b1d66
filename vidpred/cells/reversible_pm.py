"""Reversible predictive memory, the unit of CrevNet (Yu et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, laid_out_as, same_channels, zeros
from vidpred.cells.gates import blend, gate, lstm_memory
from vidpred.cells.reversible import Invertible, ReversibleFlow
from vidpred.cells.volume import Windowed, cube
from vidpred.cells.wiring import Stack, ZigzagState


class ReversibleZigzag(Cell[Tensor, ZigzagState]):
    """A zigzag for volumes: ``x1`` and ``x2`` are the halves of their channels.

    Args:
        stack: Of reversible predictive memories.
    """

    wiring = Stack

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        self.hidden_channels = stack.hidden_channels

    def init_state(self, like: Tensor) -> ZigzagState:
        return ZigzagState(self.stack.init_state(like), zeros(like, self.hidden_channels // 2))

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        x1, x2 = (laid_out_as(flow, half) for half in flow.chunk(2, dim=1))
        top, cells = self.stack(ReversibleFlow(x1, x2, state.m), state.cells)
        return torch.cat([top.x1, top.x2], dim=1), ZigzagState(cells, top.m)


class ReversiblePMZigzag(Windowed):
    """A zigzag of reversible predictive memories for feature maps.

    Args:
        cells: From bottom to top.
    """

    def __init__(self, cells: Sequence[Cell[ReversibleFlow, Any]]) -> None:
        super().__init__(ReversibleZigzag(Stack(cells)), cells[0].volume)


class ReversiblePMState(NamedTuple):
    """Hidden state ``h`` and memory ``c``, both ``(B, hidden_channels / 2, D, H, W)``."""

    h: Tensor
    c: Tensor


class ReversiblePMCell(Invertible[ReversiblePMState]):
    r"""Reversible predictive memory.

    .. math::
        i, f &= \sigma(W_c * [x_1, h, c]) \qquad g = \tanh(W_c * [x_1, h, c]) \\
        c' &= f \odot c + i \odot g \\
        i', f' &= \sigma(W_m * [x_1, m, c']) \qquad g' = \tanh(W_m * [x_1, m, c']) \\
        m' &= f' \odot m + i' \odot g' \\
        o &= \sigma(W_o * [x_1, h, c', m']) \\
        h' &= o \odot \tanh(W_{1 \times 1} * [c', m']) \\
        a &= \sigma(W_a * h') \\
        x_1' &= (1 - a) \odot x_2 + a \odot h' \qquad x_2' = x_1

    All convolutions are 3D; :math:`W_{c, m, o}` are followed by the norm. Given ``h'``, what
    entered comes back: :math:`x_1 = x_2'` and :math:`x_2 = h' + (x_1' - h') \oslash (1 - a)`.
    Where :math:`a` is near 1 that divides the rounding by :math:`1 - a`, so a
    :class:`~vidpred.cells.Reversible` stack keeps ``x2``. Stays: ``h, c``. Rises:
    ``x_1', x_2', m'``. Wiring: :class:`~vidpred.cells.ReversiblePMZigzag`, of the cells or of a
    :class:`~vidpred.cells.Reversible` stack of them, which keeps no activations.

    Args:
        in_channels: Channels of ``x1`` and ``x2`` together; must equal ``hidden_channels``.
        hidden_channels: As many, an even number; ``h``, ``c`` and ``m`` have half of them.
        kernel_size: Depth, height and width of the kernels, or one number for all three; height
            and width odd.
        depth: How many feature maps make a volume.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x1``, ``x2`` and ``m`` of ``(B, hidden_channels / 2, D, H, W)`` to the same; any D, H, W.

    Reference:
        Yu et al., ICLR 2020, arXiv:1910.11577. Differs: no; as in the authors' code, the forget
        gates have no constant bias.

    Example:
        >>> import torch
        >>> cell = ReversiblePMCell(8, 8)
        >>> flow = ReversibleFlow(*(torch.rand(2, 4, 3, 16, 16) for _ in range(3)))
        >>> risen, state = cell(flow, cell.init_state(flow.x1))
        >>> torch.allclose(cell.inverse(risen, state).x2, flow.x2, atol=1e-6)
        True
    """

    wiring = ReversiblePMZigzag
    kept = "x2", "m"

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | tuple[int, int, int] = 3,
        *,
        depth: int = 3,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        same_channels("ReversiblePMCell", in_channels, hidden_channels)
        if hidden_channels % 2:
            raise ValueError(
                f"hidden_channels must be even, for x1 and x2 are its halves; got {hidden_channels}"
            )
        self.hidden_channels = hidden_channels
        self.volume = in_channels, depth
        n = self.width = hidden_channels // 2
        kernel = cube(kernel_size)
        deep = None if size is None else (depth, *size)
        self.conv_c = ConvNorm(3 * n, 3 * n, kernel, norm, deep)
        self.conv_m = ConvNorm(3 * n, 3 * n, kernel, norm, deep)
        self.conv_o = ConvNorm(4 * n, n, kernel, norm, deep)
        self.conv_last = nn.Conv3d(2 * n, n, 1)
        self.attention = nn.Conv3d(n, n, 1)

    def init_state(self, like: Tensor) -> ReversiblePMState:
        return ReversiblePMState(zeros(like, self.width), zeros(like, self.width))

    def forward(
        self, flow: ReversibleFlow, state: ReversiblePMState
    ) -> tuple[ReversibleFlow, ReversiblePMState]:
        (x1, x2, m), (h, c) = flow, state
        i, f, g = self.conv_c(torch.cat([x1, h, c], dim=1)).chunk(3, dim=1)
        c = lstm_memory(c, i, f, g, forget_bias=0.0, name="c")
        i, f, g = self.conv_m(torch.cat([x1, m, c], dim=1)).chunk(3, dim=1)
        m = lstm_memory(m, i, f, g, forget_bias=0.0, name="m")
        o = gate(self.conv_o(torch.cat([x1, h, c, m], dim=1)), "output gate")
        h = (o * torch.tanh(self.conv_last(torch.cat([c, m], dim=1)))).to(c.dtype)
        x2 = blend(x2, h, self.attention(h), h.dtype, "attention gate")
        return ReversibleFlow(x2, x1, m), ReversiblePMState(h, c)

    def inverse(self, flow: ReversibleFlow, state: ReversiblePMState) -> ReversibleFlow:
        """As :meth:`Invertible.inverse`.

        An open gate lets little of ``x2`` rise: of its 7 digits in float32, attention at 0.999
        leaves about 4.
        """
        (x2, x1, m), h = flow, state.h
        # 1 / (1 - sigmoid(a)) is 1 + exp(a).
        x2 = torch.addcmul(x2, x2 - h, self.attention(h).to(h.dtype).exp())
        return ReversibleFlow(x1, x2, m)
