"""Folding is what padding, F.pixel_unshuffle and a conversion do one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vidpred.models.folding import fold, unfold

any_size = pytest.mark.parametrize("size", [(16, 16), (15, 13), (1, 9), (24, 5)])
any_patch = pytest.mark.parametrize(("patch", "stride"), [(1, 1), (1, 4), (2, 2), (2, 8), (4, 8)])


def plain(frames: Sequence[Tensor], patch: int, stride: int) -> Tensor:
    height, width = frames[0].shape[-2:]
    pad = (0, -width % stride, 0, -height % stride)
    return F.pixel_unshuffle(F.pad(torch.cat(list(frames), dim=1), pad, "replicate"), patch)


@any_size
@any_patch
@pytest.mark.parametrize("length", [1, 3])
def test_fold_is_the_plain_way(size: tuple[int, int], patch: int, stride: int, length: int) -> None:
    frames = [torch.rand(2, 3, *size, requires_grad=True) for _ in range(length)]
    folded, expected = fold(frames, patch, stride, torch.float32), plain(frames, patch, stride)
    torch.testing.assert_close(folded, expected, rtol=0, atol=0)
    assert folded.permute(0, 2, 3, 1).is_contiguous()
    pull = torch.rand_like(expected)
    ours, theirs = (torch.autograd.grad(x, frames, pull) for x in (folded, expected))
    torch.testing.assert_close(ours, theirs)
    converted = fold(frames, patch, stride, torch.bfloat16)
    torch.testing.assert_close(converted, expected.bfloat16(), rtol=0, atol=0)
    for to_frame in torch.autograd.grad(converted, frames, pull.bfloat16()):
        assert to_frame.dtype == torch.float32


@any_size
@any_patch
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_unfold_is_the_plain_way(
    size: tuple[int, int], patch: int, stride: int, layout: torch.memory_format
) -> None:
    height, width = (-(-side // stride) * stride // patch for side in size)
    x = torch.rand(2, 3 * patch**2, height, width).to(memory_format=layout).requires_grad_()
    frame = unfold(x, patch, size, torch.float32)
    expected = F.pixel_shuffle(x, patch)[..., : size[0], : size[1]]
    torch.testing.assert_close(frame, expected, rtol=0, atol=0)
    pull = torch.rand_like(expected)
    ours, theirs = (torch.autograd.grad(y, x, pull)[0] for y in (frame, expected))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    converted = unfold(x.bfloat16(), patch, size, torch.float32)
    torch.testing.assert_close(converted, expected.bfloat16().float(), rtol=0, atol=0)


@any_patch
def test_gradients_of_gradients_are_right(patch: int, stride: int) -> None:
    frames = [torch.rand(1, 1, 5, 6, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def there_and_back(*frames: Tensor) -> Tensor:
        folded = fold(frames, patch, stride, torch.float64)
        return unfold(folded.sin(), patch, (5, 6), torch.float64)

    assert torch.autograd.gradcheck(there_and_back, frames, fast_mode=True)
    assert torch.autograd.gradgradcheck(there_and_back, frames, fast_mode=True)


def test_frames_that_need_no_gradient_get_none() -> None:
    known, predicted = torch.rand(1, 1, 8, 8), torch.rand(1, 1, 8, 8, requires_grad=True)
    fold([known, predicted], 2, 2, torch.float32).sum().backward()
    assert known.grad is None
    assert predicted.grad is not None
