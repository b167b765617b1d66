"""MotionRNN on PredRNN: Wu et al., 2021, section 3; the moved ``H`` is kept, as in their code."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.motion_gru import motion_gru
from naive.parts import Weights
from naive.stlstm import stlstm_gates


def motion_highway(
    W: Weights, X: Tensor, H: Tensor, C: Tensor, M: Tensor, highway: Tensor, **options: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``(H_t, C_t, M_t)``; ``highway`` is the ``H_t`` of the layer below, before it was moved."""
    o, new, C_t, M_t, _ = stlstm_gates(W, X, H, C, M, **options)
    return o * new + (1 - o) * highway, C_t, M_t


def move(W: Weights, H: Tensor, offset: Tensor, trend: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``(H', offset_t, trend_t)``: ``H`` as the motion at half its size carries it on."""
    kernel = W["enc.weight"]
    halved = F.conv2d(H, kernel, W["enc.bias"], padding=kernel.shape[-1] // 2)[..., ::2, ::2]
    gru = {name.removeprefix("motion."): w for name, w in W.items() if name.startswith("motion.")}
    halved, offset, trend = motion_gru(gru, halved, offset, trend)
    moved = doubled(halved, W["dec.weight"], W["dec.bias"], *H.shape[2:])
    kernel = W["gate.weight"]
    both = torch.cat([moved, H], dim=1)
    g = torch.sigmoid(F.conv2d(both, kernel, W["gate.bias"], padding=kernel.shape[-1] // 2))
    return g * moved + (1 - g) * H, offset, trend


def doubled(x: Tensor, kernel: Tensor, bias: Tensor, height: int, width: int) -> Tensor:
    """Every pixel stamps the 4x4 kernel, begun one pixel before twice its place."""
    canvas = torch.zeros(len(x), kernel.shape[1], height + 4, width + 4, dtype=x.dtype)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            stamp = torch.einsum("bi,iokl->bokl", x[:, :, row, column], kernel)
            canvas[:, :, 2 * row : 2 * row + 4, 2 * column : 2 * column + 4] += stamp
    return canvas[:, :, 1 : height + 1, 1 : width + 1] + bias[:, None, None]
