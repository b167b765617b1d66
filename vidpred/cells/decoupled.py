"""ST-LSTM with decoupled memories, the unit of PredRNN-v2 (Wang et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import Cell, Penalty
from vidpred.cells.gates import gate
from vidpred.cells.stlstm import SpatiotemporalLSTM, STLSTMState
from vidpred.cells.wiring import Zigzag, ZigzagFlow, ZigzagState


class DecoupledFlow(NamedTuple):
    """What rises in PredRNN-v2: ``x``, ``m``, and what each layer so far added to ``c`` and ``m``.

    The increments are pairs of ``(B, hidden_channels, H, W)``, bottom first.
    """

    x: Tensor
    m: Tensor
    increments: tuple[tuple[Tensor, Tensor], ...]


class Decoupling(Cell[DecoupledFlow, Penalty]):
    r"""What the top cell of PredRNN-v2 carries: a penalty for memories that learn the same.

    .. math::
        penalty' = penalty + \frac{w}{L K} \sum_{l, k}
            |\cos((A * \Delta c^l)_k, (A * \Delta m^l)_k)|

    with :math:`\Delta c^l` and :math:`\Delta m^l` what layer :math:`l` of :math:`L` added to its
    memories, :math:`A` a 1x1 convolution, and the cosine of the angle between the two maps of
    channel :math:`k` of :math:`K`. Only in training mode; else the penalty stays.

    Args:
        channels: Channels of the memories.
        weight: The weight ``w`` of the penalty in the training loss.
    """

    wiring = Zigzag

    def __init__(self, channels: int, weight: float = 0.1) -> None:
        super().__init__()
        self.hidden_channels = channels
        self.weight = weight
        self.adapter = nn.Conv2d(channels, channels, 1, bias=False)

    def init_state(self, like: Tensor) -> Penalty:
        return Penalty(like.new_zeros(len(like), 1, 1, 1))

    def forward(self, flow: DecoupledFlow, state: Penalty) -> tuple[ZigzagFlow, Penalty]:
        risen = ZigzagFlow(flow.x, flow.m)
        if not self.training:
            return risen, state
        dtype = state.total.dtype
        cosines = torch.stack(
            [
                (self.directions(delta_c, dtype) * self.directions(delta_m, dtype)).sum(dim=2)
                for delta_c, delta_m in flow.increments
            ]
        )
        coupling = cosines.abs().mean(dim=(0, 2))[:, None, None, None]
        return risen, Penalty(state.total + self.weight * coupling)

    def directions(self, increment: Tensor, dtype: torch.dtype) -> Tensor:
        """The adapted increment, each channel's map as a vector of length 1: ``(B, K, H * W)``."""
        return F.normalize(self.adapter(increment).to(dtype).flatten(2), dim=2)


class DecoupledZigzag(Zigzag):
    """A zigzag whose cells let their increments rise, with the penalty for them at the top.

    Args:
        cells: From bottom to top; all with the same ``hidden_channels``.
        weight: Weight of the penalty in the training loss.
    """

    def __init__(self, cells: Sequence[Cell[DecoupledFlow, Any]], weight: float = 0.1) -> None:
        super().__init__([*cells, Decoupling(cells[-1].hidden_channels, weight)])

    def forward(self, flow: Tensor, state: ZigzagState) -> tuple[Tensor, ZigzagState]:
        top, cells = self.stack(DecoupledFlow(flow, state.m, ()), state.cells)
        return top.x, ZigzagState(cells, top.m)


class DecoupledSTLSTMCell(SpatiotemporalLSTM[DecoupledFlow]):
    r"""ST-LSTM that also lets rise what it adds to its memories, to keep them apart in training.

    The equations are those of :class:`~vidpred.cells.STLSTMCell`, with

    .. math::
        \Delta c = i \odot g \qquad \Delta m = i' \odot g'

    Stays: ``h, c``. Rises: ``h', m'``, and the increments of the layers so far. Wiring:
    :class:`~vidpred.cells.DecoupledZigzag`; at its top :class:`~vidpred.cells.Decoupling` turns the
    increments into a :class:`~vidpred.cells.Penalty`.

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
        Wang et al., PredRNN-v2, TPAMI 2022, arXiv:2103.09504. Differs: as
        :class:`~vidpred.cells.STLSTMCell`.

    Example:
        >>> import torch
        >>> from vidpred.cells import total_penalty
        >>> core = DecoupledZigzag([DecoupledSTLSTMCell(3, 8), DecoupledSTLSTMCell(8, 8)])
        >>> x = torch.rand(2, 3, 16, 16)
        >>> h, state = core(x, core.init_state(x))
        >>> h.shape, 0 < total_penalty(state) < 0.1
        (torch.Size([2, 8, 16, 16]), tensor(True))
    """

    wiring = DecoupledZigzag

    def forward(self, flow: DecoupledFlow, state: STLSTMState) -> tuple[DecoupledFlow, STLSTMState]:
        (x, m, increments), (h, c) = flow, state
        o, new, c, m, increment = self.update(x, m, h, c)
        h = (gate(o, "output gate") * new).to(c.dtype)
        return DecoupledFlow(h, m, (*increments, increment)), STLSTMState(h, c)
