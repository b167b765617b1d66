"""SA-ConvLSTM, the self-attention ConvLSTM (Lin et al., 2020)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.convlstm import ConvLSTMCell, ConvLSTMState
from vidpred.cells.gates import blend, gate
from vidpred.cells.wiring import Stack


class SAConvLSTMState(NamedTuple):
    """Hidden state ``h``, cell state ``c`` and memory ``m``.

    All are ``(B, hidden_channels, H, W)``; ``h`` is what rises.
    """

    h: Tensor
    c: Tensor
    m: Tensor


class SAConvLSTMCell(Cell[Tensor, SAConvLSTMState]):
    r"""ConvLSTM whose hidden state passes through a self-attention memory.

    .. math::
        \tilde{h}, c' &= ConvLSTM(x, h, c) \\
        z_h &= V_h \; softmax(K_h^T Q) \qquad z_m = V_m \; softmax(K_m^T Q) \\
        z &= W_{1 \times 1} * [z_h, z_m] \\
        i &= \sigma(W * [z, \tilde{h}]) \qquad g = \tanh(W * [z, \tilde{h}]) \\
        m' &= (1 - i) \odot m + i \odot g \\
        o &= \sigma(W * [z, \tilde{h}]) \qquad h' = o \odot m'

    The queries :math:`Q`, keys :math:`K_h` and values :math:`V_h` are 1x1 convolutions of
    :math:`\tilde{h}`, the keys :math:`K_m` and values :math:`V_m` of ``m``; every position attends
    to all :math:`HW` positions. Each :math:`W * \cdot` but the 1x1 is followed by the norm. Stays:
    ``h, c, m``. Rises: ``h'``. Wiring: :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        forget_bias: The constant in the forget gate of the ConvLSTM.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W. The time grows with
        :math:`(HW)^2`, the memory with :math:`HW`.

    Reference:
        Lin et al., AAAI 2020. Differs: queries and keys are as wide as the values, which lets
        attention run without its matrix of all pairs; a norm after each convolution and a forget
        bias, as in the other units. There is no code of the authors, and the public ports disagree:
        most take 1x1 kernels in the gates of the memory, where the paper convolves as in the LSTM.

    Example:
        >>> import torch
        >>> cell = SAConvLSTMCell(3, 8)
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = cell(x, cell.init_state(x))
        >>> h.shape, state.m.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = Stack

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
        self.lstm = ConvLSTMCell(
            in_channels, hidden_channels, kernel_size, forget_bias=forget_bias, norm=norm, size=size
        )
        # No biases: that of a key would shift all scores of a query alike, which softmax ignores.
        self.qkv_h = nn.Conv2d(hidden_channels, 3 * hidden_channels, 1, bias=False)
        self.kv_m = nn.Conv2d(hidden_channels, 2 * hidden_channels, 1, bias=False)
        self.fuse = nn.Conv2d(2 * hidden_channels, hidden_channels, 1, bias=False)
        self.conv_zh = ConvNorm(2 * hidden_channels, 3 * hidden_channels, kernel_size, norm, size)

    def init_state(self, like: Tensor) -> SAConvLSTMState:
        return SAConvLSTMState(*(zeros(like, self.hidden_channels) for _ in range(3)))

    def forward(self, flow: Tensor, state: SAConvLSTMState) -> tuple[Tensor, SAConvLSTMState]:
        x, (h, c, m) = flow, state
        h, (_, c) = self.lstm(x, ConvLSTMState(h, c))
        q, k_h, v_h = self.qkv_h(h).chunk(3, dim=1)
        k_m, v_m = self.kv_m(m).chunk(2, dim=1)
        z_h, z_m = attend_everywhere(q, k_h, v_h), attend_everywhere(q, k_m, v_m)
        z = self.fuse(torch.cat([z_h, z_m], dim=1))
        i, g, o = self.conv_zh(torch.cat([z.to(h.dtype), h], dim=1)).chunk(3, dim=1)
        m = blend(m, torch.tanh(g), i, m.dtype, "input gate of m")
        h = (gate(o, "output gate") * m).to(m.dtype)
        return h, SAConvLSTMState(h, c, m)


def attend_everywhere(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    r"""Attention between positions: at i, :math:`\sum_j softmax_j(\langle q_i, k_j \rangle) v_j`.

    The scores are not scaled, as in the paper.

    Args:
        query: ``(B, C, H, W)``.
        key: Like ``query``.
        value: Like ``query``; the attention that needs no memory for all pairs asks for one width.

    Example:
        >>> import torch
        >>> query, value = torch.zeros(1, 1, 1, 2), torch.tensor([[[[1.0, 3.0]]]])
        >>> attend_everywhere(query, query, value)  # equal scores: the mean
        tensor([[[[2., 2.]]]])
    """
    # One head; positions in rows, each contiguous, as the fused kernels want them.
    q, k, v = (x.flatten(2).transpose(1, 2).contiguous()[:, None] for x in (query, key, value))
    attended = F.scaled_dot_product_attention(q, k, v, scale=1.0)
    return attended[:, 0].transpose(1, 2).unflatten(2, query.shape[2:])
