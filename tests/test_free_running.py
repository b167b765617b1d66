"""Predictors that look at true frames alone: what they observe, and what they go on from."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.utils._pytree import tree_leaves

from vidpred import cells
from vidpred.models import EncoderForecaster, FreeRunningPredictor, zoo

MODELS: dict[str, Callable[[], FreeRunningPredictor]] = {
    "trajgru": lambda: zoo.trajgru(2, (4, 6), (1, 2), links=2, frame_channels=3),
    "frnn": lambda: zoo.frnn(2, (4, 6, 6), (2, 1, 2), kernel_size=3, frame_channels=(3, 4)),
}
any_model = pytest.mark.parametrize("name", MODELS)


def build(name: str) -> FreeRunningPredictor:
    torch.manual_seed(0)
    return MODELS[name]().double()


def clip(steps: int, batch: int = 2, size: tuple[int, int] = (8, 8)) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(batch, steps, 2, *size, generator=generator, dtype=torch.float64)


def assert_equal(a: Any, b: Any) -> None:
    for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=1e-12)


@any_model
def test_a_prediction_that_is_fed_back_is_not_looked_at(name: str) -> None:
    model, frames = build(name), clip(3)
    with torch.no_grad():
        prediction, state = model.step(frames[:, 0], model.init_state(frames[:, 0]))
        expected = model.step(prediction, state, known=False)
        assert_equal(model.step(torch.full_like(prediction, 9.0), state, known=False), expected)
        observed = model.step(prediction, state)[0]
        assert not torch.allclose(observed, expected[0])


@any_model
def test_frames_may_be_known_of_some_samples(name: str) -> None:
    model, frames = build(name), clip(2, batch=3)
    with torch.no_grad():
        _, state = model.step(frames[:, 0], model.init_state(frames[:, 0]))
        known = torch.tensor([True, False, True])
        some, every, none = (model.step(frames[:, 1], state, k) for k in (known, True, False))
        for x, yes, no in zip(*map(tree_leaves, (some, every, none)), strict=True):
            assert_equal([x[::2], x[1]], [yes[::2], no[1]])


def test_the_mask_may_be_on_another_device() -> None:
    with FakeTensorMode():  # which needs no such device
        with torch.device("cuda"):
            model, frame = MODELS["frnn"](), torch.rand(2, 2, 8, 8)
        known = torch.tensor([True, False])
        prediction, _ = model.step(frame, model.init_state(frame), known)
    assert (known.device.type, prediction.device.type) == ("cpu", "cuda")


@any_model
def test_forecasts_leave_no_trace_in_what_is_observed(name: str) -> None:
    model, frames = build(name), clip(4)
    with torch.no_grad():
        state = model.init_state(frames[:, 0])
        for t in range(3):
            prediction, state = model.step(frames[:, t], state)
        expected = model.step(frames[:, 3], state)
        for _ in range(2):
            prediction, state = model.step(prediction, state, known=False)
        assert_equal(model.step(frames[:, 3], state), expected)


WITHOUT_INPUT = [
    cells.CausalLSTMCell,
    cells.ConvGRUCell,
    cells.ConvLSTMCell,
    cells.STLSTMCell,
    cells.TrajGRUCell,
]


@pytest.mark.parametrize("unit", WITHOUT_INPUT, ids=lambda unit: unit.__name__)
def test_any_unit_that_can_go_without_input_makes_an_encoder_forecaster(unit: Any) -> None:
    torch.manual_seed(0)
    cell = partial(unit, kernel_size=3)
    model = zoo.encoder_forecaster(cell, 2, (4, 6), (1, 2), frame_channels=3)
    frames = clip(5, size=(7, 9)).float()
    keep = (torch.arange(4) < 2).expand(2, -1)
    predicted = model.rollout(frames, keep)
    with torch.no_grad():
        torch.testing.assert_close(model(frames[:, :2], 3), predicted[:, 1:])
    predicted.square().sum().backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.any(), label


def test_the_forecaster_starts_in_the_states_of_the_encoder_without_input() -> None:
    core: Any = build("trajgru").core
    x = clip(2)[:, :, :1].expand(-1, -1, 3, -1, -1)
    with torch.no_grad():
        state = core.observe(x[:, 0], core.init_state(x[:, 0]))
        assert_equal(state.forecaster, state.encoder)
        top, after = core.forecast(state)
        coarsest = core.forecaster[-1].cells[0]
        h = state.encoder[-1][0].h
        assert_equal(after.forecaster[-1][0].h, coarsest(h[:, :0], cells.TrajGRUState(h))[0])
        assert_equal(after.encoder, state.encoder)
        assert torch.equal(top, after.forecaster[0][0].h)


def unit() -> Any:
    return cells.DGRUCell(2, 4)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: zoo.trajgru(hidden_channels=(4, 4)), r"one width for each stride, got \(4, 4\) "),
        (lambda: zoo.trajgru(strides=()), r"one width for each stride, got .* strides=\(\)"),
        (lambda: zoo.frnn(kernel_size=(3, 3)), r"one kernel for each stride, got \(3, 3\) for"),
        (lambda: zoo.frnn(kernel_size=4), "kernel_size must be odd .* got 4"),
        (lambda: zoo.frnn(0), "at least one channel, got in_channels=0"),
        (lambda: cells.Fold([]), "at least one cell, got an empty list"),
        (lambda: cells.Fold([unit()], [1, 2]), r"one for each of 1 cell\(s\) .* got \(1, 2\)"),
        (lambda: zoo.frnn(strides=(2, 0) * 4), r"8 cell\(s\) and at least 1, got \(2, 0, 2"),
        (lambda: zoo.trajgru(strides=(0, 2, 2)), "stride must be at least 1, got 0"),
        (lambda: zoo.trajgru(strides=(1, 0, 2)), r"strides must be at least 1, got \(0, 2\)"),
        (lambda: EncoderForecaster([], [], []), r"got 0 and 0 cells for strides=\(\)"),
        (lambda: EncoderForecaster([unit()], [unit()], [2]), r"got 1 and 1 cells .*=\(2,\)"),
        (lambda: EncoderForecaster([unit()], [], []), "got 1 and 0 cells for"),
        (lambda: zoo.trajgru(kernel_size=4), "kernel_size must be odd .* got 4"),
        (lambda: zoo.trajgru(0), "at least one channel, got in_channels=0"),
        (lambda: zoo.encoder_forecaster(cells.STGRUCell), "STGRU mixes its input with its state"),
    ],
)
def test_what_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
