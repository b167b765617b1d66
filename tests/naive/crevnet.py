"""CrevNet: Yu et al., 2020: reversible predictive memory, bijective blocks, and the whole model."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, conv3d, norm

Pair = tuple[Tensor, Tensor]


def reversible_pm(
    W: Weights, x1: Tensor, x2: Tensor, M: Tensor, H: Tensor, C: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """``(x1, x2, M_t, H_t, C_t)``, for the layer above and the next step."""
    i, f, g = conv3d(W, "conv_c", torch.cat([x1, H, C], dim=1), 3)
    C_t = torch.sigmoid(f) * C + torch.sigmoid(i) * torch.tanh(g)
    i_, f_, g_ = conv3d(W, "conv_m", torch.cat([x1, M, C_t], dim=1), 3)
    M_t = torch.sigmoid(f_) * M + torch.sigmoid(i_) * torch.tanh(g_)
    (o,) = conv3d(W, "conv_o", torch.cat([x1, H, C_t, M_t], dim=1))
    both = torch.cat([C_t, M_t], dim=1)
    both = F.conv3d(both, W["conv_last.weight"], W["conv_last.bias"])
    H_t = torch.sigmoid(o) * torch.tanh(both)
    a = torch.sigmoid(F.conv3d(H_t, W["attention.weight"], W["attention.bias"]))
    return (1 - a) * x2 + a * H_t, x1, M_t, H_t, C_t


def residual(W: Weights, x: Tensor, smaller: bool) -> Tensor:
    """Three convolutions, the first with a stride where the map becomes smaller."""
    if "enter.0.weight" in W:
        scale_and_shift = {f"enter.1.{kind}": W[f"enter.0.{kind}"] for kind in ("weight", "bias")}
        (x,) = norm(scale_and_shift, "enter", [x])
        x = torch.relu(x)
    convolutions = {name: weight for name, weight in W.items() if name.split(".")[2:3] == ["0"]}
    (x,) = conv3d(convolutions, "residual.0", x)
    (x,) = norm(W, "residual.0", [x[..., ::2, ::2] if smaller else x])
    (x,) = conv3d(W, "residual.2", torch.relu(x))
    (x,) = conv3d(W, "residual.4", torch.relu(x))
    return x


def fold(x: Tensor) -> Tensor:
    return torch.cat([x[..., row::2, column::2] for row in (0, 1) for column in (0, 1)], dim=1)


def unfold(x: Tensor) -> Tensor:
    pixels = x.chunk(4, dim=1)
    batch, channels, depth, height, width = pixels[0].shape
    unfolded = x.new_empty(batch, channels, depth, 2 * height, 2 * width)
    for row in (0, 1):
        for column in (0, 1):
            unfolded[..., row::2, column::2] = pixels[2 * row + column]
    return unfolded


def block(W: Weights, pair: Pair) -> Pair:
    x1, x2 = pair
    smaller = W["residual.4.0.weight"].shape[0] == 4 * x2.shape[1]
    F_x2 = residual(W, x2, smaller)
    return (fold(x2), fold(x1) + F_x2) if smaller else (x2, x1 + F_x2)


def block_inverse(W: Weights, pair: Pair) -> Pair:
    x2, y1 = pair
    smaller = W["residual.0.0.weight"].shape[1] == x2.shape[1] / 4
    if smaller:
        x2 = unfold(x2)
    x1 = y1 - residual(W, x2, smaller)
    return (unfold(x1) if smaller else x1), x2


def crevnet(
    blocks: list[Weights], units: list[Weights], context: list[Tensor], horizon: int, depth: int
) -> list[Tensor]:
    """The ``horizon`` frames after ``context``, frames of ``(B, C, H, W)``."""
    frames = [torch.zeros_like(context[0])] * (depth - 1) + list(context)
    predictions, M, H, C = [], None, None, None
    for t in range(len(context) + horizon - 1):
        x1, x2 = fold(torch.stack(frames[t : t + depth], dim=2)).chunk(2, dim=1)
        for W in blocks:
            x1, x2 = block(W, (x1, x2))
        if M is None or H is None or C is None:
            M = torch.zeros_like(x1)
            H, C = [M for _ in units], [M for _ in units]
        for k, W in enumerate(units):
            x1, x2, M, H[k], C[k] = reversible_pm(W, x1, x2, M, H[k], C[k])
        for W in reversed(blocks):
            x1, x2 = block_inverse(W, (x1, x2))
        window = unfold(torch.cat([x1, x2], dim=1))
        if t >= len(context) - 1:
            frames.append(window[:, :, -1])
            predictions.append(window[:, :, -1])
    return predictions
