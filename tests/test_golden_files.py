"""``pytest tests/test_golden.py --golden DIR`` on files of other sizes, widths and batches."""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from naive.convlstm import convlstm
from naive.stip import stip
from test_zoo import layers
from torch import Tensor

from vidpred import cells
from vidpred.models import zoo


def save(path: Path, meta: dict[str, Any], **groups: Mapping[str, Tensor]) -> None:
    arrays: dict[str, Any] = {
        f"{group}/{name}": tensor.numpy()
        for group, tensors in groups.items()
        for name, tensor in tensors.items()
    }
    np.savez(path, meta=json.dumps(meta), **arrays)


def save_convlstm(path: Path, error: float = 0.0) -> None:
    torch.manual_seed(0)
    weights = dict(cells.ConvLSTMCell(2, 3, 3, norm=None).double().state_dict())
    x, h, c = torch.randn(5, 8, 7, 9, dtype=torch.float64).split([2, 3, 3], dim=1)
    h_new, c_new = convlstm(weights, x, h, c, forget_bias=0.0)
    inputs, outputs = {"x": x, "H": h, "C": c}, {"H": h_new, "C": c_new + error}
    save(path, {"kernel": 3}, param=weights, **{"in": inputs, "out": outputs})


def save_stip(path: Path) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"patch": 1, "length": 3, "recall": 0.3}
    model = zoo.stip(1, 6, 2, 1, kernel_size=3, norm=None, **options).double()
    frames = torch.rand(3, 5, 1, 10, 6, dtype=torch.float64)
    weights = dict(model.state_dict())
    units = [dict(cell.state_dict()) for cell in layers(model)]
    with torch.no_grad():
        predicted = torch.stack(stip(weights, units, [frames[:, 0]], horizon=4, **options), dim=1)
    meta = {
        "hidden": 6,
        "layers": 2,
        "downsamplings": 1,
        "kernel": 3,
        "patch": 1,
        "clip_length": 3,
        "recall_weight": 0.3,
        "input_length": 1,
        "feedback": "free",
    }
    save(path, meta, param=weights, **{"in": {"frames": frames}, "out": {"frames": predicted}})


def test_files_of_other_sizes_are_compared(tmp_path: Path) -> None:
    save_convlstm(tmp_path / "cell_convlstm.npz")
    save_convlstm(tmp_path / "cell_convlstm_off.npz", error=1e-9)
    save_stip(tmp_path / "model_stip.npz")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests/test_golden.py", "--golden", str(tmp_path)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
    )
    assert re.findall(r"^FAILED .*::(\S+)", run.stdout, re.MULTILINE) == [
        "test_golden[cell_convlstm_off]",
        "test_no_weight_may_be_missing_or_misshaped[cell_convlstm_off]",
    ], run.stdout
    assert "2 failed, 9 passed" in run.stdout  # two tests of our own files, three of each of these
