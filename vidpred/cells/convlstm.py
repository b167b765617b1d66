"""ConvLSTM (Shi et al., 2015)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import gate, lstm_memory
from vidpred.cells.wiring import Stack


class ConvLSTMState(NamedTuple):
    """Hidden state ``h`` and cell state ``c``, both ``(B, hidden_channels, H, W)``."""

    h: Tensor
    c: Tensor


class ConvLSTMCell(Cell[Tensor, ConvLSTMState]):
    r"""Convolutional long short-term memory.

    .. math::
        i &= \sigma(W_{xi} * x + W_{hi} * h + w_{ci} \odot c) \\
        f &= \sigma(W_{xf} * x + W_{hf} * h + w_{cf} \odot c + b) \\
        g &= \tanh(W_{xg} * x + W_{hg} * h) \\
        c' &= f \odot c + i \odot g \\
        o &= \sigma(W_{xo} * x + W_{ho} * h + w_{co} \odot c') \\
        h' &= o \odot \tanh(c')

    Each :math:`W * \cdot` is followed by the norm. Stays: ``h, c``. Rises: ``h'``. Wiring:
    :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h`` and ``c``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        peepholes: Whether the gates see the cell state (the terms :math:`w_c`). The weights are
            per (C, H, W) as published when ``size`` is given, else per channel.
        forget_bias: The constant ``b`` in the forget gate.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Shi et al., NeurIPS 2015, arXiv:1506.04214. Differs: a norm after each convolution and no
        peepholes by default, as in every later comparison; the forget bias is not in the paper.

    Example:
        >>> import torch
        >>> cell = ConvLSTMCell(3, 8)
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = cell(x, cell.init_state(x))
        >>> h.shape, state.c.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = Stack

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        peepholes: bool = False,
        forget_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.forget_bias = forget_bias
        self.conv_x = ConvNorm(in_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.conv_h = ConvNorm(hidden_channels, 4 * hidden_channels, kernel_size, norm, size)
        self.peephole = (
            nn.Parameter(torch.zeros(3, hidden_channels, *(size or (1, 1)))) if peepholes else None
        )

    def init_state(self, like: Tensor) -> ConvLSTMState:
        return ConvLSTMState(zeros(like, self.hidden_channels), zeros(like, self.hidden_channels))

    def forward(self, flow: Tensor, state: ConvLSTMState) -> tuple[Tensor, ConvLSTMState]:
        x, (h, c) = flow, state
        i, f, g, o = (self.conv_x(x) + self.conv_h(h)).chunk(4, dim=1)
        if self.peephole is not None:
            i, f = i + self.peephole[0] * c, f + self.peephole[1] * c
        c = lstm_memory(c, i, f, g, self.forget_bias, "c")
        if self.peephole is not None:
            o = o + self.peephole[2] * c
        h = (gate(o, "output gate") * torch.tanh(c)).to(c.dtype)
        return h, ConvLSTMState(h, c)
