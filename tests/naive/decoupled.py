"""The memory decoupling of PredRNN-v2: Wang et al., 2022, section 3.3."""

import torch
from torch import Tensor

from naive.parts import Weights


def decoupling(W: Weights, dC: Tensor, dM: Tensor) -> Tensor:
    """``(B,)``: the mean over the channels of |cos| between the two increments, adapted."""
    A = W["adapter.weight"][:, :, 0, 0]
    means = []
    for dC_b, dM_b in zip(dC, dM, strict=True):
        adapted_C = torch.einsum("kj,jyx->kyx", A, dC_b)
        adapted_M = torch.einsum("kj,jyx->kyx", A, dM_b)
        cosines = [
            (u * v).sum().abs() / ((u * u).sum().sqrt() * (v * v).sum().sqrt())
            for u, v in zip(adapted_C, adapted_M, strict=True)
        ]
        means.append(sum(cosines) / len(cosines))
    return torch.stack(means)  # type: ignore[arg-type]
