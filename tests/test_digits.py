"""Digits: where they come from, how they are split, and what a damaged file says."""

import gzip
import struct
from pathlib import Path
from typing import Literal

import pytest
import torch

from vidpred.data import load_digits

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"


def images(count: int, first: int = 0) -> torch.Tensor:
    """Images that can be told apart: every pixel holds the image's number."""
    return torch.arange(first, first + count, dtype=torch.uint8)[:, None, None].expand(-1, 28, 28)


def idx(count: int, first: int = 0, magic: int = 0x803, shape: tuple[int, ...] = (28, 28)) -> bytes:
    header = struct.pack(">4i", magic, count, *shape)
    return header + images(count, first).contiguous().numpy().tobytes()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / TRAIN).write_bytes(idx(60))
    (tmp_path / f"{TEST}.gz").write_bytes(gzip.compress(idx(7, first=100)))
    return tmp_path


def test_splits_of_a_folder(root: Path):
    assert torch.equal(load_digits(root, "train"), images(55))
    assert torch.equal(load_digits(str(root), "val"), images(5, first=55))
    assert torch.equal(load_digits(root, "test"), images(7, first=100))


def test_mnist_holds_out_its_last_five_thousand(tmp_path: Path):
    pixels = torch.zeros(60_000, 784, dtype=torch.uint8)
    pixels[55_000:] = 1
    content = struct.pack(">4i", 0x803, 60_000, 28, 28) + pixels.numpy().tobytes()
    (tmp_path / TRAIN).write_bytes(content)
    train, val = load_digits(tmp_path, "train"), load_digits(tmp_path, "val")
    assert (len(train), len(val)) == (55_000, 5_000)
    assert train.max() == 0
    assert val.min() == 1


def test_torchvision_layout(root: Path, tmp_path_factory: pytest.TempPathFactory):
    other = tmp_path_factory.mktemp("torchvision")
    (other / "MNIST").mkdir()
    root.rename(other / "MNIST" / "raw")
    assert torch.equal(load_digits(other, "train"), images(55))


def test_digits_can_be_written_to(root: Path):
    digits = load_digits(root, "train")
    digits[0] = 3
    assert digits[0, 0, 0] == 3


def test_bundled_digits():
    splits = {split: load_digits(None, split) for split in ("train", "val", "test")}
    assert [len(digits) for digits in splits.values()] == [1499, 149, 149]
    for digits in splits.values():
        assert digits.shape[1:] == (28, 28)
        assert digits.dtype == torch.uint8
        assert digits.max() == 255
        # Ink in the middle, background on the rim, as in MNIST.
        ink = digits.float().mean(0)
        assert ink[8:20, 8:20].mean() > 80
        assert ink[[0, -1]].max() < 3
    unique = {digit.numpy().tobytes() for digits in splits.values() for digit in digits}
    assert len(unique) == 1797


def test_bundled_digits_are_the_scaled_originals():
    from sklearn import datasets

    pixels, _ = datasets.load_digits(return_X_y=True)
    originals = torch.as_tensor(pixels).reshape(-1, 8, 8)
    digits = torch.cat([load_digits(None, split) for split in ("train", "val", "test")])
    small = torch.nn.functional.adaptive_avg_pool2d(digits[:, None].double(), 10)[:, 0, 1:-1, 1:-1]
    pairs = torch.stack((small.flatten(1), originals.flatten(1)), 1)
    assert min(torch.corrcoef(pair)[0, 1] for pair in pairs) > 0.9


def fails(
    root: Path, kind: type[Exception], match: str, split: Literal["train", "test"] = "train"
) -> None:
    with pytest.raises(kind, match=match) as caught:
        load_digits(root, split)
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value)


def test_missing(tmp_path: Path):
    fails(tmp_path / "none", FileNotFoundError, "no folder .*: expected MNIST's idx files there")
    fails(tmp_path, FileNotFoundError, f"no file {TRAIN} or {TRAIN}.gz in")
    (tmp_path / TRAIN).write_bytes(idx(60))
    fails(tmp_path, FileNotFoundError, f"no file {TEST}", split="test")


def test_arguments():
    with pytest.raises(ValueError, match="split 'valid' is unknown: use one of train, val, test"):
        load_digits(None, "valid")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="needs a folder"):
        load_digits(None, "train", download=True)


GOOD = gzip.compress(idx(60), mtime=0)  # or the clock would be in the names of the tests


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (TRAIN, b"", "holds 0 bytes, less than an idx header of 16"),
        (TRAIN, idx(60)[:10], "holds 10 bytes"),
        (TRAIN, idx(60, magic=0x801), "starts with 0x00000801, expected 0x00000803"),
        (TRAIN, idx(60)[:-1], "holds 47039 pixels, its header declares 47040"),
        (TRAIN, idx(60) + b"x", "holds 47041 pixels"),
        (TRAIN, idx(60, shape=(20, 20)), "60 images of 20x20, expected at least 2 of 28x28"),
        (TRAIN, idx(0), "0 images of 28x28"),
        (TRAIN, struct.pack(">4i", 0x803, -1, 28, 28), "-1 images"),
        (f"{TRAIN}.gz", b"", "holds 0 bytes"),
        (f"{TRAIN}.gz", b"<html>not found</html>", "truncated or not gzip"),
        (f"{TRAIN}.gz", GOOD[:-20], "truncated or not gzip"),
        (f"{TRAIN}.gz", GOOD[:5], "truncated or not gzip"),
        (f"{TRAIN}.gz", GOOD[:40] + b"\xff" * 30 + GOOD[70:], "truncated or not gzip"),
        (f"{TRAIN}.gz", gzip.compress(idx(60)[:-5], mtime=0), "holds 47035 pixels"),
    ],
)
def test_damaged_file(tmp_path: Path, name: str, content: bytes, match: str):
    (tmp_path / name).write_bytes(content)
    fails(tmp_path, ValueError, match)
    fails(tmp_path, ValueError, name)


def test_download_is_asked_for_only_when_files_are_missing(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
):
    calls = []

    def mnist(folder: str, train: bool, download: bool) -> None:
        calls.append((folder, train, download))
        raw = Path(folder) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        (raw / TRAIN).write_bytes(idx(24, first=1))

    monkeypatch.setattr("torchvision.datasets.MNIST", mnist)
    assert torch.equal(load_digits(root, "train", download=True), images(55))
    assert calls == []
    empty = tmp_path / "new"
    assert torch.equal(load_digits(empty, "train", download=True), images(22, first=1))
    assert calls == [(str(empty), True, True)]


def test_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def mnist(*_: object, **__: object) -> None:
        raise RuntimeError("Error\ndownloading")

    monkeypatch.setattr("torchvision.datasets.MNIST", mnist)
    with pytest.raises(FileNotFoundError, match=r"could not be downloaded to .*: Error down"):
        load_digits(tmp_path, "train", download=True)
