"""Causal LSTM and gradient highway unit, the two units of PredRNN++ (Wang et al., 2018)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import blend, lstm_memory
from vidpred.cells.wiring import Zigzag, ZigzagFlow


class CausalLSTMState(NamedTuple):
    """Hidden state ``h`` and temporal memory ``c``, both ``(B, hidden_channels, H, W)``."""

    h: Tensor
    c: Tensor


class CausalLSTMCell(Cell[ZigzagFlow, CausalLSTMState]):
    r"""Long short-term memory in which the spatial memory is updated by the new temporal one.

    .. math::
        i, f &= \sigma(W * [x, h, c]) \qquad g = \tanh(W * [x, h, c]) \\
        c' &= f \odot c + i \odot g \\
        i', f' &= \sigma(W' * [x, m, c']) \qquad g' = \tanh(W' * [x, c']) \\
        m' &= f' \odot \tanh(W_m * m) + i' \odot g' \\
        o &= \tanh(W_{xo} * x + W_{ho} * h + W_{co} * c' + W_{mo} * m') \\
        h' &= o \odot \tanh(W_{1 \times 1} * [c', m'])

    ``b`` is added in both forget gates; each :math:`W * \cdot` but the 1x1 is a sum of one
    convolution per input, each followed by the norm. Stays: ``h, c``. Rises: ``h', m'``. Wiring:
    :class:`~vidpred.cells.Zigzag`.

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
        Wang et al., PredRNN++, ICML 2018, arXiv:1804.06300. Differs: the forget bias of 1 is that
        of the authors' code.

    Example:
        >>> import torch
        >>> cell = CausalLSTMCell(3, 8)
        >>> x, m = torch.zeros(2, 3, 16, 16), torch.zeros(2, 8, 16, 16)
        >>> flow, state = cell(ZigzagFlow(x, m), cell.init_state(x))
        >>> flow.x.shape, flow.m.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = Zigzag

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
        self.conv_c = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_m = ConvNorm(hidden_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_c2m = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_om = ConvNorm(hidden_channels, hidden_channels, kernel_size, norm, size)
        self.conv_last = nn.Conv2d(2 * hidden_channels, hidden_channels, 1, bias=False)

    def init_state(self, like: Tensor) -> CausalLSTMState:
        return CausalLSTMState(*(zeros(like, self.hidden_channels) for _ in range(2)))

    def forward(
        self, flow: ZigzagFlow, state: CausalLSTMState
    ) -> tuple[ZigzagFlow, CausalLSTMState]:
        (x, m), (h, c) = flow, state
        n = self.hidden_channels
        x_c, x_m, x_o = self.conv_x(x).split([3 * n, 3 * n, n], dim=1)
        h_c, h_o = self.conv_h(h).split([3 * n, n], dim=1)
        i, f, g = (x_c + h_c + self.conv_c(c)).chunk(3, dim=1)
        c = lstm_memory(c, i, f, g, self.forget_bias, "c")
        x_i, x_f, x_g = x_m.chunk(3, dim=1)
        m_i, m_f, m_m = self.conv_m(m).chunk(3, dim=1)
        c_i, c_g, c_f, c_o = self.conv_c2m(c).chunk(4, dim=1)
        kept = torch.tanh(m_m).to(m.dtype)
        i, f, g = x_i + m_i + c_i, x_f + m_f + c_f, x_g + c_g
        m = lstm_memory(kept, i, f, g, self.forget_bias, "m")
        o = torch.tanh(x_o + h_o + c_o + self.conv_om(m))
        h = (o * torch.tanh(self.conv_last(torch.cat([c, m], dim=1)))).to(c.dtype)
        return ZigzagFlow(h, m), CausalLSTMState(h, c)


class GHUState(NamedTuple):
    """The highway ``z``, ``(B, hidden_channels, H, W)``."""

    z: Tensor


class GHUCell(Cell[ZigzagFlow, GHUState]):
    r"""Gradient highway unit: a short way through time, between two layers of a zigzag.

    .. math::
        p &= \tanh(W_p * [x, z]) \qquad u = \sigma(W_u * [x, z]) \\
        z' &= u \odot p + (1 - u) \odot z

    Each :math:`W * \cdot` is a sum of one convolution per input, each followed by the norm. Stays:
    ``z``. Rises: ``z'``, and the memory ``m`` unchanged. Wiring: :class:`~vidpred.cells.Zigzag`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``z``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, H, W)`` to ``z'`` of ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Wang et al., PredRNN++, ICML 2018, arXiv:1804.06300. Differs: no.

    Example:
        >>> import torch
        >>> cell = GHUCell(8, 8)
        >>> x = m = torch.zeros(2, 8, 16, 16)
        >>> flow, state = cell(ZigzagFlow(x, m), cell.init_state(x))
        >>> flow.x.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Zigzag

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
        self.x_concat = ConvNorm(in_channels, 2 * hidden_channels, kernel_size, norm, size)
        self.z_concat = ConvNorm(hidden_channels, 2 * hidden_channels, kernel_size, norm, size)

    def init_state(self, like: Tensor) -> GHUState:
        return GHUState(zeros(like, self.hidden_channels))

    def forward(self, flow: ZigzagFlow, state: GHUState) -> tuple[ZigzagFlow, GHUState]:
        (x, m), (z,) = flow, state
        p, u = (self.x_concat(x) + self.z_concat(z)).chunk(2, dim=1)
        z = blend(z, torch.tanh(p), u, z.dtype, "switch gate")
        return ZigzagFlow(z, m), GHUState(z)
