"""Cells that run backwards: what comes back, and gradients for which nothing was kept."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_laws import (
    assert_equal,
    clip,
    compiles_to_one_graph,
    gradients_are_right,
    run,
    signature,
    warm_state,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map

from vidpred.cells import (
    Inverse,
    Reversible,
    ReversibleFlow,
    ReversiblePMCell,
    Stack,
    Windowed,
)
from vidpred.models import zoo
from vidpred.models.crevnet import IRevNetBlock, TwoWay

CHANNELS, DEPTH = 4, 3  # of a frame whose one channel is folded by 2


def units(layers: int = 3, channels: int = CHANNELS, **options: Any) -> list[ReversiblePMCell]:
    torch.manual_seed(0)
    return [ReversiblePMCell(channels, channels, depth=DEPTH, **options) for _ in range(layers)]


def blocks() -> list[IRevNetBlock]:
    torch.manual_seed(0)
    return [IRevNetBlock(2, first=True), IRevNetBlock(2), IRevNetBlock(2, downsample=True)]


def autoencoder() -> Windowed:
    """Frames of one channel, folded by 4 into 16; the units between see them so."""
    return Windowed(TwoWay(1, units(2, 16), (2, 1)), (16, DEPTH))


def zigzag() -> Any:
    return ReversiblePMCell.wiring([Reversible(units())])


CORES: dict[str, tuple[Callable[[], Any], int]] = {
    "units": (zigzag, CHANNELS),
    "autoencoder": (autoencoder, 16),
}
any_core = pytest.mark.parametrize("name", CORES)


def build(name: str, dtype: torch.dtype = torch.float64) -> tuple[Windowed, dict[str, Any]]:
    """A reversible core, and the clips that it takes."""
    make, channels = CORES[name]
    torch.manual_seed(0)
    return make().to(dtype), {"channels": channels, "dtype": dtype}


def plain(core: Windowed) -> Windowed:
    """The same cells in a stack that keeps its activations."""
    core = copy.deepcopy(core)

    def unwrap(module: Any) -> Any:
        if not isinstance(module, Reversible):
            return module
        stack = Stack([cell for cell, _ in module.both_ways])
        stack.hidden_channels = module.hidden_channels
        return stack

    inner: Any = core.core
    inner.stack = unwrap(inner.stack)
    inner.stack.cells = nn.ModuleList(map(unwrap, inner.stack.cells))
    return core


def entering(dtype: torch.dtype, channels: int = CHANNELS // 2) -> ReversibleFlow:
    generator = torch.Generator().manual_seed(0)
    shape = (2, channels, DEPTH, 6, 8)
    return ReversibleFlow(*(torch.randn(shape, generator=generator, dtype=dtype) for _ in "12m"))


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str
)


@PRECISIONS
@pytest.mark.parametrize(
    "make",
    [
        lambda: units(1)[0],
        lambda: Reversible(units(8)),
        *(lambda k=k: blocks()[k] for k in range(3)),
        lambda: Inverse(blocks()[1]),
        lambda: Reversible(blocks()),
    ],
)
def test_what_entered_comes_back(make: Any, dtype: torch.dtype, tolerance: float) -> None:
    cell = make().to(dtype)
    flow = entering(dtype)
    state = tree_map(torch.randn_like, cell.init_state(flow.x1))
    with torch.no_grad():
        risen, left = cell(flow, state)
        back = cell.inverse(risen, left)
    assert risen.x1.shape != flow.x1.shape or (risen.x1 - flow.x1).abs().max() > 0.1
    assert_equal([back.x1, back.x2], [flow.x1, flow.x2], tolerance)


def test_frames_come_back_from_their_prediction() -> None:
    """Conditional reversibility of the published model, the condition being its states."""
    torch.manual_seed(0)
    core: Any = zoo.crevnet().double().core
    stack: Reversible = core.core.stack
    x1, x2 = torch.rand(2, 2, 2, DEPTH, 12, 8, dtype=torch.float64)
    m = torch.randn(2, 32, DEPTH, 3, 2, dtype=torch.float64)
    with torch.no_grad():
        risen, left = stack(ReversibleFlow(x1, x2, m), stack.init_state(m))
        back = stack.inverse(risen, left)
    assert (risen.x1 - x1).abs().max() > 0.1
    assert_equal([back.x1, back.x2], [x1, x2], 1e-10)


@any_core
def test_gradients_are_those_of_a_stack_that_keeps_activations(name: str) -> None:
    core, shape = build(name)
    results = []
    for made, remat in ((core, False), (plain(core), False), (core, True)):
        made.remat = remat
        frames = [frame.requires_grad_() for frame in clip(3, **shape)]
        state = tree_map(Tensor.requires_grad_, warm_state(core, **shape))
        outputs, end = run(made, frames, state)
        loss = torch.stack([leaf.square().sum() for leaf in tree_leaves([outputs, end])]).sum()
        wanted = [*made.parameters(), *frames, *tree_leaves(state)]
        results.append([outputs, tree_leaves(end), torch.autograd.grad(loss, wanted)])
    assert_equal(results[0][:2], results[1][:2])
    for result in results[1:]:
        assert_equal(result[2], results[0][2], 1e-10)


@pytest.mark.parametrize("bias", [0.0, 6.0, 12.0, 100.0])
def test_gradients_are_those_of_a_stack_for_any_gate(bias: float) -> None:
    core, shape = build("units", torch.float32)
    for cell in core.modules():
        if isinstance(cell, ReversiblePMCell):
            nn.init.constant_(cell.attention.bias, bias)  # type: ignore[arg-type]
    gradients = []
    for made in (core, plain(core)):
        loss = torch.stack(run(made, clip(4, **shape))[0]).square().sum()
        found = torch.autograd.grad(loss, list(made.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert (gradients[0] - gradients[1]).norm() < 1e-5 * gradients[1].norm()


@any_core
def test_gradients_are_right_and_those_of_the_weights_of_the_forward_pass(name: str) -> None:
    # The check replaces the weights by others for the time of the forward pass.
    core, shape = build(name)
    gradients_are_right(core, shape["channels"])


def kept(core: Any, frames: list[Tensor]) -> float:
    """What autograd keeps for the backward pass beside weights and inputs, in maps of the state."""
    state = core.init_state(frames[0])
    given = [*core.parameters(), *frames, *tree_leaves(state)]
    storages: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run(core, frames, state)
    for tensor in given:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    nbytes = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    return nbytes / state.core.m.untyped_storage().nbytes()


@any_core
def test_nothing_is_kept_but_states_half_of_each_input_and_the_top(name: str) -> None:
    core, shape = build(name)
    layers = sum(isinstance(cell, ReversiblePMCell) for cell in core.core.modules())
    for steps in (1, 4):
        # Of every step h, c, m and x2 of each layer, and at the top x1 and x2.
        states = steps * (4 * layers + 2)
        assert kept(core, clip(steps, **shape)) == states
    assert kept(plain(core), clip(4, **shape)) > 4 * states


def test_what_is_kept_does_not_grow_with_the_blocks() -> None:
    frames = clip(2, channels=16)
    cores = [Windowed(TwoWay(1, units(2, 16), blocks), (16, DEPTH)) for blocks in ((1, 1), (4, 5))]
    assert kept(cores[0], frames) == kept(cores[1], frames)


@any_core
def test_compiles_to_one_graph(name: str) -> None:
    core, shape = build(name)
    compiles_to_one_graph(core, shape["channels"])


@any_core
def test_exports(name: str) -> None:
    core, shape = build(name)
    (frame,), state = clip(1, **shape), warm_state(core, **shape)
    exported = torch.export.export(core, (frame, state)).module()
    assert_equal(exported(frame, state), core(frame, state), 1e-10)


@any_core
def test_the_backward_pass_recomputes_under_the_autocast_of_the_forward_pass(name: str) -> None:
    core, shape = build(name, torch.float32)
    frames = clip(3, **shape)
    gradients = []
    for made in (core, plain(core)):
        state = made.init_state(frames[0])
        first = signature(state)
        with torch.autocast("cpu", torch.bfloat16):
            outputs, state = run(made, frames, state)
        assert signature(state) == first
        loss = torch.stack(outputs).square().sum()
        found = torch.autograd.grad(loss, list(made.parameters()))
        gradients.append(torch.cat([gradient.flatten() for gradient in found]))
    assert F.cosine_similarity(*gradients, dim=0) > 0.9999


def test_weights_are_counted_and_saved_once() -> None:
    core, _ = build("autoencoder")
    names = list(core.state_dict())
    assert len(names) == len(list(core.parameters()))
    assert not [name for name in names if "both_ways" in name or name.endswith("cell")]
    twin = copy.deepcopy(core)
    for parameter in twin.parameters():
        torch.nn.init.zeros_(parameter)
    frames = clip(2, channels=16, dtype=torch.float64)
    before = run(core, frames)
    run(twin, frames)[0][-1].sum().backward()
    assert_equal(run(core, frames), before)
    assert not [parameter for parameter in core.parameters() if parameter.grad is not None]


def test_frozen_weights_get_no_gradient() -> None:
    core, shape = build("units")
    cells: Any = core.core
    frozen = cells.stack.cells[0].cells[1].requires_grad_(False)
    outputs, _ = run(core, clip(2, **shape))
    outputs[-1].square().sum().backward()
    assert all(parameter.grad is None for parameter in frozen.parameters())
    others = [p for p in core.parameters() if p.requires_grad]
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in others)


def test_second_derivatives_are_refused() -> None:
    core, shape = build("units")
    (frame,) = clip(1, **shape)
    output, _ = core(frame.requires_grad_(), core.init_state(frame))
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.autograd.grad(output.sum(), frame, create_graph=True)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Reversible([]), "at least one cell"),
        (lambda: Reversible([blocks()[0], Inverse(blocks()[0])]), "an Inverse inverts must be"),
        (lambda: ReversiblePMCell(5, 5), "hidden_channels must be even.* got 5"),
        (lambda: ReversiblePMCell(4, 6), "in_channels must equal hidden_channels, got 4 and 6"),
        (lambda: TwoWay(1, units(1, 16), ()), r"blocks must be 1 or more at each size, got \(\)"),
        (lambda: TwoWay(1, units(1, 16), (2, 0)), r"1 or more at each size, got \(2, 0\)"),
        (lambda: TwoWay(2, units(1, 16), (1, 1)), "have 32 hidden_channels, got 16"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
