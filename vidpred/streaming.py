"""``vidpred predict --input VIDEO``: from a video file to a film of truth, prediction and error."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import islice, tee
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from vidpred import visual, weights
from vidpred.data import Frame, Video, write_video
from vidpred.models import Predictor


class Forecast(NamedTuple):
    """What is shown of one frame.

    Attributes:
        truth: ``(C, H, W)``; ``None`` beyond the clip.
        prediction: Of that frame; ``None`` within the context.
        ahead: How many frames lie between the last one that the prediction is made from and this;
            0 without prediction.
    """

    truth: Tensor | None
    prediction: Tensor | None
    ahead: int


@torch.inference_mode()
def forecasts(
    predictor: Predictor, frames: Iterable[Tensor], context: int, horizon: int
) -> Iterator[Forecast]:
    """Forecast a clip that comes frame by frame, again and again.

    After ``context`` frames the predictor forecasts ``horizon`` frames, feeding its predictions
    back, while the true frames go on through a state of their own. From that, it then forecasts the
    next ``horizon`` frames, and so on; after the last true frame, those beyond the clip. Whatever
    the length of the clip, two states, one frame and one prediction are in memory.

    Args:
        predictor: In evaluation mode.
        frames: ``(C, H, W)`` in [0, 1], on the predictor's device.
        context: How many true frames come before the first forecast, at least 1.
        horizon: How many frames to forecast, at least 1.

    Yields:
        One for every frame, then ``horizon`` beyond.

    Raises:
        ValueError: The clip is shorter than the context; ``context`` or ``horizon`` is below 1.
        FloatingPointError: A prediction is not finite.

    Example:
        >>> from vidpred.models import zoo
        >>> predictor = zoo.stau(hidden_channels=4, layers=1)
        >>> clip = torch.rand(5, 1, 16, 16)
        >>> [shown.ahead for shown in forecasts(predictor, clip, context=2, horizon=2)]
        [0, 0, 1, 2, 1, 1, 2]
    """
    check_lengths(context, horizon)
    state: Any = None
    free: Any = None
    following: Any = None
    prediction: Any = None
    seen = ahead = 0
    for frame in frames:
        yield Forecast(frame, None if prediction is None else _finite(prediction[0]), ahead)
        if state is None:
            state = predictor.init_state(frame[None])
        following, state = predictor.step(frame[None], state)
        seen += 1
        if seen >= context and (seen - context) % horizon == 0:
            prediction, free, ahead = following, state, 0
        elif prediction is not None:
            prediction, free = predictor.step(prediction, free, known=False)
        ahead += prediction is not None
    if seen < context:
        raise ValueError(
            f"the clip has {seen} frame(s), fewer than the context of {context}: take a smaller one"
        )
    prediction, free = following, state  # of the last true frame
    for ahead in range(1, horizon + 1):
        yield Forecast(None, _finite(prediction[0]), ahead)
        if ahead < horizon:
            prediction, free = predictor.step(prediction, free, known=False)


def predict(
    ckpt: str,
    input: str,
    output: str,
    context: int = 10,
    horizon: int = 10,
    max_frames: int | None = None,
    device: str | None = None,
) -> None:
    """Predict a video and show truth, prediction and error side by side.

    Args:
        ckpt: Checkpoint of a run, or a model folder.
        input: Video file of any format that FFmpeg reads, of any size; turned to grey or to colour
            as the model needs.
        output: An .mp4 or .gif file, or a folder, new or empty, for PNG pictures.
        context: Frames the model sees before its first forecast.
        horizon: Frames of a forecast. After so many it starts anew from the true frames; the last
            forecast goes beyond the end of the video.
        max_frames: Read no more frames of the video than that.
        device: Such as cpu or cuda; by default cuda where there is such a device.

    Raises:
        FileNotFoundError: No such checkpoint or video.
        FileExistsError: There is something in the output folder.
        ValueError: One of them is damaged, the video is shorter than the context, or an argument
            out of range.
        FloatingPointError: The model predicts values that are not finite.
    """
    if Path(input).resolve() == Path(output).resolve():
        raise ValueError(f"{output} is the input: give --output another name")
    check_lengths(context, horizon, max_frames)
    place = find_device(device)
    predictor, video = load(ckpt, input, place)
    dtype = next(predictor.parameters()).dtype
    shown, timed = tee(islice(video, max_frames))
    frames = (image.to(place).to(dtype) / 255 for image, _ in shown)
    steps = zip(
        forecasts(predictor, frames, context, horizon), _times(timed, video.fps), strict=False
    )
    total = video.length and min(video.length, max_frames or video.length) + horizon
    with write_video(output, video.fps) as write:
        for (truth, prediction, ahead), time in tqdm(steps, total=total, unit=" frames"):
            label = f"{ahead} frame{'s' * (ahead > 1)} ahead" if ahead else "context"
            label += "" if truth is not None else ", beyond the video"
            write(visual.comparison(truth, prediction, f"{float(time):.2f} s   {label}"), time)
    print(f"predictions: {output}")


def main(args: Sequence[str]) -> None:
    """Run ``vidpred predict`` on a video.

    Args:
        args: The arguments after ``predict``.
    """
    auto_cli(
        predict, args=list(args), prog="vidpred predict", as_positional=False, exit_on_error=False
    )


def load(ckpt: str, input: str, device: torch.device | str = "cpu") -> tuple[Predictor, Video]:
    """A model for inference, and a video in the colours that it predicts.

    Args:
        ckpt: Checkpoint of a run, or a model folder.
        input: Video file.
        device: Where the model goes.

    Raises:
        FileNotFoundError: No such checkpoint or video.
        ValueError: One of them is damaged, or the model is not one of grey or colour frames.
    """
    predictor = weights.load_predictor(ckpt).eval().to(device)
    channels = predictor.in_channels
    if channels not in (1, 3):
        raise ValueError(f"{ckpt} predicts frames of {channels} channels; a video has 1 or 3")
    return predictor, Video(input, 1 if channels == 1 else 3)


def find_device(name: str | None) -> torch.device:
    """Return a device that is there.

    Args:
        name: Such as cpu or cuda; ``None``: cuda where there is such a device, else cpu.

    Raises:
        ValueError: There is no such device.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (AssertionError, RuntimeError) as error:
        raise ValueError(f"there is no device {name} here; expected cpu or cuda") from error


def check_lengths(context: int, horizon: int, max_frames: int | None = None) -> None:
    """Refuse forecasts without frames, and fewer frames of a video than the context has.

    Raises:
        ValueError: As said.
    """
    for name, value in {"context": context, "horizon": horizon}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1 frame, got {value}")
    if max_frames is not None and max_frames < context:
        raise ValueError(f"max_frames is {max_frames}, fewer than the context of {context}")


def _finite(frame: Tensor) -> Tensor:
    if not frame.isfinite().all():
        raise FloatingPointError(
            "the model predicts values that are not finite: it diverged in training, take an "
            "earlier checkpoint"
        )
    return frame


def _times(frames: Iterable[Frame], fps: Fraction) -> Iterator[Fraction]:
    """When the frames are shown, and those after them at an even rate."""
    time = -1 / fps
    for _, time in frames:
        yield time
    while True:
        time += 1 / fps
        yield time
