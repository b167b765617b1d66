"""The laws of a cell, for every exported unit: exporting a unit is what puts it to the test.

A unit is tried as it is used: several of them in their wiring, which is itself a cell.
"""

from __future__ import annotations

import copy
import inspect
import io
from typing import Any, Literal, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves, tree_map, tree_structure

from vidpred import cells
from vidpred.cells import Cell, total_penalty
from vidpred.cells.base import is_channels_last, to_channels_last
from vidpred.models.remat import units

unit_law = pytest.mark.parametrize("unit", cells.UNITS, ids=lambda unit: unit.__name__)
NORMED = [unit for unit in cells.UNITS if "norm" in inspect.signature(unit).parameters]


def norm_law(*norms: Literal["group", "layer"] | None) -> pytest.MarkDecorator:
    """Every unit with these norms; a unit that has none as it is."""
    options: list[tuple[type[Cell], dict[str, Any]]] = [
        (unit, {"norm": norm, "size": SIZE if norm == "layer" else None})
        for unit in NORMED
        for norm in norms
    ]
    options += [(unit, {}) for unit in cells.UNITS if unit not in NORMED]
    names = [f"{options.get('norm')}-{unit.__name__}" for unit, options in options]
    return pytest.mark.parametrize(("unit", "options"), options, ids=names)


CHANNELS, BATCH, SIZE = 4, 2, (6, 5)


def stacked(unit: type[Cell], layers: int = 3, channels: int = CHANNELS, **options: Any) -> list:
    torch.manual_seed(0)
    return [unit(channels, channels, 3, **options) for _ in range(layers)]  # type: ignore[call-arg]


def wired(unit: type[Cell], layers: int = 3, channels: int = CHANNELS, **options: Any) -> Cell:
    return unit.wiring(stacked(unit, layers, channels, **options))  # type: ignore[call-arg]


def clip(
    steps: int,
    *,
    batch: int = BATCH,
    channels: int = CHANNELS,
    size: tuple[int, int] = SIZE,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Feature maps, each in memory of its own."""
    generator = torch.Generator().manual_seed(0)
    shape = (batch, channels, *size)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(steps)]


def run(core: Cell, frames: list[Tensor], state: Any = None) -> tuple[list[Tensor], Any]:
    state = core.init_state(frames[0]) if state is None else state
    outputs = []
    for frame in frames:
        output, state = core(frame, state)
        outputs.append(output)
    return outputs, state


def warm_state(core: Cell, dtype: torch.dtype = torch.float32, **shape: Any) -> Any:
    """A state that no zero is left in."""
    generator = torch.Generator().manual_seed(1)
    (like,) = clip(1, dtype=dtype, **shape)
    return tree_map(
        lambda leaf: torch.randn(leaf.shape, generator=generator, dtype=dtype) / 2,
        core.init_state(like),
    )


def shapes(unit: type[Cell], batch: int, size: tuple[int, int]) -> set[tuple[int, ...]]:
    """What the leaves of a state may be: a feature map, or what else a unit is known to keep."""
    feature_map, number = (batch, CHANNELS, *size), (batch, 1, 1, 1)
    volume = (batch, CHANNELS, 2, *size)
    # MotionGRU keeps a row and a column for each of 3x3 neighbours; its host does so at half size.
    half = tuple((side + 1) // 2 for side in size)
    known = {
        cells.DecoupledSTLSTMCell: {feature_map, number},
        cells.E3DLSTMCell: {feature_map, volume},
        cells.MIMCell: {feature_map, number},
        cells.MotionGRUCell: {(batch, 18, *size)},
        cells.MotionLSTMCell: {feature_map, (batch, 18, *half)},
        cells.PhyCell: {feature_map, number},
        cells.RPMCell: {feature_map, number},
        # Its two inputs are halves, and so are its states.
        cells.ReversiblePMCell: {feature_map, (batch, CHANNELS // 2, 3, *size)},
        cells.STAMCell: {feature_map, volume, (batch, 1, 1, 1, 1)},
    }
    return known.get(unit, {feature_map})


def loss(outputs: list[Tensor], state: Any) -> Tensor:
    """A training loss: all outputs matter, and what units ask for beside them.

    Squares: under a norm, a plain sum does not depend on the weights before it.
    """
    return torch.stack(outputs).square().sum() + total_penalty(state)


def signature(state: Any) -> Any:
    leaves = [(leaf.shape, leaf.dtype, leaf.device) for leaf in tree_leaves(state)]
    return tree_structure(state), leaves


def assert_equal(a: Any, b: Any, tolerance: float = 0.0) -> None:
    assert tree_structure(a) == tree_structure(b)
    for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance)


def test_units_are_found() -> None:
    assert {cells.ConvLSTMCell, cells.STLSTMCell, cells.STAUCell} <= set(cells.UNITS)


@unit_law
def test_the_docstring_holds_what_the_gallery_shows(unit: type[Cell]) -> None:
    described = inspect.getdoc(unit) or ""
    order = [".. math::", "Stays:", "Rises:", "Wiring:", "\nArgs:", "\nReference:", "\nExample:"]
    places = [described.find(part) for part in order]
    assert -1 not in places
    assert places == sorted(places)


@unit_law
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_state_keeps_structure_shape_and_dtype(unit: type[Cell], dtype: torch.dtype) -> None:
    core = wired(unit).to(dtype)
    frames = clip(3, dtype=dtype)
    state = core.init_state(frames[0])
    first = signature(state)
    assert {leaf.shape for leaf in tree_leaves(state)} <= shapes(unit, BATCH, SIZE)
    assert {leaf.dtype for leaf in tree_leaves(state)} == {dtype}
    for frame in frames:
        output, state = core(frame, state)
        assert signature(state) == first
        assert (output.shape, output.dtype) == ((BATCH, core.hidden_channels, *SIZE), dtype)


@norm_law("group", "layer", None)
def test_state_stays_in_float32_under_autocast(unit: type[Cell], options: dict[str, Any]) -> None:
    core = wired(unit, **options)
    frames, state = clip(3), warm_state(core)
    first = signature(state)

    def gradient(outputs: list[Tensor], state: Any) -> Tensor:
        gradients = torch.autograd.grad(loss(outputs, state), list(core.parameters()))
        assert {gradient.dtype for gradient in gradients} == {torch.float32}
        return torch.cat([gradient.flatten() for gradient in gradients])

    exact, end = run(core, frames, state)
    outputs = []
    with torch.autocast("cpu", torch.bfloat16):
        assert signature(core.init_state(frames[0])) == first
        for frame in frames:
            output, state = core(frame, state)
            outputs.append(output)
            assert signature(state) == first
            assert output.dtype == torch.float32
            # What an encoder hands on under autocast.
            assert signature(core(frame.bfloat16(), state)[1]) == first
    # The convolutions do run in bfloat16: the numbers differ, a little.
    assert 0 < (outputs[-1] - exact[-1]).abs().max() < 0.1
    assert F.cosine_similarity(gradient(outputs, state), gradient(exact, end), dim=0) > 0.99


@pytest.fixture
def norms_of_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let group norms return what they do on CUDA: contiguous maps, under autocast in float32."""
    normalise = F.group_norm

    def group_norm(*args: Any) -> Tensor:
        x = normalise(*args).contiguous()
        return x.float() if torch.is_autocast_enabled("cpu") else x

    monkeypatch.setattr(F, "group_norm", group_norm)


@norm_law("group", "layer", None)
@pytest.mark.usefixtures("norms_of_cuda")
def test_state_stays_in_bfloat16_under_autocast(unit: type[Cell], options: dict[str, Any]) -> None:
    core = wired(unit, **options)
    frames = clip(2, dtype=torch.bfloat16)
    state = core.init_state(frames[0])
    first = signature(state)
    with torch.autocast("cpu", torch.bfloat16):
        for frame in frames:
            output, state = core(frame, state)
            assert signature(state) == first
            assert output.dtype == torch.bfloat16


@unit_law
def test_init_state_takes_all_but_the_channels_from_its_argument(unit: type[Cell]) -> None:
    core = wired(unit)
    like = torch.empty(3, CHANNELS + 1, 7, 9, device="meta", dtype=torch.float16)
    for leaf in tree_leaves(core.init_state(like)):
        assert leaf.shape in shapes(unit, 3, (7, 9))
        assert (leaf.device.type, leaf.dtype) == ("meta", torch.float16)


@unit_law
def test_state_leaves_share_no_memory_and_hold_no_more_than_their_numbers(
    unit: type[Cell],
) -> None:
    core = wired(unit)
    frames = clip(4)
    states = [core.init_state(frames[0])]
    for frame in frames:
        states.append(core(frame, states[-1])[1])
    for state in states:
        storages = [leaf.untyped_storage() for leaf in tree_leaves(state)]
        assert len({storage.data_ptr() for storage in storages}) == len(storages)
        sizes = [leaf.numel() * leaf.element_size() for leaf in tree_leaves(state)]
        assert [storage.nbytes() for storage in storages] == sizes


@unit_law
def test_inputs_are_not_changed(unit: type[Cell]) -> None:
    core = wired(unit)
    (frame,), state = clip(1), warm_state(core)
    given = [frame, *tree_leaves(state)]
    before = [tensor.clone() for tensor in given]
    versions = [tensor._version for tensor in given]
    core(frame, state)
    assert_equal(given, before)
    assert [tensor._version for tensor in given] == versions


@unit_law
def test_six_steps_are_three_and_three(unit: type[Cell]) -> None:
    core = wired(unit)
    frames = clip(6)
    with torch.no_grad():
        outputs, state = run(core, frames)
        first, halfway = run(core, frames[:3])
        run(core, clip(2, batch=1, size=(3, 3)))  # another clip in between
        second, end = run(core, frames[3:], tree_map(torch.clone, halfway))
    assert_equal([outputs, state], [[*first, *second], end])


@unit_law
def test_nothing_stays_on_the_module(unit: type[Cell]) -> None:
    core = wired(unit)
    frames = clip(3)

    def contents() -> list[tuple[str, str, str]]:
        return [
            (path, key, repr(value))
            for path, module in core.named_modules()
            for key, value in vars(module).items()
            if key not in ("_modules", "_parameters")
        ]

    before, weights = contents(), copy.deepcopy(core.state_dict())
    first = run(core, frames)
    second = run(core, frames)
    assert_equal(first, second)
    assert contents() == before
    assert_equal(dict(core.state_dict()), dict(weights))


@unit_law
def test_an_output_depends_on_all_frames_so_far_and_on_none_after(unit: type[Cell]) -> None:
    core = wired(unit)
    frames = [frame.requires_grad_() for frame in clip(4)]
    outputs, _ = run(core, frames)
    for t, output in enumerate(outputs):
        gradients = torch.autograd.grad(
            output.square().sum(), frames, retain_graph=True, allow_unused=True
        )
        for s, gradient in enumerate(gradients):
            seen = gradient is not None and bool(gradient.any())
            assert seen == (s <= t), f"output {t}, frame {s}"


@unit_law
def test_samples_of_a_batch_are_independent(unit: type[Cell]) -> None:
    core = wired(unit).double()
    frames = clip(3, batch=3, dtype=torch.float64)
    state = warm_state(core, torch.float64, batch=3)
    together = run(core, frames, state)
    for b in range(3):
        alone = run(
            core,
            [frame[b : b + 1] for frame in frames],
            tree_map(lambda leaf, b=b: leaf[b : b + 1], state),
        )
        assert_equal(tree_map(lambda leaf, b=b: leaf[b : b + 1], together), alone, 1e-12)


@norm_law("group", None)
def test_any_resolution_with_the_same_weights(unit: type[Cell], options: dict[str, Any]) -> None:
    core = wired(unit, **options)
    for size in ((6, 5), (3, 11), (1, 1)):
        outputs, state = run(core, clip(2, size=size))
        assert outputs[-1].shape == (BATCH, core.hidden_channels, *size)
        assert all(leaf.isfinite().all() for leaf in tree_leaves([outputs, state]))


@pytest.mark.parametrize("unit", NORMED, ids=lambda unit: unit.__name__)
def test_layer_norm_equals_group_norm_at_the_start_and_keeps_to_its_size(
    unit: type[Cell],
) -> None:
    layer, group = wired(unit, norm="layer", size=SIZE), wired(unit, norm="group")
    frames = clip(3, dtype=torch.float64)
    assert_equal(run(layer.double(), frames), run(group.double(), frames), 1e-10)
    with pytest.raises(ValueError, match=r"size \((\d, )?6, 5\), got \((\d, )?5, 5\)"):
        run(layer, clip(1, size=(5, 5), dtype=torch.float64))


def gradients_are_right(core: Cell, channels: int) -> None:
    core.double()
    shape: Any = {"channels": channels, "size": (3, 4), "dtype": torch.float64}
    frames = clip(2, **shape)
    state = warm_state(core, **shape)
    structure, leaves = tree_structure(state), tree_leaves(state)
    names, parameters = zip(*core.named_parameters(), strict=True)

    def numbers(*given: Tensor) -> tuple[Tensor, ...]:
        weights = dict(zip(names, given[: len(names)], strict=True))
        flow, *rest = given[len(names) :]
        kept = structure.unflatten(rest[1:])
        outputs = []
        for frame in (flow, rest[0]):
            output, kept = functional_call(core, weights, (frame, kept))
            outputs.append(output)
        # gradcheck of torch 2.14 stumbles over what no gradient leads to: MIM's mask.
        return tuple(x for x in (*outputs, *tree_leaves(kept)) if x.requires_grad)

    given = [tensor.detach().requires_grad_() for tensor in (*parameters, *frames, *leaves)]
    assert torch.autograd.gradcheck(numbers, given, fast_mode=True)


@unit_law
def test_gradients_are_right(unit: type[Cell]) -> None:
    gradients_are_right(wired(unit, layers=2, channels=2), channels=2)


class Foreign(NamedTuple):
    """A flow or a state of no unit."""

    x: Tensor


@unit_law
def test_flows_and_states_of_other_kinds_are_refused(unit: type[Cell]) -> None:
    core, (frame,) = wired(unit), clip(1)
    cell, entered = next(part for part in core.modules() if isinstance(part, unit)), []
    cell.register_forward_pre_hook(lambda _, given: entered.append(given))
    core(frame, core.init_state(frame))
    flow, state = entered[0]
    form = r"Foreign\(x\)"
    # Alone, a plain map of two samples looks like a pair.
    others = [(Foreign(frame), form)] + [(frame, "a tensor")] * (not isinstance(flow, Tensor))
    for other, got in others:
        with pytest.raises(TypeError, match=f"^.*Cell takes .* as its flow, got {got}.*$"):
            cell(other, state)
    with pytest.raises(TypeError, match=rf"Cell takes .*State\(.*\) as its state, got {form}: "):
        cell(flow, Foreign(frame))


@unit_law
def test_a_state_of_another_batch_is_refused(unit: type[Cell]) -> None:
    core, (frame,) = wired(unit), clip(1)
    state = core.init_state(frame[:1])
    with pytest.raises(ValueError, match=r"^\w+ got a batch of 2 with a state for a batch of 1: "):
        core(frame, state)
    with pytest.raises(ValueError, match=r"^\w+ got a batch of 1 with a state for a batch of 2: "):
        core(frame[:1], core.init_state(frame))


@unit_law
def test_every_parameter_receives_a_gradient(unit: type[Cell]) -> None:
    core = wired(unit)
    loss(*run(core, clip(3), warm_state(core))).backward()
    for name, parameter in core.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def keeps_channels_last(unit: type[Cell], options: dict[str, Any]) -> None:
    core = wired(unit, **options)
    to_channels_last(core)
    frames = [frame.to(memory_format=torch.channels_last) for frame in clip(3)]
    outputs, state = run(core, frames)
    assert all(is_channels_last(leaf) for leaf in tree_leaves([core.init_state(frames[0]), state]))
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)
    assert_equal(outputs, run(wired(unit, **options), clip(3))[0], 1e-5)


@norm_law("group", "layer", None)
def test_channels_last_stays_channels_last(unit: type[Cell], options: dict[str, Any]) -> None:
    keeps_channels_last(unit, options)


@norm_law("group", "layer")
@pytest.mark.usefixtures("norms_of_cuda")
def test_channels_last_stays_so_on_cuda(unit: type[Cell], options: dict[str, Any]) -> None:
    keeps_channels_last(unit, options)


@unit_law
def test_remat_gives_equal_outputs_and_gradients(unit: type[Cell]) -> None:
    plain, each, whole = (wired(unit) for _ in range(3))
    for cell in units(each):
        cell.remat = True
    whole.remat = True
    results = []
    for core in (plain, each, whole):
        core.double()
        frames = [frame.requires_grad_() for frame in clip(3, dtype=torch.float64)]
        state = tree_map(Tensor.requires_grad_, warm_state(core, torch.float64))
        outputs, end = run(core, frames, state)
        loss = torch.stack([leaf.square().sum() for leaf in tree_leaves([outputs, end])]).sum()
        wanted = [*core.parameters(), *frames, *tree_leaves(state)]
        results.append([outputs, end, torch.autograd.grad(loss, wanted, allow_unused=True)])
    assert_equal(results[1], results[0])
    assert_equal(results[2], results[0])


@unit_law
def test_deepcopy_and_state_dict_round_trip(unit: type[Cell]) -> None:
    core, frames = wired(unit), clip(2)
    expected = run(core, frames)
    assert_equal(run(copy.deepcopy(core), frames), expected)
    other = wired(unit)
    for parameter in other.parameters():
        torch.nn.init.normal_(parameter)
    buffer = io.BytesIO()
    torch.save(core.state_dict(), buffer)
    buffer.seek(0)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    assert_equal(run(other, frames), expected)


def compiles_to_one_graph(core: Cell, channels: int = CHANNELS) -> None:
    core.double()
    shape: Any = {"channels": channels, "dtype": torch.float64}
    frames = [frame.requires_grad_() for frame in clip(2, **shape)]
    state = warm_state(core, **shape)
    wanted = [frames[0], *core.parameters()]

    def step(module: Any) -> Any:
        output, end = module(frames[0], state)
        return output, end, torch.autograd.grad(loss([output], end), wanted)

    torch.compiler.reset()
    compiled = torch.compile(core, fullgraph=True, backend="aot_eager")
    result, expected = step(compiled), step(core)
    assert_equal(result, expected, 1e-10)
    # The next step is the same graph: nothing in a state changes its kind from step to step.
    with torch.compiler.set_stance("fail_on_recompile"):
        compiled(frames[1], tree_map(Tensor.detach, result[1]))
    torch.compiler.reset()


@unit_law
def test_compiles_to_one_graph(unit: type[Cell]) -> None:
    compiles_to_one_graph(wired(unit, layers=2))


# What is computed again does not depend on the unit, but on what it is given.
@pytest.mark.parametrize("unit", {unit.wiring: unit for unit in cells.UNITS}.values())
def test_remat_compiles_to_one_graph(unit: type[Cell]) -> None:
    core = wired(unit, layers=1)
    core.remat = True
    compiles_to_one_graph(core)


@unit_law
def test_exports(unit: type[Cell]) -> None:
    core = wired(unit, layers=2)
    (frame,), state = clip(1), warm_state(core)
    exported = torch.export.export(core, (frame, state)).module()
    assert_equal(exported(frame, state), core(frame, state), 1e-6)
