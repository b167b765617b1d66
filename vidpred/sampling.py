"""Scheduled sampling: how often the true frame enters during training, and the draw of it.

Both are pure functions of the optimiser step, so a resumed run continues them exactly.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vidpred.random import uniform


class Sampling(abc.ABC):
    """A schedule: how likely the true frame enters at each time step of a clip."""

    @abc.abstractmethod
    def probabilities(self, step: int, context_length: int, length: int) -> Tensor:
        """Return the probability that the true frame enters, for every frame that enters.

        Args:
            step: Optimiser steps done so far.
            context_length: Frames known when forecasting.
            length: Frames of the clip, more than ``context_length``.

        Returns:
            ``(length - 1,)`` in [0, 1]. The first is 1: nothing predicts the first frame.
        """


@dataclass(frozen=True)
class ScheduledSampling(Sampling):
    """The context is always true; after it the true frame enters ever less often.

    Its probability is ``start`` at step 0, less by ``slope`` every step, and 0 from
    ``start / slope`` on: 50,000 steps for Moving MNIST (the defaults), 20,000 for STIP
    (``slope=5e-5``). Teacher forcing is ``slope=0``; to train as one forecasts, on predicted frames
    alone, is ``start=0``.

    Args:
        start: Probability at step 0, in [0, 1].
        slope: What it loses every step, at least 0.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Bengio et al., NeurIPS 2015, arXiv:1506.03099, with linear decay, as in PredRNN.

    Example:
        >>> ScheduledSampling().probabilities(step=30_000, context_length=3, length=6)
        tensor([1.0000, 1.0000, 1.0000, 0.4000, 0.4000])
    """

    start: float = 1.0
    slope: float = 2e-5

    def __post_init__(self) -> None:
        if not 0 <= self.start <= 1:
            raise ValueError(f"start is a probability in [0, 1], got {self.start}")
        if not 0 <= self.slope < math.inf:
            raise ValueError(f"slope is what the probability loses a step, >= 0, got {self.slope}")

    def probabilities(self, step: int, context_length: int, length: int) -> Tensor:
        future = max(0.0, self.start - self.slope * step)
        return _probabilities(1.0, future, context_length, length)


@dataclass(frozen=True)
class ReverseScheduledSampling(Sampling):
    r"""Predicted frames enter in the context too, at first as often as true ones.

    At step n the true frame enters with probability

    .. math::
        \text{context: } 1 - \tfrac12 e^{-(n - begin) / alpha} \qquad
        \text{after it: } \tfrac12 \frac{end - n}{end - begin}

    between ``begin`` and ``end``; both are 1/2 before, and 1 and 0 afterwards.

    Args:
        begin: Step at which the probabilities start to change, at least 0.
        end: Step from which on training is as forecasting, after ``begin``.
        alpha: Steps over which the context's distance from 1 shrinks by a factor e, above 0.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Wang et al., PredRNN-v2, arXiv:2103.09504; exponential form, defaults of the authors' code.

    Example:
        >>> ReverseScheduledSampling().probabilities(step=30_000, context_length=3, length=6)
        tensor([1.0000, 0.8161, 0.8161, 0.4000, 0.4000])
    """

    begin: int = 25_000
    end: int = 50_000
    alpha: float = 5_000.0

    def __post_init__(self) -> None:
        if not 0 <= self.begin < self.end:
            raise ValueError(f"expected 0 <= begin < end, got begin={self.begin}, end={self.end}")
        if not 0 < self.alpha < math.inf:
            raise ValueError(f"alpha is a positive number of steps, got {self.alpha}")

    def probabilities(self, step: int, context_length: int, length: int) -> Tensor:
        if step < self.begin:
            context, future = 0.5, 0.5
        elif step < self.end:
            context = 1 - 0.5 * math.exp(-(step - self.begin) / self.alpha)
            future = 0.5 * (self.end - step) / (self.end - self.begin)
        else:
            context, future = 1.0, 0.0
        return _probabilities(context, future, context_length, length)


def draw_keep(
    sampling: Sampling,
    batch_size: int,
    length: int,
    context_length: int,
    *,
    step: int,
    batch: int = 0,
    rank: int = 0,
    seed: int = 0,
) -> Tensor:
    """Decide for every sample and time step whether the true frame enters.

    Args:
        sampling: The schedule.
        batch_size: Samples B.
        length: Frames T of the clips.
        context_length: Frames known when forecasting, from 1 to T - 1.
        step: Optimiser steps done so far.
        batch: Which batch it is, where several make one step.
        rank: Which of several processes this is.
        seed: Any integer.

    Returns:
        Boolean ``(B, T-1)`` on the CPU, as :meth:`vidpred.models.Predictor.rollout` takes it: a
        pure function of the arguments.

    Raises:
        ValueError: ``context_length`` is not between 1 and T - 1, or ``step`` is negative.

    Example:
        >>> keep = draw_keep(ScheduledSampling(), 16, length=6, context_length=3, step=30_000)
        >>> keep.shape, keep[:, :3].all().item(), keep[:, 3:].all().item()
        (torch.Size([16, 5]), True, False)
    """
    if not 1 <= context_length < length:
        raise ValueError(
            f"expected at least 1 known frame and 1 to predict, got context_length="
            f"{context_length} for clips of {length} frames"
        )
    if step < 0:
        raise ValueError(f"step counts the optimiser steps done, from 0, got {step}")
    draws = uniform(seed, step, batch, rank, shape=(batch_size, length - 1))
    return draws < sampling.probabilities(step, context_length, length)


def _probabilities(context: float, future: float, context_length: int, length: int) -> Tensor:
    given = [1.0] + [context] * (context_length - 1)
    return torch.tensor(given + [future] * (length - 1 - len(given)))
