"""STAM, the spatiotemporal attention based memory (Chang et al., 2021 and 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import choose, gate, lstm_increment
from vidpred.cells.volume import Windowed, cube
from vidpred.cells.wiring import GatedFlow, PastMemories, PastZigzag, ZigzagFlow


class STAMState(NamedTuple):
    """Hidden state ``h``, ``(B, hidden_channels, D, H, W)``, and the temporal memories like it."""

    h: Tensor
    past_c: PastMemories


class STAMZigzag(Windowed):
    """A zigzag of STAM cells, for feature maps.

    Args:
        cells: From bottom to top.
    """

    def __init__(self, cells: Sequence[Cell[Any, Any]]) -> None:
        super().__init__(PastZigzag(cells), cells[0].volume)


class STAMCell(Cell[GatedFlow, STAMState]):
    r"""Long short-term memory whose forget gates choose among the last memories.

    .. math::
        i, f &= \sigma(W_t * T + W_h * h) \qquad g = \tanh(W_t * T + W_h * h) \\
        c' &= i \odot g + f \odot ATT(f, [c_{t-\tau}, ..., c_{t-1}]) \\
        i', f' &= \sigma(W_s * S + W_m * m) \qquad g' = \tanh(W_s * S + W_m * m) \\
        m' &= i' \odot g' + f' \odot ATT(f', [m^{k-\tau}, ..., m^{k-1}]) \\
        o &= \sigma(W_o * O + W_h * h + W_{co} * [c', m']) \\
        h' &= o \odot \tanh(W_{1 \times 1 \times 1} * [c', m'])

    with :math:`ATT(f, [c_1, ..., c_\tau]) = \sum_j softmax_j(f \odot c_j) \odot c_j`, element by
    element. All maps are volumes, all convolutions 3D. :math:`T = S = O = x`, or they arrive side
    by side in the channels of ``x``. :math:`m = m^{k-1}` is the memory of the layer below, and
    below the bottom layer's comes the top layer's of t-1. ``b`` is added in both forget gates; each
    :math:`W * \cdot` but the 1x1x1 is followed by the norm, one for all gates of an input. Stays:
    ``h``, the past ``tau`` of ``c``. Rises: ``h'``, the past ``tau`` of ``m``, ``o``. Wiring:
    :class:`~vidpred.cells.STAMZigzag`.

    Args:
        in_channels: Channels of the volume arriving from below.
        hidden_channels: Channels of ``h``, ``c`` and ``m``.
        kernel_size: Depth, height and width of the kernels, or one number for all three; height
            and width odd.
        depth: How many feature maps make a volume.
        tau: How many past memories the attention sees; before the first frame one, which is zero.
            With 1 there is no choice: the unit is an ST-LSTM with 3D convolutions.
        separate: ``x`` is ``T``, ``S`` and ``O``, side by side in its channels.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, D, H, W)`` to ``h'`` of ``(B, hidden_channels, D, H, W)``; any
        H, W.

    Reference:
        Chang et al., STAE, ICME 2021 (T, S, O at the bottom); STAM, IEEE Transactions on
        Multimedia 2022 (x). Differs: the past ``c`` are the past ones; in the authors' code they
        are ``tau`` times the last. The forget bias of 1 is of their code.

    Example:
        >>> import torch
        >>> core = STAMZigzag([STAMCell(3, 8), STAMCell(8, 8)])
        >>> x = torch.zeros(2, 3, 16, 16)
        >>> h, state = core(x, core.init_state(x))
        >>> h.shape  # of two maps of 8 channels
        torch.Size([2, 16, 16, 16])
    """

    wiring = STAMZigzag

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        kernel_size: int | tuple[int, int, int] = (3, 5, 5),
        *,
        depth: int = 2,
        tau: int = 5,
        separate: bool = False,
        forget_bias: float = 1.0,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if tau < 1:
            raise ValueError(f"tau must be at least 1 past memory, got {tau}")
        if separate and in_channels % 3:
            raise ValueError(f"in_channels must be three times those of T, S, O, got {in_channels}")
        self.hidden_channels = hidden_channels
        self.volume = in_channels, depth
        self.tau = tau
        self.forget_bias = forget_bias
        kernel, n = cube(kernel_size), hidden_channels
        deep = None if size is None else (depth, *size)
        self.conv_x = (
            nn.ModuleList(ConvNorm(in_channels // 3, k * n, kernel, norm, deep) for k in (3, 3, 1))
            if separate
            else ConvNorm(in_channels, 7 * n, kernel, norm, deep)
        )
        self.conv_h = ConvNorm(n, 4 * n, kernel, norm, deep)
        self.conv_m = ConvNorm(n, 3 * n, kernel, norm, deep)
        self.conv_o = ConvNorm(2 * n, n, kernel, norm, deep)
        self.conv_last = nn.Conv3d(2 * n, n, 1)

    def init_state(self, like: Tensor) -> STAMState:
        h, *past = (zeros(like, self.hidden_channels) for _ in range(1 + self.tau))
        missing = like.new_full((len(like), 1, 1, 1, 1), self.tau - 1)
        return STAMState(h, PastMemories(tuple(past), missing))

    def forward(
        self, flow: GatedFlow | ZigzagFlow, state: STAMState
    ) -> tuple[GatedFlow, STAMState]:
        past_m, (h, past_c) = flow.m, state
        h, o, c, m = self.update(flow.x, h, past_m.maps[-1], past_c, past_m)
        return GatedFlow(h, past_m.append(m), o), STAMState(h, past_c.append(c))

    def update(
        self, x: Tensor, h: Tensor, m: Tensor, past_c: PastMemories, past_m: PastMemories
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The equations: ``(h', o, c', m')``."""
        n = self.hidden_channels
        if isinstance(self.conv_x, ConvNorm):
            x_c, x_m, x_o = self.conv_x(x).split([3 * n, 3 * n, n], dim=1)
        else:
            parts = zip(self.conv_x, x.chunk(3, dim=1), strict=True)
            x_c, x_m, x_o = (conv(part) for conv, part in parts)
        h_c, h_o = self.conv_h(h).split([3 * n, n], dim=1)
        c = self.remember(x_c + h_c, past_c, "c")
        m = self.remember(x_m + self.conv_m(m), past_m, "m")
        memories = torch.cat([c, m], dim=1)
        o = gate(x_o + h_o + self.conv_o(memories), "output gate").to(c.dtype)
        return o * torch.tanh(self.conv_last(memories)), o, c, m

    def remember(self, gates: Tensor, past: PastMemories, name: str) -> Tensor:
        """A new memory ``name`` from the past ones and the gates before their non-linearities."""
        i, f, g = gates.chunk(3, dim=1)
        forget = gate(f + self.forget_bias, f"forget gate of {name}")
        kept = forget * choose(forget, past.maps, past.missing, f"attention to past {name}")
        return (lstm_increment(i, g, name) + kept).to(past.maps[-1].dtype)
