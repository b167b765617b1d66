"""MotionGRU: Wu et al., MotionRNN, 2021, eqs. 2 to 5, pixel by pixel."""

import math
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights


def motion_gru(W: Weights, X: Tensor, offset: Tensor, trend: Tensor) -> tuple[Tensor, ...]:
    """``(X', offset_t, trend_t)`` from the features and the last offset and trend."""

    def conv(name: str, x: Tensor) -> Tensor:
        kernel = W[f"{name}.weight"]
        return F.conv2d(x, kernel, W[f"{name}.bias"], padding=kernel.shape[-1] // 2)

    both = torch.cat([X, offset], dim=1)
    u, r = torch.sigmoid(conv("update", both)), torch.sigmoid(conv("reset", both))
    z = torch.tanh(conv("output", torch.cat([X, r * offset], dim=1)))
    trend_t = trend + 0.5 * (offset - trend)
    offset_t = (1 - u) * offset + u * z + trend_t
    mask = torch.sigmoid(conv("mask", X))
    kernel = W["gather.weight"]
    n = kernel.shape[-1]
    X_new = torch.zeros(X.shape[0], kernel.shape[0], *X.shape[2:], dtype=X.dtype)
    for b, channel, row, column in product(*map(range, X_new.shape)):
        for i in range(n * n):
            y = row + i // n - n // 2 + float(offset_t[b, i, row, column])
            x = column + i % n - n // 2 + float(offset_t[b, n * n + i, row, column])
            seen = mask[b, i, row, column] * at(X[b], y, x)
            X_new[b, channel, row, column] += (kernel[channel, :, i // n, i % n] * seen).sum()
    return X_new, offset_t, trend_t


def at(image: Tensor, y: float, x: float) -> Tensor:
    """The channels at a place between pixels; 0 outside."""
    height, width = image.shape[1:]
    value = torch.zeros(image.shape[0], dtype=image.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[:, row, column]
    return value
