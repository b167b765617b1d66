"""TrajGRU (Shi et al., 2017)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vidpred.cells.base import Cell, ConvNorm, Norm, zeros
from vidpred.cells.gates import blend, gate
from vidpred.cells.warp import warp
from vidpred.cells.wiring import Stack

FLOW_CHANNELS, FLOW_KERNEL = 32, 5  # of the network that draws the trajectories


class TrajGRUState(NamedTuple):
    """Hidden state ``h`` of shape ``(B, hidden_channels, H, W)``."""

    h: Tensor


class TrajGRUCell(Cell[Tensor, TrajGRUState]):
    r"""Trajectory GRU: every pixel chooses the places of the past state that it looks at.

    .. math::
        U, V &= W_f * f(W_{xf} * x + W_{hf} * h) \\
        \hat{h} &= [warp(h, -U_1, -V_1), \dots, warp(h, -U_L, -V_L)] \\
        r &= \sigma(W_{xr} * x + W_{hr} * \hat{h}) \qquad
        z = \sigma(W_{xz} * x + W_{hz} * \hat{h}) \\
        n &= f(W_{xn} * x + r \odot (W_{hn} * \hat{h})) \\
        h' &= (1 - z) \odot n + z \odot h

    :math:`warp(h, -U, -V)` is ``h`` moved by ``U`` pixels to the right and ``V`` down, interpolated
    between pixels and 0 outside. Each :math:`W_{h \cdot}` but :math:`W_{hf}` is a 1x1 convolution:
    it has the ``L`` links for a neighbourhood. The convolutions of the gates are followed by the
    norm; those of the flows, which count pixels, are not. Stays: ``h``. Rises: ``h'``. Wiring:
    :class:`~vidpred.cells.Stack`.

    Args:
        in_channels: Channels of the feature map arriving from below; 0 for a unit without input.
        hidden_channels: Channels of ``h``.
        kernel_size: Odd width of the square kernels from ``x`` to the gates, in feature-map pixels.
        links: How many places every pixel looks at, ``L``.
        activation: ``f``; published is ``nn.LeakyReLU(0.2)``.
        norm: ``"group"`` (any resolution), ``"layer"`` (needs ``size``) or ``None``.
        size: (H, W) of the feature map, for ``norm="layer"``.

    Shape:
        ``(B, in_channels, H, W)`` to ``(B, hidden_channels, H, W)``; any H, W.

    Reference:
        Shi et al., NeurIPS 2017, arXiv:1706.03458. Differs: by default a norm, and the hyperbolic
        tangent for ``f`` as in :class:`~vidpred.cells.ConvGRUCell`, so that the two differ in their
        links alone. Displacements are in pixels, as in the authors' code (MXNet); the PyTorch port
        means the same, but since PyTorch 1.3 ``grid_sample`` reads its corners otherwise. The
        authors start :math:`W_f` at 0, which leaves what is before it without gradient at first.

    Example:
        >>> import torch
        >>> cell = TrajGRUCell(3, 8, links=5)
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
        links: int = 13,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        norm: Norm = "group",
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        if links < 1:
            raise ValueError(f"links must be at least 1 place to look at, got {links}")
        self.hidden_channels = hidden_channels
        self.activation = activation
        self.conv_x = ConvNorm(in_channels, 3 * hidden_channels, kernel_size, norm, size)
        self.conv_h = ConvNorm(links * hidden_channels, 3 * hidden_channels, 1, norm, size)
        self.flow_x = ConvNorm(in_channels, FLOW_CHANNELS, FLOW_KERNEL, None)
        self.flow_h = ConvNorm(hidden_channels, FLOW_CHANNELS, FLOW_KERNEL, None)
        self.flow = ConvNorm(FLOW_CHANNELS, 2 * links, FLOW_KERNEL, None)

    def init_state(self, like: Tensor) -> TrajGRUState:
        return TrajGRUState(zeros(like, self.hidden_channels))

    def forward(self, flow: Tensor, state: TrajGRUState) -> tuple[Tensor, TrajGRUState]:
        x, (h,) = flow, state
        x_r, x_z, x_n = self.conv_x(x).chunk(3, dim=1)
        h_r, h_z, h_n = self.conv_h(self.follow(x, h)).chunk(3, dim=1)
        n = self.activation(x_n + gate(x_r + h_r, "reset gate") * h_n)
        h = blend(n, h, x_z + h_z, h.dtype, "update gate")
        return h, TrajGRUState(h)

    def follow(self, x: Tensor, h: Tensor) -> Tensor:
        """The past state at the far ends of the links, the links of a channel side by side."""
        flows = self.flow(self.activation(self.flow_x(x) + self.flow_h(h))).to(h.dtype)
        u, v = flows.unflatten(1, (-1, 2)).unbind(2)
        return warp(h, -v, -u).flatten(1, 2)
