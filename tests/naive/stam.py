"""STAM: Chang et al., STAE, 2021, eqs. 4 to 6."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv3d


def stam(
    W: Weights,
    T: Tensor,
    S: Tensor,
    O: Tensor,
    H: Tensor,
    C_past: list[Tensor],
    M_past: list[Tensor],
    *,
    forget_bias: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``(H_t, O_t, C_t, M_t)``; the past ``C`` are those of the layer, the last of the past ``M``
    that of the layer below."""
    if "conv_x.0.weight" in W:  # T, S and O are one
        X_i, X_f, X_g, X_i_, X_f_, X_g_, X_o = conv3d(W, "conv_x", T, 7)
    else:
        X_i, X_f, X_g = conv3d(W, "conv_x.0", T, 3)
        X_i_, X_f_, X_g_ = conv3d(W, "conv_x.1", S, 3)
        (X_o,) = conv3d(W, "conv_x.2", O)
    H_i, H_f, H_g, H_o = conv3d(W, "conv_h", H, 4)
    F_t = torch.sigmoid(X_f + H_f + forget_bias)
    C_t = torch.sigmoid(X_i + H_i) * torch.tanh(X_g + H_g) + F_t * attention(F_t, C_past)
    M_i, M_f, M_g = conv3d(W, "conv_m", M_past[-1], 3)
    f_t = torch.sigmoid(X_f_ + M_f + forget_bias)
    M_t = torch.sigmoid(X_i_ + M_i) * torch.tanh(X_g_ + M_g) + f_t * attention(f_t, M_past)
    both = torch.cat([C_t, M_t], dim=1)
    (W_o,) = conv3d(W, "conv_o", both)
    O_t = torch.sigmoid(X_o + H_o + W_o)
    H_t = O_t * torch.tanh(F.conv3d(both, W["conv_last.weight"], W["conv_last.bias"]))
    return H_t, O_t, C_t, M_t


def attention(gate: Tensor, past: list[Tensor]) -> Tensor:
    """``sum_j a_j C_j`` with ``a = softmax_j(F . C_j)``, element by element."""
    scores = [(gate * C).exp() for C in past]
    return sum(a * C for a, C in zip(scores, past, strict=True)) / sum(scores)  # type: ignore[return-value]
