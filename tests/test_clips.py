"""One file per data set: what is stored is what was decoded, whatever happened in between."""

import hashlib
import json
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from full_disk import error_on_a_full_disk
from processes import FORKED
from torch import Tensor
from torch.utils.data import DataLoader

from vidpred.data import ClipsFile, VideoWindows, check, prepare
from vidpred.data.hdf5 import dataset
from vidpred.data.sources import Clip, Source

LENGTH, SHAPE = 4, (3, 6, 8)
COLUMNS = ("name", "split", "start", "frames", "label", "sha256")
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


def test_a_clip_is_read_in_slices(source: Source, tmp_path: Path):
    (clip,) = ClipsFile(prepare(source, tmp_path / "a.h5")).clips("test")
    assert torch.equal(clip[1:9:3], torch.from_numpy(truth(3)[1:9:3]))
    with pytest.raises(TypeError, match=r"^a clip is read in slices, such as clip\[3:4\]; got 3$"):
        clip[3]  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"^a clip is read forwards, got a step of -1: flip "):
        clip[::-1]


def test_a_split_that_no_file_has_is_refused(source: Source, tmp_path: Path):
    trains = [clip for clip in source.clips if clip.split == "train"]
    file = ClipsFile(prepare(replace(source, clips=trains), tmp_path / "a.h5"))
    with pytest.raises(ValueError, match=r"^split must be one of train, val, test; got tst$"):
        file.clips("tst")  # pyright: ignore[reportArgumentType]
    assert file.clips("test") == []


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
        names = [*map("clips/{}".format, COLUMNS), "files/clip", "files/name", "files/sha256"]
        index = {name: file[name] for name in (*names, "classes")}
        for name, column in index.items():
            index[name] = (column.asstr() if column.dtype == object else column)[:].tolist()
        index |= {name: value for name, value in file.attrs.items() if name != "sha256"}
        text = json.dumps(index, sort_keys=True, default=int)
        assert file.attrs["sha256"] == hashlib.sha256(text.encode()).hexdigest()
        for start, count in zip(file["clips/start"], COUNTS, strict=True):
            stop = -(-(start + count) // LENGTH) * LENGTH
            assert not file["frames"][start + count : stop].any()


def test_frames_are_cut_and_scaled(source: Source, tmp_path: Path):
    path = prepare(replace(source, size=(3, 3)), tmp_path / "a.h5")
    centre = torch.from_numpy(truth(0))[..., 1:7].float()  # 6x8 loses a column at each side
    expected = torch.nn.functional.interpolate(centre, (3, 3), mode="bilinear", antialias=True)
    assert (clips(path)[0] - expected).abs().max() <= 1


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_equal_clips_give_equal_bytes(source: Source, tmp_path: Path, workers: int):
    one = prepare(source, tmp_path / "one.h5")
    time.sleep(1.1)  # HDF5 counts seconds
    two = prepare(source, tmp_path / "two.h5", workers=workers)
    assert one.read_bytes() == two.read_bytes()


def hang(path: Path) -> Iterator[Tensor]:
    yield from list(decode(path))[:3]
    (path.parent / "hangs").touch()
    time.sleep(600)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_preparation_goes_on(source: Source, tmp_path: Path, workers: int):
    *first, third, _ = source.clips
    stuck = replace(source, clips=[*first, replace(third, frames=partial(hang, third.files[0]))])
    out = tmp_path / "a.h5"
    process = FORKED.Process(target=prepare, args=(stuck, out, {}, workers))
    process.start()
    try:
        while not (tmp_path / "raw" / "hangs").exists():
            assert process.is_alive()
            time.sleep(0.01)
        while len([*out.with_name("a.h5.parts").glob("*.h5")]) < 2:  # a worker may still be at it
            time.sleep(0.01)
    finally:
        process.kill()
        process.join()
    assert not out.exists()
    # What is kept is not decoded again.
    nowhere = partial(decode, tmp_path / "nowhere.npy")
    kept = [replace(clip, frames=nowhere) for clip in first]
    assert prepare(replace(source, clips=[*kept, *source.clips[len(first) :]]), out, {}) == out
    assert_stored(out)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.h5", "raw"]


def interrupted(source: Source, out: Path, settings: dict[str, Any]) -> Path:
    """Stop at the last clip; return the folder of those that are kept."""
    *clips, last = source.clips
    broken = replace(last, frames=partial(decode, out.with_name("none.npy")))
    with pytest.raises(ValueError, match=r"none\.npy"):
        prepare(replace(source, clips=[*clips, broken]), out, settings)
    assert not out.exists()
    return out.with_name(f"{out.name}.parts")


def test_a_kept_clip_of_another_file_is_done_again(source: Source, tmp_path: Path):
    out = tmp_path / "a.h5"
    interrupted(source, out, {})
    changed = np.load(source.clips[0].files[0])[::-1]
    np.save(source.clips[0].files[0], changed)
    (first, *others) = clips(prepare(source, out, {}))
    assert torch.equal(first, torch.from_numpy(changed.copy()))
    assert all(torch.equal(x, torch.from_numpy(truth(n))) for n, x in enumerate(others, 1))


def test_a_kept_clip_that_was_damaged_is_done_again(source: Source, tmp_path: Path):
    out = tmp_path / "a.h5"
    kept = sorted(interrupted(source, out, {}).glob("*.h5"), key=lambda x: x.stat().st_size)
    assert len(kept) == 3
    damaged = bytearray(kept[0].read_bytes())
    row = truth(1)[1, 0, 2].tobytes()
    damaged[damaged.index(row)] ^= 1
    kept[0].write_bytes(damaged)
    kept[1].write_bytes(kept[1].read_bytes()[:-10])
    assert_stored(prepare(source, out, {}))


def test_other_settings_are_refused(source: Source, tmp_path: Path):
    out = tmp_path / "a.h5"
    parts = interrupted(source, out, {"fps": 10})
    with pytest.raises(ValueError, match=r"parts keeps clips .* with another fps, 10 instead"):
        prepare(source, out, {"fps": 25})
    with pytest.raises(ValueError, match="with another size, None instead of"):
        prepare(replace(source, size=(3, 3)), out, {"fps": 10})
    assert parts.exists()
    assert_stored(prepare(source, out, {"fps": 10}))


def some(path: Path, first: int) -> Iterator[Tensor]:
    return (frame for number, frame in enumerate(decode(path)) if number >= first)


def test_clips_that_are_decoded_otherwise_are_refused(source: Source, tmp_path: Path):
    out = tmp_path / "a.h5"
    firsts, seconds = (
        [replace(x, frames=partial(some, x.files[0], first)) for x in source.clips]
        for first in (0, 1)
    )
    parts = interrupted(replace(source, clips=firsts), out, {})
    for other in (source, replace(source, clips=seconds)):
        message = r"parts keeps 3 clips that the source has no more, or decodes otherwise: remove"
        with pytest.raises(ValueError, match=message):
            prepare(other, out)
    with pytest.raises(ValueError, match="with another protocol, 'as it is' instead of 'at 5 fps'"):
        prepare(replace(source, clips=firsts, protocol="at 5 fps"), out)
    # Where the files lie is of no account, nor is the split: it is that of the call that ends.
    parts.rename(tmp_path / "b.h5.parts")
    source.clips[0].files[0].parent.rename(tmp_path / "moved")
    files = [tmp_path / "moved" / x.files[0].name for x in firsts]
    clips = [
        replace(x, split="test", files=[file], frames=partial(some, file, 0))
        for x, file in zip(firsts, files, strict=True)
    ]
    file = ClipsFile(prepare(replace(source, clips=clips), tmp_path / "b.h5"))
    assert len(file.clips("test")) == 4
    assert check(file.path) == []


@pytest.mark.parametrize("content", ["", '{"si', "7", None])
def test_clips_of_which_nothing_is_known_are_refused(
    content: str | None, source: Source, tmp_path: Path
):
    record = interrupted(source, tmp_path / "a.h5", {}) / "settings.json"
    record.unlink() if content is None else record.write_text(content)
    message = rf"{record} is missing or damaged, .*: remove {record.parent} to begin anew"
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "a.h5")


def test_what_a_killed_process_has_left_is_no_clip(source: Source, tmp_path: Path):
    parts = interrupted(source, tmp_path / "a.h5", {"fps": 10})
    for part in parts.glob("*.h5"):
        part.rename(part.with_name(f".{part.stem}.0123.h5"))  # of a clip
    (parts / "a.h5").touch()  # of all of them
    assert_stored(prepare(source, tmp_path / "a.h5", {"fps": 25}))
    assert sorted(x.name for x in tmp_path.iterdir()) == ["a.h5", "raw"]


def test_settings_of_an_attempt_without_a_clip_bind_nobody(source: Source, tmp_path: Path):
    broken = replace(source.clips[0], frames=partial(decode, tmp_path / "none.npy"))
    with pytest.raises(ValueError, match=r"none\.npy[^;]*$"):
        prepare(replace(source, clips=[broken]), tmp_path / "a.h5", {"fps": 10})
    assert_stored(prepare(source, tmp_path / "a.h5", {"fps": 25}))


def test_one_damaged_clip_does_not_keep_the_others_from_it(source: Source, tmp_path: Path):
    for clip in source.clips[:2]:
        clip.files[0].write_bytes(clip.files[0].read_bytes()[:-1])
    message = r"^2 of 4 clips cannot be read: .*raw/0\.npy: .*; .*raw/1\.npy: .*"
    with pytest.raises(ValueError, match=message + r"; the clips .* kept in .*a\.h5\.parts$"):
        prepare(source, tmp_path / "a.h5")
    assert len([*(tmp_path / "a.h5.parts").glob("*.h5")]) == 2


def test_the_first_damaged_clips_are_named_and_where_no_clip_is_kept(
    source: Source, tmp_path: Path
):
    for clip in source.clips:
        clip.files[0].write_bytes(clip.files[0].read_bytes()[:-1])
    message = r"^4 of 4 clips cannot be read: .*0\.npy: .*; .*1\.npy: .*; .*2\.npy: [^;]*; \.\.\.$"
    with pytest.raises(ValueError, match=message):
        prepare(source, tmp_path / "a.h5")
    assert [x.name for x in tmp_path.iterdir()] == ["raw"]


def test_one_process_prepares_a_file(source: Source, tmp_path: Path):
    (first, *others), out = source.clips, tmp_path / "a.h5"
    stuck = replace(source, clips=[replace(first, frames=partial(hang, first.files[0])), *others])
    process = FORKED.Process(target=prepare, args=(stuck, out))
    process.start()
    try:
        while not (tmp_path / "raw" / "hangs").exists():
            assert process.is_alive()
            time.sleep(0.01)
        message = r"^another process prepares .*a\.h5: wait for it, or give another file$"
        with pytest.raises(BlockingIOError, match=message):
            prepare(source, out)
        assert [*out.with_name("a.h5.parts").glob(".*.h5")]  # which the other one writes
    finally:
        process.kill()
        process.join()
    assert_stored(prepare(source, out))  # the lock is gone with the process


@pytest.mark.parametrize(("limit", "where"), [(1000, r"parts/\w{32}\.h5"), (8000, r"parts/a\.h5")])
def test_a_full_disk(source: Source, tmp_path: Path, limit: int, where: str):
    kept = "" if limit == 1000 else "; the clips that are done are kept in .*parts"
    error = error_on_a_full_disk(limit, prepare, source, tmp_path / "a.h5")
    assert isinstance(error, OSError)
    assert re.search(f"{where} could not be written: File too large{kept}$", str(error))
    assert not (tmp_path / "a.h5").exists()
    assert (tmp_path / "a.h5.parts").exists() == bool(kept)
    assert not [*(tmp_path / "a.h5.parts").glob(".*")]
    assert_stored(prepare(source, tmp_path / "a.h5"))


def test_a_full_disk_ends_the_command_in_one_line(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((4, 5, 64, 64), np.uint8))
    code = (
        "import resource, sys; from vidpred import cli;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "data", "prepare", "array", "--source", "a.npy"]
    command += ["--out", "a.h5", "--workers", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=tmp_path)
    assert done.returncode == 2  # HDF5 alone would crash
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("vidpred")]
    assert line.startswith("vidpred: error: a.h5.parts/")
    assert "could not be written: File too large" in line


BAD_SOURCES: dict[str, tuple[dict[str, Any], str]] = {
    "no clips": ({"clips": None}, "the source has no clips"),
    "same names": ({"clips": "twice"}, "told apart by their names, but 2 are 'clip/0'"),
    "sizes": ({"clips": "sizes"}, r"clip/0 has frames .* of \(3, 6, 8\), clip/1 of \(3, 6, 7\)"),
    "changing size": ({"clips": "changing"}, r"0\.npy has frames .* then frame 1 of \(3, 6, 7\)"),
    "empty": ({"clips": "empty"}, r"0\.npy has no frames"),
    "channels": ({"clips": "two"}, r"0\.npy has 2 channels: expected 1 \(grey\) or 3 \(RGB\)"),
    "length": (
        {"length": 10**9},
        r"1000000000 frames .* of \(3, 6, 8\) are 144,000,000,000",
    ),
    "size": (
        {"size": (10**5, 10**5)},
        "more than the 4,294,967,295 that HDF5 stores in one piece",
    ),
}


def changing(path: Path) -> Iterator[Tensor]:
    for number, frame in enumerate(decode(path)):
        yield frame[..., : 8 - number]


def narrow(path: Path) -> Iterator[Tensor]:
    return (frame[..., :7] for frame in decode(path))


def two_channels(path: Path) -> Iterator[Tensor]:
    return (frame[:2] for frame in decode(path))


def nothing() -> Iterator[Tensor]:
    return iter(())


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_sources(case: str, source: Source, tmp_path: Path):
    first, second = source.clips[:2]
    clips: Any = {
        "twice": [first, first],
        "sizes": [first, replace(second, frames=partial(narrow, second.files[0]))],
        "changing": [replace(first, frames=partial(changing, first.files[0]))],
        "empty": [replace(first, frames=nothing)],
        "two": [replace(first, frames=partial(two_channels, first.files[0]))],
        None: [],
    }
    changes, message = BAD_SOURCES[case]
    if "clips" in changes:
        changes = {"clips": clips[changes["clips"]]}
    with pytest.raises(ValueError, match=message):
        prepare(replace(source, **changes), tmp_path / "a.h5")
    assert not (tmp_path / "a.h5").exists()


def test_a_file_is_not_overwritten(source: Source, tmp_path: Path):
    (tmp_path / "a.h5").write_text("dear")
    with pytest.raises(FileExistsError, match=r"a\.h5 is there already: remove it, or give"):
        prepare(source, tmp_path / "a.h5")
    assert (tmp_path / "a.h5").read_text() == "dear"


def change(name: str, value: Any):
    def damage(path: Path) -> None:
        content: Any = h5py.File(path, "r+")
        with content as file:
            if name in file.attrs:
                file.attrs[name] = value
            else:
                file[name][0] = value

    return damage


def remove(name: str):
    def damage(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            del file[name]

    return damage


def foreign(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["data"] = [1, 2, 3]


DAMAGE = {
    "missing": (Path.unlink, FileNotFoundError, r"no file .*a\.h5: vidpred data prepare"),
    "empty": (
        lambda path: path.write_bytes(b""),
        ValueError,
        "no sound file of vidpred data prepare: ",
    ),
    "text": (lambda path: path.write_text("no"), ValueError, "no sound file of vid"),
    "truncated": (
        lambda path: path.write_bytes(path.read_bytes()[:-50]),
        ValueError,
        r"a\.h5 is no sound file of vidpred data prepare: .*truncated file",
    ),
    "foreign": (
        foreign,
        ValueError,
        "no sound file of vidpred data prepare: its attribute format is None",
    ),
    "other": (change("format", "x"), ValueError, "its attribute format is 'x'"),
    "older": (change("version", 1), ValueError, "has layout 1, .* reads layout 2: prepare it"),
    "no index": (remove("clips/start"), ValueError, "a.h5 is no sound file.*: .*start"),
    "no frames": (remove("frames"), ValueError, "a.h5 is no sound file.*: .*frames"),
    "settings": (change("settings", "{'a"), ValueError, "a.h5 is no sound file.*: .*property name"),
    "no settings": (change("settings", "7"), ValueError, "a.h5 is no sound file.*: .*not iterable"),
    "text for a number": (change("length", "4"), ValueError, "its attribute length is '4'"),
    "length": (change("length", 5), ValueError, r"pieces of \(4, 3, 6, 8\), expected 5 frames"),
    "start": (change("clips/start", 4), ValueError, "its clips are not one after another"),
    "count": (change("clips/frames", 13), ValueError, "its clips are not one after another"),
    "split": (change("clips/split", "best"), ValueError, "unknown split 'best'"),
    "label": (change("clips/label", 2), ValueError, "a label is none of its classes"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_and_foreign_files(case: str, source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    damage, error, message = DAMAGE[case]
    damage(path)
    for read in (ClipsFile, check):
        with pytest.raises(error, match=message) as raised:
            read(path)
        assert "\n" not in str(raised.value)
        assert str(path) in str(raised.value)


def test_check_notices_a_single_bit(source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    content = bytearray(path.read_bytes())
    content[content.index(truth(2)[4, 1, 3].tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.h5 is no .*: clip clip/2 is not as it was written"):
        check(path)


INDEX = {  # to valid values, all of them
    "vidpred": "0.2",
    "protocol": "as it was",
    "settings": '{"fps": 10}',
    "classes": "c",
    "clips/name": "clip/9",
    "clips/split": "val",
    "clips/label": 1,
    "clips/sha256": "0" * 64,
    "files/clip": 1,
    "files/name": "9.npy",
    "files/sha256": "0" * 64,
    "sha256": "0" * 64,
}


@pytest.mark.parametrize("name", INDEX)
def test_check_notices_a_change_of_the_index(name: str, source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    change(name, INDEX[name])(path)
    with pytest.raises(ValueError, match=r"a\.h5 is no .*: its index is not as it was written"):
        check(path)


def test_check_notices_frames_after_the_last_one(source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    with h5py.File(path, "r+") as file:
        dataset(file, "frames")[11, 2, 5, 7] = 1
    with pytest.raises(ValueError, match="clip clip/0 is not as it was written"):
        check(path)


def test_readers_do_not_lock_one_another_out(source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    file = ClipsFile(path)
    (clip,) = file.clips("test")
    before = clip[:]
    with h5py.File(path) as other:
        assert dataset(other, "frames")[24:35].tolist() == before.tolist()
        assert torch.equal(ClipsFile(path).clips("test")[0][:], before)
    read = "import h5py, sys; print(len(h5py.File(sys.argv[1])['frames']))"
    command = [sys.executable, "-c", read, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.stderr) == ("36\n", "")


def test_a_lock_is_not_taken_for_damage(source: Source, tmp_path: Path):
    path = prepare(source, tmp_path / "a.h5")
    message = r"a\.h5 is open for writing, or with other locks: close it there$"
    with h5py.File(path, locking=False), pytest.raises(BlockingIOError, match=message):
        ClipsFile(path)
    write = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    command = [sys.executable, "-c", write, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        with pytest.raises(BlockingIOError, match=message):
            ClipsFile(path)
        writer.communicate(b"\n", timeout=300)
    assert_stored(path)


def test_check_remarks_on_what_looks_like_a_mistake(source: Source, tmp_path: Path):
    third, last = source.clips[2:]
    np.save(third.files[0], truth(0))
    np.save(last.files[0], np.full((3, *SHAPE), 7, np.uint8))
    path = prepare(source, tmp_path / "a.h5")
    assert check(path) == [
        "1 of 4 clips: the same as one of another split, such as clip/2",
        "1 of 4 clips: shorter than a sample of 4 frames, such as clip/3",
        "1 of 4 clips: blank, first frame and last, such as clip/3",
    ]


def test_compressed(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    # HDF5's own compression in the place of the one that hdf5plugin brings.
    plugin = SimpleNamespace(Zstd=lambda clevel: {"compression": "gzip"})
    monkeypatch.setitem(sys.modules, "hdf5plugin", plugin)
    path = prepare(source, tmp_path / "a.h5", compress=True)
    with h5py.File(path) as file:
        assert json.loads(str(file.attrs["settings"])) == {}
    assert_stored(path)


def test_zstd_without_the_plugin(source: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = prepare(source, tmp_path / "a.h5")
    monkeypatch.setitem(sys.modules, "hdf5plugin", None)
    message = r"zstd needs hdf5plugin: pip install 'vidpred\[zstd\]'"
    with pytest.raises(ImportError, match=message):
        prepare(source, tmp_path / "b.h5", compress=True)
    with h5py.File(path, "r+") as file:
        shape, chunks = (28 + 8, *SHAPE), (LENGTH, *SHAPE)
        del file["frames"]
        file.create_dataset(
            "frames", shape, np.uint8, chunks=chunks, compression=32015, allow_unknown_filter=True
        )
    with pytest.raises(ImportError, match=message):
        ClipsFile(path)


def test_a_window_reads_its_frames_alone(tmp_path: Path):
    frames, size = 300, 64 * 64
    np.save(tmp_path / "a.npy", np.zeros((frames, 1, 64, 64), np.uint8))
    clip = Clip("a", "test", [], partial(decode, tmp_path / "a.npy"))
    file = ClipsFile(prepare(Source([clip], length=100), tmp_path / "a.h5"))
    (stored,) = file.clips("test")

    def bytes_read() -> int:
        return int(Path("/proc/self/io").read_text().split()[1])

    assert stored[0:1].shape == (1, 1, 64, 64)  # the index of the pieces is read once
    assert stored[150:151].shape == (1, 1, 64, 64)
    for first, stop in ((0, 20), (60, 70), (95, 105)):
        before = bytes_read()
        stored[first:stop]
        assert bytes_read() - before < (stop - first) * size + 3000


@pytest.mark.parametrize("start", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_open_the_file_themselves(start: str, source: Source, tmp_path: Path):
    file = ClipsFile(prepare(source, tmp_path / "a.h5"))
    stored = file.clips("train")
    windows = VideoWindows(stored, LENGTH, labels=[clip.label for clip in stored])
    expected = [windows[n][0] for n in range(len(windows))]  # and so it is open here
    loader = DataLoader(windows, 3, num_workers=2, multiprocessing_context=start)
    frames, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(frames), torch.stack(expected))
    assert torch.cat(labels).tolist() == [0] * 6 + [1]
    assert torch.equal(windows[0][0], expected[0])


def test_a_pickle_holds_no_frames(source: Source, tmp_path: Path):
    file = ClipsFile(prepare(source, tmp_path / "a.h5"))
    first = file.clips("train")[0]
    assert torch.equal(pickle.loads(pickle.dumps(first))[:], first[:])
    assert len(pickle.dumps(first)) < 3000
