"""The predictor of encoders that see a clip: the last frames at once."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor

from vidpred.cells.base import Cell, recomputed
from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.predictor import Predictor


class ClipState(NamedTuple):
    """What stays of a predictor of clips: the frames before the next one, and the core's state."""

    frames: tuple[Tensor, ...]
    core: Any


class ClipPredictor(Predictor):
    """A predictor whose encoder sees the last frames at once, side by side in the channels.

    Frames before the first one are zero.

    Args:
        encoder: Folded clips to feature maps; its channels are those of a clip, oldest frame first.
        core: A cell, usually a wiring of cells, for the coarsest of these feature maps.
        decoder: The core's feature map back to folded frames.
        patch: As for :class:`Predictor`.
        length: How many frames make a clip.

    Raises:
        ValueError: As :class:`Predictor`; ``length`` is below 1 or does not divide the channels.

    Example:
        >>> import torch
        >>> from vidpred.cells import ConvGRUCell
        >>> from vidpred.models import PatchDecoder, PatchEncoder
        >>> core, decoder = ConvGRUCell(2 * 16, 8), PatchDecoder(8, 16)
        >>> predictor = ClipPredictor(PatchEncoder(2 * 16), core, decoder, patch=4, length=2)
        >>> predictor(torch.rand(1, 4, 1, 30, 20), horizon=3).shape
        torch.Size([1, 3, 1, 30, 20])
    """

    def __init__(
        self,
        encoder: Encoder,
        core: Cell[Tensor, Any],
        decoder: Decoder,
        patch: int = 1,
        length: int = 2,
    ) -> None:
        super().__init__(encoder, core, decoder, patch)
        if length < 1 or self.in_channels % length:
            raise ValueError(
                f"an encoder of {encoder.in_channels} channels cannot see clips of {length} "
                "frame(s): its in_channels must be length times those of a folded frame"
            )
        self.length = length
        self.in_channels //= length

    def init_state(self, frame: Tensor) -> ClipState:
        # One zero seen from all pixels: at high resolution a frame is 100 MB.
        frames = (frame.new_zeros(()).expand_as(frame) for _ in range(self.length - 1))
        return ClipState(tuple(frames), super().init_state(frame))

    def step(
        self, frame: Tensor, state: ClipState, known: bool | Tensor = True
    ) -> tuple[Tensor, ClipState]:
        # The state keeps the frame, and a stream may fill one buffer again and again.
        return super().step(frame.clone(), state, known)

    def _observe(
        self, frame: Tensor, known: bool | Tensor, state: ClipState
    ) -> tuple[Any, ClipState]:
        clip = (*state.frames, frame)
        # The encoder's maps are the widest of the model, clips at high resolution wider still: the
        # frames, which are kept in any case, give both again. Only the time loop goes without.
        *finer, coarsest = recomputed(self._encode, *clip)
        top, core = self.core(coarsest, state.core)
        return (top, finer), ClipState(clip[1:], core)
