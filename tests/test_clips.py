"""One file per data set: what is stored is what was decoded, whatever happened in between."""

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from torch import Tensor

from vidpred.data import ClipsFile, check, prepare
from vidpred.data.sources import Clip, Source

LENGTH, SHAPE = 4, (3, 6, 8)
SPLITS = ("train", "train", "val", "test")
COUNTS = (9, 4, 6, 11)  # frames of the clips: whole pieces and broken ones


def decode(path: Path) -> Iterator[Tensor]:
    return iter(torch.from_numpy(np.load(path)))


def truth(number: int) -> np.ndarray:
    random = np.random.default_rng(number)
    return random.integers(0, 256, (COUNTS[number], *SHAPE), dtype=np.uint8)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    folder = tmp_path / "raw"
    folder.mkdir()
    clips = []
    for number, split in enumerate(SPLITS):
        path = folder / f"{number}.npy"
        np.save(path, truth(number))
        clips.append(Clip(f"clip/{number}", split, [path], partial(decode, path), number % 2))
    return Source(clips, LENGTH, classes=["a", "b"], protocol="as it is")


def clips(path: Path) -> list[Tensor]:
    """All clips of a file, by number."""
    file = ClipsFile(path)
    return [clip[:] for split in ("train", "val", "test") for clip in file.clips(split)]


def assert_stored(path: Path) -> None:
    for number, clip in enumerate(clips(path)):
        assert torch.equal(clip, torch.from_numpy(truth(number)))
    assert check(path) == []


def test_what_is_stored_is_what_was_decoded(source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5", {"data": "mine", "size": (6, 8)})
    assert_stored(path)
    assert [x.name for x in tmp_path.iterdir() if x.name.startswith((".", "a"))] == ["a.h5"]
    file = ClipsFile(path)
    assert (file.length, file.shape, file.classes) == (LENGTH, SHAPE, ("a", "b"))
    assert (file.protocol, file.settings) == ("as it is", {"data": "mine", "size": [6, 8]})
    assert [clip.label for clip in file.clips("train")] == [0, 1]
    assert torch.equal(file.clips("test")[0][3:8], torch.from_numpy(truth(3)[3:8]))
    assert file.clips("test")[0][5:2].shape == (0, *SHAPE)


def test_the_layout_is_as_documented(source: Source, tmp_path: Path):
    content: Any = h5py.File(prepare(source, tmp_path / "a.h5"))
    with content as file:
        assert dict(file.attrs)["format"] == "vidpred clips"
        assert file["frames"].chunks == (LENGTH, *SHAPE)
        assert file["frames"].compression is None
        assert file["clips/start"][:].tolist() == [0, 12, 16, 24]
        assert file["clips/frames"][:].tolist() == list(COUNTS)
        assert file["clips/name"].asstr()[:].tolist() == [f"clip/{n}" for n in range(4)]
        assert file["clips/split"].asstr()[:].tolist() == list(SPLITS)
        digests = [hashlib.sha256(truth(n).tobytes()).hexdigest() for n in range(4)]
        assert file["clips/sha256"].asstr()[:].tolist() == digests
        assert file["files/name"].asstr()[:].tolist() == [f"{n}.npy" for n in range(4)]
        digest = hashlib.sha256((tmp_path / "raw" / "2.npy").read_bytes()).hexdigest()
        assert file["files/sha256"].asstr()[2] == digest
        for start, count in zip(file["clips/start"], COUNTS, strict=True):
            stop = -(-(start + count) // LENGTH) * LENGTH
            assert not file["frames"][start + count : stop].any()
