"""What gates do: blend two feature maps, write to a memory and forget, choose among memories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vidpred.cells.recording import show


def gate(opening: Tensor, name: str) -> Tensor:
    r"""Return :math:`\sigma(opening)`.

    Args:
        opening: The gate before its sigmoid.
        name: What the field calls it, for :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> gate(torch.zeros(1), "reset gate")
        tensor([0.5000])
    """
    opened = torch.sigmoid(opening)
    show("gates", name, lambda: opened)
    return opened


class _Blend(torch.autograd.Function):
    # Autograd would keep the gate and, under autocast, float32 copies of all three operands for
    # the backward pass. Keeping the operands as they came keeps nothing that is not kept anyway.

    @staticmethod
    def forward(start: Tensor, end: Tensor, gate: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.lerp(start.to(dtype), end.to(dtype), torch.sigmoid(gate.to(dtype)))

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


def blend(start: Tensor, end: Tensor, gate: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    r"""Return :math:`(1 - \sigma(g)) \odot start + \sigma(g) \odot end`.

    Args:
        start: What a closed gate lets through.
        end: What an open gate lets through, same shape.
        gate: The gate before its sigmoid, same shape.
        dtype: Of the result, and of the arithmetic: the dtype of the state, which under autocast
            is wider than that of the convolutions' outputs.
        name: What the field calls the gate, for :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> blend(zero, one, zero, torch.float32, "update gate")
        tensor([0.5000])
    """
    show("gates", name, lambda: torch.sigmoid(gate.to(dtype)))
    # A compiler decides by itself what to keep.
    mix: Any = _Blend.forward if torch.compiler.is_compiling() else _Blend.apply
    return mix(start, end, gate, dtype)


def lstm_memory(
    memory: Tensor, i: Tensor, f: Tensor, g: Tensor, forget_bias: float, name: str
) -> Tensor:
    r"""Update the memory of an LSTM: :math:`\sigma(f + b) \odot memory + \sigma(i) \odot \tanh(g)`.

    Args:
        memory: What was remembered; its dtype is that of the result.
        i: The input gate before its sigmoid, same shape.
        f: The forget gate before its sigmoid, same shape.
        g: What to write, before its hyperbolic tangent, same shape.
        forget_bias: The constant ``b``: above 0 the memory is kept at first.
        name: The letter of the memory, for :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> lstm_memory(one, i=zero, f=zero, g=zero, forget_bias=0.0, name="c")
        tensor([0.5000])
    """
    kept = gate(f + forget_bias, f"forget gate of {name}") * memory
    # Under autocast a memory in bfloat16 meets gates in float32: peepholes and layer norms make it.
    return (kept + lstm_increment(i, g, name)).to(memory.dtype)


def lstm_increment(i: Tensor, g: Tensor, name: str) -> Tensor:
    r"""What an LSTM adds to its memory: :math:`\sigma(i) \odot \tanh(g)`.

    Args:
        i: The input gate before its sigmoid.
        g: What to write, before its hyperbolic tangent, same shape.
        name: The letter of the memory, for :func:`vidpred.cells.record`.
    """
    return gate(i, f"input gate of {name}") * torch.tanh(g)


class _Choose(torch.autograd.Function):
    # Autograd would keep the weights, a map for each memory. Keeping the operands, kept anyway,
    # and computing the weights again takes a fifth less memory in training.

    @staticmethod
    def forward(gate: Tensor, missing: Tensor, *memories: Tensor) -> Tensor:
        weights = _weights(gate, missing, memories)
        chosen = weights[0] * memories[0]
        for weight, memory in zip(weights[1:], memories[1:], strict=True):
            chosen = torch.addcmul(chosen, weight, memory)
        return chosen

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gate, missing, *memories, chosen = ctx.saved_tensors
        to_gate, to_memories = torch.zeros_like(chosen), []
        for weight, memory in zip(_weights(gate, missing, memories), memories, strict=True):
            share = gradient * weight
            by_weight = share * (memory - chosen)
            to_gate.addcmul_(by_weight, memory)
            to_memories.append(share.addcmul_(by_weight, gate.to(memory.dtype)))
        return (to_gate.to(gate.dtype), None, *to_memories)


def _weights(gate: Tensor, missing: Tensor, memories: Sequence[Tensor]) -> Tensor:
    *older, newest = (gate.to(memory.dtype) * memory for memory in memories)
    existing = [score.masked_fill(age < missing, -torch.inf) for age, score in enumerate(older)]
    return torch.stack([*existing, newest]).softmax(dim=0)


def choose(gate: Tensor, memories: Sequence[Tensor], missing: Tensor, name: str) -> Tensor:
    r"""Attend to memories, element by element: :math:`\sum_j softmax_j(g \odot c_j) \odot c_j`.

    Args:
        gate: What an element asks each memory for; after its sigmoid.
        memories: Oldest first, same shape.
        missing: How many of them, of all but the newest, do not exist yet; broadcast.
        name: What the weights are called, for :func:`vidpred.cells.record`.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(1), torch.ones(1)
        >>> choose(zero, [7 * one, one, 2 * one], missing=one, name="attention to past c")
        tensor([1.5000])
    """
    show("attention", name, lambda: _weights(gate, missing, memories).movedim(0, 1))
    # A compiler decides by itself what to keep.
    attend: Any = _Choose.forward if torch.compiler.is_compiling() else _Choose.apply
    return attend(gate, missing, *memories)
