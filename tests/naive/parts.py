"""What the units share: convolution, flat or deep, with its norm, and attention."""

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
    return norm(W, name, maps)


def conv3d(W: Weights, name: str, x: Tensor, gates: int = 1) -> list[Tensor]:
    """The same of volumes ``(B, C, D, H, W)``: each map sees its neighbours in the depth."""
    kernels = W[f"{name}.0.weight"].chunk(gates)
    biases = W[f"{name}.0.bias"].chunk(gates)
    depth, *widths = kernels[0].shape[2:]
    padding = [width // 2 for width in widths]
    volumes = []
    for kernel, bias in zip(kernels, biases, strict=True):
        maps = []
        for d in range(x.shape[2]):
            y = bias[:, None, None]
            for j in range(depth):
                seen = d + j - (depth - 1) // 2
                if 0 <= seen < x.shape[2]:
                    y = y + F.conv2d(x[:, :, seen], kernel[:, :, j], padding=padding)
            maps.append(y)
        volumes.append(torch.stack(maps, dim=2))
    return norm(W, name, volumes)


def norm(W: Weights, name: str, maps: list[Tensor]) -> list[Tensor]:
    """One norm over all gates, where the weights have one."""
    if f"{name}.1.weight" not in W:
        return maps
    scales = W[f"{name}.1.weight"].chunk(len(maps))
    shifts = W[f"{name}.1.bias"].chunk(len(maps))
    return [
        torch.stack([per_channel(scale, y) * y + per_channel(shift, y) for y in samples])
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


def per_channel(weight: Tensor, like: Tensor) -> Tensor:
    """``(C,)`` for a map or volume ``(C, ...)``; any other as it is."""
    return weight.reshape(-1, *[1] * (like.dim() - 1)) if weight.dim() == 1 else weight


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
