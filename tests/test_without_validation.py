"""A file of clips none of which validates: all of them train, as in the papers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidpred import cli
from vidpred.data import prepare
from vidpred.data.sources import array

EXAMPLE = Path(__file__).parents[1] / "examples" / "clips" / "stgru.yaml"


def test_it_trains_and_goes_on_from_its_last_state(tmp_path: Path, capsys: pytest.CaptureFixture):
    clips = np.random.default_rng(0).integers(0, 256, (4, 6, 16, 16, 3), np.uint8)
    np.save(tmp_path / "a.npy", clips)
    out = prepare(array(tmp_path / "a.npy", length=4, val_fraction=0), tmp_path / "a.h5")

    def vidpred(command: str, folder: str, *arguments: Any) -> int:
        settings = {
            "config": EXAMPLE,
            "data.path": out,
            "data.length": 4,
            "data.batch_size": 2,
            "data.num_workers": 0,
            "data.crop": "null",
            "model.context_length": 2,
            "model.predictor.hidden_channels": 4,
            "model.predictor.layers": 1,
            "trainer.logger": "false",
            "trainer.default_root_dir": tmp_path / folder,
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        return cli.main([command, *options, *map(str, arguments)])

    def saved(folder: str) -> dict[str, Any]:
        (file,) = (tmp_path / folder / "checkpoints").iterdir()
        assert file.name == "last.ckpt"
        return torch.load(file, weights_only=True)

    last = tmp_path / "part" / "checkpoints" / "last.ckpt"
    assert vidpred("fit", "whole", "--trainer.max_steps=4") == 0
    assert vidpred("fit", "part", "--trainer.max_steps=2") == 0
    assert saved("part")["global_step"] == 2
    assert vidpred("fit", "rest", "--trainer.max_steps=4", "--ckpt_path", last) == 0
    whole, rest = saved("whole"), saved("rest")
    assert whole["global_step"] == rest["global_step"] == 4
    for name, weight in whole["state_dict"].items():
        assert torch.equal(rest["state_dict"][name], weight)
    capsys.readouterr()
    assert vidpred("validate", "part", "--ckpt_path", last) == 2
    assert capsys.readouterr().err == (
        f"vidpred: error: {out} has no val clips: prepare it with a share of them\n"
    )
