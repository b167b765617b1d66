"""``vidpred detect``: what a detector finds on the frames that a model predicts of a video."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from vidpred import tables
from vidpred.detectors import Detections, Detector, detections
from vidpred.files import output_folder
from vidpred.metrics import DetectionScore
from vidpred.panels import draw_boxes
from vidpred.streaming import check_lengths, find_device, forecasts, load
from vidpred.strips import Strip, spread, strips
from vidpred.visual import save_figure


def detect(
    ckpt: str,
    input: str,
    detector: Detector,
    output: str,
    context: int = 10,
    horizon: int = 10,
    threshold: float = 0.8,
    max_frames: int | None = None,
    device: str | None = None,
) -> dict[str, Tensor]:
    """Detect objects on the frames of a video and on the predictions of them.

    Prints detections a frame and their mean confidence for every predicted step, of truth and of
    predictions, and writes them to ``detections.csv``. The last full forecast is drawn with its
    boxes, ``detections.png``.

    Args:
        ckpt: Checkpoint of a run, or a model folder.
        input: Video file of any format that FFmpeg reads, of any size; turned to grey or to colour
            as the model needs.
        detector: Finds objects: vidpred.detectors.FasterRCNN, vidpred.detectors.YOLO, or any
            callable from frames (N, 3, H, W) in [0, 1] to boxes, scores and labels of each.
        output: Folder for the table and the picture.
        context: Frames the model sees before its first forecast.
        horizon: Frames of a forecast. After so many it starts anew from the true frames.
        threshold: The least confidence of a detection that counts.
        max_frames: Read no more frames of the video than that.
        device: Such as cpu or cuda; by default cuda where there is such a device.

    Returns:
        The columns of the table, a value for every step that the video reaches.

    Raises:
        FileNotFoundError: No such checkpoint or video.
        ValueError: One of them is damaged, the video ends before the first predicted frame, or an
            argument is out of range.
        FloatingPointError: The model predicts values that are not finite.
    """
    check_lengths(context, horizon, max_frames)
    place = find_device(device)
    folder = output_folder(output)
    predictor, video = load(ckpt, input, place)
    dtype = next(predictor.parameters()).dtype
    scores = {name: DetectionScore(horizon, threshold) for name in ("truth", "prediction")}
    frames = (image.to(place).to(dtype) / 255 for image, _ in islice(video, max_frames))
    running: list[tuple[Tensor, list[Detections]]] = []
    longest = running
    for step in tqdm(forecasts(predictor, frames, context, horizon), unit=" frames"):
        if step.truth is None or step.prediction is None:
            continue
        pair = torch.stack([step.truth, step.prediction])
        found = detections(detector, pair)
        for score, result in zip(scores.values(), found, strict=True):
            score.update(step.ahead, result.scores)
        running = [*(running if step.ahead > 1 else []), (pair, found)]
        longest = running if len(running) >= len(longest) else longest
    if not longest:
        raise ValueError(f"{input} ends with the context: nothing of it is predicted")
    columns, means, reached = {}, {}, len(longest)
    for name, score in scores.items():
        found = score.compute()
        for kind, values, mean in (
            ("count", found.count, found.mean_count),
            ("confidence", found.confidence, found.mean_confidence),
        ):
            columns[f"{kind} ({name})"] = values[:reached]
            means[f"{kind} ({name})"] = float(mean)
    print(tables.metric_table(columns, means))
    if reached < horizon:
        print(f"the frames end {reached} after a context: no step beyond is scored")
    table, picture = (folder / name for name in ("detections.csv", "detections.png"))
    tables.write_csv(columns, table, means)
    steps = spread(len(longest), 6)
    captions = [f"{step + 1} ahead" for step in steps]
    rows = []
    for row, name in enumerate(scores):
        pictures = [_draw(longest[s][0][row], longest[s][1][row], threshold) for s in steps]
        rows.append(Strip(name, np.stack(pictures), captions if row == 0 else ()))
    save_figure(strips(rows, f"detections of at least {threshold:g}"), picture)
    print(f"table and picture: {table}, {picture}")
    return columns


def main(args: Sequence[str]) -> None:
    """Run ``vidpred detect``.

    Args:
        args: The arguments after ``detect``.
    """
    auto_cli(
        detect, args=list(args), prog="vidpred detect", as_positional=False, exit_on_error=False
    )


def _draw(frame: Tensor, found: Detections, threshold: float) -> np.ndarray:
    """A frame with the boxes that count."""
    counted = (found.scores >= threshold).nonzero().flatten().tolist()
    captions = [f"{found.labels[index]} {found.scores[index]:.2f}" for index in counted]
    return draw_boxes(frame, found.boxes[counted], captions)
