"""Training on one file of clips: what is read, what is changed at random, and exact resume."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DDPStrategy

from vidpred import cli
from vidpred.data import ClipsData, prepare
from vidpred.data.augment import DRAWS, augment
from vidpred.data.sources import Clip, Source, Split, array
from vidpred.random import permutation, uniform

EXAMPLES = sorted(
    file
    for name in ("clips", "high_resolution")
    for file in (Path(__file__).parents[1] / "examples" / name).glob("*.yaml")
)
CHANGES: dict[str, Any] = {
    "reversal": True,
    "horizontal_flip": True,
    "vertical_flip": True,
    "crop": (4, 5),
}


def frames(number: int, count: int):
    """Clip `number` counts in its pixels: no two of a batch's are alike."""
    shape = (count, 3, 6, 8)
    values = np.arange(np.prod(shape)).reshape(shape) // 144 * 7 + 40 * number
    noise = np.random.default_rng(number).integers(0, 40, shape)
    return iter(torch.from_numpy((values % 200 + noise).astype(np.uint8)))


class Decode:
    def __init__(self, number: int, count: int) -> None:
        self.arguments = number, count

    def __call__(self):
        return frames(*self.arguments)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plan: list[tuple[Split, int]] = [
        ("train", 9),
        ("train", 6),
        ("val", 8),
        ("test", 11),
        ("train", 3),
    ]
    clips = [
        Clip(str(n), split, [], Decode(n, count), n % 3) for n, (split, count) in enumerate(plan)
    ]
    source = Source(clips, length=4, classes=["a", "b", "c"])
    return prepare(source, tmp_path_factory.mktemp("clips") / "a.h5")


def truth(number: int, count: int, first: int, stop: int) -> torch.Tensor:
    return torch.stack([*frames(number, count)])[first:stop]


def test_windows(path: Path):
    data = ClipsData(path, stride=2)
    data.setup()
    sets: list[Any] = [data.train_set, data.val_set, data.test_set]
    train, val, test = map(list, sets)
    starts = [(0, 9, 0), (0, 9, 2), (0, 9, 4), (1, 6, 0), (1, 6, 2)]  # clip 4 is too short
    assert len(train) == 5
    for window, (number, count, first) in zip(train, starts, strict=True):
        assert torch.equal(window, truth(number, count, first, first + 4))
    assert torch.equal(torch.cat(val), truth(2, 8, 0, 8))  # one after another
    assert torch.equal(torch.cat(test), truth(3, 11, 0, 8))
    data = ClipsData(path, length=3, test_length=5)
    data.setup()
    sets = [data.train_set, data.val_set, data.test_set]
    assert [*map(len, sets)] == [7 + 4 + 1, 1, 2]
    assert data.test_set[1].shape == (5, 3, 6, 8)


def test_batches_with_labels(path: Path):
    data = ClipsData(path, batch_size=3, labels=True)
    data.setup("fit")
    expected = {}
    for number, count in ((0, 9), (1, 6)):
        for first in range(count - 3):
            expected[truth(number, count, first, first + 4).numpy().tobytes()] = number
    batches = [*data.train_dataloader()]
    assert all(isinstance(batch, tuple) for batch in batches)
    found = {
        window.numpy().tobytes(): int(label)
        for windows, labels in batches
        for window, label in zip(windows, labels, strict=True)
    }
    assert found == expected
    windows, labels = batches[0]
    floats, same = data.on_after_batch_transfer([windows, labels], 0)
    assert torch.equal(floats, windows.float() * (1 / 255))
    assert torch.equal(same, labels)


BAD = {
    "length": ({"length": 0}, "length must be at least 1 frame, got 0"),
    "stride": ({"stride": 0}, "stride must be at least 1 frame, got 0"),
    "too long": ({"length": 12}, r"a\.h5 has train clips of up to 9 frames, too short .* of 12"),
    "crop": (
        {"crop": (7, 8)},
        r"crop \(7, 8\) is not within .*a\.h5: expected 1x1 to \d+x\d+ pixels",
    ),
    "no crop": ({"crop": (0, 8)}, r"crop \(0, 8\) is not within"),
    "one crop": ({"crop": 4}, r"crop is \(height, width\), got 4"),
    "folder": ({"path": Path(__file__).parent}, "tests is a folder, expected a file of vidpred"),
    "workers": ({"num_workers": -1}, "num_workers must be 0 or more processes, got -1"),
    "missing": ({"path": "none.h5"}, r"no file none\.h5: vidpred data prepare writes it"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings(case: str, path: Path):
    settings, message = BAD[case]
    with pytest.raises((ValueError, OSError), match=message):
        ClipsData(**{"path": path, **settings}).setup("fit")


def test_no_clips_and_no_labels(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 8, 8), np.uint8))
    out = prepare(array(tmp_path / "a.npy", val_fraction=0), tmp_path / "a.h5")
    with pytest.raises(ValueError, match=r"a\.h5 has no val clips: prepare it with a share"):
        ClipsData(out).setup("validate")
    with pytest.raises(ValueError, match=r"a\.h5 has test clips without a label: set labels to"):
        ClipsData(out, labels=True).setup("test")


def test_parts_too_short_for_a_window_say_what_to_give(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((2, 20, 8, 8), np.uint8))
    given: Any = {"split_by": "time", "val_fraction": 0.1, "test_fraction": 0.3}
    out = prepare(array(tmp_path / "a.npy", length=8, **given), tmp_path / "a.h5", given)
    with pytest.raises(ValueError, match="has val clips of up to 2 frames") as error:
        ClipsData(out).setup("fit")
    assert str(error.value) == (
        f"{out} has val clips of up to 2 frames, too short for a window of 8: take a smaller "
        "test_length, or prepare it with longer clips or a larger --val_fraction"
    )
    with pytest.raises(ValueError, match=r"test_length, .* or a larger --test_fraction$"):
        ClipsData(out).setup("test")
    ClipsData(out, test_length=2).setup()
    with pytest.raises(ValueError, match=r"a smaller length, or prepare it with longer clips$"):
        ClipsData(out, length=21).setup("fit")


@pytest.mark.parametrize("change", ["reversal", "horizontal_flip", "vertical_flip"])
def test_each_change_of_a_clip_is_of_all_its_frames(change: str):
    clips = torch.rand(2, 3, 1, 4, 5)
    column = ["reversal", "horizontal_flip", "vertical_flip"].index(change)
    axis = [1, 4, 3][column]
    draws = torch.full((2, DRAWS), 0.9)
    draws[1, column] = 0.1
    wanted: dict[str, Any] = {change: True}
    changed = augment(clips, draws, **wanted)
    assert torch.equal(changed[0], clips[0])
    assert torch.equal(changed[1], clips.flip(axis)[1])
    assert torch.equal(augment(clips, draws), clips)


def test_crops_lie_anywhere_and_are_those_of_all_frames():
    image = torch.arange(6 * 8.0).view(6, 8)
    clips = torch.stack([image, image + 100]).expand(900, 2, 6, 8)[:, :, None]
    draws = torch.rand(900, DRAWS, generator=torch.Generator().manual_seed(0))
    draws[0, 3:], draws[1, 3:] = 0, 1 - 2**-24
    cropped = augment(clips, draws, crop=(4, 5))
    assert cropped.shape == (900, 2, 1, 4, 5)
    assert torch.equal(cropped[0, 0, 0], image[:4, :5])
    assert torch.equal(cropped[1, 0, 0], image[2:, 3:])
    assert torch.equal(cropped[:, 1], cropped[:, 0] + 100)
    counts = cropped[:, 0, 0, 0, 0].unique(return_counts=True)[1]
    assert len(counts) == 3 * 4
    assert counts.min() > 900 / 12 / 2


class Model(LightningModule):
    """Weights that depend on every pixel, on its place and on the order of the batches."""

    def __init__(self, fail_at: int | None = None) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.nn.Parameter(torch.rand(4, 3, 4, 5, generator=generator))
        self.fail_at = fail_at
        self.seen: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def training_step(self, batch, batch_idx: int) -> torch.Tensor:
        frames, labels = batch
        if self.global_step == self.fail_at:
            raise RuntimeError("power cut")
        self.seen.append(frames)
        return ((self.weight * frames).sum((1, 2, 3, 4)) - labels - 1).square().mean()

    def validation_step(self, batch, batch_idx: int) -> None:
        self.validated.append(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-3)


class Report(Callback):
    """Keeps what each process saw: a trainer brings back neither."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Model)
        seen = {"frames": torch.stack(pl_module.seen), "weight": pl_module.weight.detach()}
        torch.save(seen, self.folder / f"{trainer.global_rank}.pt")


def train(
    path: Path,
    folder: Path,
    workers=0,
    fail_at=None,
    ckpt_path=None,
    changes=CHANGES,
    max_steps=8,
    processes=1,
):
    data = ClipsData(path, 2, workers, labels=True, epoch_size=6, seed=3, **changes)
    saving: list[Callback] = [ModelCheckpoint(folder, every_n_train_steps=1, save_last=True)]
    model = Model(fail_at)
    ddp = DDPStrategy(start_method="fork", process_group_backend="gloo")
    trainer = Trainer(
        accelerator="cpu",
        devices=processes,
        strategy=ddp if processes > 1 else "auto",
        max_steps=max_steps,
        callbacks=[*saving, Report(folder)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=1,
    )
    trainer.fit(model, data, ckpt_path=ckpt_path, weights_only=True)
    return model


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(path: Path, tmp_path: Path, workers: int):
    whole = train(path, tmp_path / "whole")
    with pytest.raises(RuntimeError, match="power cut"):
        train(path, tmp_path / "part", workers, fail_at=4)  # within the second epoch
    rest = train(path, tmp_path / "rest", workers, ckpt_path=tmp_path / "part" / "last.ckpt")
    assert torch.equal(rest.weight, whole.weight)
    assert torch.equal(torch.stack(rest.seen), torch.stack(whole.seen[4:]))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_two_processes_share_the_clips_and_resume_exactly(path: Path, tmp_path: Path):
    """Sample number n of the training is one function of n, in whichever process."""
    data = ClipsData(path)
    data.setup("fit")
    windows: Any = data.train_set
    orders = torch.cat([permutation(len(windows), 3, pass_) for pass_ in range(4)])

    def sample(number: int) -> torch.Tensor:
        floats = windows[int(orders[number])][None].float() * (1 / 255)
        return augment(floats, uniform(3, 7, torch.tensor([number]), shape=(DRAWS,)), **CHANGES)[0]

    def seen(name: str) -> list[dict[str, torch.Tensor]]:
        files = [tmp_path / name / f"{rank}.pt" for rank in range(2)]
        return [torch.load(file, weights_only=True) for file in files]

    train(path, tmp_path / "whole", processes=2)
    whole = seen("whole")
    for rank, process in enumerate(whole):
        assert len(process["frames"]) == 8
        for batch, frames in enumerate(process["frames"]):
            first = (2 * batch + rank) * 2
            assert torch.equal(frames, torch.stack([sample(first), sample(first + 1)]))
    shares = [{int(orders[n]) for n in range(8) if n // 2 % 2 == rank} for rank in range(2)]
    assert len(shares[0] | shares[1]) == 8  # of the nine windows of a pass, none twice

    train(path, tmp_path / "part", processes=2, max_steps=3)  # within the second epoch
    train(path, tmp_path / "rest", processes=2, ckpt_path=tmp_path / "part" / "last.ckpt")
    for rest, before in zip(seen("rest"), whole, strict=True):
        assert torch.equal(rest["frames"], before["frames"][3:])
        assert torch.equal(rest["weight"], whole[0]["weight"])


def test_training_alone_is_changed_and_by_the_seed(path: Path, tmp_path: Path):
    model = train(path, tmp_path)
    assert {batch.shape for batch in model.seen} == {(2, 4, 3, 4, 5)}
    data = ClipsData(path, 2, epoch_size=6, seed=3)
    data.setup("fit")
    expected = truth(2, 8, 0, 8).view(2, 4, 3, 6, 8).float() * (1 / 255)
    assert torch.equal(model.validated[0], expected)
    cropped = [batch[..., :4, :5] / 255 for batch in data.train_dataloader()]
    assert not any(map(torch.equal, model.seen, cropped))
    other = train(path, tmp_path, changes={**CHANGES, "reversal": False})
    same = [
        torch.equal(*pair)
        for pair in zip(torch.cat(model.seen), torch.cat(other.seen), strict=True)
    ]
    assert 3 <= sum(same) <= 13  # of 16: one clip in two is not reversed


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    clips = np.random.default_rng(0).integers(0, 256, (10, 20, 32, 32, 3), np.uint8)
    np.save(tmp_path / "a.npy", clips)
    prepare(array(tmp_path / "a.npy"), tmp_path / "a.h5")
    tiny = {
        "data.path": tmp_path / "a.h5",
        "data.batch_size": 2,
        "data.num_workers": 0,
        "model.predictor.hidden_channels": 4,
        "model.predictor.layers": 1,
        "trainer.default_root_dir": tmp_path,
        "trainer.fast_dev_run": True,
    }
    if file.stem == "stgru":
        tiny["data.crop"] = [16, 16]
    if "discriminator:" in file.read_text():
        tiny["model.discriminator.downsamplings"] = 4
    options = [f"--{name}={value}" for name, value in tiny.items()]
    assert cli.main(["fit", "--config", str(file), *options]) == 0, capsys.readouterr().err
