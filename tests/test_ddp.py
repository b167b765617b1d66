"""Two processes train and evaluate as one does that sees the shards of both."""

from pathlib import Path

import pytest
import torch
import yaml
from command import succeed
from lightning.pytorch import Trainer, seed_everything
from processes import in_two_processes

from vidpred.cells import STGRUCell
from vidpred.data import MovingMNISTData, ResumableLoader
from vidpred.models import zoo
from vidpred.sampling import ScheduledSampling, draw_keep
from vidpred.tasks import DelayedStepLR, ForecastTask

CONF = Path(__file__).parent / "conf" / "forecast.yaml"
STEPS, BATCH, LENGTH, CONTEXT = 4, 2, 6, 3


@pytest.fixture(scope="module")
def distributed(tmp_path_factory):
    """Folder of a run in two processes."""
    folder = tmp_path_factory.mktemp("ddp")
    in_two_processes(
        succeed,
        *("fit", "--config", CONF),
        *("--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp"),
        *("--trainer.default_root_dir", folder, "--data.epoch_size", "8"),
    )
    (run,) = (folder / "lightning_logs").iterdir()
    return run


@pytest.fixture(scope="module")
def checkpoint(distributed):
    return torch.load(distributed / "checkpoints" / "last.ckpt", weights_only=True)


def initial_task():
    seed_everything(0, verbose=False)
    predictor = zoo.stacked(STGRUCell, hidden_channels=4, layers=1)
    return ForecastTask(predictor, CONTEXT, ScheduledSampling(start=0.5, slope=0.01))


def data(batch_size):
    return MovingMNISTData(
        length=LENGTH, canvas=32, batch_size=batch_size, epoch_size=8, val_size=3, test_size=5
    )


def alone():
    """The same training in one process: both shards' gradients, each of half the loss."""
    task = initial_task()
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-3)
    scheduler = DelayedStepLR(optimizer, start=2, every=2, factor=0.5)
    source = data(2 * BATCH)
    source.setup("fit")
    loader = ResumableLoader(source.train_set, 2 * BATCH, epoch_size=8, shuffle=False)
    losses = []
    for step in range(STEPS):
        if step % len(loader) == 0:
            batches = iter(loader)
        shards = source.on_after_batch_transfer(next(batches), 0).split(BATCH)
        optimizer.zero_grad()
        losses.append(0.0)
        for rank, frames in enumerate(shards):
            keep = draw_keep(
                task.sampling,
                BATCH,
                LENGTH,
                CONTEXT,
                step=step,
                rank=rank,
            )
            loss = (task.predictor.rollout(frames, keep) - frames[:, 1:]).square().mean() / 2
            loss.backward()
            losses[-1] += loss.item()
        optimizer.step()
        scheduler.step()
    return task, losses


@pytest.mark.slow
def test_weights_are_those_of_one_process_with_both_shards(checkpoint):
    assert checkpoint["global_step"] == STEPS
    task, _ = alone()
    start = initial_task().state_dict()
    for name, weight in task.state_dict().items():
        found = checkpoint["state_dict"][name]
        torch.testing.assert_close(found, weight, rtol=0, atol=3e-6)
        assert (weight - start[name]).abs().max() > 1e-3, name  # it has moved much farther


@pytest.mark.slow
def test_metrics_are_those_of_all_clips(tmp_path, distributed, checkpoint):
    """Three validation clips: one process has two of them, the other one."""
    task = initial_task()
    task.load_state_dict(checkpoint["state_dict"])
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=tmp_path)
    trainer.validate(task, data(BATCH), verbose=False)
    states = [s for k, s in checkpoint["callbacks"].items() if k.startswith("ModelCheckpoint")]
    current = states[0]["current_score"].item()
    assert current == pytest.approx(task.results["model"]["MSE"].mean().item(), rel=1e-5)


@pytest.mark.slow
def test_logged_loss_is_the_mean_over_processes(distributed):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(distributed))
    events.Reload()
    logged = [event.value for event in events.Scalars("train_loss")]
    assert logged == pytest.approx(alone()[1], rel=1e-4)


@pytest.mark.slow
def test_one_process_writes_the_files(distributed):
    (run,) = distributed.parent.iterdir()
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["trainer"]["devices"] == "2"
    assert sorted(file.name for file in (run / "checkpoints").iterdir())[1:] == ["last.ckpt"]
