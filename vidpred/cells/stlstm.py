"""ST-LSTM, the unit of PredRNN (Wang et al., 2017)."""

from __future__ import annotations

from typing import Generic, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Flow, Norm, zeros
from vidpred.cells.gates import gate, lstm_increment
from vidpred.cells.wiring import Zigzag, ZigzagFlow


class STLSTMState(NamedTuple):
    """Hidden state ``h`` and temporal memory ``c``, both ``(B, hidden_channels, H, W)``."""

    h: Tensor
    c: Tensor


class SpatiotemporalLSTM(Cell[Flow, STLSTMState], Generic[Flow]):
    """What ST-LSTM and the units made of it share: the weights, the state and the two memories.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.
    """

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
        self.hidden_channels = hidden_channels
        self.forget_bias = forget_bias
        self.conv_x = ConvNorm(in_channels, 7 * hidden_channels, kernel_size, norm, size)
        self.conv_h = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_m = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_o = ConvNorm(2 * hidden_channels, hidden_channels, kernel_size, norm, size)
        self.conv_last = nn.Conv2d(2 * hidden_channels, hidden_channels, 1, bias=False)

    def init_state(self, like: Tensor) -> STLSTMState:
        return STLSTMState(zeros(like, self.hidden_channels), zeros(like, self.hidden_channels))

    def update(
        self, x: Tensor, m: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The equations.

        Returns:
            ``o`` before its sigmoid, the ``tanh`` that it lets out, ``c'``, ``m'``, and what was
            added to ``c`` and to ``m``.
        """
        n = self.hidden_channels
        x_c, x_m, x_o = self.conv_x(x).split([3 * n, 3 * n, n], dim=1)
        h_c, h_o = self.conv_h(h).split([3 * n, n], dim=1)
        i, f, g = (x_c + h_c).chunk(3, dim=1)
        delta_c = lstm_increment(i, g, "c")
        c = (gate(f + self.forget_bias, "forget gate of c") * c + delta_c).to(c.dtype)
        i, f, g = (x_m + self.conv_m(m)).chunk(3, dim=1)
        delta_m = lstm_increment(i, g, "m")
        m = (gate(f + self.forget_bias, "forget gate of m") * m + delta_m).to(m.dtype)
        memories = torch.cat([c, m], dim=1)
        o = x_o + h_o + self.conv_o(memories)
        return o, torch.tanh(self.conv_last(memories)), c, m, (delta_c, delta_m)


class STLSTMCell(SpatiotemporalLSTM[ZigzagFlow]):
    r"""Spatiotemporal long short-term memory.

    .. math::
        i, f &= \sigma(W_x * x + W_h * h) \qquad g = \tanh(W_x * x + W_h * h) \\
        c' &= f \odot c + i \odot g \\
        i', f' &= \sigma(W'_x * x + W_m * m) \qquad g' = \tanh(W'_x * x + W_m * m) \\
        m' &= f' \odot m + i' \odot g' \\
        o &= \sigma(W_{xo} * x + W_{ho} * h + W_{co} * [c', m']) \\
        h' &= o \odot \tanh(W_{1 \times 1} * [c', m'])

    ``b`` is added in both forget gates; each :math:`W * \cdot` but the 1x1 is followed by the norm.
    Stays: ``h, c``. Rises: ``h', m'``. Wiring: :class:`~vidpred.cells.Zigzag`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, H, W)`` and ``m`` of ``(B, hidden_channels, H, W)`` to
        ``h'`` and ``m'`` of ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Wang et al., NeurIPS 2017. Differs: one convolution sees both memories in the output gate
        and the forget bias is 1, as in the authors' code.

    Example:
        >>> import torch
        >>> cell = STLSTMCell(3, 8)
        >>> x, m = torch.zeros(2, 3, 16, 16), torch.zeros(2, 8, 16, 16)
        >>> flow, state = cell(ZigzagFlow(x, m), cell.init_state(x))
        >>> flow.x.shape, flow.m.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = Zigzag

    def forward(self, flow: ZigzagFlow, state: STLSTMState) -> tuple[ZigzagFlow, STLSTMState]:
        (x, m), (h, c) = flow, state
        o, new, c, m, _ = self.update(x, m, h, c)
        h = (gate(o, "output gate") * new).to(c.dtype)
        return ZigzagFlow(h, m), STLSTMState(h, c)
