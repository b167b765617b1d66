"""MotionGRU, the unit of motion in MotionRNN (Wu et al., 2021)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vidpred.cells.base import Cell, laid_out_as, zeros
from vidpred.cells.gates import gate
from vidpred.cells.warp import warp
from vidpred.cells.wiring import Stack

MOMENTUM = 0.5  # a in the equation of the trend


class MotionGRUState(NamedTuple):
    """Offsets and their trend, both ``(B, 2 * neighbours**2, H, W)``: all rows, then all columns.

    In feature-map pixels, one per neighbour, row by row.
    """

    offset: Tensor
    trend: Tensor


class MotionGRUCell(Cell[Tensor, MotionGRUState]):
    r"""GRU over the motion of every pixel, by which it warps its input.

    .. math::
        u, r &= \sigma(W * [x, o]) \qquad z = \tanh(W * [x, r \odot o]) \\
        d' &= d + a (o - d) \qquad o' = (1 - u) \odot o + u \odot z + d' \\
        x'(p) &= \sum_{n} W_n \; (\sigma(W_m * x))_n(p) \; x(p + n + o'_n(p))

    with offsets :math:`o`, their trend :math:`d`, :math:`a = 0.5`; :math:`n` runs over the
    neighbours of a pixel, and between pixels ``x`` is interpolated, outside it is 0. Stays:
    ``o, d``. Rises: ``x'``. Wiring: :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below.
        hidden_channels: Channels of ``x'``.
        kernel_size: Odd width of the square kernels, in feature-map pixels.
        neighbours: Odd width of the neighbourhood that ``x'`` is gathered from.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Wu et al., MotionRNN, CVPR 2021, arXiv:2103.02243. Differs: the authors start the kernels of
        ``u``, ``r`` and ``z`` at 0, which leaves ``r`` without gradient in the first step; here
        that of ``z`` starts as usual.

    Example:
        >>> import torch
        >>> cell = MotionGRUCell(8, 8, 3)
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> x, state = cell(x, cell.init_state(x))
        >>> x.shape, state.offset.shape
        (torch.Size([2, 8, 16, 16]), torch.Size([2, 18, 16, 16]))
    """

    wiring = Stack

    def __init__(
        self, in_channels: int, hidden_channels: int, kernel_size: int = 3, *, neighbours: int = 3
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or neighbours % 2 == 0:
            raise ValueError(
                f"kernel_size and neighbours must be odd, got {kernel_size} and {neighbours}"
            )
        self.hidden_channels = hidden_channels
        self.neighbours = neighbours
        motion = 2 * neighbours**2
        self.update, self.reset, self.output = (
            nn.Conv2d(in_channels + motion, motion, kernel_size, padding=kernel_size // 2)
            for _ in range(3)
        )
        self.mask = nn.Conv2d(in_channels, neighbours**2, kernel_size, padding=kernel_size // 2)
        self.gather = nn.Conv2d(in_channels, hidden_channels, neighbours, bias=False)
        for conv in (self.update, self.reset, self.mask):
            nn.init.zeros_(conv.weight)

    def init_state(self, like: Tensor) -> MotionGRUState:
        return MotionGRUState(*(zeros(like, 2 * self.neighbours**2) for _ in range(2)))

    def forward(self, flow: Tensor, state: MotionGRUState) -> tuple[Tensor, MotionGRUState]:
        x, (o, d) = flow, state
        both = torch.cat([x.to(o.dtype), o], dim=1)
        u, r = gate(self.update(both), "update gate"), gate(self.reset(both), "reset gate")
        z = torch.tanh(self.output(torch.cat([x.to(o.dtype), r * o], dim=1)))
        d_new = d + MOMENTUM * (o - d)
        o_new = torch.lerp(o, z.to(o.dtype), u.to(o.dtype)) + d_new
        seen = look_around(x.to(o.dtype), o_new, self.neighbours)
        masked = seen * gate(self.mask(x), "mask").unsqueeze(1)
        # The neighbours lie behind each other, not beside: a 1x1 convolution gathers them.
        kernel = self.gather.weight.flatten(1)[..., None, None]
        x_new = F.conv2d(masked.flatten(1, 2), kernel)
        return laid_out_as(x, x_new.to(o.dtype)), MotionGRUState(o_new, d_new)


def look_around(x: Tensor, offset: Tensor, neighbours: int) -> Tensor:
    """What every pixel sees at the places of its neighbours, each moved by an offset of its own.

    Args:
        x: ``(B, C, H, W)``.
        offset: ``(B, 2 * neighbours**2, H, W)``, as in :class:`MotionGRUState`.
        neighbours: Odd width of the neighbourhood.

    Returns:
        ``(B, C, neighbours**2, H, W)``.

    Example:
        >>> import torch
        >>> x = torch.arange(9.0).view(1, 1, 3, 3)
        >>> look_around(x, torch.zeros(1, 18, 3, 3), 3)[0, 0, :, 1, 1].round()  # round the centre
        tensor([0., 1., 2., 3., 4., 5., 6., 7., 8.])
    """
    reach = torch.arange(neighbours, dtype=x.dtype, device=x.device) - neighbours // 2
    rows, columns = offset.unflatten(1, (2, neighbours, neighbours)).unbind(1)  # (B, n, n, H, W)
    rows = rows + reach[:, None, None, None]
    columns = columns + reach[:, None, None]
    return warp(x, rows.flatten(1, 2), columns.flatten(1, 2))
