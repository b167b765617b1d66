"""What a cell refuses to be called with: the annotations of its ``forward`` tell what it takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn


def check_call(cell: nn.Module, flow: Any, state: Any) -> None:
    """Refuse a flow or state of another kind than ``forward`` is annotated with, and two batches.

    An annotation that says nothing, such as ``Any`` or a type variable, is held against nobody.
    """
    if torch.compiler.is_compiling():
        return
    name = type(cell).__name__
    flows, states = _taken(type(cell).forward)
    if not isinstance(flow, flows):
        raise TypeError(
            f"{name} takes {_either(flows)} as its flow, got {_form(flow)}: "
            "cell.wiring([cell]) takes feature maps"
        )
    if not isinstance(state, states):
        raise TypeError(
            f"{name} takes {_either(states)} as its state, got {_form(state)}: begin with "
            "cell.init_state(x)"
        )
    check_batch(name, flow, state)


def check_batch(name: str, entering: Any, state: Any) -> None:
    """Refuse a state of fewer or more samples than what enters: torch would repeat a single one."""
    if torch.compiler.is_compiling():
        return
    samples, kept = _samples(entering), _samples(state)
    if samples != kept and None not in (samples, kept):
        raise ValueError(
            f"{name} got a batch of {samples} with a state for a batch of {kept}: begin with "
            "init_state of what enters"
        )


@cache
def _taken(forward: Callable[..., Any]) -> tuple[tuple[type, ...], tuple[type, ...]]:
    """The classes of flows and of states that a ``forward`` is annotated with."""
    try:
        hints = get_type_hints(forward)
    except Exception:  # names for type checkers alone, forms that Python cannot evaluate
        hints = {}
    names = [*inspect.signature(forward).parameters, "", ""][1:3]
    flows, states = (_classes(hints.get(name, Any)) for name in names)
    return flows, states


def _classes(hint: Any) -> tuple[type, ...]:
    origin = get_origin(hint) or hint
    if origin in (Union, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _classes(part))
    known = isinstance(origin, type) and issubclass(origin, (Tensor, tuple))
    return (origin,) if known else (object,)


def _samples(value: Any) -> int | None:
    """The batch of a flow or state, by its first tensor."""
    if isinstance(value, Tensor):
        return value.shape[0] if value.dim() else None
    if isinstance(value, tuple):
        for part in value:
            if (samples := _samples(part)) is not None:
                return samples
    return None


def _either(kinds: tuple[type, ...]) -> str:
    return " or ".join("a tensor" if kind is Tensor else _named(kind) for kind in kinds)


def _form(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return _named(type(value))


def _named(kind: type) -> str:
    fields = getattr(kind, "_fields", None)
    return kind.__name__ if fields is None else f"{kind.__name__}({', '.join(fields)})"
