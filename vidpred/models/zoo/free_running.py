"""Models that do not encode their own predictions, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from vidpred.cells import Cell, DGRUCell, Fold, TrajGRUCell
from vidpred.models.encoder_forecaster import EncoderForecaster, StridedDecoder, StridedEncoder
from vidpred.models.free_running import FreeRunningPredictor
from vidpred.models.frnn import TanhEncoder, TiedDecoder
from vidpred.models.pretrained import recorded
from vidpred.models.zoo.common import unit_of


@recorded
def encoder_forecaster(
    cell: Callable[[int, int], Cell[Any, Any]],
    in_channels: int = 1,
    hidden_channels: int | Sequence[int] = (64, 96, 96),
    strides: Sequence[int] = (1, 2, 2),
    *,
    frame_channels: int = 16,
) -> FreeRunningPredictor:
    """The encoder-forecaster of TrajGRU, of any unit that can go without input.

    Args:
        cell: Makes a unit from (in_channels, hidden_channels): a cell class, or a partial of one.
            Of 0 channels it must make a unit without input, as ConvLSTM, ConvGRU and TrajGRU can.
        in_channels: Channels of a frame.
        hidden_channels: Channels of the states of each level, finest first; one number for all.
        strides: By what the sides are divided: from frame to finest level, then between levels.
        frame_channels: Channels of the convolutions next to the frames.

    Reference:
        Shi et al., NeurIPS 2017, arXiv:1706.03458. The defaults are those of Moving MNIST; for
        radar maps of 480 x 480 they are ``hidden_channels=(64, 192, 192)``, ``strides=(5, 3, 2)``
        and ``frame_channels=8``.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvLSTMCell
        >>> predictor = encoder_forecaster(ConvLSTMCell, hidden_channels=8)
        >>> predictor(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    widths = for_all(hidden_channels, strides, "width")
    first, *between = strides
    encoder, forecaster = (
        [unit.wiring([unit]) for unit in map(partial(unit_of, cell), entering, widths)]
        for entering in ([frame_channels, *widths[1:]], [*widths[:-1], 0])
    )
    return FreeRunningPredictor(
        StridedEncoder(in_channels, frame_channels, first),
        EncoderForecaster(encoder, forecaster, between),
        StridedDecoder(widths[0], frame_channels, in_channels, first),
    )


@recorded
def trajgru(
    in_channels: int = 1,
    hidden_channels: int | Sequence[int] = (64, 96, 96),
    strides: Sequence[int] = (1, 2, 2),
    *,
    kernel_size: int = 3,
    links: int = 13,
    frame_channels: int = 16,
) -> FreeRunningPredictor:
    """TrajGRU: an encoder-forecaster of trajectory GRUs.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of the states of each level, finest first; one number for all.
        strides: By what the sides are divided: from frame to finest level, then between levels.
        kernel_size: Odd width of the kernels by which a unit takes its input.
        links: How many places every pixel of a state looks at.
        frame_channels: Channels of the convolutions next to the frames.

    Reference:
        Shi et al., NeurIPS 2017, arXiv:1706.03458. Differs: a level's input is as wide as its
        states also on the way up, as in the PyTorch port (in the authors' code the transposed
        convolutions keep the width of the coarser level).

    Example:
        >>> import torch
        >>> trajgru(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    cell = partial(
        TrajGRUCell,
        kernel_size=kernel_size,
        links=links,
        activation=nn.LeakyReLU(0.2),
        norm=None,
    )
    return encoder_forecaster(
        cell, in_channels, hidden_channels, strides, frame_channels=frame_channels
    )


@recorded
def frnn(
    in_channels: int = 1,
    hidden_channels: int | Sequence[int] = (128, 128, 256, 256, 512, 512, 256, 256),
    strides: Sequence[int] = (2, 1, 2, 1, 2, 1, 2, 1),
    *,
    kernel_size: int | Sequence[int] = (5, 5, 5, 5, 3, 3, 3, 3),
    frame_channels: Sequence[int] = (32, 64),
) -> FreeRunningPredictor:
    """FRNN: a fold of double-mapping GRUs between convolutions that work both ways.

    Args:
        in_channels: Channels of a frame.
        hidden_channels: Channels of the state above each unit, lowest first; one number for all.
        strides: By what the sides are divided below each unit.
        kernel_size: Odd width of each unit's kernels; one number for all.
        frame_channels: Channels after each of the convolutions next to the frames.

    Reference:
        Oliu et al., ECCV 2018, arXiv:1712.00311; settings of the authors' code, which trains with
        the absolute error of the frames after the context.

    Example:
        >>> import torch
        >>> frnn(hidden_channels=8)(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    widths = for_all(hidden_channels, strides, "width")
    kernels = for_all(kernel_size, strides, "kernel")
    entering = [frame_channels[-1], *widths[:-1]]
    cells = list(map(partial(DGRUCell, norm=None), entering, widths, kernels))
    encoder = TanhEncoder(in_channels, frame_channels, 5)
    return FreeRunningPredictor(encoder, Fold(cells, strides), TiedDecoder(encoder))


def for_all(given: int | Sequence[int], strides: Sequence[int], what: str) -> list[int]:
    """One number for every stride, in which one number may stand for all."""
    numbers = [given] * len(strides) if isinstance(given, int) else list(given)
    if not numbers or len(numbers) != len(strides):
        raise ValueError(
            f"there is one {what} for each stride, got {given} for strides={tuple(strides)}"
        )
    return numbers
