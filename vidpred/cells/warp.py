"""Looking up a feature map at places between its pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def warp(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """What every pixel sees so many pixels further down and to the right, once per displacement.

    Between pixels ``x`` is interpolated, outside it is 0.

    Args:
        x: ``(B, C, H, W)``.
        rows: ``(B, N, H, W)``, in pixels, downwards.
        columns: ``(B, N, H, W)``, in pixels, to the right.

    Returns:
        ``(B, C, N, H, W)``.

    Example:
        >>> import torch
        >>> x = torch.tensor([[[[0.0, 1.0, 2.0]]]])
        >>> one = torch.ones(1, 1, 1, 3)
        >>> warp(x, 0 * one, one).round().flatten().tolist()
        [1.0, 2.0, 0.0]
    """
    height, width = x.shape[-2:]
    # In bfloat16 the pixels at the far side of a wide map would not have places of their own.
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = rows + torch.arange(height, dtype=dtype, device=x.device)[:, None]
    columns = columns + torch.arange(width, dtype=dtype, device=x.device)
    # As grid_sample counts: from -1 to 1 between the outer edges of the border pixels.
    grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=-1)
    grid = grid.flatten(1, 2)  # (B, N * H, W, 2)
    warped = F.grid_sample(x.to(dtype), grid, align_corners=False).to(x.dtype)
    return warped.unflatten(2, (-1, height))
