"""STGRU: Chang et al., IPRNN, 2021, eq. 2 and 3; STIP, 2022, eq. 5 to 7."""

import torch
from torch import Tensor

from naive.parts import Weights, conv


def stgru(W: Weights, S: Tensor, T: Tensor, *, update_bias: float = 1.0) -> tuple[Tensor, Tensor]:
    """``(S_t^k, T_t^k)`` from ``S_t^{k-1}, T_{t-1}^k``."""
    W_tu, W_tr, W_tt, W_ts = conv(W, "conv_t", T, 4)
    W_su, W_sr, W_st, W_ss = conv(W, "conv_s", S, 4)
    U = torch.sigmoid(W_su + W_tu + update_bias)
    R = torch.sigmoid(W_sr + W_tr)
    T_trend = torch.tanh(W_tt + R * W_st)
    S_trend = torch.tanh(W_ss + R * W_ts)
    return (1 - U) * S_trend + U * S, (1 - U) * T_trend + U * T
