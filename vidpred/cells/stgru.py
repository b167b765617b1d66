"""STGRU, the unit of IPRNN (2021) and STIP (2022)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidpred.cells.base import Cell, ConvNorm, Norm, same_channels, zeros
from vidpred.cells.gates import blend, gate
from vidpred.cells.wiring import Stack


class STGRUState(NamedTuple):
    """Temporal state ``t`` of shape ``(B, hidden_channels, H, W)``."""

    t: Tensor


class STGRUCell(Cell[Tensor, STGRUState]):
    r"""Spatiotemporal gated recurrent unit: one pair of gates for a temporal and a spatial state.

    .. math::
        R &= \sigma(W_{tr} * T + W_{sr} * S) \qquad U = \sigma(W_{tu} * T + W_{su} * S + b) \\
        \tilde{T} &= \tanh(W_{tt} * T + R \odot (W_{st} * S)) \\
        \tilde{S} &= \tanh(W_{ss} * S + R \odot (W_{ts} * T)) \\
        T' &= (1 - U) \odot \tilde{T} + U \odot T \qquad S' = (1 - U) \odot \tilde{S} + U \odot S

    Each :math:`W * \cdot` is followed by the norm. Stays: ``T``. Rises: ``S``. Wiring:
    :class:`~vidpred.cells.Stack`. IPRNN calls ``R`` the reset gate, STIP the trend gate.

    Args:
        in_channels: Channels of ``S``; must equal ``hidden_channels``.
        hidden_channels: Channels of ``T``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        update_bias: The constant ``b`` in the update gate.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, hidden_channels, H, W)`` to the same; any H, W.

    Reference:
        Chang et al., IPRNN, ICIP 2021; Chang et al., STIP, arXiv:2206.04381. Differs: the update
        bias of 1 is in the authors' code and not in the papers (``update_bias=0``).

    Example:
        >>> import torch
        >>> cell = STGRUCell(8, 8)
        >>> s = torch.zeros(2, 8, 16, 16)
        >>> s, state = cell(s, cell.init_state(s))
        >>> s.shape, state.t.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = Stack

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        update_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        same_channels("STGRU", in_channels, hidden_channels)
        self.hidden_channels = hidden_channels
        self.update_bias = update_bias
        self.conv_t = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_s = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)

    def init_state(self, like: Tensor) -> STGRUState:
        return STGRUState(zeros(like, self.hidden_channels))

    def forward(self, flow: Tensor, state: STGRUState) -> tuple[Tensor, STGRUState]:
        s, (t,) = flow, state
        t_u, t_r, t_t, t_s = self.conv_t(t).chunk(4, dim=1)
        s_u, s_r, s_t, s_s = self.conv_s(s).chunk(4, dim=1)
        # The backward pass sees these two of the eight again. Slices would keep all of them.
        t_s, s_t = t_s.clone(), s_t.clone()
        update = t_u + s_u + self.update_bias
        trend = gate(t_r + s_r, "trend gate")
        t_new = blend(torch.tanh(t_t + trend * s_t), t, update, t.dtype, "update gate")
        s_new = blend(torch.tanh(s_s + trend * t_s), s, update, t.dtype, "update gate")
        return s_new, STGRUState(t_new)
