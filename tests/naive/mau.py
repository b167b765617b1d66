"""MAU: Chang et al., 2021."""

import torch
from torch import Tensor

from naive.parts import Weights, attention, conv


def mau(
    W: Weights,
    S: Tensor,
    S_past: list[Tensor],
    T_past: list[Tensor],
    *,
    gamma: float = 0.0,
    scaled: bool = True,
) -> tuple[Tensor, Tensor]:
    """``(S_t^k, T_t^k)`` from ``S_t^{k-1}`` and the lists of ``S_{t-i}^{k-1}``, ``T_{t-i}^k``."""
    T = T_past[0]
    (S_hat,) = conv(W, "conv_s_next", S)
    T_att = attention(S_hat, S_past, T_past, scaled)
    (T_hat,) = conv(W, "conv_t_next", T)
    U_f = torch.sigmoid(T_hat)
    T_AMI = U_f * T + (1 - U_f) * T_att
    W_tu, W_tt, W_ts = conv(W, "conv_t", T_AMI, 3)
    W_su, W_st, W_ss = conv(W, "conv_s", S, 3)
    U_T, U_S = torch.sigmoid(W_tu), torch.sigmoid(W_su)
    T_t = U_T * W_tt + (1 - U_T) * W_st
    S_t = U_S * W_ss + (1 - U_S) * W_ts + gamma * S
    return S_t, T_t
