"""Frames of any size cut to one size."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def crop_and_resize(frames: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut the largest centred part that has the aspect ratio of `size`, and scale it to `size`.

    Scaled with antialiasing: a pixel of a smaller frame is a weighted mean of all that it covers.

    Args:
        frames: `(N, C, H, W)`, uint8 or floats.
        size: Height and width of the result.

    Returns:
        `(N, C, *size)` of the same type.

    Example:
        >>> import torch
        >>> wide = torch.tensor([[9, 1, 1, 3, 3, 9], [9, 1, 1, 3, 3, 9]], dtype=torch.uint8)
        >>> crop_and_resize(wide[None, None], (2, 4))[0, 0, 0]
        tensor([1, 1, 3, 3], dtype=torch.uint8)
    """
    height, width = frames.shape[-2:]
    cut_height = max(1, min(height, round(width * size[0] / size[1])))
    cut_width = max(1, min(width, round(height * size[1] / size[0])))
    top, left = (height - cut_height) // 2, (width - cut_width) // 2
    cut = frames[..., top : top + cut_height, left : left + cut_width]
    return F.interpolate(cut, size, mode="bilinear", antialias=True)


def check_size(size: tuple[int, int] | None) -> None:
    """Refuse a size that frames cannot be scaled to; ``None`` leaves them as they are.

    Raises:
        ValueError: As said.
    """
    if size is None:
        return
    if not (isinstance(size, Sequence) and len(size) == 2):
        raise ValueError(f"size is (height, width), got {size}")
    if min(size) < 1:
        raise ValueError(f"size is at least 1 pixel high and wide, got {tuple(size)}")
