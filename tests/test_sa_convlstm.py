"""Attention over large feature maps."""

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from vidpred.cells import SAConvLSTMCell


def test_no_matrix_of_all_pairs_of_positions_is_made() -> None:
    cell = SAConvLSTMCell(4, 4, 3)
    x = torch.randn(1, 4, 64, 64)
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):  # refuses what it has no kernel for
        _, state = cell(x, cell.init_state(x))
        h, _ = cell(x, state)
        h.square().sum().backward()
    assert h.isfinite().all()
