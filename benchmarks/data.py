"""Moving MNIST sequences per second, against the usual generator that draws frame by frame.

Both make training batches of sequences with two digits, 20 frames and a 64x64 canvas, on one core.
They take turns of a thousand sequences within one run; the medians are compared. The usual
generator draws in float32 and divides by 255. Ours draws bytes, which become floats on the model's
device; what that would take on this core is in the line "to float32". For comparison: the usual
generator kept in bytes, and the mere filling of a float32 batch with a constant.
"""

import argparse
import itertools
import math
import random
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from common import interleaved, machine, table
from torch import Tensor

from vidpred.data import MovingMNIST, load_digits

LENGTH, CANVAS, DIGIT, STEP = 20, 64, 28, 0.1
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


def turn(run: Callable[[], object], batches: int) -> None:
    """As a loader does: batch after batch, each dropped for the next."""
    for _ in range(batches):
        run()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder with MNIST's idx files (default: bundled digits)")
    parser.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=30, help="turns each (default: %(default)s)")
    arguments = parser.parse_args()
    size, rounds = arguments.batch_size, arguments.rounds
    if size < 1 or rounds < 1:
        parser.error(f"--batch-size and --rounds must be at least 1, got {size} and {rounds}")

    torch.set_num_threads(1)
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
