"""Moving MNIST sequences per second, against the usual generator that draws frame by frame.

Both make training batches of sequences with two digits, 20 frames and a 64x64 canvas, on one core.
They take turns within one run; the medians are compared. Two outputs are measured: float32 in
[0, 1], as models take it, and uint8, as both draw it. The line "write only" fills a float32 batch
with a constant: no generator can be faster on this machine.
"""

import argparse
import math
import platform
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vidpred.data import MovingMNIST, load_digits

LENGTH, CANVAS, DIGIT, STEP = 20, 64, 28, 0.1


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


def measure(makers: dict[str, Callable[[int], object]], rounds: int) -> dict[str, float]:
    """Median seconds of a call of each maker; they take turns, each told the turn's number."""
    seconds: dict[str, list[float]] = {name: [] for name in makers}
    for turn in range(rounds + 2):
        for name, make in makers.items():
            start = time.perf_counter()
            make(turn)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[2:]) for name, taken in seconds.items()}  # 2 to warm up


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", help="folder with MNIST's idx files (default: bundled digits)")
    parser.add_argument("--batch-size", type=int, default=16, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=200, help="turns each (default: %(default)s)")
    arguments = parser.parse_args()
    size, rounds = arguments.batch_size, arguments.rounds
    if size < 1 or rounds < 1:
        parser.error(f"--batch-size and --rounds must be at least 1, got {size} and {rounds}")

    torch.set_num_threads(1)
    images = load_digits(arguments.root, "train")
    pixels = images.numpy()
    dataset = MovingMNIST(images, sequences=size * (rounds + 2))
    blank = torch.empty(size, LENGTH, 1, CANVAS, CANVAS)

    def plain(dtype: type) -> Callable[[int], object]:
        return lambda _: torch.stack([plain_sequence(pixels, dtype) for _ in range(size)])

    def ours(draw: Callable[[range], Tensor]) -> Callable[[int], object]:
        return lambda turn: draw(range(turn * size, (turn + 1) * size))

    rows = {
        "float32, frame by frame": plain(np.float32),
        "float32, vidpred": ours(dataset.__getitems__),
        "float32, write only": lambda _: blank.fill_(0.5),
        "uint8, frame by frame": plain(np.uint8),
        "uint8, vidpred": ours(dataset.frames),
    }
    seconds = measure(rows, rounds)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {processor()}, "
        f"one thread, batches of {size}, medians of {rounds}"
    )
    print(f"{'':24}{'sequences/s':>12}{'ratio':>8}")
    for name, taken in seconds.items():
        reference = seconds[f"{name.split(',')[0]}, frame by frame"]
        print(f"{name:24}{size / taken:12,.0f}{reference / taken:8.1f}")


if __name__ == "__main__":
    main()
