"""ConvGRU: Ballas et al., 2016."""

import torch
from torch import Tensor

from naive.parts import Weights, conv


def convgru(W: Weights, X: Tensor, H: Tensor) -> Tensor:
    """``H_t`` from ``X_t, H_{t-1}``."""
    W_xz, W_xr, W_xn = conv(W, "conv_x", X, 3)
    W_hz, W_hr = conv(W, "conv_h", H, 2)
    z = torch.sigmoid(W_xz + W_hz)
    r = torch.sigmoid(W_xr + W_hr)
    (W_hn,) = conv(W, "conv_n", r * H)
    n = torch.tanh(W_xn + W_hn)
    return (1 - z) * n + z * H
