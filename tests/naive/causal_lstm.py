"""Causal LSTM and gradient highway: Wang et al., PredRNN++, 2018, eqs. 1 and 2."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv


def causal_lstm(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, M: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t, C_t, M_t)`` from ``X_t, H_{t-1}, C_{t-1}`` and ``M`` of the layer below."""
    X_i, X_f, X_g, X_i_, X_f_, X_g_, X_o = conv(W, "conv_x", X, 7)
    H_i, H_f, H_g, H_o = conv(W, "conv_h", H, 4)
    C_i, C_f, C_g = conv(W, "conv_c", C, 3)
    i = torch.sigmoid(X_i + H_i + C_i)
    f = torch.sigmoid(X_f + H_f + C_f + forget_bias)
    g = torch.tanh(X_g + H_g + C_g)
    C_t = f * C + i * g
    M_i_, M_f_, M_m = conv(W, "conv_m", M, 3)
    C_i_, C_g_, C_f_, C_o = conv(W, "conv_c2m", C_t, 4)
    i_ = torch.sigmoid(X_i_ + M_i_ + C_i_)
    f_ = torch.sigmoid(X_f_ + M_f_ + C_f_ + forget_bias)
    g_ = torch.tanh(X_g_ + C_g_)
    M_t = f_ * torch.tanh(M_m) + i_ * g_
    (M_o,) = conv(W, "conv_om", M_t)
    o = torch.tanh(X_o + H_o + C_o + M_o)
    H_t = o * torch.tanh(F.conv2d(torch.cat([C_t, M_t], dim=1), W["conv_last.weight"]))
    return H_t, C_t, M_t


def ghu(W: Weights, X: Tensor, Z: Tensor) -> Tensor:
    """``Z_t`` from ``X_t`` and ``Z_{t-1}``."""
    X_p, X_u = conv(W, "x_concat", X, 2)
    Z_p, Z_u = conv(W, "z_concat", Z, 2)
    P, S = torch.tanh(X_p + Z_p), torch.sigmoid(X_u + Z_u)
    return S * P + (1 - S) * Z
