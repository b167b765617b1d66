"""MIM, memory in memory (Wang et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, same_channels, zeros
from vidpred.cells.convlstm import ConvLSTMCell, ConvLSTMState
from vidpred.cells.gates import gate, lstm_memory
from vidpred.cells.wiring import Zigzag, ZigzagFlow


class MIMFlow(NamedTuple):
    """What rises in MIM: hidden state ``x``, spatial memory ``m``, non-stationarity ``d``.

    All are ``(B, hidden_channels, H, W)``; ``begun``, ``(B, 1, 1, 1)``, is 0 at the first frame,
    which differs from nothing, and 1 from the second on.
    """

    x: Tensor
    m: Tensor
    d: Tensor
    begun: Tensor


class DifferenceState(NamedTuple):
    """The last ``x``, ``(B, channels, H, W)``, and ``begun``, ``(B, 1, 1, 1)``: 0, then 1."""

    x: Tensor
    begun: Tensor


class Difference(Cell[ZigzagFlow, DifferenceState]):
    r"""What the lowest MIM cell stands on: raises :math:`d = x_t - x_{t-1}` beside ``x`` and ``m``.

    Args:
        channels: Channels of ``x``.
    """

    wiring = Zigzag

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.hidden_channels = channels

    def init_state(self, like: Tensor) -> DifferenceState:
        return DifferenceState(
            zeros(like, self.hidden_channels), like.new_zeros(len(like), 1, 1, 1)
        )

    def forward(self, flow: ZigzagFlow, state: DifferenceState) -> tuple[MIMFlow, DifferenceState]:
        before, begun = state
        x = flow.x.to(before.dtype)
        risen = MIMFlow(x, flow.m, begun * (x - before), begun)
        return risen, DifferenceState(x, torch.ones_like(begun))


class MIMZigzag(Zigzag):
    """A zigzag of MIM cells, with the difference of its input below them.

    Args:
        cells: MIM cells from bottom to top.
    """

    def __init__(self, cells: Sequence[Cell[MIMFlow, Any]]) -> None:
        super().__init__([Difference(cells[0].hidden_channels), *cells])


class MIMState(NamedTuple):
    """Hidden state ``h``, temporal memory ``c``, memory ``s`` of MIM-S, state ``n`` of MIM-N.

    All are ``(B, hidden_channels, H, W)``.
    """

    h: Tensor
    c: Tensor
    s: Tensor
    n: ConvLSTMState


class MIMCell(Cell[MIMFlow, MIMState]):
    r"""ST-LSTM whose temporal forget gate is replaced by two memories of change.

    .. math::
        d', n' &= MIM_N(d, n) \\
        \tilde{c}, s' &= MIM_S(d', c, s) \\
        i &= \sigma(W_x * x + W_h * h) \qquad g = \tanh(W_x * x + W_h * h) \\
        c' &= \tilde{c} + i \odot g \\
        i', f' &= \sigma(W_x * x + W_m * m) \qquad g' = \tanh(W_x * x + W_m * m) \\
        m' &= f' \odot m + i' \odot g' \\
        o &= \sigma(W_x * x + W_h * h + W_m * m) \\
        h' &= o \odot \tanh(W_{1 \times 1} * [c', m'])

    :math:`MIM_N` (non-stationary; ``d'`` is the hidden state in ``n'``) and :math:`MIM_S`
    (stationary; hidden state ``c``, memory ``s``) are ConvLSTMs with peepholes. ``d`` is
    :math:`x_t - x_{t-1}` in the lowest MIM cell, and the ``d'`` of the cell below in the others.
    ``b`` is added in all forget gates; each :math:`W * \cdot` but the 1x1 is followed by the norm.
    Stays: ``h, c, s, n``. Rises: ``h', m', d'``. Wiring: :class:`~vidpred.cells.mim.MIMZigzag`; in
    the published model an ST-LSTM comes below.

    Args:
        in_channels: Channels of the feature map arriving from below; must equal
            ``hidden_channels``.
        hidden_channels: Channels of the states.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"`` and, when given, for peepholes of
            that size; without it they have one weight per channel, for any resolution.

    Shape:
        ``(B, hidden_channels, H, W)`` to the same; any H, W.

    Reference:
        Wang et al., CVPR 2019, arXiv:1811.07490. Differs: the cascade of differences, and that
        there is none at the first frame, are those of the authors' code. Their memory of MIM-S is
        kept on the module, across sequences and without gradient: here it is part of the state.

    Example:
        >>> import torch
        >>> core = MIMZigzag([MIMCell(8, 8), MIMCell(8, 8)])
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> h, state = core(x, core.init_state(x))
        >>> h.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = MIMZigzag

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        forget_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        same_channels("MIMCell", in_channels, hidden_channels)
        self.hidden_channels = hidden_channels
        self.forget_bias = forget_bias
        self.n, self.s = (
            ConvLSTMCell(
                hidden_channels,
                hidden_channels,
                kernel_size,
                peepholes=True,
                forget_bias=forget_bias,
                norm=norm,
                size=size,
            )
            for _ in range(2)
        )
        self.conv_t = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_s = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_x = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_last = nn.Conv2d(2 * hidden_channels, hidden_channels, 1, bias=False)

    def init_state(self, like: Tensor) -> MIMState:
        h, c, s = (zeros(like, self.hidden_channels) for _ in range(3))
        return MIMState(h, c, s, self.n.init_state(like))

    def forward(self, flow: MIMFlow, state: MIMState) -> tuple[MIMFlow, MIMState]:
        (x, m, d, begun), (h, c, s, n) = flow, state
        n = ConvLSTMState(*(begun * new for new in self.n(d, n)[1]))
        h, c, m, s = self.update(x, m, n.h, h, c, s)
        return MIMFlow(h, m, n.h, begun), MIMState(h, c, s, n)

    def update(
        self, x: Tensor, m: Tensor, d: Tensor, h: Tensor, c: Tensor, s: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The equations below those of MIM-N: ``(h', c', m', s')``; ``d`` is its output."""
        i_x, g_x, f_x, o_x = self.conv_x(x).chunk(4, dim=1)
        i_h, g_h, o_h = self.conv_t(h).chunk(3, dim=1)
        i_m, g_m, f_m, o_m = self.conv_s(m).chunk(4, dim=1)
        c, s = self.s(d, ConvLSTMState(c, s))[1]
        c = (c + gate(i_x + i_h, "input gate of c") * torch.tanh(g_x + g_h)).to(c.dtype)
        m = lstm_memory(m, i_x + i_m, f_x + f_m, g_x + g_m, self.forget_bias, "m")
        o = gate(o_x + o_h + o_m, "output gate")
        h = (o * torch.tanh(self.conv_last(torch.cat([c, m], dim=1)))).to(c.dtype)
        return h, c, m, s
