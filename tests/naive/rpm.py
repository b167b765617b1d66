"""RPM: Chang et al., STRPM, 2022."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv


def rpm(
    W: Weights,
    T: Tensor,
    S: Tensor,
    O: Tensor,
    H: Tensor,
    M: Tensor,
    C_past: list[Tensor],
    M_past: list[Tensor],
    *,
    forget_bias: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t^k, C_t^k, M_t^k)`` from ``C_past``, ``M_past`` (oldest first) and the memory ``M``."""
    (W_t,), (W_s,), (W_o,) = conv(W, "en_t", T), conv(W, "en_s", S), conv(W, "en_o", O)
    (W_h,), (W_m,) = conv(W, "conv_h", H), conv(W, "conv_m", M)
    (C_kept,) = conv(W, "att_c", torch.cat(C_past, dim=1))
    (M_kept,) = conv(W, "att_m", torch.cat(M_past, dim=1))
    i = torch.sigmoid(W_t + W_h)
    f = torch.sigmoid(W_t + W_h + forget_bias)
    C_t = i * torch.tanh(W_t + W_h) + f * C_kept
    i_ = torch.sigmoid(W_s + W_m)
    f_ = torch.sigmoid(W_s + W_m + forget_bias)
    M_t = i_ * torch.tanh(W_s + W_m) + f_ * M_kept
    both = torch.cat([C_t, M_t], dim=1)
    (W_both,) = conv(W, "conv_o", both)
    gate = torch.sigmoid(W_o + W_h + W_both)
    if "conv_sto.weight" in W:
        sto = torch.cat([T, S, gate], dim=1)
        residual = F.conv2d(sto, W["conv_sto.weight"], W["conv_sto.bias"])
    else:
        residual = T
    H_t = gate * torch.tanh(F.conv2d(both, W["conv_last.weight"], W["conv_last.bias"])) + residual
    return H_t, C_t, M_t
