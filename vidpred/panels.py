"""Frames as pictures: checked, as RGB, their error in colours, several side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from PIL.Image import Image

ERROR_COLOURS = "inferno"


def heat(error: np.ndarray, largest: float) -> np.ndarray:
    """Return an error in colours, RGB bytes, that span zero to ``largest``."""
    from matplotlib import colormaps

    return colormaps[ERROR_COLOURS](error / largest, bytes=True)[..., :3]


def side_by_side(
    panels: Mapping[str, np.ndarray | None],
    shape: tuple[int, ...],
    caption: str,
    colour: str,
    widest: int,
) -> Image:
    """Return RGB pictures of one shape side by side, framed, with their names and a caption."""
    from PIL import Image, ImageDraw, ImageFont

    rows, columns = shape
    factor = min(max(1, round(192 / columns)), widest / columns)
    width, height = round(columns * factor), round(rows * factor)
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    scale = max(1, width / 640)  # letters stay legible where the whole is shown smaller
    margin, border, line, letter = (round(scale * pixels) for pixels in (14, 3, 26, 15))
    font = ImageFont.load_default(size=letter)
    size = (margin + len(panels) * (width + margin), 2 * line + height + margin)
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    draw.text((margin, line // 4), caption, fill=colour, font=font)
    for panel, (name, pixels) in enumerate(panels.items()):
        x, y = margin + panel * (width + margin), 2 * line
        draw.text((x, line), name, fill="black", font=font)
        edge = (x - border, y - border, x + width + border - 1, y + height + border - 1)
        draw.rectangle(edge, fill="#f0f0f0", outline=colour, width=border)
        if pixels is not None:
            picture.paste(Image.fromarray(pixels).resize((width, height), resampling), (x, y))
    return picture


def draw_boxes(frame: Tensor, boxes: Tensor, captions: Sequence[str]) -> np.ndarray:
    """Return a frame ``(C, H, W)`` as RGB ``(H, W, 3)`` in [0, 1], with named boxes on it.

    Args:
        frame: In [0, 1], grey or colour; small ones are enlarged, for the captions' sake.
        boxes: ``(n, 4)``: left, top, right and bottom in pixels of the frame.
        captions: One for each box.
    """
    from PIL import Image, ImageDraw, ImageFont

    height, width = frame.shape[1:]
    factor = max(1, round(384 / width))
    pixels = (255 * frame.float().clamp(0, 1)).round().byte().expand(3, -1, -1).permute(1, 2, 0)
    size = (factor * width, factor * height)
    picture = Image.fromarray(pixels.cpu().numpy()).resize(size, Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(picture)
    scale = size[0] / 384
    font = ImageFont.load_default(size=round(20 * scale))
    for box, caption in zip((factor * boxes).tolist(), captions, strict=True):
        left, top, right, bottom = box
        draw.rectangle(
            (left, top, max(left, right), max(top, bottom)), outline="lime", width=round(2 * scale)
        )
        place = (max(left, 0), max(top - 24 * scale, 0))  # above the box, within the frame
        draw.rectangle(draw.textbbox(place, caption, font=font), fill="lime")
        draw.text(place, caption, fill="black", font=font)
    return np.asarray(picture) / 255


def to_rgb(
    context: Tensor, truth: Tensor, prediction: Tensor
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the three clips as RGB ``(T, H, W, 3)`` and the error ``(T_out, H, W)``."""
    clips = {"context": context, "truth": truth, "prediction": prediction}
    for name, clip in clips.items():
        if clip.ndim != 4 or clip.shape[1] not in (1, 3) or clip.numel() == 0:
            raise ValueError(
                f"{name} must be one sequence (T, C, H, W), grey or colour, got shape "
                f"{tuple(clip.shape)}"
            )
        if not clip.isfinite().all():
            raise ValueError(f"{name} holds values that are not finite: nothing to draw")
    if truth.shape != prediction.shape or context.shape[1:] != truth.shape[1:]:
        shapes = ", ".join(f"{name} {tuple(clip.shape)}" for name, clip in clips.items())
        raise ValueError(f"truth and prediction must have one shape, context its frames: {shapes}")
    known, true, predicted = (
        clip.detach().float().clamp(0, 1).expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().numpy()
        for clip in clips.values()
    )
    return known, true, predicted, np.abs(true - predicted).mean(axis=-1)
