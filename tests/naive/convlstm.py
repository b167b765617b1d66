"""ConvLSTM: Shi et al., 2015, eq. 3 (peepholes), and as later papers have it (none)."""

import torch
from torch import Tensor

from naive.parts import Weights, conv


def convlstm(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor]:
    """``(H_t, C_t)`` from ``X_t, H_{t-1}, C_{t-1}``."""
    W_xi, W_xf, W_xg, W_xo = conv(W, "conv_x", X, 4)
    W_hi, W_hf, W_hg, W_ho = conv(W, "conv_h", H, 4)
    w_ci, w_cf, w_co = W.get("peephole", torch.zeros(3, 1, 1, 1))
    i = torch.sigmoid(W_xi + W_hi + w_ci * C)
    f = torch.sigmoid(W_xf + W_hf + w_cf * C + forget_bias)
    C_t = f * C + i * torch.tanh(W_xg + W_hg)
    o = torch.sigmoid(W_xo + W_ho + w_co * C_t)
    return o * torch.tanh(C_t), C_t
