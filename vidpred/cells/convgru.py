"""ConvGRU (Ballas et al., 2016)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import blend, gate
from vidpred.cells.wiring import Stack


class ConvGRUState(NamedTuple):
    """Hidden state ``h`` of shape ``(B, hidden_channels, H, W)``."""

    h: Tensor


class ConvGRUCell(Cell[Tensor, ConvGRUState]):
    r"""Convolutional gated recurrent unit.

    .. math::
        z &= \sigma(W_{xz} * x + W_{hz} * h) \qquad r = \sigma(W_{xr} * x + W_{hr} * h) \\
        n &= \tanh(W_{xn} * x + W_{hn} * (r \odot h)) \\
        h' &= (1 - z) \odot n + z \odot h

    Each :math:`W * \cdot` is followed by the norm. Stays: ``h``. Rises: ``h'``. Wiring:
    :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Ballas et al., ICLR 2016, arXiv:1511.06432. Differs: a norm after each convolution; ``z``
        weighs the old state, where the paper's ``z`` weighs the new one.

    Example:
        >>> import torch
        >>> cell = ConvGRUCell(3, 8)
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = cell(x, cell.init_state(x))
        >>> h.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Stack

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
        self.conv_x = ConvNorm(in_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_h = ConvNorm(hidden_channels, 2 * hidden_channels, kernel_size, norm, size)
        self.conv_n = ConvNorm(hidden_channels, hidden_channels, kernel_size, norm, size)

    def init_state(self, like: Tensor) -> ConvGRUState:
        return ConvGRUState(zeros(like, self.hidden_channels))

    def forward(self, flow: Tensor, state: ConvGRUState) -> tuple[Tensor, ConvGRUState]:
        x, (h,) = flow, state
        x_z, x_r, x_n = self.conv_x(x).chunk(3, dim=1)
        h_z, h_r = self.conv_h(h).chunk(2, dim=1)
        r = gate(x_r + h_r, "reset gate")
        n = torch.tanh(x_n + self.conv_n(r * h))
        h = blend(n, h, x_z + h_z, h.dtype, "update gate")
        return h, ConvGRUState(h)
