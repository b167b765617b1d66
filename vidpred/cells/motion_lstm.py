"""The ST-LSTMs of MotionRNN, with a motion highway and a MotionGRU (Wu et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, Norm, zeros
from vidpred.cells.gates import blend
from vidpred.cells.motion_gru import MotionGRUCell, MotionGRUState
from vidpred.cells.stlstm import SpatiotemporalLSTM, STLSTMState
from vidpred.cells.wiring import Zigzag, ZigzagFlow


class MotionFlow(NamedTuple):
    """What rises in MotionRNN: features ``x``, spatial memory ``m``, and the motion highway.

    The highway is the hidden state of the layer below as it was before it was moved,
    ``(B, hidden_channels, H, W)`` like ``m``.
    """

    x: Tensor
    m: Tensor
    highway: Tensor


class FirstHighway(Cell[ZigzagFlow, tuple[()]]):
    r"""What the lowest cell of MotionRNN stands on: raises :math:`W_{1 \times 1} * x` as highway.

    Args:
        in_channels: Channels of ``x``.
        hidden_channels: Channels of the highway.
    """

    wiring = Zigzag

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.conv = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)

    def init_state(self, like: Tensor) -> tuple[()]:
        return ()

    def forward(self, flow: ZigzagFlow, state: tuple[()]) -> tuple[MotionFlow, tuple[()]]:
        return MotionFlow(*flow, highway=self.conv(flow.x)), state


class MotionZigzag(Zigzag):
    """A zigzag of MotionRNN's cells, with the first highway below them.

    Args:
        cells: From bottom to top, the lowest with ``in_channels`` equal to ``hidden_channels``;
            to stand on another width, make a :class:`~vidpred.cells.Zigzag` with a
            :class:`FirstHighway` at the bottom.
    """

    def __init__(self, cells: Sequence[Cell[MotionFlow, Any]]) -> None:
        width = cells[0].hidden_channels
        super().__init__([FirstHighway(width, width), *cells])


class MotionHighwayCell(SpatiotemporalLSTM[MotionFlow]):
    r"""ST-LSTM whose output gate lets through the highway where it is closed.

    .. math::
        h' = o \odot \tanh(W_{1 \times 1} * [c', m']) + (1 - o) \odot highway

    with ``o, c', m'`` of :class:`~vidpred.cells.STLSTMCell`. Stays: ``h, c``. Rises: ``h', m'``,
    and ``h'`` as highway. Wiring: :class:`~vidpred.cells.MotionZigzag`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``, ``c``, ``m`` and the highway.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        forget_bias: The constant ``b`` in the forget gates.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, H, W)``, ``m`` and ``highway`` of ``(B, hidden_channels, H, W)``
        to ``h'`` and ``m'`` of ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Wu et al., MotionRNN, CVPR 2021, arXiv:2103.02243. Differs: as
        :class:`~vidpred.cells.STLSTMCell`.

    Example:
        >>> import torch
        >>> cell = MotionHighwayCell(3, 8)
        >>> x, m, highway = (torch.zeros(2, width, 16, 16) for width in (3, 8, 8))
        >>> flow, state = cell(MotionFlow(x, m, highway), cell.init_state(x))
        >>> flow.x.shape, flow.highway.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 8, 16, 16]))
    """

    wiring = MotionZigzag

    def forward(self, flow: MotionFlow, state: STLSTMState) -> tuple[MotionFlow, STLSTMState]:
        (x, m, highway), (h, c) = flow, state
        o, new, c, m, _ = self.update(x, m, h, c)
        h = blend(highway, new, o, c.dtype, "output gate")
        return MotionFlow(h, m, h), STLSTMState(h, c)


class MotionLSTMState(NamedTuple):
    """State of the host, ``(B, hidden_channels, H, W)``, and of the motion, at half the size."""

    host: STLSTMState
    motion: MotionGRUState


class MotionLSTMCell(Cell[MotionFlow, MotionLSTMState]):
    r"""ST-LSTM with a motion highway, whose hidden state is moved by a MotionGRU.

    .. math::
        h, c', m' &= host(x, m, highway) \\
        moved &= Dec(MotionGRU(Enc(h))) \\
        g &= \sigma(W_g * [moved, h]) \qquad h' = g \odot moved + (1 - g) \odot h

    :math:`host` is :class:`~vidpred.cells.MotionHighwayCell`; :math:`Enc` halves the sides by a
    convolution, to a quarter of the channels, :math:`Dec` doubles them. Stays: ``h', c'``, and the
    offsets and trend of :class:`~vidpred.cells.MotionGRUCell`. Rises: ``h', m'``, and ``h`` as
    highway. Wiring: :class:`~vidpred.cells.MotionZigzag`; in the published model a
    :class:`~vidpred.cells.MotionHighwayCell` is at the top.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``h``, ``c``, ``m`` and the highway.
        kernel_size: Odd width of the square kernels, in feature-map pixels; MotionGRU's are 3x3.
        forget_bias: The constant ``b`` in the forget gates.
        norm: The host's: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``x`` of ``(B, in_channels, H, W)``, ``m`` and ``highway`` of ``(B, hidden_channels, H, W)``
        to ``h'`` and ``m'`` of ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Wu et al., MotionRNN, CVPR 2021, arXiv:2103.02243. Differs: the host keeps the moved ``h'``,
        as in the authors' code (in the paper ``h``); odd sides are cropped after :math:`Dec`.

    Example:
        >>> import torch
        >>> core = MotionZigzag([MotionLSTMCell(8, 8), MotionHighwayCell(8, 8)])
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> h, state = core(x, core.init_state(x))
        >>> h.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = MotionZigzag

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
        self.host = MotionHighwayCell(
            in_channels, hidden_channels, kernel_size, forget_bias=forget_bias, norm=norm, size=size
        )
        narrow, padding = max(1, hidden_channels // 4), kernel_size // 2
        self.enc = nn.Conv2d(hidden_channels, narrow, kernel_size, stride=2, padding=padding)
        self.motion = MotionGRUCell(narrow, narrow)
        self.dec = nn.ConvTranspose2d(narrow, hidden_channels, 4, stride=2, padding=1)
        self.gate = nn.Conv2d(2 * hidden_channels, hidden_channels, kernel_size, padding=padding)

    def init_state(self, like: Tensor) -> MotionLSTMState:
        encoded = zeros(like, self.motion.hidden_channels, stride=2)
        return MotionLSTMState(self.host.init_state(like), self.motion.init_state(encoded))

    def forward(
        self, flow: MotionFlow, state: MotionLSTMState
    ) -> tuple[MotionFlow, MotionLSTMState]:
        (h, m, highway), host = self.host(flow, state.host)
        encoded, motion = self.motion(self.enc(h), state.motion)
        moved = self.dec(encoded)[..., : h.shape[-2], : h.shape[-1]]
        opening = self.gate(torch.cat([moved, h], dim=1))
        h = blend(h, moved, opening, h.dtype, "output gate")
        return MotionFlow(h, m, highway), MotionLSTMState(STLSTMState(h, host.c), motion)
