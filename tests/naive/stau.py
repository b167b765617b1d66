"""STAU: Chang et al., 2022, eq. 1 to 10, and its ablations (section 4.4)."""

import torch
from torch import Tensor

from naive.parts import Weights, attention, conv


def stau(
    W: Weights,
    S_past: list[Tensor],
    T_past: list[Tensor],
    S_lower: list[Tensor],
    T_lower: list[Tensor],
    *,
    gamma: float = 0.0,
    scaled: bool = True,
    temporal_attention: str | None = "spatial",
    spatial_attention: str | None = "temporal",
) -> tuple[Tensor, Tensor]:
    """``(S_t^k, T_t^k)``; all lists begin at i = 1.

    From the lists of ``S_{t-i}^{k-1}``, ``T_{t-i}^k``, ``S_t^{k-i}`` and ``T_{t-1}^{k-i+1}``.
    """
    S, T = S_lower[0], T_past[0]
    (S_hat,) = conv(W, "conv_s_next", S)
    (T_hat,) = conv(W, "conv_t_next", T)
    F_T, F_S = torch.sigmoid(T_hat), torch.sigmoid(S_hat)
    if temporal_attention is None:
        T_AMI = T
    elif temporal_attention == "spatial":
        T_AMI = F_T * T + (1 - F_T) * attention(S_hat, S_past, T_past, scaled)
    else:
        T_AMI = F_T * T + (1 - F_T) * attention(T_hat, T_past, T_past, scaled)
    if spatial_attention is None:
        S_AAI = S
    elif spatial_attention == "temporal":
        S_AAI = F_S * S + (1 - F_S) * attention(T_hat, T_lower, S_lower, scaled)
    else:
        S_AAI = F_S * S + (1 - F_S) * attention(S_hat, S_lower, S_lower, scaled)
    W_tu, W_tt, W_ts = conv(W, "conv_t", T_AMI, 3)
    W_su, W_st, W_ss = conv(W, "conv_s", S_AAI, 3)
    U_T, U_S = torch.sigmoid(W_tu), torch.sigmoid(W_su)
    T_t = U_T * W_tt + (1 - U_T) * W_st
    S_t = U_S * W_ss + (1 - U_S) * W_ts + gamma * S
    return S_t, T_t
