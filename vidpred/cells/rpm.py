"""RPM, the residual predictive memory: the unit of STRPM (Chang et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import gate, lstm_memory
from vidpred.cells.wiring import GatedFlow, PastMemories, PastZigzag, ZigzagFlow


class RPMState(NamedTuple):
    """Hidden state ``h``, ``(B, hidden_channels, H, W)``, and the temporal memories like it."""

    h: Tensor
    past_c: PastMemories


class RPMCell(Cell[GatedFlow, RPMState]):
    r"""Residual predictive memory: what changes is predicted, the features pass beside it.

    .. math::
        i, f &= \sigma(W_t * T + W_h * h) \qquad g = \tanh(W_t * T + W_h * h) \\
        c' &= f \odot (W_{cc} * [c_{t-\tau}, \dots, c_{t-1}]) + i \odot g \\
        i', f' &= \sigma(W_s * S + W_m * m) \qquad g' = \tanh(W_s * S + W_m * m) \\
        m' &= f' \odot (W_{mm} * [m^{k-\tau}, \dots, m^{k-1}]) + i' \odot g' \\
        o &= \sigma(W_o * O + W_h * h + W_{co} * [c', m']) \\
        h' &= o \odot \tanh(W_{1 \times 1} * [c', m']) + r

    All gates of a memory share their convolutions; ``b`` is added in both forget gates; each
    :math:`W * \cdot` but the 1x1 is followed by the norm. In the lowest layer of STRPM temporal,
    spatial and output features come each from an encoder of their own, side by side in the
    channels, and the residual is :math:`r = W'_{1 \times 1} * [T, S, o]`. Elsewhere
    :math:`r = T = S = O = x`. :math:`m = m^{k-1}` is the memory of the layer below, and the top
    layer's of t-1 comes below the bottom one's. Stays: ``h``, the past ``tau`` of ``c``. Rises:
    ``h'``, the past ``tau`` of ``m``, ``o``. Wiring: :class:`~vidpred.cells.PastZigzag`.

    Args:
        in_channels: Channels of what arrives from below: ``hidden_channels`` for ``x``,
            ``3 * hidden_channels`` for ``T, S, O``.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        tau: How many past memories are merged; before the first frame they are zero.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Chang et al., CVPR 2022, arXiv:2203.16084. Differs: the past ``c`` are the past ones; in the
        authors' code they are ``tau`` times the last. Until ``tau`` layers have written, the merged
        past ``m`` are zeros, as in their code with ``tau`` layers or more; the residual's ``o`` is
        the output gate, as there.

    Example:
        >>> import torch
        >>> zigzag = PastZigzag([RPMCell(3 * 8, 8), RPMCell(8, 8)])
        >>> tso = torch.zeros(2, 3 * 8, 16, 16)
        >>> h, state = zigzag(tso, zigzag.init_state(tso))
        >>> h.shape, len(state.m.maps)
        (torch.Size([2, 8, 16, 16]), 5)
    """

    wiring = PastZigzag

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int = 5,
        *,
        tau: int = 5,
        forget_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if in_channels not in (hidden_channels, 3 * hidden_channels):
            raise ValueError(
                "RPMCell adds its input to its state: in_channels must be hidden_channels, or "
                f"3 * hidden_channels for T, S and O, got {in_channels} and {hidden_channels}; "
                "put a 1x1 convolution or encoders in front"
            )
        if tau < 1:
            raise ValueError(f"tau must be at least 1 past memory, got {tau}")
        n = self.hidden_channels = hidden_channels
        self.tau = tau
        self.forget_bias = forget_bias
        self.en_t, self.en_s, self.en_o, self.conv_h, self.conv_m = (
            ConvNorm(n, n, kernel_size, norm, size) for _ in range(5)
        )
        self.att_c, self.att_m = (ConvNorm(tau * n, n, kernel_size, norm, size) for _ in range(2))
        self.conv_o = ConvNorm(2 * n, n, kernel_size, norm, size)
        self.conv_last = nn.Conv2d(2 * n, n, 1)
        self.conv_sto = nn.Conv2d(3 * n, n, 1) if in_channels == 3 * n else None

    def init_state(self, like: Tensor) -> RPMState:
        h, *past = (zeros(like, self.hidden_channels) for _ in range(1 + self.tau))
        missing = like.new_full((len(like), 1, 1, 1), self.tau)
        return RPMState(h, PastMemories(tuple(past), missing))

    def forward(self, flow: GatedFlow | ZigzagFlow, state: RPMState) -> tuple[GatedFlow, RPMState]:
        past_m, (h, past_c) = flow.m, state
        begun = past_m.missing == 0
        h, o, c, m = self.update(
            flow.x.to(h.dtype), h, past_m.maps[-1], past_c.maps, [begun * m for m in past_m.maps]
        )
        return GatedFlow(h, past_m.append(m), o), RPMState(h, past_c.append(c))

    def update(
        self, x: Tensor, h: Tensor, m: Tensor, past_c: Sequence[Tensor], past_m: Sequence[Tensor]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The equations: ``(h', o, c', m')``."""
        t, s, o = (x, x, x) if self.conv_sto is None else x.chunk(3, dim=1)
        h_gates = self.conv_h(h)
        gates = self.en_t(t) + h_gates
        kept = self.att_c(torch.cat(list(past_c), dim=1)).to(h.dtype)
        c = lstm_memory(kept, gates, gates, gates, self.forget_bias, "c")
        gates = self.en_s(s) + self.conv_m(m)
        kept = self.att_m(torch.cat(list(past_m), dim=1)).to(h.dtype)
        m = lstm_memory(kept, gates, gates, gates, self.forget_bias, "m")
        memories = torch.cat([c, m], dim=1)
        o = gate(self.en_o(o) + h_gates + self.conv_o(memories), "output gate").to(h.dtype)
        residual = x if self.conv_sto is None else self.conv_sto(torch.cat([t, s, o], dim=1))
        return o * torch.tanh(self.conv_last(memories)) + residual, o, c, m
