"""Every unit, in its wiring, against its naive twin: three layers, four frames, random weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from naive import wiring as naive
from naive.causal_lstm import causal_lstm
from naive.convgru import convgru
from naive.dgru import run_dgru
from naive.stlstm import stlstm
from naive.trajgru import trajgru
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from vidpred import cells

LAYERS, STEPS, BATCH, WIDTH, SIZE = 3, 4, 2, 4, (5, 6)
NORMS: list[dict[str, Any]] = [{"norm": None}, {"norm": "group"}, {"norm": "layer", "size": SIZE}]

Run = tuple[list[Tensor], list[Tensor]]  # outputs, leaves of the last state


def randomise(module: nn.Module) -> None:
    """Every weight is drawn, also those that start at 0 or 1, from a generator of its own."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            # Kernels that keep the size of a map.
            scale = {4: 0.15, 5: 0.1}.get(parameter.dim(), 0.5)
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def weights(wired: Any) -> list[dict[str, Tensor]]:
    core: Any = wired.core if isinstance(wired, cells.Windowed) else wired
    stack = getattr(core, "stack", core)
    return [dict(cell.state_dict()) for cell in stack.cells if cell.state_dict()]


def build(unit: Callable[..., Any], in_channels: int, options: dict[str, Any]) -> Any:
    widths = [in_channels] + [WIDTH] * (LAYERS - 1)
    stacked = [unit(width, WIDTH, **{"kernel_size": 3, **options}) for width in widths]
    wired = stacked[0].wiring(stacked).double()
    randomise(wired)
    return wired


def check(
    unit: Callable[..., Any],
    in_channels: int,
    options: dict[str, Any],
    twin: Callable[[list[dict[str, Tensor]], list[Tensor], Any], Run],
    begun: float = 0.0,
) -> None:
    wired = build(unit, in_channels, options)
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor) -> Tensor:
        if like[0].numel() == 1:
            return torch.full_like(like, begun)
        return torch.randn(like.shape, generator=generator, dtype=torch.float64)

    blank = torch.zeros(BATCH, in_channels, *SIZE, dtype=torch.float64)
    frames = [draw(blank) for _ in range(STEPS)]
    state = start = tree_map(draw, wired.init_state(blank))
    outputs = []
    with torch.no_grad():
        for frame in frames:
            top, state = wired(frame, state)
            outputs.append(top)
        expected_outputs, expected_state = twin(weights(wired), frames, start)
    got, expected = [*outputs, *tree_leaves(state)], [*expected_outputs, *expected_state]
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def name(options: Any) -> str | None:
    if not isinstance(options, dict):
        return None
    return (
        "-".join(f"{key}={value}" for key, value in options.items() if key != "size") or "default"
    )


def test_every_unit_has_a_twin() -> None:
    compared = set(re.findall(r"cells\.(\w+Cell)\b", Path(__file__).read_text()))
    assert compared == {unit.__name__ for unit in cells.UNITS}


CONVLSTM: list[dict[str, Any]] = [
    *({**norm, "forget_bias": bias} for norm, bias in product(NORMS, (0.0, 1.0))),
    *({**norm, "peepholes": True} for norm in NORMS),
    {"norm": None, "size": SIZE, "peepholes": True},
    {},
]


@pytest.mark.parametrize("options", CONVLSTM, ids=name)
def test_convlstm(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        H, C = [h for h, _ in state], [c for _, c in state]
        outputs, H, C = naive.run_convlstm(layers, frames, H, C, **constants)
        return outputs, tree_leaves(list(zip(H, C, strict=True)))

    check(cells.ConvLSTMCell, 3, options, twin)


@pytest.mark.parametrize("options", [*NORMS, {"norm": None, "forget_bias": 0.0}, {}], ids=name)
def test_sa_convlstm(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        outputs, states = naive.run_sa_convlstm(layers, frames, state, **constants)
        return outputs, tree_leaves(states)

    check(cells.SAConvLSTMCell, 3, options, twin)


@pytest.mark.parametrize("options", [*NORMS, {}], ids=name)
def test_convgru(options: dict[str, Any]) -> None:
    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        return naive.run_gru(convgru, layers, frames, [h for (h,) in state])

    check(cells.ConvGRUCell, 3, options, twin)


TRAJGRU = [
    *({**norm, "links": links} for norm, links in product(NORMS, (1, 5))),
    {"norm": None, "links": 2, "activation": nn.LeakyReLU(0.2)},
    {},
]


@pytest.mark.parametrize("options", TRAJGRU, ids=name)
def test_trajgru(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"activation"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        return naive.run_gru(trajgru, layers, frames, [h for (h,) in state], **constants)

    check(cells.TrajGRUCell, 3, options, twin)


@pytest.mark.parametrize("options", [*NORMS, {}], ids=name)
def test_dgru(options: dict[str, Any]) -> None:
    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        outputs, low, high, top = run_dgru(layers, frames, [cell.high for cell in state.cells])
        return outputs, [*tree_leaves(list(zip(low, high, strict=True))), top]

    check(cells.DGRUCell, 3, options, twin)


STGRU = [*({**norm, "update_bias": bias} for norm, bias in product(NORMS, (0.0, 1.0))), {}]


@pytest.mark.parametrize("options", STGRU, ids=name)
def test_stgru(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"update_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        return naive.run_stgru(layers, frames, [t for (t,) in state], **constants)

    check(cells.STGRUCell, WIDTH, options, twin)


ZIGZAG = [*({**norm, "forget_bias": bias} for norm, bias in product(NORMS, (0.0, 1.0))), {}]


@pytest.mark.parametrize("options", ZIGZAG, ids=name)
@pytest.mark.parametrize(
    ("unit", "twin_unit"),
    [(cells.STLSTMCell, stlstm), (cells.CausalLSTMCell, causal_lstm)],
    ids=["stlstm", "causal_lstm"],
)
def test_zigzag(unit: Any, twin_unit: Any, options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        H, C = [h for h, _ in state.cells], [c for _, c in state.cells]
        outputs, H, C, M = naive.run_zigzag(twin_unit, layers, frames, H, C, state.m, **constants)
        return outputs, [*tree_leaves(list(zip(H, C, strict=True))), M]

    check(unit, 3, options, twin)


@pytest.mark.parametrize("options", ZIGZAG, ids=name)
def test_decoupled(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        *lower, adapter = layers
        *states, (penalty,) = state.cells
        outputs, H, C, M, penalty = naive.run_decoupled(
            lower,
            adapter,
            frames,
            [h for h, _ in states],
            [c for _, c in states],
            state.m,
            penalty,
            **constants,
        )
        return outputs, [*tree_leaves(list(zip(H, C, strict=True))), penalty, M]

    check(cells.DecoupledSTLSTMCell, 3, options, twin)


E3D: list[dict[str, Any]] = [
    *({**norm, "tau": tau, "kernel_size": 3} for norm, tau in product(NORMS, (1, 3))),
    {"depth": 1, "tau": 2, "forget_bias": 0.0},
    {"depth": 3, "tau": 2, "kernel_size": (2, 3, 1)},
    {},
]


@pytest.mark.parametrize("options", E3D, ids=name)
def test_e3d_lstm(options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}
    depth, tau = options.get("depth", 2), options.get("tau", 5)

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        (window, (states, M)), seen = state, [*state.window, *frames]
        H, C = [h for h, _ in states], [list(past) for _, past in states]
        outputs, H, C, M = naive.run_e3d_lstm(
            layers, seen, H, C, M, depth=depth, tau=tau, **constants
        )
        kept = seen[len(seen) - len(window) :]
        return outputs, [*kept, *tree_leaves(list(zip(H, C, strict=True))), M]

    check(cells.E3DLSTMCell, 3, options, twin)


REVERSIBLE: list[dict[str, Any]] = [
    *NORMS,
    {"depth": 1},
    {"depth": 2, "kernel_size": (1, 5, 3)},
    {},
]


@pytest.mark.parametrize("options", REVERSIBLE, ids=name)
def test_reversible_pm(options: dict[str, Any]) -> None:
    depth = options.get("depth", 3)

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        (window, (states, M)), seen = state, [*state.window, *frames]
        H, C = [h for h, _ in states], [c for _, c in states]
        outputs, H, C, M = naive.run_reversible_pm(layers, seen, H, C, M, depth=depth)
        kept = seen[len(seen) - len(window) :]
        return outputs, [*kept, *tree_leaves(list(zip(H, C, strict=True))), M]

    check(cells.ReversiblePMCell, WIDTH, options, twin)


@pytest.mark.parametrize("options", [*NORMS, {}], ids=name)
def test_ghu(options: dict[str, Any]) -> None:
    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        outputs, Z = naive.run_ghu(layers, frames, [z for (z,) in state.cells])
        return outputs, [*Z, state.m]

    check(cells.GHUCell, 3, options, twin)


@pytest.mark.parametrize("options", [*ZIGZAG, {"norm": None, "size": SIZE}], ids=name)
@pytest.mark.parametrize("begun", [0.0, 1.0])
def test_mim(begun: float, options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        (before, _), *states = state.cells
        outputs, ends, M = naive.run_mim(
            layers,
            frames,
            [tree_leaves(s) for s in states],
            state.m,
            before if begun else None,
            **constants,
        )
        last = [frames[-1], torch.ones(BATCH, 1, 1, 1, dtype=torch.float64)]
        return outputs, [*last, *tree_leaves(ends), M]

    check(cells.MIMCell, WIDTH, options, twin, begun)


RPM: list[dict[str, Any]] = [
    *({**norm, "tau": tau} for norm, tau in product(NORMS, (1, 2, 5))),
    {"forget_bias": 0.0},
    {},
]


@pytest.mark.parametrize("options", RPM, ids=name)
@pytest.mark.parametrize("domains", [1, 3])
@pytest.mark.parametrize("missing", [0, 1, 5])
def test_rpm(missing: int, domains: int, options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}
    tau = options.get("tau", 5)
    missing = min(missing, tau)

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        H, C = [h for h, _ in state.cells], [list(past.maps) for _, past in state.cells]
        outputs, H, C, M = naive.run_rpm(
            layers, frames, H, C, list(state.m.maps), tau - missing, **constants
        )
        none = torch.zeros(BATCH, 1, 1, 1, dtype=torch.float64)
        left = none + max(missing - STEPS, 0)
        layers_end = [leaf for h, past in zip(H, C, strict=True) for leaf in (h, *past, left)]
        return outputs, [*layers_end, *M, none]

    check(cells.RPMCell, domains * WIDTH, options, twin, missing)


STAM: list[dict[str, Any]] = [
    *({**norm, "tau": tau, "kernel_size": 3} for norm, tau in product(NORMS, (1, 3))),
    {"depth": 3, "tau": 2, "kernel_size": (2, 3, 1), "forget_bias": 0.0},
    {},
]


@pytest.mark.parametrize("options", STAM, ids=name)
@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("missing", [0, 1, 4])
def test_stam(missing: int, separate: bool, options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}
    depth, tau = options.get("depth", 2), options.get("tau", 5)
    missing = min(missing, tau - 1)

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        (window, (states, past_m)), seen = state, [*state.window, *frames]
        H, C = [h for h, _ in states], [list(past.maps)[missing:] for _, past in states]
        outputs, H, C, M = naive.run_stam(
            layers, seen, H, C, list(past_m.maps)[missing:], depth=depth, tau=tau, **constants
        )
        kept = seen[len(seen) - len(window) :]
        none = torch.zeros(BATCH, 1, 1, 1, 1, dtype=torch.float64)
        layers_end = [leaf for h, past in zip(H, C, strict=True) for leaf in (h, *past, none)]
        return outputs, [*kept, *layers_end, *M, none]

    def unit(in_channels: int, *args: Any, **options: Any) -> Any:
        lowest = separate and in_channels != WIDTH
        return cells.STAMCell(in_channels, *args, separate=lowest, **options)

    check(unit, 9 if separate else 3, options, twin, missing)


@pytest.mark.parametrize("options", [{}, {"neighbours": 5}], ids=name)
def test_motion_gru(options: dict[str, Any]) -> None:
    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        offset, trend = [o for o, _ in state], [d for _, d in state]
        outputs, offset, trend = naive.run_motion_gru(layers, frames, offset, trend)
        return outputs, tree_leaves(list(zip(offset, trend, strict=True)))

    check(cells.MotionGRUCell, 3, options, twin)


@pytest.mark.parametrize("options", ZIGZAG, ids=name)
@pytest.mark.parametrize(
    "unit", [cells.MotionHighwayCell, cells.MotionLSTMCell], ids=["highway", "motion"]
)
def test_motion_rnn(unit: Any, options: dict[str, Any]) -> None:
    constants = {key: options[key] for key in options.keys() & {"forget_bias"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        first, *upper = layers
        kept = [tree_leaves(cell) for cell in state.cells[1:]]
        outputs, ends, M = naive.run_motion_rnn(first, upper, frames, kept, state.m, **constants)
        return outputs, [*tree_leaves(ends), M]

    check(unit, WIDTH, options, twin)


@pytest.mark.parametrize("options", [{"kernel_size": 1}, {}, {"kernel_size": 5}], ids=name)
def test_phycell(options: dict[str, Any]) -> None:
    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        outputs, H, penalties = naive.run_phycell(layers, frames, [h for h, _ in state])
        totals = [torch.full_like(state[0].penalty.total, penalty) for penalty in penalties]
        return outputs, tree_leaves(list(zip(H, totals, strict=True)))

    check(cells.PhyCell, WIDTH, options, twin)


def history(state: Any, tau: int) -> tuple[naive.Grid, naive.Grid]:
    """The states before the first frame, by time and layer."""
    S, T = {}, {}
    for k, layer in enumerate(state, start=1):
        for age in range(tau):
            S[-age, k - 1] = layer.past_s[-1 - age]
            T[-age, k] = layer.past_t[-1 - age]
    return S, T


def last_states(S: naive.Grid, T: naive.Grid, tau: int) -> list[Tensor]:
    times = range(STEPS - tau + 1, STEPS + 1)
    return [
        leaf
        for k in range(1, LAYERS + 1)
        for leaf in ([T[t, k] for t in times] + [S[t, k - 1] for t in times])
    ]


MAU: list[dict[str, Any]] = [
    *({**norm, "tau": tau} for norm, tau in product(NORMS, (1, 2, 5))),
    {"gamma": 1.0},
    {"gamma": 0.3, "tau": 3, "scaled": False},
    {},
]


@pytest.mark.parametrize("options", MAU, ids=name)
def test_mau(options: dict[str, Any]) -> None:
    tau = options.get("tau", 5)
    constants = {key: options[key] for key in options.keys() & {"gamma", "scaled"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        S, T = history(state, tau)
        outputs, S, T = naive.run_mau(layers, frames, S, T, tau=tau, **constants)
        return outputs, last_states(S, T, tau)

    check(cells.MAUCell, WIDTH, options, twin)


DOMAINS = (None, "temporal", "spatial")
REFUSED = {(None, None), (None, "spatial"), ("temporal", None)}  # a convolution without use
STAU: list[dict[str, Any]] = [
    *({**norm, "tau": tau, "theta": tau} for norm, tau in product(NORMS, (1, 2, 5))),
    *(
        {"temporal_attention": temporal, "spatial_attention": spatial, "gamma": 0.5, "tau": 3}
        for temporal, spatial in product(DOMAINS, DOMAINS)
        if (temporal, spatial) not in REFUSED
    ),
    {"tau": 4, "theta": 2, "scaled": False},
    {"gamma": 1.0},
    {},
]


@pytest.mark.parametrize("options", STAU, ids=name)
def test_stau(options: dict[str, Any]) -> None:
    tau = options.get("tau", 5)
    constants = {key: options[key] for key in options.keys() - {"tau", "norm", "size"}}

    def twin(layers: Any, frames: list[Tensor], state: Any) -> Run:
        S, T = history(state, tau)
        outputs, S, T = naive.run_stau(layers, frames, S, T, tau=tau, **constants)
        return outputs, last_states(S, T, tau)

    check(cells.STAUCell, WIDTH, options, twin)
