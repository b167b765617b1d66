"""What a unit costs: its weights, counted as the papers do, and its multiply-adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from vidpred.cells import Cell

CHANNELS, SIDE = 64, 16  # the papers' setting for Moving MNIST


def weights_of(cell: Cell[Any, Any]) -> int:
    """Weights of the convolutions alone, without biases and norms."""
    return sum(weight.numel() for weight in cell.parameters() if weight.dim() >= 4)


def multiply_adds(cell: Cell[Any, Any], channels: int = CHANNELS, side: int = SIDE) -> float:
    """Of the convolutions and matrix products of one unit, for one feature map."""
    wired = cell.wiring([cell])  # type: ignore[call-arg]
    features = torch.zeros(1, channels, side, side)
    state = wired.init_state(features)
    return counted(lambda: wired(features, state))


def counted(run: Callable[[], Any]) -> float:
    """Multiply-adds of the convolutions and matrix products in a call."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops() / 2
