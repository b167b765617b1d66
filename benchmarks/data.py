"""How fast training data come: generated, or from a file.

``generator``: Moving MNIST sequences per second, against the usual generator that draws frame by
frame. Both make training batches of sequences with two digits, 20 frames and a 64x64 canvas, on one
core. They take turns of a thousand sequences within one run; the medians are compared. The usual
generator draws in float32 and divides by 255. Ours draws bytes, which become floats on the model's
device; what that would take on this core is in the line "to float32". For comparison: the usual
generator kept in bytes, and the mere filling of a float32 batch with a constant.

``file``: windows of 10 frames per second, at random places of clips of 20 RGB frames, 64x64, from a
file of vidpred data prepare; against decoding the same clips as mp4 files, from their first frame
to the window's last, and against HDF5 with gzip in chunks that h5py chooses. Then the peak memory
of a process that reads 1,000 windows, from files of two sizes. The clips are soft noise in motion,
and after the first turn all files are in the page cache.
"""

import argparse
import itertools
import math
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import h5py
import numpy as np
import torch
from common import interleaved, machine, peak_memory, table
from torch import Tensor
from torch.nn import functional as F

from vidpred.data import ClipsFile, MovingMNIST, load_digits, prepare, write_video
from vidpred.data.sources import Clip, Source

LENGTH, CANVAS, DIGIT, STEP = 20, 64, 28, 0.1
WINDOW = 10  # frames, of the LENGTH of a stored clip
TURN = 1024  # sequences: as many as ours plans at once, so that a turn has its share of planning


def plain_path() -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of one digit, a step at a time."""
    y, x, angle = random.random(), random.random(), 2 * math.pi * random.random()
    v_y, v_x = math.sin(angle), math.cos(angle)
    rows, columns = np.zeros(LENGTH), np.zeros(LENGTH)
    for t in range(LENGTH):
        y += v_y * STEP
        x += v_x * STEP
        if x <= 0 or x >= 1:
            x, v_x = min(max(x, 0.0), 1.0), -v_x
        if y <= 0 or y >= 1:
            y, v_y = min(max(y, 0.0), 1.0), -v_y
        rows[t], columns[t] = y, x
    free = CANVAS - DIGIT
    return (free * rows).astype(np.int32), (free * columns).astype(np.int32)


def plain_sequence(images: np.ndarray, dtype: type) -> Tensor:
    """One sequence, a digit and a frame at a time: what `__getitem__` usually does."""
    frames = np.zeros((LENGTH, CANVAS, CANVAS), dtype)
    for _ in range(2):
        rows, columns = plain_path()
        image = images[random.randint(0, len(images) - 1)]
        for t in range(LENGTH):
            top, left = rows[t], columns[t]
            part = frames[t, top : top + DIGIT, left : left + DIGIT]
            frames[t, top : top + DIGIT, left : left + DIGIT] = np.maximum(part, image)
    if dtype is np.float32:
        frames = frames / 255.0
    return torch.from_numpy(frames[:, None]).contiguous()


def moving_noise(clip: int, size: int) -> Iterator[Tensor]:
    """Twenty frames of a picture that moves: as hard to compress as a soft photograph."""
    random = torch.Generator().manual_seed(clip)
    picture = torch.rand(1, 3, size // 2, size // 2, generator=random)
    picture = F.interpolate(picture, scale_factor=4, mode="bicubic").clamp(0, 1).mul(255).byte()[0]
    for t in range(LENGTH):
        yield picture[:, t : t + size, 2 * t : 2 * t + size]


def stored(folder: Path, clips: int, size: int, compress: bool = False) -> Path:
    """A file of clips."""
    items = [
        Clip(f"{clip:05d}", "train", [], partial(moving_noise, clip % 300, size))
        for clip in range(clips)
    ]
    out = folder / f"{clips}{'-zstd' if compress else ''}.h5"
    return prepare(Source(items, LENGTH), out, compress=compress)


def read_windows(path: Path, places: Sequence[tuple[int, int]]) -> None:
    clips = ClipsFile(path).clips("train")
    for clip, first in places:
        clips[clip][first : first + WINDOW]


def decode_windows(folder: Path, places: Sequence[tuple[int, int]]) -> None:
    for clip, first in places:
        with av.open(folder / f"{clip}.mp4") as file:
            file.streams.video[0].thread_type = "NONE"  # a clip is short, and this is one core
            frames = islice(file.decode(video=0), first, first + WINDOW)
            torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in frames])


def unpack_windows(path: Path, places: Sequence[tuple[int, int]]) -> None:
    with h5py.File(path) as file:
        clips: Any = file["clips"]
        for clip, first in places:
            torch.from_numpy(clips[clip, first : first + WINDOW])


def compare_files(rounds: int, clips: int = 300, size: int = 64) -> None:
    """Print windows per second of each way to store clips, and the memory that ours takes."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for clip in range(clips):
            with write_video(folder / f"{clip}.mp4", fps=10) as write:
                for t, frame in enumerate(moving_noise(clip, size)):
                    write(frame, Fraction(t, 10))
        with h5py.File(folder / "gzip.h5", "w") as file:
            content = np.stack([np.stack([*moving_noise(clip, size)]) for clip in range(clips)])
            file.create_dataset("clips", data=content, compression="gzip")
        random = np.random.default_rng(0)
        places = [*zip(*random.integers(0, (clips, LENGTH - WINDOW + 1), (TURN, 2)).T, strict=True)]
        places = [(int(clip), int(first)) for clip, first in places]
        few = places[: TURN // 16]  # where a turn would take long
        runs = {
            "mp4, decoded": (decode_windows, folder, few),
            "HDF5, gzip, h5py's chunks": (unpack_windows, folder / "gzip.h5", few),
            "vidpred": (read_windows, stored(folder, clips, size), places),
        }
        if find_spec("hdf5plugin"):
            runs["vidpred, zstd"] = (read_windows, stored(folder, clips, size, True), places)
        seconds = interleaved(
            {name: partial(run, *given) for name, (run, *given) in runs.items()}, rounds
        )
        speed = {name: len(runs[name][2]) / taken for name, taken in seconds.items()}
        megabytes = {name: path.stat().st_size / 1e6 for name, (_, path, _) in runs.items()}
        megabytes["mp4, decoded"] = sum(x.stat().st_size for x in folder.glob("*.mp4")) / 1e6
        print(
            table(
                [
                    {
                        "clips in": name,
                        "MB": megabytes[name],
                        "windows/s": round(windows),
                        "vidpred's ratio": speed["vidpred"] / windows,
                    }
                    for name, windows in speed.items()
                ]
            )
        )
        rows = []
        for path in (stored(folder, clips // 3, size), stored(folder, 16 * clips, size)):
            last = int(path.stem) - 1
            spread = [(last * n // 999, n % (LENGTH - WINDOW)) for n in range(1000)]
            memory = peak_memory(read_windows, path, spread) * 1000
            rows.append({"file, MB": path.stat().st_size / 1e6, "peak memory, MB": memory})
        print(table(rows))


def turn(run: Callable[[], object], batches: int) -> None:
    """As a loader does: batch after batch, each dropped for the next."""
    for _ in range(batches):
        run()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "what",
        nargs="?",
        default="generator",
        choices=["generator", "file"],
        help="default: %(default)s",
    )
    parser.add_argument("--root", help="folder with MNIST's idx files (default: bundled digits)")
    parser.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, help="turns each (default: %(default)s)")
    arguments = parser.parse_args()
    size, rounds = arguments.batch_size, arguments.rounds
    if size < 1 or rounds < 1:
        parser.error(f"--batch-size and --rounds must be at least 1, got {size} and {rounds}")
    return arguments


def main() -> None:
    arguments = parse()
    size, rounds = arguments.batch_size, arguments.rounds
    torch.set_num_threads(1)
    if arguments.what == "file":
        print(f"{machine()}; medians of {rounds}")
        compare_files(rounds)
        return
    random.seed(0)
    images = load_digits(arguments.root, "train")
    pixels = images.numpy()
    dataset = MovingMNIST(images, sequences=sys.maxsize)
    blank = torch.empty(size, LENGTH, 1, CANVAS, CANVAS)

    def plain(dtype: type) -> Callable[[], object]:
        return lambda: torch.stack([plain_sequence(pixels, dtype) for _ in range(size)])

    turns = itertools.count()

    def ours() -> Tensor:
        first = size * next(turns)
        return dataset.__getitems__(range(first, first + size))

    usual = "frame by frame"
    rows = {
        usual: plain(np.float32),
        "frame by frame, in bytes": plain(np.uint8),
        "vidpred": ours,
        "vidpred, to float32": lambda: ours().float().mul_(1 / 255),
        "filling floats": lambda: blank.fill_(0.5),
    }
    batches = -(-TURN // size)
    seconds = interleaved({name: partial(turn, run, batches) for name, run in rows.items()}, rounds)
    print(f"{machine()}; batches of {size}, medians of {rounds}")
    print(
        table(
            [
                {
                    "generator": name,
                    "sequences/s": round(batches * size / taken),
                    "ratio": seconds[usual] / taken,
                }
                for name, taken in seconds.items()
            ]
        )
    )


if __name__ == "__main__":
    main()
