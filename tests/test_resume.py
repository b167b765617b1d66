"""An interrupted and resumed run ends with the very weights of the uninterrupted one."""

from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

from vidpred.cells import STGRUCell
from vidpred.data import MovingMNISTData
from vidpred.models import Discriminator, zoo
from vidpred.sampling import ReverseScheduledSampling, ScheduledSampling, draw_keep
from vidpred.tasks import AdversarialTask, DelayedStepLR, ForecastTask

STEPS, EPOCH, BATCH, LENGTH, CONTEXT = 8, 3, 2, 6, 3
SAMPLING = ScheduledSampling(start=0.6, slope=0.02)
SCHEDULE = partial(DelayedStepLR, start=3, every=2, factor=0.7)
OFTEN: Any = {"val_check_interval": 2, "check_val_every_n_epoch": None}


class Interruption(Exception):
    pass


class Interrupt(Callback):
    """Ends the run when step number `at` begins, as a crash would."""

    def __init__(self, at):
        self.at = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.at:
            raise Interruption


def adversarial(predictor, **arguments):
    schedule = partial(DelayedStepLR, start=2, every=3, factor=0.6)
    weights = {"lp_weight": 0.1, "gan_weight": 0.1}
    discriminator = Discriminator(1, 8, downsamplings=4)
    return AdversarialTask(
        predictor, discriminator, discriminator_scheduler=schedule, **weights, **arguments
    )


TASKS = {"forecast": ForecastTask, "adversarial": adversarial}


@pytest.fixture(scope="module", params=TASKS)
def kind(request):
    return TASKS[request.param]


def run(
    folder,
    kind: Any = ForecastTask,
    workers=0,
    callbacks=(),
    ckpt_path=None,
    sampling=SAMPLING,
    accumulate=1,
    scheduler: Any = SCHEDULE,
    **arguments,
):
    # Another seed of the global generators after the interruption: nothing may depend on them.
    seed_everything(0 if ckpt_path is None else 99, verbose=False)
    predictor = zoo.stacked(STGRUCell, hidden_channels=4, layers=1)
    settings = {"context_length": CONTEXT, "sampling": sampling, "scheduler": scheduler, "seed": 5}
    # An adversarial task does by hand what the Trainer does for another.
    owner = arguments if kind is ForecastTask else settings
    owner["accumulate_grad_batches"] = accumulate
    task = kind(predictor, **settings)
    data = MovingMNISTData(
        length=LENGTH,
        canvas=32,
        batch_size=BATCH,
        num_workers=workers,
        epoch_size=EPOCH * BATCH,
        val_size=2,
        seed=11,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        **arguments,
    )
    trainer.fit(task, data, ckpt_path=ckpt_path, weights_only=True)
    assert trainer.global_step == STEPS
    return task.state_dict(), [optimizer.state_dict() for optimizer in trainer.optimizers]


def assert_same(found, expected):
    (weights, optimizers), (true_weights, true_optimizers) = found, expected
    assert all(torch.equal(weights[name], true_weights[name]) for name in true_weights)
    for optimizer, true_optimizer in zip(optimizers, true_optimizers, strict=True):
        assert optimizer["param_groups"] == true_optimizer["param_groups"]
        assert true_optimizer["state"]
        for index, moments in true_optimizer["state"].items():
            for name, moment in moments.items():
                assert torch.equal(optimizer["state"][index][name], moment)


@pytest.fixture(scope="module")
def uninterrupted(kind, tmp_path_factory):
    return run(tmp_path_factory.mktemp("whole"), kind)


def test_sampling_is_in_its_stochastic_range():
    for step in range(STEPS):
        p = SAMPLING.probabilities(step, CONTEXT, LENGTH)[CONTEXT:]
        assert ((p > 0.3) & (p < 0.7)).all()
    keep = [
        draw_keep(SAMPLING, BATCH, LENGTH, CONTEXT, step=n, batch=n % EPOCH, seed=5)
        for n in range(STEPS)
    ]
    assert 0.2 < torch.stack(keep)[..., CONTEXT:].float().mean() < 0.8


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(
    ("when", "interrupted"),
    [
        ({"every_n_train_steps": 4}, 5),  # within an epoch; a step after it is lost
        ({"every_n_train_steps": 4}, 4),
        ({"every_n_train_steps": 3}, 3),  # with the last batch of an epoch
        ({"every_n_epochs": 2}, 7),  # at the end of an epoch
        ({"save_on_exception": True, "every_n_train_steps": 100}, 5),  # by the interruption itself
        ({"save_on_exception": True, "every_n_train_steps": 100}, 6),  # between two epochs
    ],
    ids=[
        "mid epoch, lost step",
        "mid epoch",
        "last batch",
        "epoch end",
        "exception",
        "exception 2",
    ],
)
def test_resumed_run_equals_uninterrupted_run(
    tmp_path, kind, uninterrupted, when, interrupted, workers
):
    saving = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1, **when)
    with pytest.raises(Interruption):
        run(tmp_path, kind, workers, [saving, Interrupt(interrupted)])
    (checkpoint,) = tmp_path.glob("*.ckpt")
    assert_same(run(tmp_path, kind, workers, ckpt_path=checkpoint), uninterrupted)


@pytest.mark.parametrize("interrupted", [5, 7])
def test_resumed_from_a_validation(tmp_path, kind, uninterrupted, interrupted):
    saving = ModelCheckpoint(dirpath=tmp_path, monitor="val_mse", save_last=True)
    with pytest.raises(Interruption):
        run(tmp_path, kind, callbacks=[saving, Interrupt(interrupted)], **OFTEN)
    resumed = run(tmp_path, kind, ckpt_path=tmp_path / "last.ckpt", **OFTEN)
    assert_same(resumed, uninterrupted)


@pytest.mark.parametrize("often", [{}, OFTEN], ids=["at the end of epochs", "often"])
def test_a_schedule_that_watches_the_validation_goes_on(tmp_path, kind, often):
    # No change is an improvement by that threshold: every validation but the first is a tenth.
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
    worse = partial(plateau, patience=0, threshold=1e6, threshold_mode="abs")
    settings: dict[str, Any] = {"kind": kind, "scheduler": worse, **often}
    whole = run(tmp_path / "whole", **settings)
    rates = [group["lr"] for group in whole[1][0]["param_groups"]]
    assert rates == pytest.approx([1e-3 * 0.1 ** (3 if often else 1)])
    saving = ModelCheckpoint(dirpath=tmp_path, save_top_k=-1)  # at every validation
    with pytest.raises(Interruption):
        run(tmp_path, callbacks=[saving, Interrupt(7)], **settings)
    (checkpoint,) = tmp_path.glob("*step=6.ckpt")
    assert_same(run(tmp_path, ckpt_path=checkpoint, **settings), whole)


@pytest.mark.parametrize("interval", [2, 3, 4])
def test_resumed_from_a_validation_within_the_batches_of_a_step(tmp_path, kind, interval):
    """Epochs are of three batches, so that every other step has one alone."""
    settings: dict[str, Any] = {"accumulate": 2, "check_val_every_n_epoch": None}
    whole = run(tmp_path / "whole", kind, **settings, limit_val_batches=0)
    settings["val_check_interval"] = interval
    saving = ModelCheckpoint(dirpath=tmp_path, monitor="val_mse", save_top_k=-1)
    run(tmp_path, kind, callbacks=[saving], **settings)
    saved = sorted(tmp_path.glob("*.ckpt"))
    assert len(saved) >= 2
    for checkpoint in saved:
        assert_same(run(tmp_path, kind, ckpt_path=checkpoint, **settings), whole)


def test_workers_and_validation_change_nothing(tmp_path, kind, uninterrupted):
    assert_same(run(tmp_path, kind, workers=1, limit_val_batches=0), uninterrupted)
    often = {"val_check_interval": 1, "check_val_every_n_epoch": None}
    assert_same(run(tmp_path, kind, **often), uninterrupted)


def test_interrupted_twice_with_accumulated_gradients(tmp_path, kind):
    settings = {
        "kind": kind,
        "sampling": ReverseScheduledSampling(begin=2, end=20, alpha=4.0),
        "accumulate": 2,
    }
    whole = run(tmp_path, **settings)
    checkpoint = None
    for number, interrupted in enumerate((3, 6)):
        folder = tmp_path / str(number)
        saving = ModelCheckpoint(dirpath=folder, every_n_train_steps=1, save_last=True)
        callbacks = [saving, Interrupt(interrupted)]
        with pytest.raises(Interruption):
            run(folder, callbacks=callbacks, ckpt_path=checkpoint, **settings)
        checkpoint = folder / "last.ckpt"
    assert_same(run(tmp_path, ckpt_path=checkpoint, **settings), whole)


def test_the_comparison_can_fail(tmp_path, kind, uninterrupted):
    other = run(tmp_path, kind, sampling=ScheduledSampling(start=0.6, slope=0.05))
    with pytest.raises(AssertionError):
        assert_same(other, uninterrupted)
