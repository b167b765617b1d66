"""SA-ConvLSTM: Lin et al., 2020, position by position."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.convlstm import convlstm
from naive.parts import Weights, conv


def sa_convlstm(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, M: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t, C_t, M_t)``: a ConvLSTM, then the self-attention memory."""
    lstm = {name.removeprefix("lstm."): w for name, w in W.items() if name.startswith("lstm.")}
    H, C_t = convlstm(lstm, X, H, C, forget_bias=forget_bias)
    W_q, W_k, W_v = W["qkv_h.weight"].chunk(3)
    W_mk, W_mv = W["kv_m.weight"].chunk(2)
    Q = F.conv2d(H, W_q)
    Z_h = attend(Q, F.conv2d(H, W_k), F.conv2d(H, W_v))
    Z_m = attend(Q, F.conv2d(M, W_mk), F.conv2d(M, W_mv))
    Z = F.conv2d(torch.cat([Z_h, Z_m], dim=1), W["fuse.weight"])
    i, g, o = conv(W, "conv_zh", torch.cat([Z, H], dim=1), 3)
    i = torch.sigmoid(i)
    M_t = (1 - i) * M + i * torch.tanh(g)
    return torch.sigmoid(o) * M_t, C_t, M_t


def attend(Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
    """``Z_i = sum_j a_ij V_j`` with ``a_i = softmax_j(Q_i . K_j)``, i and j over all positions."""
    Z = torch.zeros_like(V)
    positions = [(y, x) for y in range(V.shape[2]) for x in range(V.shape[3])]
    for b in range(V.shape[0]):
        for y, x in positions:
            e = [math.exp(Q[b, :, y, x] @ K[b, :, r, c]) for r, c in positions]
            for e_j, (r, c) in zip(e, positions, strict=True):
                Z[b, :, y, x] += e_j / sum(e) * V[b, :, r, c]
    return Z
