"""Random changes of clips, the same for all frames of each."""

from __future__ import annotations

import torch
from torch import Tensor

DRAWS = 5  # random numbers that a clip takes


def augment(
    clips: Tensor,
    draws: Tensor,
    reversal: bool = False,
    horizontal_flip: bool = False,
    vertical_flip: bool = False,
    crop: tuple[int, int] | None = None,
) -> Tensor:
    """Reverse, flip and crop clips, as random numbers say.

    Args:
        clips: `(B, T, C, H, W)`.
        draws: `(B, DRAWS)` in [0, 1), on the CPU. Below 0.5 the first reverses a clip, the second
            flips it, the third turns it upside down; the last two place the crop.
        reversal: Reverse the order of the frames of one clip in two.
        horizontal_flip: Exchange left and right in one clip of two.
        vertical_flip: Exchange top and bottom in one clip of two.
        crop: Height and width to cut out.

    Returns:
        `(B, T, C, H, W)`, or `(B, T, C, *crop)`: pixels of the clips as they were.

    Example:
        >>> clip = torch.arange(6).view(1, 1, 1, 2, 3)
        >>> draws = torch.tensor([[0.9, 0.1, 0.9, 0.0, 0.8]])
        >>> augment(clip, draws, horizontal_flip=True, crop=(2, 2))[0, 0, 0]
        tensor([[1, 0],
                [4, 3]])
    """
    from kornia.geometry.transform import crop_by_indices, hflip, vflip

    changes = {0: (reversal, _reverse), 1: (horizontal_flip, hflip), 2: (vertical_flip, vflip)}
    for column, (wanted, change) in changes.items():
        chosen = (draws[:, column] < 0.5).view(-1, 1, 1, 1, 1).to(clips.device)
        if wanted:
            clips = torch.where(chosen, change(clips), clips)
    if crop is not None:
        b, t, c, h, w = clips.shape
        free = torch.tensor([w - crop[1] + 1, h - crop[0] + 1])
        first = (draws[:, 3:5].flip(1) * free).long()[:, None]  # x and y of the first pixel
        right, down = crop[1] - 1, crop[0] - 1
        corners = first + torch.tensor([[0, 0], [right, 0], [right, down], [0, down]])
        clips = crop_by_indices(clips.flatten(1, 2), corners).view(b, t, c, *crop)
    return clips


def _reverse(clips: Tensor) -> Tensor:
    return clips.flip(1)
