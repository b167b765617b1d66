"""Clips that are folders of pictures."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from vidpred.data.sources.layout import by_number, expect

PICTURES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def image_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their numbers; hidden files are left out.

    Raises:
        FileNotFoundError: There is no such folder, or no picture in it.
    """
    inside = expect(folder, f"a folder of pictures ({' '.join(PICTURES)})").iterdir()
    images = [x for x in inside if x.suffix.lower() in PICTURES and not x.name.startswith(".")]
    if not images:
        raise FileNotFoundError(f"no picture in {folder}: expected files {' '.join(PICTURES)}")
    return sorted(images, key=by_number)


def image_frames(files: Sequence[Path], channels: Literal[1, 3] = 3) -> Iterator[Tensor]:
    """Pictures as the frames of a clip, each read when it is asked for.

    Args:
        files: In order.
        channels: 3 for RGB, 1 for grey.

    Yields:
        uint8 ``(channels, H, W)``.

    Raises:
        ValueError: A file is damaged, deeper than 16 bits, or of another size than the first.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "0.png")
        >>> Image.new("RGB", (32, 24), "red").save(path)
        >>> [(image.shape, image[:, 0, 0].tolist()) for image in image_frames([path])]
        [(torch.Size([3, 24, 32]), [255, 0, 0])]
    """
    size = None
    for file in files:
        image = decode_image(file.read_bytes(), str(file), channels)
        size = size or image.shape
        if image.shape != size:
            (height, width), (first_height, first_width) = image.shape[1:], size[1:]
            raise ValueError(
                f"{file} is {height}x{width} pixels, the first of its clip "
                f"{first_height}x{first_width}: expected one size"
            )
        yield image


def decode_image(data: bytes, name: str, channels: Literal[1, 3] = 3) -> Tensor:
    """A picture as uint8 ``(channels, H, W)``, upright; of 16 bits the upper 8.

    Cameras store beside a picture how to turn or mirror it, and viewers do.

    Args:
        data: The bytes of a file.
        name: Of it, for errors.
        channels: 3 for RGB, 1 for grey.

    Raises:
        ValueError: It is no whole picture, or deeper than 16 bits.
    """
    try:
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
        if image.mode.startswith("I;16"):  # of colours Pillow itself takes the upper byte
            image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise ValueError(
                f"{name} has pixels of 32 bits, of no range that is known: convert it to 8 or 16"
            )
        pixels = np.array(image.convert("RGB" if channels == 3 else "L"))
    except (OSError, SyntaxError, struct.error, Image.DecompressionBombError) as error:  # Pillow's
        raise ValueError(f"{name} is no whole picture: it is cut off or damaged") from error
    return torch.from_numpy(pixels).view(*pixels.shape[:2], -1).permute(2, 0, 1).contiguous()
