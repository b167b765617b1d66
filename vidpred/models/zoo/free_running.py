"""Models that do not encode their own predictions, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import nn

from vidpred.cells import Cell, TrajGRUCell
from vidpred.models.encoder_forecaster import EncoderForecaster, StridedDecoder, StridedEncoder
from vidpred.models.predictor import FreeRunningPredictor


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
    if isinstance(hidden_channels, int):
        hidden_channels = [hidden_channels] * len(strides)
    if not strides or len(hidden_channels) != len(strides):
        raise ValueError(
            f"every level has a width and a stride, got hidden_channels={tuple(hidden_channels)} "
            f"and strides={tuple(strides)}"
        )
    first, *between = strides
    finest, *coarser = hidden_channels
    encoder, forecaster = (
        [unit.wiring([unit]) for unit in map(cell, entering, hidden_channels)]
        for entering in ([frame_channels, *coarser], [*hidden_channels[:-1], 0])
    )
    return FreeRunningPredictor(
        StridedEncoder(in_channels, frame_channels, first),
        EncoderForecaster(encoder, forecaster, between),
        StridedDecoder(finest, frame_channels, in_channels, first),
    )


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
