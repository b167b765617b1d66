"""STIP: Chang et al., 2022, Algorithm 1, with the crossed recall of the authors' code."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights
from naive.stgru import stgru


def stip(
    W: Weights,
    layers: list[Weights],
    context: list[Tensor],
    horizon: int,
    *,
    patch: int,
    length: int,
    recall: float,
) -> list[Tensor]:
    """The ``horizon`` frames after ``context``, frames of ``(B, C, H, W)``."""
    scales = sum(name.startswith("decoder.domains.t.convs.") for name in W) // 2

    def conv(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        return F.conv2d(x, W[f"{name}.weight"], W[f"{name}.bias"], stride, padding)

    def encode(domain: str, clip: Tensor) -> list[Tensor]:
        place = f"encoder.domains.{domain}.convs"
        features = [F.leaky_relu(conv(f"{place}.0", clip), 0.2)]
        for j in range(1, scales + 1):
            features.append(F.leaky_relu(conv(f"{place}.{j}", features[-1], 2, 1), 0.2))
        return features

    def decode(domain: str, x: Tensor, features: list[Tensor]) -> Tensor:
        place = f"decoder.domains.{domain}"
        for j in range(scales):
            weight, bias = W[f"{place}.convs.{j}.weight"], W[f"{place}.convs.{j}.bias"]
            x = F.conv_transpose2d(x, weight, bias, 2, 1, 1)
            if j < scales - 1:
                x = F.leaky_relu(x, 0.2) + recall * features[-2 - j]
        return conv(f"{place}.to_frame", x)

    zero = torch.zeros_like(context[0])
    frames, predictions = [zero] * (length - 1) + list(context), []
    T: list[Tensor] | None = None
    for t in range(len(context) + horizon - 1):
        clip = F.pixel_unshuffle(torch.cat(frames[t : t + length], dim=1), patch)
        T_E, S_E = encode("t", clip), encode("s", clip)
        S = S_E[-1]
        T = T or [torch.zeros_like(S) for _ in layers]
        T[0] = conv("core.merge", torch.cat([T[0], T_E[-1]], dim=1))
        for k, layer in enumerate(layers):
            S, T[k] = stgru(layer, S, T[k])
        T_D, S_D = decode("t", T[-1], S_E), decode("s", S, T_E)
        v = F.pixel_shuffle(conv("decoder.merge", torch.cat([T_D, S_D], dim=1)), patch)
        if t >= len(context) - 1:
            frames.append(v)
            predictions.append(v)
    return predictions
