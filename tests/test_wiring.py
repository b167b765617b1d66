"""What each wiring hands from where to where, what remat saves, and what cells refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from vidpred.cells import (
    CausalLSTMCell,
    Cell,
    ConvGRUCell,
    ConvLSTMCell,
    ConvNorm,
    Ladder,
    MAUCell,
    Remat,
    RPMCell,
    Stack,
    STAMCell,
    STAUCell,
    STGRUCell,
    STLSTMCell,
    TrajGRUCell,
    Window,
    Windowed,
    Zigzag,
)
from vidpred.cells.mau import attend


class Seen(NamedTuple):
    flow: Any
    state: Any
    risen: Any
    kept: Any


class Spy(Cell[Any, Any]):
    """Writes down what passes through a cell."""

    def __init__(self, cell: Cell[Any, Any]) -> None:
        super().__init__()
        self.cell = cell
        self.wiring = cell.wiring
        self.hidden_channels = cell.hidden_channels
        self.seen: list[Seen] = []

    def init_state(self, like: Tensor) -> Any:
        return self.cell.init_state(like)

    def forward(self, flow: Any, state: Any) -> tuple[Any, Any]:
        risen, kept = self.cell(flow, state)
        self.seen.append(Seen(flow, state, risen, kept))
        return risen, kept


def clip(steps: int, channels: int = 4, size: tuple[int, int] = (6, 5)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator) for _ in range(steps)]


def spied(cells: list[Any], frames: list[Tensor]) -> tuple[list[Spy], list[Tensor], list[Any]]:
    """Run the cells in their wiring; return the spies, the outputs, and all states."""
    spies = [Spy(cell) for cell in cells]
    core = cells[0].wiring(spies)
    states, outputs = [core.init_state(frames[0])], []
    for frame in frames:
        output, state = core(frame, states[-1])
        outputs.append(output)
        states.append(state)
    return spies, outputs, states


def test_stack_hands_each_output_to_the_next_cell_and_each_state_to_the_next_frame() -> None:
    frames = clip(3, channels=3)
    spies, outputs, states = spied([ConvLSTMCell(3, 4, 3), ConvLSTMCell(4, 5, 3)], frames)
    lower, upper = spies
    for t, frame in enumerate(frames):
        assert lower.seen[t].flow is frame
        assert upper.seen[t].flow is lower.seen[t].risen
        assert outputs[t] is upper.seen[t].risen
        assert states[t + 1] == (lower.seen[t].kept, upper.seen[t].kept)
        if t:
            assert lower.seen[t].state is lower.seen[t - 1].kept
            assert upper.seen[t].state is upper.seen[t - 1].kept


def test_zigzag_hands_the_memory_of_the_top_to_the_bottom_of_the_next_frame() -> None:
    frames = clip(3, channels=3)
    cells = [STLSTMCell(3, 4, 3), STLSTMCell(4, 4, 3), STLSTMCell(4, 4, 3)]
    (bottom, middle, top), outputs, states = spied(cells, frames)
    for t, frame in enumerate(frames):
        assert bottom.seen[t].flow.x is frame
        assert middle.seen[t].flow.m is bottom.seen[t].risen.m
        assert top.seen[t].flow.m is middle.seen[t].risen.m
        assert states[t + 1].m is top.seen[t].risen.m
        assert outputs[t] is top.seen[t].risen.x
        if t:
            assert bottom.seen[t].flow.m is top.seen[t - 1].risen.m
    assert not bottom.seen[0].flow.m.any()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_window_shows_the_last_maps_oldest_first(depth: int) -> None:
    frames = clip(4)
    window = Window(4, depth)
    state = window.init_state(frames[0])
    past = [torch.zeros_like(frames[0])] * (depth - 1) + frames
    for t, frame in enumerate(frames):
        volume, state = window(frame, state)
        assert torch.equal(volume, torch.stack(past[t : t + depth], dim=2))
        assert all(torch.equal(*pair) for pair in zip(state, past[t + 1 : t + depth], strict=True))


class Conv3d(Cell[Tensor, tuple[()]]):
    """The simplest 3D cell: it keeps nothing."""

    wiring = Stack

    def __init__(self, in_channels: int, hidden_channels: int, depth: int) -> None:
        super().__init__()
        self.hidden_channels = hidden_channels
        self.volume = in_channels, depth
        self.conv = ConvNorm(in_channels, hidden_channels, (2, 3, 3))

    def init_state(self, like: Tensor) -> tuple[()]:
        assert like.dim() == 5
        return ()

    def forward(self, flow: Tensor, state: tuple[()]) -> tuple[Tensor, tuple[()]]:
        return self.conv(flow), ()


def test_windowed_folds_the_depth_so_that_a_2d_convolution_sees_it_whole() -> None:
    cell = Conv3d(4, 3, depth=2)
    core = Windowed(Stack([cell]), cell.volume)
    before, frame = clip(2)
    output, _ = core(frame, core.init_state(frame)._replace(window=(before,)))
    volume = cell.conv(torch.stack([before, frame], dim=2))
    conv = torch.nn.Conv3d(3, 5, (2, 1, 1))
    expected = conv(volume).squeeze(2)
    folded = torch.nn.functional.conv2d(output, conv.weight.flatten(1, 2), conv.bias)
    assert output.shape[1] == core.hidden_channels
    torch.testing.assert_close(folded, expected)


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_a_kernel_of_any_depth_keeps_the_size(depth: int) -> None:
    """An odd depth sees as many maps before as behind, an even one the one behind more."""
    conv = ConvNorm(1, 1, (depth, 1, 1), norm=None)
    torch.nn.init.ones_(conv[0].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(conv[0].bias)  # type: ignore[arg-type]
    numbers = torch.tensor([1.0, 10.0, 100.0])
    seen = conv(numbers.view(1, 1, 3, 1, 1)).flatten()
    places = range(-((depth - 1) // 2), depth // 2 + 1)
    expected = [sum(numbers[d + i] for i in places if 0 <= d + i < 3) for d in range(3)]
    assert seen.tolist() == expected


@pytest.mark.parametrize("theta", [1, 2, 3, 5])
def test_ladder_shows_each_cell_the_theta_nearest_layers_bottom_first(theta: int) -> None:
    frames = clip(3)
    spies, outputs, _ = spied([STAUCell(4, 4, 3, theta=theta) for _ in range(4)], frames)
    for t in range(3):
        own = [(spy.seen[t].flow.s, spy.seen[t].state.past_t[-1]) for spy in spies]
        for k, spy in enumerate(spies):
            rungs = spy.seen[t].risen.rungs
            assert len(rungs) == min(theta, k + 1)
            for (s, temporal), (own_s, own_t) in zip(
                rungs, own[k + 1 - len(rungs) : k + 1], strict=True
            ):
                assert s is own_s
                assert temporal is own_t
            if k:
                assert spy.seen[t].flow.s is spies[k - 1].seen[t].risen.s
        assert spies[0].seen[t].flow.s is frames[t]
        assert spies[0].seen[t].flow.rungs == ()
        assert outputs[t] is spies[-1].seen[t].risen.s


def test_stau_without_spatial_attention_is_mau() -> None:
    without: Any = [STAUCell(4, 4, 3, spatial_attention=None, gamma=1.0) for _ in range(3)]
    ladder, stack = Ladder(without), Stack([MAUCell(4, 4, 3, gamma=1.0) for _ in range(3)])
    for ours, theirs in zip(ladder.stack.cells, stack.cells, strict=True):
        theirs.load_state_dict(ours.state_dict())
    frames = clip(4)
    one, other = ladder.init_state(frames[0]), stack.init_state(frames[0])
    for frame in frames:
        s, one = ladder(frame, one)
        expected, other = stack(frame, other)
        assert torch.equal(s, expected)
        for a, b in zip(tree_leaves(one), tree_leaves(other), strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_attention_in_half_precision_is_that_of_float32(scaled: bool, scale: float) -> None:
    """Sums over maps of this size exceed it, their terms come near the least that it can hold."""
    generator = torch.Generator().manual_seed(0)
    maps = scale * torch.rand(4, 1, 64, 64, 64, generator=generator)
    maps = (maps * torch.tensor([4.0, 1.0, 1.001, 1.002]).view(-1, 1, 1, 1, 1)).half()
    halves, exact = (
        attend(query, past, past, scaled, "attention")
        for query, *past in (list(maps), list(maps.float()))
    )
    assert halves.dtype == torch.float16
    torch.testing.assert_close(halves.float(), exact, rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("temporal", "spatial"),
    [
        ("spatial", "temporal"),
        ("spatial", "spatial"),
        ("temporal", "temporal"),
        ("temporal", "spatial"),
        ("spatial", None),
        (None, "temporal"),
    ],
)
def test_every_ablation_of_stau_uses_every_convolution(temporal: Any, spatial: Any) -> None:
    options = {"temporal_attention": temporal, "spatial_attention": spatial}
    cells: Any = [STAUCell(4, 4, 3, **options) for _ in range(3)]
    core = Ladder(cells)
    frames = clip(3)
    state = tree_map(lambda leaf: torch.randn_like(leaf), core.init_state(frames[0]))
    total = torch.zeros(())
    for frame in frames:
        output, state = core(frame, state)
        total = total + output.square().sum()
    total.backward()
    for k, cell in enumerate(core.stack.cells):
        for name, parameter in cell.named_parameters():
            assert parameter.grad is not None, f"{k}.{name}"
            # The bottom layer has one spatial reference, its own input: attention to it is no-op.
            assert k == 0 or parameter.grad.any(), f"{k}.{name}"


class Allocations(TorchDispatchMode):
    """Notes the memory of every tensor that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.noted: list[tuple[StorageWeakRef, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.noted.append((StorageWeakRef(storage), storage.nbytes()))
        return result

    def alive(self) -> dict[int, int]:
        return {ref.cdata: size for ref, size in self.noted if not ref.expired()}


def kept_for_backward(core: Cell[Any, Any], frames: list[Tensor]) -> int:
    """Bytes that live after a forward pass, beside the weights, the outputs and the states."""
    state, returned = core.init_state(frames[0]), []
    with Allocations() as allocations:
        for frame in frames:
            output, state = core(frame, state)
            returned.append((output, state))
    known = [*core.parameters(), *tree_leaves(returned)]
    references = {StorageWeakRef(tensor.untyped_storage()).cdata for tensor in known}
    return sum(size for key, size in allocations.alive().items() if key not in references)


UNITS = [ConvGRUCell, ConvLSTMCell, MAUCell, STAUCell, STGRUCell, STLSTMCell]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.__name__)
def test_remat_keeps_flow_and_state_only(unit: Callable[..., Any]) -> None:
    frames = clip(4, size=(8, 8))
    cells = [unit(4, 4, 3) for _ in range(2)]
    core = cells[0].wiring(cells)
    plain = kept_for_backward(core, frames)
    core.remat = True
    whole = kept_for_backward(core, frames)
    core.remat = False
    wrapped = kept_for_backward(Remat(core), frames)
    for cell in cells:
        cell.remat = True
    each = kept_for_backward(core, frames)
    one_map = frames[0].numel() * frames[0].element_size()
    assert plain > 5 * len(frames) * len(cells) * one_map
    assert each <= 2 * len(frames) * one_map  # the flow between the two cells
    assert whole == wrapped == 0


def test_remat_shows_the_cell_it_wraps() -> None:
    remat = Remat(STLSTMCell(3, 4, 3))
    assert remat.wiring is Zigzag
    assert remat.hidden_channels == 4
    assert remat.volume is None
    assert Remat(Conv3d(3, 4, depth=2)).volume == (3, 2)


WITHOUT_INPUT = [CausalLSTMCell, ConvGRUCell, ConvLSTMCell, STLSTMCell, TrajGRUCell]


@pytest.mark.parametrize("unit", WITHOUT_INPUT, ids=lambda unit: unit.__name__)
@pytest.mark.parametrize("norm", [None, "group", "layer"])
def test_a_unit_without_input_is_one_whose_input_has_no_weight(
    unit: Callable[..., Any], norm: Any
) -> None:
    size = (6, 5) if norm == "layer" else None
    without, blind = (unit(channels, 4, 3, norm=norm, size=size) for channels in (0, 3))
    blind.load_state_dict(without.state_dict(), strict=False)
    for name, parameter in blind.named_parameters():
        if name not in without.state_dict():
            torch.nn.init.zeros_(parameter)
    frames = clip(3, channels=3)
    runs = []
    for cell, maps in ((without, [frame[:, :0] for frame in frames]), (blind, frames)):
        core = cell.wiring([cell])
        (like,) = clip(1)
        state = tree_map(lambda leaf: torch.full_like(leaf, 0.3), core.init_state(like))
        for x in maps:
            top, state = core(x, state)
        runs.append([top, *tree_leaves(state)])
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b)
    runs[0][0].square().sum().backward()
    for name, parameter in without.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def one_line(error: pytest.ExceptionInfo[ValueError]) -> bool:
    return "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Stack([]), "at least one cell"),
        (lambda: Zigzag([]), "at least one cell"),
        (lambda: Ladder([]), "at least one cell"),
        (lambda: Zigzag([STLSTMCell(3, 4), STLSTMCell(4, 5)]), r"share one memory.*\[4, 5\]"),
        (lambda: ConvNorm(3, 4, 4), "kernel_size must be odd .* got 4"),
        (lambda: ConvNorm(-1, 4, 3), "at least one channel, got -1 in and 4 out"),
        (lambda: ConvNorm(3, 0, 3), "at least one channel, got 3 in and 0 out"),
        (lambda: ConvNorm(3, 4, (3, 3, 4)), r"kernel_size must be odd .* got \(3, 3, 4\)"),
        (lambda: ConvNorm(3, 4, (0, 3, 3)), r"kernel_size must be .* got \(0, 3, 3\)"),
        (lambda: Windowed(Stack([ConvGRUCell(3, 4)]), None), "has no 3D convolutions"),
        (lambda: Window(3, 0), "at least one feature map, got depth=0"),
        (lambda: ConvNorm(3, 4, 3, "batch"), "norm must be .* got 'batch'"),  # type: ignore[arg-type]
        (lambda: ConvNorm(3, 4, 3, "layer"), "needs size"),
        (lambda: STGRUCell(0, 4), "in_channels must equal hidden_channels, got 0 and 4"),
        (lambda: TrajGRUCell(3, 4, links=0), "links must be at least 1 .* got 0"),
        (lambda: STGRUCell(3, 4), "in_channels must equal hidden_channels, got 3 and 4"),
        (lambda: MAUCell(3, 4), "MAU.* in_channels must equal hidden_channels, got 3 and 4"),
        (lambda: STAUCell(3, 4), "STAU.* in_channels must equal hidden_channels, got 3 and 4"),
        (lambda: RPMCell(3, 4), r"in_channels must be hidden_channels, or 3 \* .* got 3 and 4"),
        (lambda: RPMCell(4, 4, tau=0), "tau must be at least 1 .* got 0"),
        (lambda: MAUCell(4, 4, tau=0), "tau must be at least 1 .* got 0"),
        (lambda: STAUCell(4, 4, tau=0), "tau must be at least 1 .* got 0"),
        (lambda: STAMCell(4, 4, separate=True), "three times those of T, S, O, got 4"),
        (lambda: STAUCell(4, 4, theta=0), "theta must be at least 1 .* got 0"),
        (lambda: STAUCell(4, 4, temporal_attention="tempral"), "or None, got 'tempral'"),  # type: ignore[arg-type]
        (lambda: STAUCell(4, 4, spatial_attention=False), "or None, got False"),  # type: ignore[arg-type]
    ],
)
def test_what_cells_refuse(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert one_line(error)


@pytest.mark.parametrize(
    ("temporal", "spatial"), [(None, None), (None, "spatial"), ("temporal", None)]
)
def test_stau_refuses_to_leave_a_convolution_without_use(temporal: Any, spatial: Any) -> None:
    says = f"temporal_attention={temporal!r} with spatial_attention={spatial!r}"
    with pytest.raises(ValueError, match=says) as error:
        STAUCell(4, 4, temporal_attention=temporal, spatial_attention=spatial)
    assert one_line(error)


@pytest.mark.parametrize("norm", ["group", None])
def test_stam_with_one_past_memory_is_an_st_lstm(norm: Any) -> None:
    torch.manual_seed(0)
    stlstms = [STLSTMCell(4, 4, 3, norm=norm) for _ in range(2)]
    stams = [STAMCell(4, 4, (1, 3, 3), depth=1, tau=1, norm=norm) for _ in range(2)]
    for stam, stlstm in zip(stams, stlstms, strict=True):
        weights = stlstm.state_dict()
        cubic = {name: w.unsqueeze(2) if w.dim() == 4 else w for name, w in weights.items()}
        stam.load_state_dict({**cubic, "conv_last.bias": torch.zeros(4)})
    frames = clip(4)
    deep, flat = STAMCell.wiring(stams), STLSTMCell.wiring(stlstms)
    state, same = deep.init_state(frames[0]), flat.init_state(frames[0])
    for frame in frames:
        output, state = deep(frame, state)
        expected, same = flat(frame, same)
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-6)
