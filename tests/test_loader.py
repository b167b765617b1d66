"""Batches are shared out exactly, and an interrupted training sees what it would have seen."""

import json
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import Dataset

from vidpred.data import EvaluationLoader, ResumableLoader, VideoData
from vidpred.random import permutation

SIZE, BATCH, SEED = 22, 4, 3


class Numbers(Dataset[Tensor]):
    """Sample i is the number i: a batch says which samples it holds."""

    def __len__(self) -> int:
        return SIZE

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor(float(index))


class WholeBatches(Numbers):
    """Makes a batch at once, as Moving MNIST does."""

    def __getitems__(self, indices: list[int]) -> Tensor:
        return torch.tensor(indices).float()


class Data(VideoData):
    def setup(self, stage: str | None = None) -> None:
        self.train_set = self.val_set = self.test_set = Numbers()


class Model(LightningModule):
    """Weights that depend on every batch and on their order."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, -1.0]))
        self.fail_at = fail_at
        self.trained: list[list[int]] = []
        self.validated: list[list[int]] = []

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        if self.global_step == self.fail_at:
            raise RuntimeError("power cut")
        self.trained.append(batch.int().tolist())
        return ((self.weight[0] * batch.cos() + self.weight[1] * batch.sin() - 1) ** 2).mean()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validated.append(batch.int().tolist())

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self.validation_step(batch, batch_idx)

    def predict_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return batch + 0.5

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class EpochEnd(ModelCheckpoint):
    """Under a name of its own: Lightning refuses two callbacks it cannot tell apart."""


class ValidationEnd(ModelCheckpoint):
    """The same."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    yield
    logger.setLevel(level)


def trainer(folder: Path, callbacks: list[Callback], **settings) -> Trainer:
    return Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        callbacks=callbacks,
        **settings,
    )


def fit(folder: Path, model: Model, workers: int = 0, callbacks=(), resume=None, **settings):
    data = Data(batch_size=BATCH, num_workers=workers, seed=SEED)
    trainer(folder, list(callbacks), **settings).fit(
        model, datamodule=data, ckpt_path=resume, weights_only=True
    )
    return model


def stream(batches: int, batch_size: int = BATCH) -> list[list[int]]:
    """The batches a training should see, from the definition: passes in random orders."""
    passes = -(-batches * batch_size // SIZE)
    samples = torch.cat([permutation(SIZE, SEED, number) for number in range(passes)])
    return samples[: batches * batch_size].view(batches, batch_size).tolist()


LIMITS = [
    {"max_epochs": 3},
    {"max_steps": 18},
    {"max_epochs": 3, "limit_val_batches": 0},
    {"max_steps": 18, "limit_val_batches": 0},
    {"max_epochs": 3, "val_check_interval": 2},
    {"max_epochs": 3, "limit_train_batches": 4},
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("workers", "limits"), [(0, limits) for limits in LIMITS] + [(2, LIMITS[0]), (2, LIMITS[1])]
)
def test_resumed_training_equals_the_uninterrupted(tmp_path: Path, workers: int, limits: dict):
    save = {"save_top_k": -1, "auto_insert_metric_name": False}
    steps = ModelCheckpoint(tmp_path / "steps", "{step}", every_n_train_steps=1, **save)
    epochs = EpochEnd(tmp_path / "epochs", "{step}", save_on_train_epoch_end=True, **save)
    checks = ValidationEnd(tmp_path / "checks", "{step}", save_on_train_epoch_end=False, **save)
    whole = fit(tmp_path, Model(), workers, [steps, epochs, checks], **limits)
    assert whole.trained == stream(len(whole.trained))

    # Within an epoch early and late, at its end, and after a validation.
    files = [tmp_path / "steps" / f"{step}.ckpt" for step in (1, 5, 8)]
    files += sorted((tmp_path / "epochs").glob("*.ckpt"))[:2]
    if limits.get("limit_val_batches") != 0:
        files += sorted((tmp_path / "checks").glob("*.ckpt"))[:2]
    assert len(files) >= 5
    for file in files if workers == 0 else files[1:4]:
        state = torch.load(file, weights_only=True)
        done = state["global_step"]
        assert state["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"batches": done}]
        resumed = fit(tmp_path, Model(), workers, resume=file, **limits)
        assert resumed.trained == whole.trained[done:], file
        assert torch.equal(resumed.weight, whole.weight), file


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_that_failed_is_trained_on_again(tmp_path: Path, workers: int):
    whole = fit(tmp_path, Model(), max_epochs=2)
    emergency = ModelCheckpoint(tmp_path, "stopped", save_on_exception=True)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(tmp_path, Model(fail_at=8), workers, [emergency], max_epochs=2)
    (file,) = tmp_path.glob("*stopped*.ckpt")
    assert torch.load(file, weights_only=True)["global_step"] == 8
    resumed = fit(tmp_path, Model(), workers, resume=file, max_epochs=2)
    assert resumed.trained == whole.trained[8:]
    assert torch.equal(resumed.weight, whole.weight)


@pytest.mark.parametrize(("overfit", "distinct"), [(2, 2), (0.5, 3)])
def test_overfitting_repeats_the_first_batches(tmp_path: Path, overfit: float, distinct: int):
    model = fit(tmp_path, Model(), max_epochs=2, overfit_batches=overfit)
    assert model.trained == stream(distinct) * 2


def test_evaluation_under_a_trainer(tmp_path: Path):
    data, model = Data(batch_size=5), Model()
    for evaluate in (Trainer.validate, Trainer.test):
        model.validated = []
        evaluate(trainer(tmp_path, []), model, datamodule=data, verbose=False)
        assert list(chain.from_iterable(model.validated)) == list(range(SIZE))
    predicted = trainer(tmp_path, []).predict(model, datamodule=data)
    assert predicted is not None
    assert [value for batch in predicted for value in batch] == [i + 0.5 for i in range(SIZE)]


class Report(Callback):
    """Each process writes down what it saw and what came out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Model)
        seen = {
            "trained": pl_module.trained,
            "validated": pl_module.validated,
            "weight": pl_module.weight.tolist(),
        }
        (self.folder / f"{trainer.global_rank}.json").write_text(json.dumps(seen))


def fit_on_two(folder: Path, injects_sampler: bool, callbacks=(), resume=None) -> list[dict]:
    folder.mkdir()
    fit(
        folder,
        Model(),
        callbacks=[Report(folder), *callbacks],
        resume=resume,
        devices=2,
        strategy=DDPStrategy(start_method="fork", process_group_backend="gloo"),
        use_distributed_sampler=injects_sampler,
        max_epochs=2,
        num_sanity_val_steps=0,
        check_val_every_n_epoch=2,
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_two_processes(tmp_path: Path):
    steps = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    # The loaders are right whether or not Lightning is told to put its own samplers in.
    whole = fit_on_two(tmp_path / "whole", injects_sampler=True, callbacks=[steps])
    batches = [a + b for a, b in zip(whole[0]["trained"], whole[1]["trained"], strict=True)]
    assert batches == stream(6, 2 * BATCH)
    assert whole[0]["weight"] == whole[1]["weight"]
    shares = [list(chain.from_iterable(seen["validated"])) for seen in whole]
    assert shares == [list(range(0, SIZE, 2)), list(range(1, SIZE, 2))]

    resume = tmp_path / "step=2.ckpt"
    resumed = fit_on_two(tmp_path / "resumed", injects_sampler=False, resume=resume)
    for before, after in zip(whole, resumed, strict=True):
        assert after["trained"] == before["trained"][2:]
        assert after["weight"] == before["weight"]


def numbers(batches) -> list[list[int]]:
    return [batch.int().tolist() for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_without_a_trainer(workers: int):
    def loader() -> ResumableLoader:
        return ResumableLoader(Numbers(), BATCH, seed=SEED, num_workers=workers)

    whole = loader()
    assert len(whole) == 6
    expected = stream(12)
    assert numbers(whole) + numbers(whole) == expected

    interrupted = loader()
    for _, batch in zip(range(3), interrupted, strict=False):
        assert batch.shape == (BATCH,)
    assert interrupted.state_dict() == {"batches": 3}
    resumed = loader()
    resumed.load_state_dict(interrupted.state_dict())
    assert numbers(resumed) == expected[3:9]


def test_every_pass_has_every_sample_once_in_another_order():
    loader = ResumableLoader(Numbers(), 11)
    first, second = (list(chain.from_iterable(numbers(loader))) for _ in range(2))
    assert sorted(first) == sorted(second) == list(range(SIZE))
    assert first != second
    assert list(chain.from_iterable(numbers(ResumableLoader(Numbers(), 11)))) == first
    assert list(chain.from_iterable(numbers(ResumableLoader(Numbers(), 11, seed=1)))) != first


def test_epochs_of_a_stream():
    loader = ResumableLoader(Numbers(), 4, epoch_size=10, shuffle=False)
    assert len(loader) == 3
    assert numbers(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert numbers(loader) == [[12, 13, 14, 15], [16, 17, 18, 19], [20, 21, 0, 1]]


def test_a_batch_may_be_larger_than_the_set():
    assert sorted(numbers(ResumableLoader(Numbers(), 2 * SIZE))[0]) == sorted([*range(SIZE)] * 2)


def test_a_whole_batch_is_passed_on_as_it_is():
    assert numbers(ResumableLoader(WholeBatches(), 8, shuffle=False))[0] == list(range(8))
    made = torch.arange(3.0)

    class Fixed(WholeBatches):
        def __getitems__(self, indices: list[int]) -> Tensor:
            return made

    assert next(iter(EvaluationLoader(Fixed(), 3))) is made


def test_loading_leaves_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    for workers in (0, 1):
        next(iter(ResumableLoader(Numbers(), 4, num_workers=workers)))
        next(iter(EvaluationLoader(Numbers(), 4, num_workers=workers)))
    assert torch.equal(torch.get_rng_state(), before)


class Draws(Numbers):
    def __getitem__(self, index: int) -> Tensor:
        return torch.rand(())


def test_workers_draw_anew_in_every_epoch():
    def epochs() -> list[Tensor]:
        loader = ResumableLoader(Draws(), 8, num_workers=1)
        return [torch.cat([*loader]) for _ in range(2)]

    first, second = epochs()
    assert not torch.isin(first, second).any()
    assert torch.equal(torch.stack(epochs()), torch.stack([first, second]))


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_visits_every_sample_once_in_order(workers: int):
    loader = EvaluationLoader(Numbers(), 5, workers)
    assert len(loader) == 5
    batches = numbers(loader)
    assert list(chain.from_iterable(batches)) == list(range(SIZE))
    assert [len(batch) for batch in batches] == [5, 5, 5, 5, 2]
    assert numbers(loader) == batches


THIRTY: Any = SimpleNamespace(global_rank=0, world_size=30)


class Empty(Numbers):
    def __len__(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ResumableLoader(Numbers(), 0), "batch_size must be at least 1, got 0"),
        (lambda: ResumableLoader(Numbers(), 4, epoch_size=0), "epoch_size must be at least 1"),
        (lambda: EvaluationLoader(Numbers(), -1), "batch_size must be at least 1, got -1"),
        (lambda: ResumableLoader(Empty(), 4), "Empty holds no samples"),
        (lambda: EvaluationLoader(Empty(), 4), "Empty holds no samples"),
        (
            lambda: EvaluationLoader(Numbers(), 4, trainer=THIRTY),
            f"{SIZE} .* cannot be shared among 30 processes: use fewer devices",
        ),
    ],
)
def test_bad_arguments(make, match: str):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_clips_of_different_shapes_are_no_batch(num_workers: int):
    clips: Any = [torch.zeros(5, 1, 8, 8), torch.zeros(4, 1, 8, 8)]
    loader = ResumableLoader(clips, batch_size=2, num_workers=num_workers)
    with pytest.raises(ValueError, match=r"differ in shape: \[\(4, 1, 8, 8\), \(5, 1, 8, 8\)\]"):
        next(iter(loader))
