"""The warp that TrajGRU and MotionGRU share."""

import pytest
import torch

from vidpred.cells.warp import warp


@pytest.mark.parametrize(
    ("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-4), (torch.bfloat16, 1e-2)]
)
@pytest.mark.parametrize("shift", [0, 3])
def test_whole_pixels_move_without_blur(dtype: torch.dtype, error: float, shift: int) -> None:
    x = torch.rand(1, 2, 8, 300).to(dtype)
    flow = torch.zeros(1, 1, 8, 300, dtype=dtype)
    moved = warp(x, flow, flow + shift)
    assert moved.dtype == dtype
    torch.testing.assert_close(moved[:, :, 0, :, : 300 - shift], x[..., shift:], rtol=0, atol=error)
