"""PhyCell: Le Guen and Thome, PhyDNet, 2020, derivative by derivative."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights, normalised


def phycell(W: Weights, X: Tensor, H: Tensor) -> Tensor:
    """``H_t`` from the input and ``H_{t-1}``."""
    kernels = W["derivatives.weight"]
    k = kernels.shape[-1]
    H_tilde = H + W["combine.bias"][:, None, None]
    for i in range(k):  # the order of a derivative down the rows
        numbers = [i * k + j for j in range(k)]
        maps = [
            F.conv2d(H, kernels[n, None], W["derivatives.bias"][n, None], padding=k // 2)
            for n in numbers
        ]
        for n, derivative in zip(numbers, normalised(maps), strict=True):
            D = W["norm.weight"][n] * torch.stack(derivative) + W["norm.bias"][n]
            H_tilde = H_tilde + W["combine.weight"][:, n] * D
    W_x, W_h = W["gain.weight"].chunk(2, dim=1)
    K = torch.sigmoid(F.conv2d(X, W_x, W["gain.bias"], padding=1) + F.conv2d(H, W_h, padding=1))
    return H_tilde + K * (X - H_tilde)


def moment_penalty(kernels: Tensor) -> float:
    """Moment regularisation of ``(k * k, channels, k, k)`` kernels, weight by weight."""
    k, channels = kernels.shape[-1], kernels.shape[1]
    penalty = 0.0
    for n in range(k * k):
        for b in range(channels):
            for i in range(k):
                for j in range(k):
                    moment = sum(
                        float(kernels[n, b, y, x]) * (y - k // 2) ** i * (x - k // 2) ** j
                        for y in range(k)
                        for x in range(k)
                    ) / (math.factorial(i) * math.factorial(j))
                    penalty += (moment - (n == i * k + j)) ** 2 / k**4
    return penalty
