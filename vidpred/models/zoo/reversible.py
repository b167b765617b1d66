"""Models that can be run backwards, with the papers' settings as defaults."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from vidpred.cells import ReversiblePMCell, Windowed
from vidpred.cells.base import Norm
from vidpred.models.autoencoder import PatchEncoder
from vidpred.models.crevnet import LatestFrame, TwoWay
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import recorded
from vidpred.models.zoo.common import Size, feature_size, stack_of


@recorded
def crevnet(
    in_channels: int = 1,
    layers: int = 8,
    *,
    kernel_size: int | tuple[int, int, int] = 3,
    depth: int = 3,
    blocks: Sequence[int] = (4, 5, 3),
    norm: Norm = None,
    size: Size = None,
) -> Predictor:
    """CrevNet: reversible predictive memories inside an autoencoder that is its own decoder.

    The network sees the last ``depth`` frames and predicts as many, of which one is new. Its width
    follows from the frames: a unit's states have half of ``in_channels * 4**len(blocks)`` channels.
    Of a training step only these states and half of what enters each unit are kept for the backward
    pass, and no activations.

    Args:
        in_channels: Channels of a frame.
        layers: How many units.
        kernel_size: Depth, height and width of the units' kernels, or one number for all three;
            height and width odd.
        depth: How many frames the network sees at once.
        blocks: How many bijective blocks the autoencoder has at each size, from half the frames'
            down, each size half of the one before (three convolutions each: the paper's 36 layers).
        norm: The units' norm: ``"group"``, ``"layer"`` (needs ``size``) or ``None`` (published).
        size: (H, W) of a frame, for ``norm="layer"``.

    Reference:
        Yu et al., ICLR 2020, arXiv:1910.11577. Differs: one frame enters and one leaves at a
        time. So the first windows are filled up with black, and a forecast sees each frame as it
        was first predicted; the authors begin with ``depth`` frames, feed the whole predicted
        window back, and train on all of it. The norm in the blocks:
        :class:`~vidpred.models.crevnet.IRevNetBlock`.

    Example:
        >>> import torch
        >>> crevnet(layers=2, blocks=(1, 1))(torch.rand(1, 4, 1, 32, 32), horizon=2).shape
        torch.Size([1, 2, 1, 32, 32])
    """
    stride = 2 ** len(blocks)
    width = in_channels * stride**2
    cell = partial(
        ReversiblePMCell,
        kernel_size=kernel_size,
        depth=depth,
        norm=norm,
        size=feature_size(size, stride),
    )
    cells = stack_of(cell, width, width, layers)
    core = Windowed(TwoWay(in_channels, cells, blocks), cells[0].volume)
    return Predictor(PatchEncoder(width), core, LatestFrame(depth), patch=stride)
