"""The predictor: encoder, recurrent core, decoder, and the only time loop of the library."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidpred.cells.base import Cell, recomputed, to_channels_last
from vidpred.cells.checks import check_batch
from vidpred.models import pretrained
from vidpred.models.autoencoder import Decoder, Encoder
from vidpred.models.folding import fold, unfold
from vidpred.models.frames import (
    check_dtype,
    check_frames,
    check_range,
    choose,
    convolution_dtype,
)
from vidpred.models.remat import RematSetting, check_remat, units


class Predictor(nn.Module):
    """Predicts the next frame from the frames so far, as far ahead as asked.

    Frames are ``(B, T, C, H, W)`` with values in [0, 1] and any H, W: they are padded to the
    encoder's stride and the predictions are cropped. Weights and feature maps are channels-last.

    Args:
        encoder: Folded frames to feature maps.
        core: A cell, usually a wiring of cells, for the coarsest of these feature maps.
        decoder: The core's feature map back to folded frames.
        patch: Side of the squares of pixels that are folded into channels, in the order colour,
            row, column: what enters has ``patch**2`` times the channels of a frame.

    Raises:
        ValueError: ``patch`` is below 1, or the encoder's channels are not those of folded frames.

    Attributes:
        in_channels: Channels of a frame.
        stride: What the sides of frames are padded to multiples of.
        recipe: The function of ``vidpred.models.zoo`` that made the predictor, and its arguments,
            in the form that they have in a YAML file; ``None`` for a predictor of other origin.
        remat: What training computes again in the backward pass, for less memory and equal numbers.
            A number: so many time steps at once, between which states and predictions are kept.
            ``"cells"``: each of the core's units at each step. ``None``: nothing. Until it is set,
            units keep a ``remat`` of their own; a :class:`~vidpred.cells.Remat` always does.

    Example:
        >>> import torch
        >>> from vidpred.models import zoo
        >>> predictor = zoo.stau(hidden_channels=8, layers=2)
        >>> predictor(torch.rand(2, 4, 1, 30, 20), horizon=3).shape
        torch.Size([2, 3, 1, 30, 20])
    """

    def __init__(
        self, encoder: Encoder, core: Cell[Tensor, Any], decoder: Decoder, patch: int = 1
    ) -> None:
        super().__init__()
        if patch < 1 or encoder.in_channels % patch**2:
            raise ValueError(
                f"an encoder of {encoder.in_channels} channels cannot see squares of patch={patch} "
                "pixels: its in_channels must be patch**2 times those of a frame"
            )
        self.encoder = encoder
        self.core = core
        self.decoder = decoder
        self.patch = patch
        self.in_channels = encoder.in_channels // patch**2
        self.stride = patch * encoder.stride
        self.recipe: dict[str, Any] | None = None
        self._remat: RematSetting = None  # not by the setter: units may have a remat of their own
        to_channels_last(self)

    @property
    def remat(self) -> RematSetting:
        return self._remat

    @remat.setter
    def remat(self, remat: RematSetting) -> None:
        check_remat(remat)
        self._remat = remat
        for unit in units(self.core):
            unit.remat = remat == "cells"

    def forward(self, context: Tensor, horizon: int) -> Tensor:
        """Forecast the frames after ``context``.

        Args:
            context: ``(B, T, C, H, W)`` in [0, 1], T at least 1.
            horizon: How many frames to predict, at least 1.

        Returns:
            ``(B, horizon, C, H, W)``; the network's output, not clipped to [0, 1].

        Raises:
            ValueError: Wrong rank, channels, dtype or range of ``context``; ``horizon`` below 1.
        """
        self._check(context)
        if horizon < 1:
            raise ValueError(f"horizon must be at least 1 frame, got {horizon}")
        if not torch.compiler.is_compiling():
            check_range(context)
        known = [True] * context.shape[1] + [False] * (horizon - 1)
        return self._unroll(context, known, first=context.shape[1] - 1)[0]

    def rollout(self, frames: Tensor, keep: Tensor) -> Tensor:
        """Predict every frame of a clip but the first, feeding true or predicted frames: training.

        Args:
            frames: ``(B, T, C, H, W)`` in [0, 1], T at least 2.
            keep: Boolean ``(B, T-1)``, on the CPU: ``keep[:, t]`` tells whether at step t the true
                frame t enters, or else the prediction of it. The first frame is always true.

        Returns:
            ``(B, T-1, C, H, W)``: at t the prediction of ``frames[:, t+1]``.

        Raises:
            ValueError: Wrong rank, channels or dtype of ``frames``, wrong shape of ``keep``. The
                range is not checked: all frames would be read once more at every step.
        """
        return self.rollout_with_state(frames, keep)[0]

    def rollout_with_state(self, frames: Tensor, keep: Tensor) -> tuple[Tensor, Any]:
        """As :meth:`rollout`, with the state after the last step beside the predictions.

        For what a training wants of the state: :func:`vidpred.cells.total_penalty`.
        """
        self._check(frames)
        steps = frames.shape[1] - 1
        if steps < 1 or keep.shape != (frames.shape[0], steps) or keep.dtype != torch.bool:
            raise ValueError(
                f"keep must be (B, T-1) and torch.bool for frames (B, T, C, H, W), T at least 2, "
                f"got {tuple(keep.shape)}, {keep.dtype} and {tuple(frames.shape)}"
            )
        masks = keep.to(frames.device).unbind(dim=1)
        every, some = keep.all(dim=0).tolist(), keep.any(dim=0).tolist()
        known = [e or (s and mask) for e, s, mask in zip(every, some, masks, strict=True)]
        return self._unroll(frames, [True, *known[1:]], first=0)

    def init_state(self, frame: Tensor) -> Any:
        """Return the state before the first frame, for :meth:`step`.

        Args:
            frame: ``(B, C, H, W)``.
        """
        height, width = (
            -(-side // self.stride) * self.stride // (self.patch * self.encoder.stride)
            for side in frame.shape[-2:]
        )
        like = frame.new_empty(frame.shape[0], self.core.hidden_channels, height, width)
        return self.core.init_state(like.to(memory_format=torch.channels_last))

    def step(self, frame: Tensor, state: Any, known: bool | Tensor = True) -> tuple[Tensor, Any]:
        """Stream: take one frame, return the prediction of the next and the new state.

        Args:
            frame: ``(B, C, H, W)`` in [0, 1].
            state: From :meth:`init_state` or the last call.
            known: Whether this is a true frame, or else a prediction that is fed back; by sample
                as a boolean ``(B,)``, on any device. A :class:`FreeRunningPredictor` looks at true
                ones only, to others it makes no difference.

        Raises:
            ValueError: Wrong rank, channels or dtype of ``frame``, a state of another batch; as in
                :meth:`rollout`, the range is not checked.
        """
        if frame.dim() != 4:
            raise ValueError(f"a frame must be (B, C, H, W), got shape {tuple(frame.shape)}")
        self._check(frame.unsqueeze(1))
        check_batch(type(self).__name__, frame, state)
        seen, state = self._observe(frame, known, state)
        return self._predict(seen, state, frame.shape[-2:])

    def save_pretrained(self, folder: str | Path) -> None:
        """Write a model folder: ``config.json`` and ``model.safetensors``.

        Args:
            folder: Made when missing. Of the files in it only these two are replaced, once the
                new ones are complete.

        Raises:
            ValueError: No function of ``vidpred.models.zoo`` makes a model of these weights: this
                one was put together by hand or changed, or has units of your own. Then
                :func:`vidpred.weights.save` writes the weights alone.

        Example:
            >>> import tempfile
            >>> from vidpred.models import zoo
            >>> predictor, folder = zoo.stau(hidden_channels=4, layers=2), tempfile.mkdtemp()
            >>> predictor.save_pretrained(folder)
            >>> again, frames = Predictor.from_pretrained(folder), torch.rand(1, 4, 1, 16, 16)
            >>> torch.equal(again(frames, horizon=2), predictor(frames, horizon=2))
            True
        """
        pretrained.save(self, folder)

    @staticmethod
    def from_pretrained(source: str | Path, revision: str | None = None) -> Predictor:
        """Load a model folder, of any model.

        Args:
            source: A folder of :meth:`save_pretrained`, or else the name of a model on the
                Hugging Face hub, such as ``user/name``; what the hub's cache holds loads without
                network. No code is run, whatever the files hold.
            revision: Branch, tag or commit on the hub.

        Returns:
            The model, on the CPU, with the dtype of its weights.

        Raises:
            FileNotFoundError: Neither such a folder nor such a model, or a file of it is missing.
            ValueError: A file is damaged, the model is none of this version of vidpred, or weights
                are missing, unknown or of another shape.
        """
        return pretrained.load(source, revision)

    def _check(self, frames: Tensor) -> None:
        check_frames(frames, self.in_channels)
        check_dtype(frames, self)

    def _unroll(
        self, frames: Tensor, known: Sequence[bool | Tensor], first: int
    ) -> tuple[Tensor, Any]:
        """Run ``len(known)`` steps: the predictions of step ``first`` and later, the last state.

        ``known`` tells whether the true frame enters: for all samples, for none, or ``(B,)``.
        """
        state = self.init_state(frames[:, 0])
        predictions: list[Tensor] = []
        every, run = len(known), self._run
        if isinstance(self.remat, int):
            every, run = self.remat, partial(recomputed, self._run)
        for t in range(0, len(known), every):
            now = slice(t, t + every)
            latest = [] if known[t] is True else predictions[-1:]  # what is given is kept
            new, state = run(frames[:, now], known[now], first - t, state, latest)
            predictions += new
        return torch.stack(predictions, dim=1), state

    def _run(
        self,
        frames: Tensor,
        known: Sequence[bool | Tensor],
        first: int,
        state: Any,
        latest: list[Tensor],
    ) -> tuple[list[Tensor], Any]:
        """Go on with :meth:`_unroll`, from a state and what may have been predicted last."""
        predictions = list(latest)
        for t, is_known in enumerate(known):
            if is_known is True:
                frame = frames[:, t]
            elif is_known is False:
                frame = predictions[-1]
            else:
                frame = choose(is_known, frames[:, t], predictions[-1])
            seen, state = self._observe(frame, is_known, state)
            if t >= first:
                prediction, state = self._predict(seen, state, frames.shape[-2:])
                predictions.append(prediction)
        return predictions[len(latest) :], state

    def _observe(self, frame: Tensor, known: bool | Tensor, state: Any) -> tuple[Any, Any]:
        """Take in a frame: what is to be decoded, and the new state."""
        *finer, coarsest = self._encode(frame)
        top, state = self.core(coarsest, state)
        return (top, finer), state

    def _predict(self, seen: Any, state: Any, size: torch.Size) -> tuple[Tensor, Any]:
        """Predict the next frame from what :meth:`_observe` returned."""
        top, finer = seen
        return self._decode(top, finer, size), state

    def _encode(self, *frames: Tensor) -> list[Tensor]:
        dtype = frames[0].dtype
        # An encoder without weights hands the frames to the core: nothing is rounded for it.
        convolved = any(True for _ in self.encoder.parameters())
        entering = convolution_dtype(frames[0]) if convolved else dtype
        *finer, coarsest = self.encoder(fold(frames, self.patch, self.stride, entering))
        # Under autocast the encoder may return bfloat16; the recurrence runs in the frames' dtype.
        return [*finer, coarsest.to(dtype, memory_format=torch.channels_last)]

    def _decode(self, top: Tensor, finer: Sequence[Tensor], size: torch.Size) -> Tensor:
        return unfold(self.decoder(top, finer), self.patch, size, top.dtype)
