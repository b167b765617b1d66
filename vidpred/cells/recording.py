"""Looking inside: gates, attention weights and states of the cells, while a model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.module_tracker import ModuleTracker

from vidpred.cells.base import Cell

Kind = Literal["gates", "attention", "states"]


class Layer(NamedTuple):
    """What was recorded of a cell: by name one tensor for each step that it made.

    Attributes:
        gates: ``(B, C, H, W)``, or volumes, of values from 0, closed, to 1, open.
        attention: The weights of ``n`` past states or lower layers, oldest or lowest first:
            ``(B, n)`` and what axes there are beside. Over ``n`` they sum to 1.
        states: What stays, by the names of the state's fields, of a history the newest; what rises,
            as ``output``, or ``output.`` and a field of the flow, unless it also stays; and
            ``input``, what entered the outermost cell.
    """

    gates: dict[str, list[Tensor]]
    attention: dict[str, list[Tensor]]
    states: dict[str, list[Tensor]]


@contextmanager
def record(
    module: nn.Module, device: torch.device | str | None = None
) -> Iterator[dict[str, Layer]]:
    """Record the gates, the attention weights and the states of all cells in a model.

    What the model computes stays the same to the bit, and after the context nothing is left on it.
    Recorded is what runs in the thread of the context, once: not again what a backward pass
    recomputes, and nothing of a model that ``torch.compile`` made, whose gates are fused away.

    Args:
        module: A predictor, a cell, or any module with cells in it.
        device: Where to keep what is recorded; by default where it is, which copies nothing. The
            maps of all steps are kept: for long clips on an accelerator, say ``"cpu"``.

    Yields:
        For every cell of which something was recorded its :class:`Layer`, by its path in the
        module; it fills while the model runs.

    Raises:
        ValueError: There are no cells in the module.

    Example:
        >>> import torch
        >>> from vidpred.models import zoo
        >>> predictor = zoo.stau(hidden_channels=8, layers=2)
        >>> with record(predictor) as layers:
        ...     prediction = predictor(torch.rand(1, 4, 1, 16, 16), horizon=3)
        >>> list(layers)
        ['core.stack.cells.0', 'core.stack.cells.1', 'core']
        >>> layer = layers["core.stack.cells.1"]
        >>> list(layer.gates)[:2]
        ['temporal fusion gate', 'spatial fusion gate']
        >>> torch.stack(layer.attention["temporal attention"]).shape  # steps, batch, past states
        torch.Size([6, 1, 5])
    """
    cells = [(path, cell) for path, cell in module.named_modules() if isinstance(cell, Cell)]
    if not cells:
        raise ValueError(f"there are no cells in this {type(module).__name__}: nothing to record")
    recorder = _Recorder(device)
    token = _RECORDERS.set((*_RECORDERS.get(), recorder))
    handles = []
    try:
        for path, cell in cells:
            handles.append(cell.register_forward_pre_hook(recorder.enter, with_kwargs=True))
            handles.append(cell.register_forward_hook(recorder.leaving(path), always_call=True))
        yield recorder.layers
    finally:
        _RECORDERS.reset(token)
        for handle in handles:
            handle.remove()


def show(kind: Kind, name: str, value: Callable[[], Tensor]) -> None:
    """Show a value of the running cell to those who record; a cell calls it by what a gate does.

    Args:
        kind: What it is.
        name: What the field calls it. Of values of one name in a step the last is recorded.
        value: Returns it, and is called only if somebody records.
    """
    for recorder in _recorders():
        with torch.no_grad():
            recorder.note(kind, name, value())


# In a context variable: each thread has its own.
_RECORDERS: ContextVar[tuple[_Recorder, ...]] = ContextVar("recorders", default=())


def _recorders() -> tuple[_Recorder, ...]:
    """Who records, here and now."""
    if torch.compiler.is_compiling():
        return ()
    recorders = _RECORDERS.get()
    return () if recorders and ModuleTracker().is_bw else recorders


class _Recorder:
    def __init__(self, device: torch.device | str | None) -> None:
        self.device = device
        self.layers: dict[str, Layer] = {}
        # Of each running cell, outermost first: a cell that raises leaves no half a step.
        self.notes: list[dict[tuple[Kind, str], Tensor]] = []
        # Kept as they are until the outermost cell is done, lest their memory is given to others.
        self.seen: dict[Any, Tensor] = {}

    def enter(self, cell: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if self in _recorders():
            self.notes.append({})
            if len(self.notes) == 1:
                self.note_all("input", args[0] if args else kwargs["flow"])

    def leaving(self, path: str) -> Callable[[nn.Module, Any, Any], None]:
        def leave(cell: nn.Module, args: Any, result: Any) -> None:
            if self not in _recorders():
                return
            if result is not None:  # else the cell raised
                flow, state = result
                self.note_all("", state)
                self.note_all("output", flow)
                self.write(path)
            self.notes.pop()
            if not self.notes:
                self.seen.clear()

        return leave

    def note(self, kind: Kind, name: str, value: Tensor) -> None:
        if self.notes:
            self.notes[-1][kind, name] = value.detach().to(self.device)

    def note_all(self, name: str, value: Any) -> None:
        """Note the states in a flow or state that no inner cell has noted."""
        if isinstance(value, Tensor):
            key = value.data_ptr(), value.shape
            # Not what counts steps or adds up a penalty: a number for each sample.
            if value[0].numel() > 1 and key not in self.seen:
                self.seen[key] = value
                self.note("states", name, value)
        elif hasattr(value, "_fields"):
            for field, part in zip(value._fields, value, strict=True):
                self.note_all(f"{name}.{field}".lstrip("."), part)
        elif value and isinstance(value[-1], Tensor):  # a history
            self.note_all(name, value[-1])

    def write(self, path: str) -> None:
        """Add the notes of the innermost running cell to its layer."""
        for (kind, name), value in self.notes[-1].items():
            layer = self.layers.setdefault(path, Layer({}, {}, {}))
            getattr(layer, kind).setdefault(name, []).append(value)
