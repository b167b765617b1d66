"""Detectors of objects, each a callable from frames to what it finds on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidpred.files import read_checkpoint
from vidpred.models.pretrained import check


class Detections(NamedTuple):
    """What was found on a frame.

    Attributes:
        boxes: ``(n, 4)``: left, top, right and bottom in pixels.
        scores: ``(n,)``: confidence, from 0 to 1.
        labels: The name of what is in each box.
    """

    boxes: Tensor
    scores: Tensor
    labels: Sequence[str]


Detector = Callable[[Tensor], Iterable[tuple[Any, Any, Sequence[str]]]]


class FasterRCNN:
    """Faster R-CNN of torchvision, with the weights of a local file.

    Args:
        weights: A file of torchvision's weights, taken as it is; nothing is downloaded.
        model: Which network they are of, by torchvision's name: ``fasterrcnn_resnet50_fpn``,
            ``fasterrcnn_resnet50_fpn_v2``, ``fasterrcnn_mobilenet_v3_large_fpn`` or
            ``fasterrcnn_mobilenet_v3_large_320_fpn``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds no weights of ``model``.

    Example:
        >>> detector = FasterRCNN("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth")
        Traceback (most recent call last):
        FileNotFoundError: no checkpoint at fasterrcnn_resnet50_fpn_coco-258fb6c6.pth
    """

    def __init__(self, weights: str | Path, model: str = "fasterrcnn_resnet50_fpn") -> None:
        state = read_checkpoint(weights)

        from torchvision import models

        known = [name for name in models.list_models(models.detection) if name.startswith("faster")]
        if model not in known:
            raise ValueError(f"there is no {model}; expected one of {', '.join(known)}")
        heads = "roi_heads.box_predictor.cls_score.bias"
        classes = len(state[heads]) if isinstance(state, dict) and heads in state else 91
        self.network = models.get_model(
            model, weights=None, weights_backbone=None, num_classes=classes
        )
        norms = [x for x in self.network.modules() if isinstance(x, nn.BatchNorm2d)]
        if model == "fasterrcnn_resnet50_fpn":
            for norm in norms:
                norm.eps = 0.0  # as torchvision does for these weights
        counts = {k: x for k, x in self.network.state_dict().items() if k.endswith("_tracked")}
        try:
            # Files of frozen norms do not count batches, and nothing here reads the count.
            check(self.network, state := {**counts, **(state if isinstance(state, dict) else {})})
        except ValueError as error:
            raise ValueError(f"{weights} does not fit {model}: {error}") from error
        self.network.load_state_dict(state)
        self.network.eval().requires_grad_(False)
        names = models.get_model_weights(model).DEFAULT.meta["categories"]  # pyright: ignore
        self.names = names if len(names) == classes else [*map(str, range(classes))]

    def __call__(self, frames: Tensor) -> list[Detections]:
        """Find objects on frames ``(N, 3, H, W)`` in [0, 1]."""
        found = self.network.to(frames.device)(list(frames.float()))
        return [
            Detections(x["boxes"], x["scores"], [self.names[label] for label in x["labels"]])
            for x in found
        ]


class YOLO:
    """A YOLO of the optional package ``ultralytics``, with the weights of a local file.

    The package (AGPL-3.0) comes with ``pip install 'vidpred[yolo]'``. It runs code that a ``.pt``
    file may hold: take files from those whom you trust.

    Args:
        weights: A file of that package, such as ``yolov5su.pt``; nothing is downloaded.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The package is not installed.

    Example:
        >>> YOLO("yolov5su.pt")
        Traceback (most recent call last):
        FileNotFoundError: no weights of a YOLO at yolov5su.pt
    """

    def __init__(self, weights: str | Path) -> None:
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no weights of a YOLO at {weights}")
        try:
            from ultralytics import YOLO as Network  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ValueError("a YOLO needs a package: pip install 'vidpred[yolo]'") from error
        self.network = Network(str(weights))

    def __call__(self, frames: Tensor) -> list[Detections]:
        """Find objects on frames ``(N, 3, H, W)`` in [0, 1]."""
        # As arrays of blue, green and red, which the package pads to what the network takes.
        pictures = (255 * frames).round().byte().flip(1).permute(0, 2, 3, 1).cpu().numpy()
        found = self.network.predict(list(pictures), device=frames.device, verbose=False)
        return [
            Detections(x.boxes.xyxy, x.boxes.conf, [x.names[int(label)] for label in x.boxes.cls])
            for x in found
        ]


@torch.no_grad()
def detections(detector: Detector, frames: Tensor) -> list[Detections]:
    """Let a detector look at frames as they would be shown.

    Args:
        detector: A callable from frames ``(N, 3, H, W)`` in [0, 1] to boxes ``(n, 4)``, scores
            ``(n,)`` from 0 to 1 and labels of each; numbers as tensors, arrays or lists.
        frames: ``(N, C, H, W)``, grey or colour; clipped to [0, 1].

    Returns:
        What it finds on each frame, on the CPU.

    Raises:
        ValueError: ``frames`` are neither grey nor colour, or the detector returns something else.

    Example:
        >>> def bright(frames):  # a detector of one box, as sure of it as the frame is bright
        ...     box = torch.tensor([[2.0, 2.0, 9.0, 9.0]])
        ...     return [(box, frame.mean().view(1), ["light"]) for frame in frames]
        >>> (found,) = detections(bright, torch.ones(1, 1, 16, 16))
        >>> found.scores, found.labels
        (tensor([1.]), ['light'])
    """
    if frames.dim() != 4 or frames.shape[1] not in (1, 3):
        raise ValueError(f"expected frames (N, 1 or 3, H, W), got shape {tuple(frames.shape)}")
    results = detector(frames.clamp(0, 1).expand(-1, 3, -1, -1))
    if not isinstance(results, Iterable):
        raise ValueError(f"{_EXPECTED}, got {type(results).__name__}")
    found = [_checked(result) for result in results]
    if len(found) != len(frames):
        raise ValueError(f"{_EXPECTED}, got {len(found)} results for {len(frames)} frames")
    return found


_EXPECTED = (
    "a detector returns a list, for each frame (boxes, scores, labels): n boxes of 4 finite "
    "numbers, n scores from 0 to 1 and n names"
)


def _checked(result: Any) -> Detections:
    """What a detector found on a frame, after a look at all of it."""
    try:
        boxes, scores, labels = result
        boxes, scores = (torch.as_tensor(x, dtype=torch.float32).cpu() for x in (boxes, scores))
        names = list(labels)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{_EXPECTED}, got {type(result).__name__}: {error}") from error
    if isinstance(labels, str) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{_EXPECTED}, got labels {labels!r}")
    if not names and not boxes.numel():
        boxes = boxes.view(0, 4)  # an empty list has no columns
    if boxes.shape != (len(names), 4) or scores.shape != (len(names),):
        shapes = f"{tuple(boxes.shape)}, {tuple(scores.shape)} and {len(names)} names"
        raise ValueError(f"{_EXPECTED}, got {shapes}")
    for box, score in zip(boxes, scores, strict=True):
        if not (box.isfinite().all() and 0 <= score <= 1):
            raise ValueError(f"{_EXPECTED}, got box {box.tolist()} with score {score:g}")
    return Detections(boxes, scores, names)
