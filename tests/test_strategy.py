"""``StepDDPStrategy`` in two processes; torchrun starts them, and they run this very file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from vidpred.tasks import StepDDPStrategy

STEPS, ACCUMULATE, BATCH, CLIP = 3, 2, 4, 0.3
UNUSED = "ddp_find_unused_parameters_true"


class TinyGAN(LightningModule):
    """Generator and discriminator as small as they get; gradients are accumulated and clipped."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 6))
        self.discriminator = nn.Sequential(nn.Linear(6, 5), nn.LeakyReLU(0.2), nn.Linear(5, 1))

    def configure_optimizers(self):
        return [torch.optim.Adam(x.parameters(), 1e-2) for x in self.children()]

    def discriminator_loss(self, x, fake):
        true, false = self.discriminator(x), self.discriminator(fake.detach())
        return F.softplus(-true).mean() + F.softplus(false).mean()

    def generator_loss(self, x, fake):
        return F.mse_loss(fake, x) + F.softplus(-self.discriminator(fake)).mean()

    def training_step(self, x, batch_idx):
        generator, discriminator = self.optimizers()  # pyright: ignore[reportGeneralTypeIssues]
        fake = self.generator(x)
        for optimizer, loss in (
            (discriminator, self.discriminator_loss),
            (generator, self.generator_loss),
        ):
            with self.toggled_optimizer(optimizer):
                self.manual_backward(loss(x, fake) / ACCUMULATE)
            if (batch_idx + 1) % ACCUMULATE == 0:
                optimizer.step()
                optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer):
        self.clip_gradients(optimizer, gradient_clip_val=CLIP)


class Branches(LightningModule):
    """Only process 1 uses `one`, nobody `none`; batch norm has buffers. Weights decay."""

    def __init__(self):
        super().__init__()
        self.both, self.one, self.none = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, weight_decay=0.1)

    def loss(self, x, rank):
        y = self.norm(self.both(x))
        return (self.one(y) if rank == 1 else y.tanh()).square().mean()

    def training_step(self, x, batch_idx):
        return self.loss(x, self.global_rank)


CASES = {
    "ddp": (TinyGAN, UNUSED, "64-true"),
    "step": (TinyGAN, StepDDPStrategy, "64-true"),
    "bf16": (TinyGAN, StepDDPStrategy, "bf16-mixed"),
    "branches": (Branches, StepDDPStrategy, "64-true"),
}


def initial(module, rank=0):
    """Weights that differ from process to process: all must begin with those of the first."""
    seed_everything(rank, verbose=False)
    return module()


def batches(rank):
    generator = torch.Generator().manual_seed(rank)
    return (1 + rank) * torch.randn(STEPS * ACCUMULATE, BATCH, 6, generator=generator)


def main(folder):
    """What each of the two processes does."""
    rank = int(os.environ["RANK"])
    for name, (module, strategy, precision) in CASES.items():
        task, data = initial(module, rank), batches(rank)
        data = data.double() if precision == "64-true" else data
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=strategy if isinstance(strategy, str) else strategy(),
            precision=precision,
            max_epochs=1,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        trainer.fit(task, DataLoader(data, batch_size=None))  # pyright: ignore[reportArgumentType]
        torch.save(task.state_dict(), folder / f"{name}-{rank}.pt")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of every case, the weights that each of the two processes ends with."""
    folder = tmp_path_factory.mktemp("strategy")
    command = [*(sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2")]
    done = subprocess.run(
        [*command, "--standalone", __file__, str(folder)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)] for name in CASES}


def gan_alone():
    """One process: both shards' gradients, each of half the loss, then clipped, then the step."""
    task = initial(TinyGAN).double()
    generator, discriminator = task.configure_optimizers()
    for i, shards in enumerate(zip(*(batches(rank).double() for rank in range(2)), strict=True)):
        for optimizer, loss in (
            (discriminator, task.discriminator_loss),
            (generator, task.generator_loss),
        ):
            parameters = optimizer.param_groups[0]["params"]
            for x in shards:
                share = loss(x, task.generator(x)) / 2 / ACCUMULATE
                share.backward(inputs=parameters)
            if (i + 1) % ACCUMULATE == 0:
                assert nn.utils.clip_grad_norm_(parameters, CLIP) > CLIP
                optimizer.step()
                optimizer.zero_grad()
    return task


def branches_alone():
    task = initial(Branches).double()
    optimizer = task.configure_optimizers()
    for shards in zip(*(batches(rank).double() for rank in range(2)), strict=True):
        optimizer.zero_grad()
        for rank, x in enumerate(shards):
            (task.loss(x, rank) / 2).backward()
        optimizer.step()
    return task


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ddp", "step"])
def test_two_optimizers_give_the_weights_of_one_process_with_both_shards(weights, case):
    start = initial(TinyGAN).state_dict()
    for name, weight in gan_alone().state_dict().items():
        torch.testing.assert_close(weights[case][0][name], weight, rtol=0, atol=1e-12)
        assert (weight - start[name]).abs().max() > 0.01, name


@pytest.mark.slow
def test_missing_gradients_count_as_zero_or_stay_missing(weights):
    start = initial(Branches).state_dict()
    for name, weight in branches_alone().named_parameters():
        torch.testing.assert_close(weights["branches"][0][name], weight.data, rtol=0, atol=1e-12)
        # What decays without a gradient has got one, of zeros.
        assert torch.equal(weight, start[name].double()) == name.startswith("none"), name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_processes_end_with_the_same_finite_weights_and_buffers(weights, case):
    first, second = weights[case]
    for name, weight in first.items():
        assert weight.isfinite().all()
        assert torch.equal(weight, second[name]), name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
