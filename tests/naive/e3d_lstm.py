"""E3D-LSTM: Wang et al., Eidetic 3D LSTM, 2019: recall, memories and output, place by place."""

from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv3d, normalised, per_channel


def e3d_lstm(
    W: Weights, X: Tensor, H: Tensor, C_past: list[Tensor], M: Tensor, *, forget_bias: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t, C_t, M_t)`` from ``X_t, H_{t-1}``, the past ``C`` (last: t-1), ``M`` from below."""
    X_i, X_g, X_r, X_i_, X_f_, X_g_, X_o = conv3d(W, "conv_x", X, 7)
    H_i, H_g, H_r, H_o = conv3d(W, "conv_h", H, 4)
    M_i_, M_f_, M_g_ = conv3d(W, "conv_m", M, 3)
    R = torch.sigmoid(X_r + H_r)
    (samples,) = normalised([C_past[-1] + recall(R, C_past)])
    scale, shift = W["norm_c.weight"], W["norm_c.bias"]
    kept = torch.stack([per_channel(scale, y) * y + per_channel(shift, y) for y in samples])
    C_t = torch.sigmoid(X_i + H_i) * torch.tanh(X_g + H_g) + kept
    f_ = torch.sigmoid(X_f_ + M_f_ + forget_bias)
    M_t = torch.sigmoid(X_i_ + M_i_) * torch.tanh(X_g_ + M_g_) + f_ * M
    both = torch.cat([C_t, M_t], dim=1)
    (W_o,) = conv3d(W, "conv_o", both)
    o = torch.sigmoid(X_o + H_o + W_o)
    H_t = o * torch.tanh(F.conv3d(both, W["conv_last.weight"]))
    return H_t, C_t, M_t


def recall(R: Tensor, C_past: list[Tensor]) -> Tensor:
    """``softmax(R . C^T) . C``: a place of ``R`` looks at all places of all past ``C``."""
    result = torch.empty_like(R)
    batch, _, *sides = R.shape
    for b in range(batch):
        places = list(product(range(len(C_past)), *map(range, sides)))
        C = torch.stack([C_past[tau][b, :, d, y, x] for tau, d, y, x in places])
        for d, y, x in product(*map(range, sides)):
            weights = (C @ R[b, :, d, y, x]).exp()
            weights /= weights.sum()
            result[b, :, d, y, x] = (weights[:, None] * C).sum(dim=0)
    return result
