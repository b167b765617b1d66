"""What gates do: blend two feature maps, write to a memory and forget."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Blend(torch.autograd.Function):
    # Autograd would keep the gate and, under autocast, float32 copies of all three operands for
    # the backward pass. Keeping the operands as they came keeps nothing that is not kept anyway.

    @staticmethod
    def forward(start: Tensor, end: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
        blended = start.to(dtype, copy=True)
        return blended.lerp_(end.to(dtype), torch.sigmoid(gate.to(dtype)))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (gradient,) = gradients
        start, end, gate = ctx.saved_tensors
        weight = torch.sigmoid(gate.to(gradient.dtype))
        to_end = gradient * weight
        to_start = gradient - to_end
        to_gate = to_start * weight * (end - start)
        return to_start.to(start.dtype), to_end.to(end.dtype), to_gate.to(gate.dtype), None


def blend(start: Tensor, end: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
    r"""Return :math:`(1 - \sigma(g)) \odot start + \sigma(g) \odot end`.

    Args:
        start: What a closed gate lets through.
        end: What an open gate lets through, same shape.
        gate: The gate before its sigmoid, same shape.
        dtype: Of the result, and of the arithmetic: the dtype of the state, which under autocast
            is wider than that of the convolutions' outputs.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> blend(zero, one, zero, torch.float32)
        tensor([0.5000])
    """
    return _Blend.apply(start, end, gate, dtype)  # type: ignore[return-value]


def lstm_memory(memory: Tensor, i: Tensor, f: Tensor, g: Tensor, forget_bias: float) -> Tensor:
    r"""Update the memory of an LSTM: :math:`\sigma(f + b) \odot memory + \sigma(i) \odot \tanh(g)`.

    Args:
        memory: What was remembered; its dtype is that of the result.
        i: The input gate before its sigmoid, same shape.
        f: The forget gate before its sigmoid, same shape.
        g: What to write, before its hyperbolic tangent, same shape.
        forget_bias: The constant ``b``: above 0 the memory is kept at first.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> lstm_memory(one, i=zero, f=zero, g=zero, forget_bias=0.0)
        tensor([0.5000])
    """
    return torch.sigmoid(f + forget_bias) * memory + lstm_increment(i, g)


def lstm_increment(i: Tensor, g: Tensor) -> Tensor:
    r"""What an LSTM adds to its memory: :math:`\sigma(i) \odot \tanh(g)`.

    Args:
        i: The input gate before its sigmoid.
        g: What to write, before its hyperbolic tangent, same shape.
    """
    return torch.sigmoid(i) * torch.tanh(g)
