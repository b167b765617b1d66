"""PhyCell, the physical unit of PhyDNet (Le Guen and Thome, 2020)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, Penalty, same_channels, zeros
from vidpred.cells.gates import blend
from vidpred.cells.wiring import Stack


class PhyCellState(NamedTuple):
    """Hidden state ``h``, ``(B, hidden_channels, H, W)``, and the penalty of the kernels."""

    h: Tensor
    penalty: Penalty


class PhyCell(Cell[Tensor, PhyCellState]):
    r"""Predicts by a partial differential equation, and corrects the prediction by its input.

    .. math::
        \Phi(h) &= \sum_{i,j<k} c_{i,j} \; \frac{\partial^{i+j} h}{\partial y^i \partial x^j} =
            W_{1 \times 1} * norm(W_D * h) \\
        \tilde{h} &= h + \Phi(h) \\
        K &= \sigma(W_K * [x, h]) \qquad h' = \tilde{h} + K \odot (x - \tilde{h})

    :math:`W_D` has :math:`k^2` kernels of width k. Number :math:`ik + j` stands for the derivative
    of order i down the rows and j along the columns: nothing but :meth:`moment_penalty` in the loss
    holds it to that. The norm runs over the derivatives of equal i. Stays: ``h``, and in training
    mode the :class:`~vidpred.cells.Penalty`. Rises: ``h'``. Wiring: :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below; must equal
            ``hidden_channels``.
        hidden_channels: Channels of ``h``.
        kernel_size: Odd width k of the kernels that stand for derivatives, in feature-map pixels.

    Shape:
        ``(B, hidden_channels, H, W)`` to the same; any H, W.

    Reference:
        Le Guen and Thome, CVPR 2020, arXiv:2003.01460. Differs: the gain :math:`K` sees :math:`h`,
        in the paper :math:`\tilde{h}`, as in the authors' code; and as there, predicted frames
        correct the state like true ones.

    Example:
        >>> import torch
        >>> cell = PhyCell(8, 8)
        >>> x = torch.zeros(2, 8, 16, 16)
        >>> h, state = cell(x, cell.init_state(x))
        >>> h.shape
        torch.Size([2, 8, 16, 16])
    """

    wiring = Stack

    def __init__(self, in_channels: int, hidden_channels: int, kernel_size: int = 7) -> None:
        super().__init__()
        same_channels("PhyCell", in_channels, hidden_channels)
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                f"kernel_size must be odd and positive to keep the size, got {kernel_size}"
            )
        self.hidden_channels = hidden_channels
        derivatives = kernel_size**2
        self.derivatives = nn.Conv2d(
            hidden_channels, derivatives, kernel_size, padding=kernel_size // 2
        )
        self.norm = nn.GroupNorm(kernel_size, derivatives)
        self.combine = nn.Conv2d(derivatives, hidden_channels, 1)
        self.gain = nn.Conv2d(2 * hidden_channels, hidden_channels, 3, padding=1)

    def init_state(self, like: Tensor) -> PhyCellState:
        penalty = Penalty(like.new_zeros(len(like), 1, 1, 1))
        return PhyCellState(zeros(like, self.hidden_channels), penalty)

    def forward(self, flow: Tensor, state: PhyCellState) -> tuple[Tensor, PhyCellState]:
        x, (h, penalty) = flow, state
        predicted = h + self.combine(self.norm(self.derivatives(h)))
        gain = self.gain(torch.cat([x.to(h.dtype), h], dim=1))
        h = blend(predicted, x, gain, h.dtype, "Kalman gain")
        if self.training:  # set, not added to: the authors count it once, however long the clip
            found = self.moment_penalty().to(penalty.total.dtype)
            penalty = Penalty(found.expand_as(penalty.total).clone())
        return h, PhyCellState(h, penalty)

    def moment_penalty(self) -> Tensor:
        """How far the kernels are from derivatives.

        For every channel of ``h`` the mean squared error of the kernels' moments, summed over the
        channels; the authors add it to the sum, over all frames, of the mean squared errors.

        Returns:
            A number with a gradient; 0 where kernel (i, j) gives its derivative of any polynomial
            of a degree below k in each direction.
        """
        found = moments(self.derivatives.weight)  # (k * k, channels, k, k)
        size = found.shape[-1]
        wanted = torch.eye(size**2, dtype=found.dtype, device=found.device)
        error = found - wanted.view(size**2, 1, size, size)
        return error.square().mean(dim=(0, 2, 3)).sum()


def moments(kernels: Tensor) -> Tensor:
    r"""The moments :math:`m_{i,j} = \sum_{y,x} w_{y,x} y^i x^j / (i! j!)` of kernels.

    ``y`` and ``x`` count from the centre. By Taylor's theorem a convolution by ``w`` gives
    :math:`\sum_{i,j} m_{i,j} \partial^{i+j} / \partial y^i \partial x^j`.

    Args:
        kernels: ``(..., k, k)`` of odd k.

    Returns:
        As ``kernels``, indexed by i and j.

    Example:
        >>> import torch
        >>> central_difference = torch.tensor([[0.0, 0, 0], [-0.5, 0, 0.5], [0, 0, 0]])
        >>> moments(central_difference)  # the first derivative along a row
        tensor([[0., 1., 0.],
                [0., 0., 0.],
                [0., 0., 0.]])
    """
    size = kernels.shape[-1]
    places = torch.arange(size, dtype=kernels.dtype, device=kernels.device) - size // 2
    powers = torch.stack([places**i / math.factorial(i) for i in range(size)])
    with torch.autocast(kernels.device.type, enabled=False):  # the moments keep their precision
        return powers @ kernels @ powers.mT
