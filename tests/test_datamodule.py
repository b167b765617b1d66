"""The Moving MNIST data module: splits apart, sizes as asked, built from the command line."""

import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.demos.boring_classes import BoringModel

from vidpred.data import FixedMovingMNIST, MovingMNIST, MovingMNISTData, VideoData, load_digits


def first_batch(loader) -> torch.Tensor:
    return next(iter(loader))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MNIST's files in small: one grey level for each split."""
    for name, levels in (("train", [50] * 11 + [100]), ("t10k", [200] * 3)):
        pixels = np.repeat(np.array(levels, np.uint8), 28 * 28)
        header = struct.pack(">4i", 0x803, len(levels), 28, 28)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(header + pixels.tobytes())
    return tmp_path


def test_batches():
    data = MovingMNISTData(
        batch_size=3, length=7, digits=3, canvas=(32, 48), epoch_size=10, val_size=5, test_size=4
    )
    data.setup()
    loaders = {
        "train": (data.train_dataloader(), [3, 3, 3, 3]),
        "val": (data.val_dataloader(), [3, 2]),
        "test": (data.test_dataloader(), [3, 1]),
        "predict": (data.predict_dataloader(), [3, 1]),
    }
    for name, (loader, sizes) in loaders.items():
        batches = list(loader)
        assert [batch.shape[0] for batch in batches] == sizes, name
        assert len(loader) == len(sizes)
        for batch in batches:
            assert batch.shape[1:] == (7, 1, 32, 48)
            assert batch.dtype == torch.uint8
            assert batch.min() == 0
            assert batch.max() > 200


@pytest.mark.parametrize("loader", ["train", "val", "test", "predict"])
def test_loaders_need_no_trainer(loader: str):
    batches = getattr(MovingMNISTData(batch_size=2, length=3), f"{loader}_dataloader")()
    assert first_batch(batches).shape == (2, 3, 1, 64, 64)


def test_a_loader_without_a_trainer_downloads_as_a_trainer_does(root: Path):
    class Downloading(MovingMNISTData):
        def prepare_data(self) -> None:
            self.root = root

    assert len(first_batch(Downloading(root / "none", batch_size=2).test_dataloader())) == 2


def test_a_trainer_gives_the_model_floats():
    data = VideoData()
    levels = torch.arange(256, dtype=torch.uint8)
    given = data.on_after_batch_transfer(levels, 0)
    assert given.dtype == torch.float32
    assert given[[0, -1]].tolist() == [0, 1]
    torch.testing.assert_close(given, levels / 255, rtol=1.2e-7, atol=0)
    ready = torch.rand(3, dtype=torch.float64)
    assert data.on_after_batch_transfer(ready, 0) is ready


def test_splits_have_their_own_digits(root: Path):
    data = MovingMNISTData(root, batch_size=8)
    data.setup()
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    levels = [first_batch(loader).unique().tolist() for loader in loaders]
    assert levels == [[0, 50], [0, 100], [0, 200]]


def test_splits_have_their_own_random_numbers():
    data = MovingMNISTData(seed=0)
    data.setup()
    same_digits = torch.zeros(3, 28, 28, dtype=torch.uint8)
    same_digits[:, 10, 10] = 255
    sequences = []
    for dataset in (data.train_set, data.val_set, data.test_set):
        assert isinstance(dataset, MovingMNIST)
        dataset.images = same_digits
        sequences.append(dataset.__getitems__(range(50)))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert not any(torch.equal(x, y) for x in sequences[a] for y in sequences[b])


def test_epochs_go_on_through_the_stream():
    data = MovingMNISTData(batch_size=2, length=2, epoch_size=4)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = torch.cat([*loader, *loader])
    stream = MovingMNIST(load_digits(None, "train"), length=2)
    assert torch.equal(epochs, stream.__getitems__(range(8)))


def test_the_seed_sets_the_training_sequences_only():
    batches = []
    for seed in (0, 1):
        data = MovingMNISTData(batch_size=2, seed=seed)
        data.setup()
        loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
        batches.append([first_batch(loader) for loader in loaders])
    assert [torch.equal(a, b) for a, b in zip(*batches, strict=True)] == [False, True, True]


@pytest.mark.parametrize(
    ("stage", "sets"),
    [
        ("fit", {"train_set", "val_set"}),
        ("validate", {"val_set"}),
        ("test", {"test_set"}),
        ("predict", {"test_set"}),
    ],
)
def test_a_stage_loads_what_it_needs(stage: str, sets: set[str]):
    data = MovingMNISTData()
    data.setup(stage)
    assert {name for name in vars(data) if name.endswith("_set")} == sets


def test_the_published_test_set(tmp_path: Path):
    frames = np.random.default_rng(0).integers(0, 256, (20, 3, 64, 64), dtype=np.uint8)
    path = tmp_path / "mnist_test_seq.npy"
    np.save(path, frames)
    data = MovingMNISTData(batch_size=2, test_sequences=path, num_workers=1)
    data.setup("test")
    assert isinstance(data.test_set, FixedMovingMNIST)
    batches = torch.cat(list(data.test_dataloader()))
    assert torch.equal(batches[:, :, 0], torch.tensor(frames).swapaxes(0, 1))

    for length, canvas in ((10, 64), (20, 32), (20, (64, 60))):
        with pytest.raises(ValueError, match="holds 20 frames of 64x64: set length=20") as caught:
            MovingMNISTData(test_sequences=path, length=length, canvas=canvas)
        assert "\n" not in str(caught.value)


def test_download_is_left_to_prepare_data(root: Path, monkeypatch: pytest.MonkeyPatch):
    asked = []
    monkeypatch.setattr(
        "vidpred.data.datamodule.load_digits", lambda *args, **kwargs: asked.append((args, kwargs))
    )
    MovingMNISTData(root).prepare_data()
    assert asked == []
    MovingMNISTData(root, download=True).prepare_data()
    assert asked == [((root, split), {"download": True}) for split in ("train", "test")]


def test_missing_digits(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        MovingMNISTData(tmp_path / "none").setup("fit")


def cli(*arguments: str) -> MovingMNISTData:
    built = LightningCLI(BoringModel, MovingMNISTData, run=False, args=list(arguments))
    assert isinstance(built.datamodule, MovingMNISTData)
    return built.datamodule


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_from_the_command_line(root: Path, tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("data:\n  canvas: [40, 50]\n  length: 5\n  batch_size: 2\n")
    data = cli("--config", str(file), "--data.root", str(root), "--data.batch_size", "3")
    assert (str(data.root), data.length, data.batch_size) == (str(root), 5, 3)
    data.setup("fit")
    assert first_batch(data.train_dataloader()).shape == (3, 5, 1, 40, 50)
    assert cli("--data.canvas", "48").canvas == 48
    assert cli("--data.root", "null").root is None
