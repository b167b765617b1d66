"""Training in two processes under each strategy."""

import os
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.strategies import ModelParallelStrategy
from processes import in_two_processes
from torch import nn
from torch.utils.data import DataLoader

from vidpred.cells import STGRUCell
from vidpred.losses import discriminator_loss, gan_loss, lp_loss
from vidpred.models import Discriminator, zoo
from vidpred.sampling import ScheduledSampling, draw_keep
from vidpred.tasks import AdversarialTask, StepDDPStrategy

STEPS, ACCUMULATE, BATCH, LENGTH, CONTEXT, CLIP = 3, 2, 2, 5, 3, 0.05
SAMPLING = ScheduledSampling(start=0.5, slope=0.01)


def adversarial():
    return AdversarialTask(
        zoo.stacked(STGRUCell, hidden_channels=4, layers=1),
        Discriminator(1, hidden_channels=8, downsamplings=2),
        context_length=CONTEXT,
        sampling=SAMPLING,
        lp_weight=0.5,
        gan_weight=0.5,
        gradient_clip_val=CLIP,
        accumulate_grad_batches=ACCUMULATE,
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        discriminator_optimizer=lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
    )


class Branches(LightningModule):
    """Only process 1 uses `one`, nobody `none`; batch norm has buffers. Weights decay."""

    def __init__(self):
        super().__init__()
        self.both, self.one, self.none = nn.Linear(16, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm = nn.BatchNorm3d(LENGTH)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1, weight_decay=0.1)

    def loss(self, x, rank):
        y = self.both(self.norm(x))
        return (self.one(y) if rank == 1 else y.tanh()).square().mean()

    def training_step(self, x, batch_idx):
        return self.loss(x, self.global_rank)


def sharded(folder=False):
    # Its default splits tensors too, among all the processes of a node.
    return ModelParallelStrategy(2, tensor_parallel_size=1, save_distributed_checkpoint=folder)


def ddp():
    return "ddp_find_unused_parameters_true"


CASES = {  # name: module, strategy, precision, dtype
    "ddp": (adversarial, ddp, None, torch.float64),
    "step": (adversarial, StepDDPStrategy, None, torch.float64),
    "fsdp": (adversarial, sharded, None, torch.float64),
    "fsdp folder": (adversarial, partial(sharded, folder=True), None, torch.float64),
    "ddp bf16": (adversarial, ddp, "bf16-mixed", torch.float32),
    "step bf16": (adversarial, StepDDPStrategy, "bf16-mixed", torch.float32),
    "fsdp bf16": (adversarial, sharded, "bf16-mixed", torch.float32),
    "branches": (Branches, StepDDPStrategy, None, torch.float64),
}

RESUMED = ("fsdp", "fsdp folder")


def initial(module, dtype=torch.float64, seed=0):
    seed_everything(seed, verbose=False)
    return module().to(dtype)


def batches(rank, dtype=torch.float64):
    generator = torch.Generator().manual_seed(rank)
    size = (STEPS * ACCUMULATE, BATCH, LENGTH, 1, 16, 16)
    return torch.rand(size, generator=generator).to(dtype)


def train_all(folder):
    """What each of the two processes does."""
    for name in CASES:
        train(folder, name).save_checkpoint(folder / f"{name}.ckpt")
    train(folder, "fsdp", epochs=2, result="whole")
    for name in RESUMED:
        checkpoint = folder / f"{name}.ckpt"
        train(folder, name, epochs=2, checkpoint=checkpoint, result=f"{name} resumed")


def train(folder, case, epochs=1, checkpoint=None, result=None):
    module, strategy, precision, dtype = CASES[case]
    rank = int(os.environ["RANK"])
    # DDP takes the first process's weights, so the second may have others.
    task = initial(module, dtype, seed=0 if case.startswith("fsdp") else rank)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy=strategy(),
        precision=precision,
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    clips: Any = batches(rank, dtype)
    trainer.fit(task, DataLoader(clips, batch_size=None), ckpt_path=checkpoint, weights_only=True)
    whole = {k: getattr(x, "full_tensor", lambda x=x: x)() for k, x in task.state_dict().items()}
    torch.save(whole, folder / f"{result or case}-{rank}.pt")
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the two processes leave: a checkpoint of every case, and the weights of each."""
    folder = tmp_path_factory.mktemp("strategy")
    in_two_processes(train_all, folder)
    return folder


@pytest.fixture(scope="module")
def weights(folder):
    """Of every case, the weights that each of the two processes ends with."""
    names = (*CASES, "whole", *(f"{name} resumed" for name in RESUMED))
    return {name: [torch.load(folder / f"{name}-{rank}.pt") for rank in range(2)] for name in names}


def adversarial_alone():
    """One process: both shards' gradients, each of half the loss, then clipped, then the step."""
    task = initial(adversarial)
    predictor, discriminator = task.predictor, task.discriminator
    networks = (discriminator, predictor)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-2) for network in networks]
    for i, shards in enumerate(zip(batches(0), batches(1), strict=True)):
        step, batch = divmod(i, ACCUMULATE)
        keeps = [
            draw_keep(SAMPLING, BATCH, LENGTH, CONTEXT, step=step, batch=batch, rank=rank)
            for rank in range(2)
        ]
        for network, optimizer in zip(networks, optimizers, strict=True):
            for frames, keep in zip(shards, keeps, strict=True):
                truth, predicted = frames[:, 1:], predictor.rollout(frames, keep)
                (real, features), (fake, fake_features) = map(discriminator, (truth, predicted))
                if network is discriminator:
                    loss = discriminator_loss(real, fake)
                else:
                    loss = (predicted - truth).square().mean() + 0.5 * (
                        lp_loss(features.detach(), fake_features) + gan_loss(fake)
                    )
                (loss / 2 / ACCUMULATE).backward(inputs=list(network.parameters()))
            if batch == ACCUMULATE - 1:
                assert nn.utils.clip_grad_norm_(network.parameters(), CLIP) > CLIP
                optimizer.step()
                optimizer.zero_grad()
    return task


def branches_alone():
    task = initial(Branches)
    optimizer = task.configure_optimizers()
    for shards in zip(batches(0), batches(1), strict=True):
        optimizer.zero_grad()
        for rank, x in enumerate(shards):
            (task.loss(x, rank) / 2).backward()
        optimizer.step()
    return task


@pytest.mark.slow
@pytest.mark.parametrize("case", ["ddp", "step", "fsdp"])
def test_weights_are_those_of_one_process_with_both_shards(weights, case):
    start = initial(adversarial).state_dict()
    for name, weight in adversarial_alone().state_dict().items():
        torch.testing.assert_close(weights[case][0][name], weight, rtol=0, atol=1e-12)
        assert (weight - start[name]).abs().max() > 0.01, name  # it has moved much farther


@pytest.mark.slow
@pytest.mark.parametrize("case", RESUMED)
def test_sharded_training_resumes_exactly(weights, folder, case):
    assert (folder / f"{case}.ckpt").is_dir() == (case == "fsdp folder")
    for name, weight in weights["whole"][0].items():
        assert torch.equal(weights[f"{case} resumed"][0][name], weight)
        assert not torch.equal(weights[case][0][name], weight)


@pytest.mark.slow
def test_one_process_reads_the_file_of_a_sharded_training(weights, folder):
    task = initial(adversarial, seed=1)
    trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=folder)
    clips: Any = batches(0)
    loader = DataLoader(clips, batch_size=None)
    trainer.test(task, loader, ckpt_path=folder / "fsdp.ckpt", verbose=False, weights_only=True)
    for name, weight in weights["fsdp"][0].items():
        assert torch.equal(task.state_dict()[name], weight)


@pytest.mark.slow
def test_missing_gradients_count_as_zero_or_stay_missing(weights):
    start = initial(Branches).state_dict()
    for name, weight in branches_alone().named_parameters():
        torch.testing.assert_close(weights["branches"][0][name], weight.data, rtol=0, atol=1e-12)
        # What decays without a gradient has got one, of zeros.
        assert torch.equal(weight, start[name]) == name.startswith("none"), name


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_processes_end_with_the_same_finite_weights_and_buffers(weights, case):
    first, second = weights[case]
    for name, weight in first.items():
        assert weight.isfinite().all()
        assert torch.equal(weight, second[name]), name
