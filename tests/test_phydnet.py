"""PhyDNet: its size, its branches, and kernels that stand for derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from naive.phycell import moment_penalty
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vidpred.cells import ConvGRUCell, ConvLSTMCell, PhyCell, total_penalty
from vidpred.cells.phycell import moments
from vidpred.models import Parallel, zoo

LSTMS = [(64, 128), (128, 128), (128, 64)]  # channels of input and state


def conv(in_channels: int, out_channels: int, kernel: int = 3) -> int:
    return in_channels * out_channels * kernel**2 + out_channels


def block(in_channels: int, out_channels: int) -> int:
    """A convolution and the scale and shift of its norm."""
    return conv(in_channels, out_channels) + 2 * out_channels


def test_default_has_the_published_size_and_work() -> None:
    model = zoo.phydnet()
    encoder = block(1, 32) + block(32, 32) + block(32, 64)
    decoder = block(64, 32) + block(32, 32) + conv(32, 1)
    physics = conv(64, 49, 7) + 2 * 49 + conv(49, 64, 1) + conv(2 * 64, 64)
    lstms = sum(conv(below + width, 4 * width) for below, width in LSTMS)
    published = encoder + decoder + physics + lstms + 2 * 4 * block(64, 64)
    assert round(published / 1e6, 1) == 3.1  # printed by OpenSTL
    second_biases = sum(4 * width for _, width in LSTMS)  # our gates have one for each input
    assert sum(weight.numel() for weight in model.parameters()) == published + second_biases

    frame = torch.rand(1, 1, 64, 64)
    model.eval()  # a training step also computes the penalty
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.step(frame, model.init_state(frame))
    # 10 -> 10 frames take 19 steps; OpenSTL counts a multiplication and an addition as one.
    assert round(19 * counter.get_total_flops() / 2 / 1e9, 1) == 15.3


def test_defaults_are_the_papers_settings() -> None:
    model: Any = zoo.phydnet()
    physics, rest = (branch.cell for branch in model.core.branches)
    assert isinstance(physics, PhyCell)
    assert physics.derivatives.weight.shape == (49, 64, 7, 7)
    assert physics.norm.num_groups == 7
    assert [type(cell) for cell in rest.cells] == [ConvLSTMCell] * 3
    assert [(cell.conv_x[0].in_channels, cell.hidden_channels) for cell in rest.cells] == LSTMS
    assert {cell.conv_h[0].kernel_size for cell in rest.cells} == {(3, 3)}
    assert {cell.forget_bias for cell in rest.cells} == {0.0}
    assert model.encoder.stride == 4
    norms = [m for m in model.modules() if isinstance(m, nn.GroupNorm) and m is not physics.norm]
    assert {norm.num_groups for norm in norms} == {16}


def test_arguments_arrive() -> None:
    model: Any = zoo.phydnet(3, 6, 2, kernel_size=5)
    physics, rest = (branch.cell for branch in model.core.branches)
    assert physics.derivatives.weight.shape == (25, 6, 5, 5)
    assert [cell.hidden_channels for cell in rest.cells] == [12, 6]
    with torch.no_grad():
        predicted = model(torch.rand(1, 2, 3, 9, 7), horizon=2)
    assert predicted.shape == (1, 2, 3, 9, 7)
    assert predicted.min() > 0
    assert predicted.max() < 1


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: zoo.phydnet(layers=0), "at least one layer, got layers=0"),
        (lambda: zoo.phydnet(kernel_size=4), "kernel_size must be odd .* got 4"),
        (lambda: zoo.phydnet(in_channels=0), "at least one channel, got in_channels=0"),
        (lambda: PhyCell(3, 4), "in_channels must equal hidden_channels, got 3 and 4"),
        (lambda: Parallel([]), r"hidden_channels must be equal, got \[\]"),
        (
            lambda: Parallel([PhyCell(4, 4), PhyCell(6, 6)]),
            r"hidden_channels must be equal, got \[4, 6\]",
        ),
    ],
)
def test_what_is_refused(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)


def test_branches_do_not_see_each_other_and_are_added() -> None:
    torch.manual_seed(0)
    cells = [PhyCell(4, 4, 3), ConvGRUCell(4, 4, 3)]
    core = Parallel(cells)
    frames = torch.randn(3, 2, 4, 5, 6)
    state = core.init_state(frames[0])
    states = [cell.init_state(frames[0]) for cell in cells]
    with torch.no_grad():
        for frame in frames:
            top, state = core(frame, state)
            tops, states = zip(
                *(cell(frame, before) for cell, before in zip(cells, states, strict=True)),
                strict=True,
            )
            torch.testing.assert_close(top, tops[0] + tops[1], rtol=0, atol=0)
            assert all(torch.equal(a.h, b.h) for a, b in zip(state, states, strict=True))


def derivative_kernels(size: int) -> torch.Tensor:
    """Kernel ``i * size + j`` has the moment (i, j) alone: moments are linear, so invert them."""
    basis = torch.eye(size**2, dtype=torch.float64).view(size**2, size, size)
    return torch.linalg.inv(moments(basis).flatten(1)).view(size**2, size, size)


def test_kernels_without_penalty_are_derivatives() -> None:
    cell = PhyCell(2, 2, 5).double()
    kernels = derivative_kernels(5)
    with torch.no_grad():
        cell.derivatives.weight.copy_(kernels[:, None].expand_as(cell.derivatives.weight))
    assert cell.moment_penalty() < 1e-20
    # The kernels take y^a x^b to its derivatives, at every point they can see around.
    y, x = torch.meshgrid(*(torch.arange(-4.0, 5.0, dtype=torch.float64),) * 2, indexing="ij")
    for a, b in product(range(5), repeat=2):
        found = F.conv2d((y**a * x**b)[None, None], kernels[:, None])[0]
        for i, j in product(range(5), repeat=2):
            factor = math.perm(a, i) * math.perm(b, j)
            expected = factor * y ** max(a - i, 0) * x ** max(b - j, 0)
            torch.testing.assert_close(found[5 * i + j], expected[2:-2, 2:-2], rtol=0, atol=1e-9)


def test_penalty_is_its_naive_twin_and_of_the_derivatives_alone() -> None:
    torch.manual_seed(0)
    cell = PhyCell(3, 3, 5)
    assert cell.moment_penalty().item() == pytest.approx(
        moment_penalty(cell.derivatives.weight.detach()), rel=1e-5
    )
    with torch.autocast("cpu", torch.bfloat16):
        penalty = cell.moment_penalty()
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty, cell.moment_penalty())
    penalty.backward()
    seen = {name for name, weight in cell.named_parameters() if weight.grad is not None}
    assert seen == {"derivatives.weight"}


def test_the_penalty_is_part_of_the_state_in_training_and_counts_once() -> None:
    cell = PhyCell(3, 3, 5)
    frames = torch.randn(4, 2, 3, 6, 6)
    state = cell.init_state(frames[0])
    for frame in frames:
        _, state = cell(frame, state)
        torch.testing.assert_close(total_penalty(state), cell.moment_penalty())
    _, evaluated = cell.eval()(frames[0], cell.init_state(frames[0]))
    assert total_penalty(evaluated) == 0
