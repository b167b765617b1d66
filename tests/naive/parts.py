"""What the units share: convolution with its norm, and attention."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

Weights = dict[str, Tensor]


def conv(W: Weights, name: str, x: Tensor, gates: int = 1) -> list[Tensor]:
    """``[W_1 * x, ..., W_gates * x]``: one convolution each, then one norm over all of them."""
    kernels = W[f"{name}.0.weight"].chunk(gates)
    biases = W[f"{name}.0.bias"].chunk(gates)
    padding = kernels[0].shape[-1] // 2
    maps = [F.conv2d(x, w, b, padding=padding) for w, b in zip(kernels, biases, strict=True)]
    if f"{name}.1.weight" not in W:
        return maps
    scales = W[f"{name}.1.weight"].chunk(gates)
    shifts = W[f"{name}.1.bias"].chunk(gates)
    return [
        torch.stack([per_channel(scale) * y + per_channel(shift) for y in samples])
        for samples, scale, shift in zip(normalised(maps), scales, shifts, strict=True)
    ]


def normalised(maps: list[Tensor]) -> list[list[Tensor]]:
    """Per sample: subtract the mean of all maps, divide by their standard deviation."""
    result: list[list[Tensor]] = [[] for _ in maps]
    for sample in zip(*maps, strict=True):
        count = sum(y.numel() for y in sample)
        mean = sum(y.sum() for y in sample) / count
        variance = sum(((y - mean) ** 2).sum() for y in sample) / count
        for y, samples in zip(sample, result, strict=True):
            samples.append((y - mean) / (variance + 1e-5) ** 0.5)
    return result


def per_channel(weight: Tensor) -> Tensor:
    """``(C,)`` as ``(C, 1, 1)``; ``(C, H, W)`` as it is."""
    return weight[:, None, None] if weight.dim() == 1 else weight


def attention(query: Tensor, keys: list[Tensor], values: list[Tensor], scaled: bool) -> Tensor:
    """``sum_j a_j V_j`` with ``a = softmax_j(K_j . Q)``, a number per sample and reference."""
    attended = []
    for b, q in enumerate(query):
        p = [float((k[b] * q).sum()) for k in keys]
        if scaled:
            p = [p_i / math.sqrt(q.numel()) for p_i in p]
        total = sum(math.exp(p_i) for p_i in p)
        a = [math.exp(p_i) / total for p_i in p]
        attended.append(sum(a_j * v[b] for a_j, v in zip(a, values, strict=True)))
    return torch.stack(attended)  # type: ignore[arg-type]
