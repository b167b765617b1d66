"""MIM: Wang et al., Memory in Memory, 2019, eqs. 2 to 4, with the cascade of the authors' code."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv, per_channel


def mim_memory(
    W: Weights, name: str, X: Tensor, H: Tensor, C: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor]:
    """MIM-N (of the difference ``X``) and MIM-S (``H`` the temporal memory, ``C`` its own)."""
    X_i, X_f, X_g, X_o = conv(W, f"{name}.conv_x", X, 4)
    H_i, H_f, H_g, H_o = conv(W, f"{name}.conv_h", H, 4)
    w_i, w_f, w_o = (per_channel(w, X[0]) for w in W[f"{name}.peephole"])
    i = torch.sigmoid(X_i + H_i + w_i * C)
    f = torch.sigmoid(X_f + H_f + w_f * C + forget_bias)
    C_t = f * C + i * torch.tanh(X_g + H_g)
    o = torch.sigmoid(X_o + H_o + w_o * C_t)
    return o * torch.tanh(C_t), C_t


def mim_block(
    W: Weights,
    X: Tensor,
    D: Tensor,
    H: Tensor,
    C: Tensor,
    S: Tensor,
    M: Tensor,
    *,
    forget_bias: float = 1.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``(H_t, C_t, S_t, M_t)``; ``D`` is what MIM-N gives."""
    X_i, X_g, X_f, X_o = conv(W, "conv_x", X, 4)
    H_i, H_g, H_o = conv(W, "conv_t", H, 3)
    M_i, M_g, M_f, M_o = conv(W, "conv_s", M, 4)
    kept, S_t = mim_memory(W, "s", D, C, S, forget_bias=forget_bias)
    C_t = kept + torch.sigmoid(X_i + H_i) * torch.tanh(X_g + H_g)
    f_ = torch.sigmoid(X_f + M_f + forget_bias)
    M_t = f_ * M + torch.sigmoid(X_i + M_i) * torch.tanh(X_g + M_g)
    o = torch.sigmoid(X_o + H_o + M_o)
    H_t = o * torch.tanh(F.conv2d(torch.cat([C_t, M_t], dim=1), W["conv_last.weight"]))
    return H_t, C_t, S_t, M_t
