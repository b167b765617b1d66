"""TrajGRU: Shi et al., Deep Learning for Precipitation Nowcasting, 2017, eq. 2, pixel by pixel."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from naive.motion_gru import at
from naive.parts import Weights, conv


def trajgru(
    W: Weights, X: Tensor, H: Tensor, *, activation: Callable[[Tensor], Tensor] = torch.tanh
) -> Tensor:
    """``H_t`` from ``X_t, H_{t-1}``."""
    hidden = activation(conv(W, "flow_x", X)[0] + conv(W, "flow_h", H)[0])
    (flows,) = conv(W, "flow", hidden)
    L = flows.shape[1] // 2
    W_xr, W_xz, W_xn = conv(W, "conv_x", X, 3)
    W_hr, W_hz, W_hn = conv(W, "conv_h", links(H, flows, L), 3)
    r = torch.sigmoid(W_xr + W_hr)
    z = torch.sigmoid(W_xz + W_hz)
    n = activation(W_xn + r * W_hn)
    return (1 - z) * n + z * H


def links(H: Tensor, flows: Tensor, L: int) -> Tensor:
    """What link ``l`` of every pixel shows of ``H``: the place that flow ``(U_l, V_l)`` is from."""
    B, C, height, width = H.shape
    seen = torch.zeros(B, C * L, height, width, dtype=H.dtype)
    for b, link, row, column in product(range(B), range(L), range(height), range(width)):
        U, V = (float(flows[b, 2 * link + i, row, column]) for i in (0, 1))
        channels = at(H[b], row - V, column - U)
        for c in range(C):
            seen[b, c * L + link, row, column] = channels[c]
    return seen
