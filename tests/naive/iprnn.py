"""IPRNN: Chang et al., 2021, eq. 1: STGRUs, both final states merged, a decoder that recalls."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights
from naive.stgru import stgru


def iprnn(
    W: Weights, layers: list[Weights], context: list[Tensor], horizon: int, recall: float
) -> list[Tensor]:
    """The ``horizon`` frames after ``context``, frames of ``(B, C, H, W)``."""
    scales = sum(name.startswith("decoder.convs.") for name in W) // 2
    T: list[Tensor] | None = None
    frames, predictions = list(context), []
    for t in range(len(context) + horizon - 1):
        S = F.conv2d(frames[t], W["encoder.convs.0.weight"], W["encoder.convs.0.bias"])
        features = [S := F.leaky_relu(S, 0.2)]
        for j in range(1, scales + 1):
            weight, bias = W[f"encoder.convs.{j}.weight"], W[f"encoder.convs.{j}.bias"]
            features.append(S := F.leaky_relu(F.conv2d(S, weight, bias, 2, 1), 0.2))
        T = T or [torch.zeros_like(S) for _ in layers]
        for k, layer in enumerate(layers):
            S, T[k] = stgru(layer, S, T[k])
        ST = torch.cat([T[-1], S], dim=1)
        D = F.conv2d(ST, W["core.merge.weight"], W["core.merge.bias"])
        for j in range(scales):
            weight, bias = W[f"decoder.convs.{j}.weight"], W[f"decoder.convs.{j}.bias"]
            D = F.conv_transpose2d(D, weight, bias, 2, 1, 1)
            D = (D if j == scales - 1 else F.leaky_relu(D, 0.2)) + recall * features[-2 - j]
        v = F.conv2d(D, W["decoder.to_frame.weight"], W["decoder.to_frame.bias"])
        if t >= len(context) - 1:
            frames.append(v)
            predictions.append(v)
    return predictions
