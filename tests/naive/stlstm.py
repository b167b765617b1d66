"""ST-LSTM: Wang et al., PredRNN, 2017, eq. 4."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv


def stlstm_gates(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, M: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """``(o, new, C_t, M_t, (dC, dM))``.

    ``new`` is what the output gate ``o`` lets out, ``dC`` and ``dM`` what is written to a memory.
    """
    W_xi, W_xf, W_xg, W_xi_, W_xf_, W_xg_, W_xo = conv(W, "conv_x", X, 7)
    W_hi, W_hf, W_hg, W_ho = conv(W, "conv_h", H, 4)
    W_mi, W_mf, W_mg = conv(W, "conv_m", M, 3)
    i = torch.sigmoid(W_xi + W_hi)
    f = torch.sigmoid(W_xf + W_hf + forget_bias)
    dC = i * torch.tanh(W_xg + W_hg)
    C_t = f * C + dC
    i_ = torch.sigmoid(W_xi_ + W_mi)
    f_ = torch.sigmoid(W_xf_ + W_mf + forget_bias)
    dM = i_ * torch.tanh(W_xg_ + W_mg)
    M_t = f_ * M + dM
    both = torch.cat([C_t, M_t], dim=1)
    (W_o,) = conv(W, "conv_o", both)
    o = torch.sigmoid(W_xo + W_ho + W_o)
    return o, torch.tanh(F.conv2d(both, W["conv_last.weight"])), C_t, M_t, (dC, dM)


def stlstm(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, M: Tensor, **options: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t, C_t, M_t)`` from ``X_t, H_{t-1}, C_{t-1}`` and ``M`` of the layer below."""
    o, new, C_t, M_t, _ = stlstm_gates(W, X, H, C, M, **options)
    return o * new, C_t, M_t
