"""STAE: Chang et al., 2021, eqs. 2, 3, 7 and 8: encoders and decoders of clips around STAMs."""

import torch
from torch import Tensor
from torch.nn import functional as F

from naive.parts import Weights
from naive.stam import stam


def stae(
    W: Weights,
    layers: list[Weights],
    context: list[Tensor],
    horizon: int,
    *,
    length: int,
    patch: int,
    tau: int,
) -> list[Tensor]:
    """The ``horizon`` frames after ``context``, frames of ``(B, C, H, W)``."""
    v = [torch.zeros_like(context[0])] * (length - 1) + context
    H: list[Tensor] = []
    C: list[list[Tensor]] = []
    M: list[Tensor] = []
    predictions = []
    for t in range(length - 1, length + len(context) + horizon - 2):
        clip = torch.stack([folded(frame, patch) for frame in v[t - length + 1 : t + 1]], dim=2)
        if "decoder.domains.o.to_frame.weight" in W:
            T, S, O = (encoder(W, f"encoder.domains.{d}", clip) for d in "tso")
        else:  # one encoder for all
            T = S = O = encoder(W, "encoder.domains.x", clip)
        if not H:
            zero = torch.zeros_like(T)
            H, C, M = [zero] * len(layers), [[zero] for _ in layers], [zero]
        for k, layer in enumerate(layers):
            H[k], O_k, C_k, M_k = stam(layer, T, S, O, H[k], C[k][-tau:], M[-tau:])
            C[k].append(C_k)
            M.append(M_k)
            T = S = O = H[k]
        W_1, b_1 = W["decoder.merge.weight"], W["decoder.merge.bias"]
        if "decoder.domains.o.to_frame.weight" in W:
            TH = decoder(W, "decoder.domains.t", C_k)
            SH = decoder(W, "decoder.domains.s", M_k)
            OH = decoder(W, "decoder.domains.o", O_k)
            both = torch.cat([TH, SH], dim=1)
            v_hat = OH * torch.tanh(
                F.conv2d(both, W["decoder.merge.weight"], W["decoder.merge.bias"])
            )
        else:
            v_hat = F.conv2d(decoder(W, "decoder.domains.x", H[-1]), W_1, b_1)
        if t >= length + len(context) - 2:
            predictions.append(unfolded(v_hat, patch))
            v.append(predictions[-1])
    return predictions


def encoder(W: Weights, name: str, clip: Tensor) -> Tensor:
    """A 1x1x1 convolution, then 3x3x3 ones that halve the sides, each with a ReLU."""
    kernel, bias = W[f"{name}.convs.0.conv.weight"], W[f"{name}.convs.0.conv.bias"]
    maps = [F.conv2d(frame, kernel[:, :, 0], bias).relu() for frame in clip.unbind(dim=2)]
    i = 1
    while f"{name}.convs.{i}.conv.weight" in W:
        kernel, bias = W[f"{name}.convs.{i}.conv.weight"], W[f"{name}.convs.{i}.conv.bias"]
        halved = []
        for d in range(len(maps)):
            y = bias[:, None, None]
            for j in range(3):
                if 0 <= d + j - 1 < len(maps):
                    y = y + F.conv2d(maps[d + j - 1], kernel[:, :, j], stride=2, padding=1)
            halved.append(y.relu())
        maps, i = halved, i + 1
    return torch.stack(maps, dim=2)


def decoder(W: Weights, name: str, volume: Tensor) -> Tensor:
    """Transposed 3x3x3 convolutions that double the sides, a ReLU between them; then the weighted
    sum of all maps."""
    maps = list(volume.unbind(dim=2))
    i = 0
    while f"{name}.convs.{i}.conv.weight" in W:
        kernel, bias = W[f"{name}.convs.{i}.conv.weight"], W[f"{name}.convs.{i}.conv.bias"]
        maps = [y.relu() for y in maps] if i else maps
        doubled = [bias[:, None, None]] * len(maps)
        for e, y in enumerate(maps):  # every map writes to itself and its neighbours
            for j in range(3):
                if 0 <= (d := e + j - 1) < len(maps):
                    written = F.conv_transpose2d(y, kernel[:, :, j], None, 2, 1, 1)
                    doubled[d] = doubled[d] + written
        maps, i = doubled, i + 1
    frame = W[f"{name}.to_frame.bias"][:, None, None]
    for d, y in enumerate(maps):
        frame = frame + F.conv2d(y, W[f"{name}.to_frame.weight"][:, d :: len(maps)])
    return frame


def folded(frame: Tensor, patch: int) -> Tensor:
    """Every square of pixels as channels: colour, row, column."""
    return torch.stack(
        [
            frame[:, c, p::patch, q::patch]
            for c in range(frame.shape[1])
            for p in range(patch)
            for q in range(patch)
        ],
        dim=1,
    )


def unfolded(patches: Tensor, patch: int) -> Tensor:
    """The inverse of it."""
    B, K, h, w = patches.shape
    frame = patches.new_zeros(B, K // patch**2, h * patch, w * patch)
    for k in range(K):
        c, p, q = k // patch**2, k // patch % patch, k % patch
        frame[:, c, p::patch, q::patch] = patches[:, k]
    return frame
