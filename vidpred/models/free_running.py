"""The predictor of cores that go on by themselves: past the known frames nothing is encoded."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from vidpred.cells.base import FreeRunning
from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.frames import choose
from vidpred.models.predictor import Predictor


class FreeRunningPredictor(Predictor):
    """A predictor that does not encode its own predictions: past the known frames its core runs on.

    While the known frames come in, nothing but what is asked for is forecast; after them nothing is
    encoded. A frame that is not known is not observed at all.

    Args:
        encoder: Frames to feature maps.
        core: A cell that observes and forecasts.
        decoder: The core's feature map back to frames; without recall.

    Example:
        >>> import torch
        >>> from vidpred.models import zoo
        >>> predictor = zoo.trajgru(hidden_channels=8)
        >>> frame = torch.rand(2, 1, 32, 32)
        >>> prediction, state = predictor.step(frame, predictor.init_state(frame))
        >>> prediction, state = predictor.step(prediction, state, known=False)
    """

    core: FreeRunning[Any]

    def __init__(self, encoder: Encoder, core: FreeRunning[Any], decoder: Decoder) -> None:
        super().__init__(encoder, core, decoder)
        self.stride *= core.stride

    def _observe(self, frame: Tensor, known: bool | Tensor, state: Any) -> tuple[None, Any]:
        if known is False:
            return None, state
        observed = self.core.observe(self._encode(frame)[-1], state)
        if known is not True:
            observed = tree_map(partial(choose, known.to(frame.device)), observed, state)
        return None, observed

    def _predict(self, seen: None, state: Any, size: torch.Size) -> tuple[Tensor, Any]:
        top, state = self.core.forecast(state)
        return self._decode(top, [], size), state
