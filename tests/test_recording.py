"""The recorder: it sees every gate of every unit, changes no number and leaves nothing behind."""

from __future__ import annotations

import threading
import weakref
from typing import Any

import pytest
import torch
from test_laws import assert_equal, clip, loss, run, stacked, unit_law, wired
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from vidpred import cells
from vidpred.cells import Cell, ConvGRUCell, Layer, Remat, Reversible, ReversiblePMCell, record
from vidpred.models import zoo


class Sigmoids(TorchDispatchMode):
    """Keeps what every sigmoid returns."""

    def __init__(self) -> None:
        super().__init__()
        self.returned: list[Tensor] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.sigmoid.default:
            self.returned.append(result)
        return result


def values(layers: dict[str, Layer], kind: str) -> list[Tensor]:
    named = (getattr(layer, kind) for layer in layers.values())
    return [value for names in named for series in names.values() for value in series]


def lengths(layers: dict[str, Layer]) -> set[int]:
    return {len(series) for layer in layers.values() for kind in layer for series in kind.values()}


def hooks(module: nn.Module) -> list[Any]:
    return [
        list(kept)
        for inner in module.modules()
        for name, kept in vars(inner).items()
        if name.endswith(("_hooks", "_with_kwargs", "_always_called"))
    ]


@unit_law
def test_every_sigmoid_of_a_unit_is_a_named_gate(unit: type[Cell]) -> None:
    core = wired(unit)
    (frame,) = clip(1)
    with Sigmoids() as sigmoids:
        core(frame, core.init_state(frame))
    with record(core) as layers:
        core(frame, core.init_state(frame))
    gates = values(layers, "gates")
    assert gates
    assert all(any(torch.equal(x, gate) for gate in gates) for x in sigmoids.returned)
    assert all(any(torch.equal(x, gate) for x in sigmoids.returned) for gate in gates)
    assert all(0 <= gate.min() <= gate.max() <= 1 for gate in gates)


@unit_law
def test_attention_weights_sum_to_one(unit: type[Cell]) -> None:
    core = wired(unit)
    with record(core) as layers:
        run(core, clip(3))
    weights = values(layers, "attention")
    attends = {cells.E3DLSTMCell, cells.MAUCell, cells.STAMCell, cells.STAUCell}
    assert bool(weights) == (unit in attends)
    for weight in weights:
        assert weight.min() >= 0
        torch.testing.assert_close(weight.sum(dim=1), torch.ones_like(weight[:, 0]))


@pytest.mark.parametrize("tau", [5, 10])
def test_attention_to_past_volumes_is_recorded_without_their_scores(tau: int) -> None:
    core = wired(cells.E3DLSTMCell, channels=8, tau=tau)
    # Other kernels, which hold all scores, are refused.
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION), record(core) as layers:
        run(core, clip(2, channels=8))
    assert values(layers, "attention")


@unit_law
def test_recording_changes_no_number_and_leaves_nothing_behind(unit: type[Cell]) -> None:
    core, frames = wired(unit), clip(3)

    def step() -> Any:
        outputs, end = run(core, frames)
        gradients = torch.autograd.grad(loss(outputs, end), list(core.parameters()))
        return outputs, end, gradients

    before = hooks(core)
    expected = step()
    with record(core) as layers:
        assert_equal(step(), expected)
    assert hooks(core) == before
    assert not any(value.requires_grad for kind in Layer._fields for value in values(layers, kind))
    # The highest cell of a fold also moves the state of forecasts on.
    assert lengths(layers) == ({3, 6} if unit is cells.DGRUCell else {3})
    run(core, frames)
    assert max(lengths(layers)) <= 6
    (watched, *_) = map(weakref.ref, values(layers, "gates"))
    assert watched() is not None
    del layers
    assert watched() is None


@unit_law
def test_the_states_are_those_that_the_cells_return(unit: type[Cell]) -> None:
    core, (frame,) = wired(unit), clip(1)
    with record(core) as layers:
        output, _ = core(frame, core.init_state(frame))
    states = values(layers, "states")
    assert torch.equal(layers[""].states["input"][0], frame)
    assert any(state.shape == output.shape and torch.equal(state, output) for state in states)
    places = [(state.data_ptr(), state.shape) for state in states]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("whole", [False, True])
def test_what_the_backward_pass_recomputes_is_not_recorded_again(whole: bool) -> None:
    wired_up = Remat(wired(ConvGRUCell)) if whole else wired_remat()
    reversible = ReversiblePMCell.wiring([Reversible(stacked(ReversiblePMCell))])
    for core in (wired_up, reversible):
        with record(core) as layers:
            loss(*run(core, clip(3))).backward()
        assert lengths(layers) == {3}


def wired_remat() -> Cell:
    return ConvGRUCell.wiring([Remat(cell) for cell in stacked(ConvGRUCell)])


def test_recordings_of_one_model_and_of_several() -> None:
    one, other = wired(ConvGRUCell), wired(cells.STGRUCell)
    with record(one) as outer:
        run(one, clip(1))
        with record(one) as inner, record(other) as beside:
            run(one, clip(1))
            run(other, clip(1))
        run(other, clip(1))
    assert lengths(outer) == {2}
    assert lengths(inner) == lengths(beside) == {1}
    assert list(beside["cells.0"].gates) == ["trend gate", "update gate"]
    assert list(outer["cells.0"].gates) == ["reset gate", "update gate"]


def test_another_thread_is_not_recorded() -> None:
    core = wired(ConvGRUCell)
    with record(core) as layers:
        thread = threading.Thread(target=run, args=(core, clip(2)))
        thread.start()
        thread.join()
        run(core, clip(1))
    assert lengths(layers) == {1}


def test_half_a_step_is_not_recorded() -> None:
    core = wired(ConvGRUCell)
    (frame,) = clip(1)
    state = core.init_state(frame)
    with record(core) as layers, pytest.raises(RuntimeError):
        core(frame, (*state[:2], ConvGRUCell(3, 3).init_state(frame)))
    assert set(layers) == {"cells.0", "cells.1"}
    assert not any(hooks(core))


def test_a_compiled_model_computes_as_ever() -> None:
    core, (frame,) = wired(ConvGRUCell), clip(1)
    state = core.init_state(frame)
    torch.compiler.reset()
    with record(core) as layers:
        compiled = torch.compile(core, fullgraph=True, backend="eager")
        assert_equal(compiled(frame, state), core(frame, state))
    assert_equal(compiled(frame, state), core(frame, state))
    assert lengths(layers) == {1}
    torch.compiler.reset()


@pytest.mark.parametrize("make", [zoo.trajgru, zoo.frnn, zoo.e3d_lstm, zoo.phydnet, zoo.mim])
def test_models_of_every_kind_are_recorded(make: Any) -> None:
    predictor = make(hidden_channels=8)
    context = torch.rand(1, 3, 1, 32, 32)
    expected = predictor(context, horizon=2)
    with record(predictor, device="meta") as layers:
        assert torch.equal(predictor(context, horizon=2), expected)
    gates = values(layers, "gates")
    assert gates
    assert all(gate.device.type == "meta" for gate in gates)
    assert all(path.startswith("core") for path in layers)


def test_a_model_without_cells_is_refused() -> None:
    with pytest.raises(ValueError, match="no cells in this Linear"), record(nn.Linear(1, 1)):
        pass
