"""What ``ResumableCheckpoint`` adds to Lightning's: sound, whole and up to the end."""

import os
import signal
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from test_resume import OFTEN, TASKS, Interruption, adversarial, assert_same, run

from vidpred.tasks import ResumableCheckpoint
from vidpred.tasks.checkpoints import WholeCheckpointIO


class InterruptedAdam(torch.optim.Adam):
    """Someone presses Ctrl-C when half of the weights of a step are updated."""

    pressed: list[int]

    def step(self, closure=None):
        assert closure is not None
        loss = closure()
        groups, self.param_groups = self.param_groups, []
        for group in groups:
            half = len(group["params"]) // 2
            for part in (group["params"][:half], group["params"][half:]):
                self.param_groups = [{**group, "params": part}]
                super().step()
                if int(self.state[part[0]]["step"]) == 5 and not self.pressed:
                    self.pressed.append(5)
                    os.kill(os.getpid(), signal.SIGINT)
        self.param_groups = groups
        return loss


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_an_interrupt_waits_for_the_end_of_a_step(tmp_path, monkeypatch, kind):
    whole = run(tmp_path / "whole", kind)
    monkeypatch.setattr(InterruptedAdam, "pressed", pressed := [], raising=False)
    monkeypatch.setattr(torch.optim, "Adam", type("Adam", (InterruptedAdam,), {}))
    saving = ResumableCheckpoint(dirpath=str(tmp_path))
    with pytest.raises(SystemExit):
        run(tmp_path, kind, callbacks=[saving])
    assert pressed == [5]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.undo()
    assert step_of(tmp_path / "last.ckpt") == 5
    assert [step_of(best) for best in tmp_path.glob("epoch=*.ckpt")] == [3]
    assert_same(run(tmp_path, kind, ckpt_path=tmp_path / "last.ckpt"), whole)


@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_interrupted_within_the_batches_of_a_step_it_takes_them_again(tmp_path, kind):
    class Press(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 3 and batch_idx % 3 == 1:
                os.kill(os.getpid(), signal.SIGINT)

    settings: dict[str, Any] = {"accumulate": 3, "limit_val_batches": 0}
    whole = run(tmp_path / "whole", kind, **settings)
    saving = ResumableCheckpoint(dirpath=str(tmp_path))
    with pytest.raises(SystemExit):
        run(tmp_path, kind, callbacks=[saving, Press()], **settings)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert step_of(tmp_path / "last.ckpt") == 3
    assert_same(run(tmp_path, kind, ckpt_path=tmp_path / "last.ckpt", **settings), whole)


def test_the_end_of_a_training_is_saved(tmp_path):
    saving = ResumableCheckpoint(dirpath=str(tmp_path))
    often: Any = {"val_check_interval": 3, "check_val_every_n_epoch": None}
    weights, _ = run(tmp_path, callbacks=[saving], **often)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 8
    assert all(torch.equal(saved["state_dict"][name], weights[name]) for name in weights)
    assert len(list(tmp_path.glob("epoch=*.ckpt"))) == 1


class Look(Callback):
    """Which step ``last.ckpt`` holds whenever a batch begins."""

    def __init__(self, folder):
        self.last, self.steps = folder / "last.ckpt", []

    def on_train_batch_start(self, *_):
        self.steps.append(step_of(self.last) if self.last.exists() else 0)


def step_of(checkpoint):
    return torch.load(checkpoint, weights_only=True)["global_step"]


EVERY_FOUR_BATCHES: Any = {"val_check_interval": 4, "check_val_every_n_epoch": None}


@pytest.mark.parametrize(
    ("every", "validations", "accumulate", "steps"),
    [
        (3, 1.0, 1, [0, 0, 0, 3, 4, 4, 6, 6]),
        (None, 0, 1, [0, 0, 0, 0, 4, 4, 4, 4]),
        (None, 0, 2, [0, 0, 0, 0, 2, 2, 2, 2, 5, 5, 5, 5]),  # epochs of three batches, two steps
    ],
    ids=["between validations", "without validations", "without, of two batches a step"],
)
@pytest.mark.parametrize("kind", TASKS.values(), ids=TASKS)
def test_a_training_is_saved(tmp_path, recwarn, kind, every, validations, accumulate, steps):
    saving = ResumableCheckpoint(dirpath=str(tmp_path), every_n_train_steps=every)
    look, settings = Look(tmp_path), {"limit_val_batches": validations, "accumulate": accumulate}
    run(tmp_path, kind, callbacks=[saving, look], **settings, **EVERY_FOUR_BATCHES)
    assert look.steps == steps
    assert not [x for x in recwarn if "manual optimization" in str(x.message)]


@pytest.mark.parametrize(
    ("often", "steps"),
    [({}, [0, 0, 0, 3, 3, 3, 6, 6]), (OFTEN, [0, 0, 2, 2, 4, 4, 6, 6])],
    ids=["at the end of epochs", "often"],
)
def test_validations_that_find_no_better_model_save_the_last(tmp_path, often, steps):
    class Worse(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            pl_module.log("loss", float(trainer.global_step))

    saving, look = ResumableCheckpoint("loss", dirpath=str(tmp_path)), Look(tmp_path)
    run(tmp_path, callbacks=[Worse(), saving, look], **often)
    assert look.steps == steps
    assert step_of(tmp_path / "last.ckpt") == 8
    assert [step_of(best) for best in tmp_path.glob("epoch=*.ckpt")] == [next(filter(None, steps))]


@pytest.mark.parametrize("every", [2, 4])
def test_the_best_model_is_kept_where_the_last_is_written_as_often(tmp_path, every):
    scores = {}

    class Score(Callback):
        def on_validation_end(self, trainer, pl_module):
            scores[trainer.global_step] = trainer.callback_metrics["val_mse"].item()

    saving = ResumableCheckpoint(dirpath=str(tmp_path), every_n_train_steps=every)
    run(tmp_path, callbacks=[Score(), saving], **EVERY_FOUR_BATCHES)
    (best,) = tmp_path.glob("epoch=*.ckpt")
    assert step_of(best) == min(scores, key=lambda step: scores[step])
    assert saving.best_model_score == min(scores.values())


def test_a_failure_between_two_updates_of_a_step_leaves_the_last_sound_state(tmp_path):
    class Fail(Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            if trainer.global_step == 5 and optimizer is trainer.optimizers[0]:
                raise Interruption

    saving = ResumableCheckpoint(dirpath=str(tmp_path), every_n_train_steps=4)
    with pytest.raises(Interruption):
        run(tmp_path, adversarial, callbacks=[saving, Fail()], limit_val_batches=0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [file.name for file in tmp_path.glob("*.ckpt")] == ["last.ckpt"]
    assert step_of(tmp_path / "last.ckpt") == 4


class Diverge(Callback):
    """Spoils the weights after a step."""

    def __init__(self, at):
        self.at = at

    def on_train_batch_end(self, trainer, pl_module, *_):
        if trainer.global_step == self.at:
            next(pl_module.parameters()).data.fill_(float("nan"))


@pytest.mark.parametrize(
    ("at", "says"),
    [(4, "validation at step 4"), (5, "the loss is nan at step 5")],
    ids=["seen in a validation", "seen in a training step"],
)
def test_a_diverged_run_leaves_the_last_sound_state(tmp_path, at, says):
    saving = ResumableCheckpoint(dirpath=str(tmp_path))
    with pytest.raises(FloatingPointError, match=says):
        run(tmp_path, callbacks=[Diverge(at), saving], **OFTEN)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 2 * ((at - 1) // 2)
    assert all(weight.isfinite().all() for weight in saved["state_dict"].values())


def test_checkpoints_are_written_beside_their_place(tmp_path, monkeypatch):
    saving = ResumableCheckpoint()
    trainer = Trainer(callbacks=[saving], logger=False, default_root_dir=tmp_path)
    saving.setup(trainer, LightningModule(), "fit")
    assert isinstance(trainer.strategy.checkpoint_io, WholeCheckpointIO)

    def cut_short(_, path):
        path.write_bytes(b"half")
        assert path.parent == tmp_path
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut_short)
    (tmp_path / "last.ckpt").write_bytes(b"whole")
    with pytest.raises(KeyboardInterrupt):
        trainer.strategy.checkpoint_io.save_checkpoint({}, tmp_path / "last.ckpt")
    assert [file.read_bytes() for file in tmp_path.iterdir() if file.is_file()] == [b"whole"]
