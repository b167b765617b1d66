"""A process that dies ends the run of all, in one line, and the run goes on from its checkpoint."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from command import succeed
from lightning.pytorch import Callback
from processes import in_two_processes

HERE = Path(__file__).parent
STEPS, EVERY, AT = 8, 3, 5  # of 2 steps an epoch


class Death(Callback):
    """Kills process 1 when a discriminator's gradient is averaged and its step not yet taken."""

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        of_discriminator = optimizer is trainer.optimizers[1]
        if trainer.global_step == AT and trainer.global_rank == 1 and of_discriminator:
            os.kill(os.getpid(), signal.SIGKILL)


def arguments(folder, *more, callbacks=()):
    """Of a training in two processes."""
    saving = {"dirpath": str(folder), "every_n_train_steps": EVERY}
    callbacks = [
        {"class_path": "vidpred.tasks.ResumableCheckpoint", "init_args": saving},
        *({"class_path": f"{__name__}.{callback.__name__}"} for callback in callbacks),
    ]
    trainer = {
        "accelerator": "cpu",
        "devices": 2,
        "strategy": {"class_path": "vidpred.tasks.StepDDPStrategy"},
        "max_steps": STEPS,
        "limit_val_batches": 0,
        "callbacks": callbacks,
        "logger": False,
        "default_root_dir": str(folder),
    }
    folder.mkdir()
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump({"trainer": trainer, "data.init_args.epoch_size": 16}))
    configs = ("--config", str(HERE / "conf" / "adversarial.yaml"), "--config", str(settings))
    return ["fit", *configs, *more]


def same(found, expected):
    """Whether two checkpoints hold the very same numbers."""
    if isinstance(expected, torch.Tensor):
        return torch.equal(found, expected)
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(same(found[k], expected[k]) for k in found)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(same, found, expected))
    return found == expected


@pytest.mark.slow
def test_a_killed_process_ends_the_run_which_goes_on_exactly(tmp_path):
    killed = subprocess.run(
        [sys.executable, "-m", "vidpred", *arguments(tmp_path / "killed", callbacks=[Death])],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)])},
        capture_output=True,
        text=True,
        timeout=500,  # and not the half hour that a collective waits by default
    )
    last = tmp_path / "killed" / "last.ckpt"
    assert killed.returncode == 1, killed.stderr
    (error,) = (x for x in killed.stderr.splitlines() if x.startswith("vidpred: error: "))
    assert "process 0 of 2 has lost another" in error
    assert f"go on with --ckpt_path {last} (" in error
    assert "Traceback" not in killed.stderr
    assert torch.load(last, weights_only=True)["global_step"] == EVERY

    in_two_processes(succeed, *arguments(tmp_path / "whole"))
    in_two_processes(succeed, *arguments(tmp_path / "resumed", "--ckpt_path", str(last)))
    saved = [tmp_path / name / "last.ckpt" for name in ("killed", "whole", "resumed")]
    before, expected, found = (torch.load(path, weights_only=True) for path in saved)
    assert found["global_step"] == STEPS
    assert len(found["optimizer_states"]) == 2
    for part in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(found[part], expected[part]), part
        assert not same(found[part], before[part]), part
