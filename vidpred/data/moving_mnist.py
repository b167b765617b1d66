"""Moving MNIST: handwritten digits that bounce about a canvas (Srivastava et al., ICML 2015)."""

import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vidpred.random import uniform

# Validation and test sequences are the same in every run, whatever its seed.
STREAMS = {"train": 0, "val": 1, "test": 2}

_STEP = 0.1  # way covered in a step, as a share of the free span
_AHEAD = 1024  # sequences planned at once: more would leave the cache


def trajectory(start: np.ndarray, angle: np.ndarray, length: int) -> np.ndarray:
    """Positions of points that move at constant speed and bounce off the walls of a unit square.

    A step adds 0.1 (sin angle, cos angle). A point that reaches a wall stops on it, and its
    velocity across that wall flips. The first position is the one after the first step. All this
    as published.

    Args:
        start: `(..., 2)`, row and column before the first step, in [0, 1).
        angle: `(...)`, direction in radians.
        length: Number of steps, at least 1.

    Returns:
        `(length, ..., 2)`, in [0, 1]: row and column.

    Example:
        >>> trajectory(np.array([0.5, 0.8]), np.array(0.0), 4).round(6)
        array([[0.5, 0.9],
               [0.5, 1. ],
               [0.5, 0.9],
               [0.5, 0.8]])
    """
    velocity = _STEP * np.stack((np.sin(angle), np.cos(angle)), axis=-1)
    path = np.empty((length, *start.shape))
    position = start
    for step in range(length):
        moved = position + velocity
        at_wall = (moved <= 0) | (moved >= 1)
        velocity = np.where(at_wall, -velocity, velocity)
        position = moved.clip(0, 1, out=path[step])
    return path


def render(images: np.ndarray, corner: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Draw moving images on a black canvas; where they overlap the brighter pixel shows.

    Args:
        images: uint8 `(B, N, h, w)`, the N images of each sequence.
        corner: int64 `(B, N, T)`, the pixel of each frame that the first pixel of each image is
            drawn on, counted row by row; no image may leave the canvas.
        canvas: Height H and width W of the frames.

    Returns:
        uint8 `(B, T, 1, H, W)`.

    Example:
        >>> dot = np.full((1, 1, 1, 1), 255, np.uint8)
        >>> render(dot, np.array([[[0, 2]]]), (1, 3)).squeeze()
        array([[255,   0,   0],
               [  0,   0, 255]], dtype=uint8)
    """
    batch, number, length = corner.shape
    (h, w), (height, width) = images.shape[2:], canvas
    # With its rows a canvas width apart, an image is one contiguous piece of a frame: drawing is a
    # plain copy. (NumPy's: torch will not write to pieces that overlap.)
    piece = (h - 1) * width + w
    wide = np.zeros((batch, number, 1, h, width), np.uint8)
    wide[..., :w] = images[:, :, None]
    wide = wide.reshape(batch, number, 1, h * width)[..., :piece]
    frames = np.zeros((batch, length, 1, height, width), np.uint8)
    shape = (frames.size - piece + 1, piece)
    pieces = np.ndarray(shape, np.uint8, buffer=frames, strides=(1, 1))
    frame = np.arange(0, frames.size, height * width).reshape(batch, 1, length)
    start = corner + frame
    pieces[start[:, 0]] = wide[:, 0]
    for n in range(1, number):
        drawn = pieces[start[:, n]]
        pieces[start[:, n]] = np.maximum(drawn, wide[:, n], out=drawn)
    return frames


class MovingMNIST(Dataset[Tensor]):
    """Sequences of moving digits, generated on the fly: each a pure function of seed and index.

    `dataset[i]` is one sequence, uint8 `(T, 1, H, W)`; `dataset.__getitems__(indices)` a batch as
    one tensor, at a fraction of the time of its single items and equal to them. They stay in bytes
    until they are on the model's device: a quarter of the memory to write and to move.

    Args:
        images: uint8 `(M, h, w)`, the digits to draw, as from `load_digits`.
        length: Frames in a sequence, at least 1.
        digits: Digits in a sequence, at least 1.
        canvas: Side of the square frames in pixels, or their (height, width).
        sequences: Number of sequences. Memory and time do not depend on it: an endless stream is
            `sys.maxsize`.
        seed: Any integer. Another seed gives other sequences.
        stream: Any integer. Sets with one seed and different streams have no sequence in common.

    Raises:
        TypeError: `images` are not uint8.
        ValueError: An argument is out of range, or the canvas is smaller than a digit.

    Example:
        >>> from vidpred.data import load_digits
        >>> dataset = MovingMNIST(load_digits(None, "train"), length=20, digits=2)
        >>> dataset[3].shape
        torch.Size([20, 1, 64, 64])
        >>> dataset.__getitems__([3, 9_999]).shape
        torch.Size([2, 20, 1, 64, 64])
    """

    def __init__(
        self,
        images: Tensor,
        length: int = 20,
        digits: int = 2,
        canvas: int | Sequence[int] = 64,
        sequences: int = 10_000,
        seed: int = 0,
        stream: int = 0,
    ) -> None:
        if images.dtype != torch.uint8:
            raise TypeError(f"images are uint8 from 0 to 255, got {images.dtype}")
        if images.ndim != 3 or images.numel() == 0:
            raise ValueError(f"images are (M, h, w) with M >= 1, got {tuple(images.shape)}")
        for name, value in (("length", length), ("digits", digits), ("sequences", sequences)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.canvas = canvas_size(canvas)
        h, w = images.shape[1:]
        if self.canvas[0] < h or self.canvas[1] < w:
            raise ValueError(
                f"canvas {self.canvas[0]}x{self.canvas[1]} is smaller than a digit of {h}x{w}: "
                "choose a larger canvas"
            )
        self.images = images
        self.length = length
        self.digits = digits
        self.sequences = sequences
        self.seed = seed
        self.stream = stream
        self._ahead = range(0), (np.empty(0), np.empty(0))

    def __len__(self) -> int:
        return self.sequences

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Sequences `indices` as one tensor, uint8 `(B, T, 1, H, W)`."""
        for index in (min(indices), max(indices)):
            if not 0 <= operator.index(index) < self.sequences:
                raise IndexError(f"sequence {index} of {self.sequences}: count from 0")
        chosen, corner = self._planned(list(indices))
        images = self.images.numpy().take(chosen, axis=0)
        return torch.from_numpy(render(images, corner, self.canvas))

    def _planned(self, indices: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """The plan of some sequences; of sequences in a row, many are planned at once and kept."""
        first, count = indices[0], len(indices)
        if count == 1 or indices != list(range(first, first + count)):
            return self._plan(torch.tensor(indices))
        kept, (chosen, corner) = self._ahead
        if first < kept.start or first + count > kept.stop:
            kept = range(first, min(first + max(count, _AHEAD), self.sequences))
            chosen, corner = self._plan(torch.arange(kept.start, kept.stop))
            self._ahead = kept, (chosen, corner)
        part = slice(first - kept.start, first - kept.start + count)
        return chosen[part], corner[part]

    def _plan(self, indices: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Which images are in each sequence, `(B, N)`, and their way, `(B, N, T)`: see `render`."""
        draw = uniform(self.seed, self.stream, indices, shape=(self.digits, 4))
        draw = draw.double().numpy()
        chosen = (draw[..., 0] * len(self.images)).astype(np.int64)
        path = trajectory(draw[..., 1:3], draw[..., 3] * (2 * np.pi), self.length)
        free = np.subtract(self.canvas, self.images.shape[1:])
        top, left = np.moveaxis((path * free).astype(np.int64), -1, 0)  # (T, B, N)
        return chosen, np.moveaxis(top * self.canvas[1] + left, 0, -1)


class FixedMovingMNIST(Dataset[Tensor]):
    """The published test set: the 10,000 sequences of `mnist_test_seq.npy`.

    Items are uint8 `(20, 1, 64, 64)`; `__getitems__` gives a batch as one tensor. The file stays on
    disk: only what is asked for is read.

    Args:
        path: A `.npy` file, uint8 `(20, N, 64, 64)`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged or holds something else.
    """

    shape = (20, 1, 64, 64)

    def __init__(self, path: str | Path) -> None:
        self.path = path
        if not Path(path).is_file():
            raise FileNotFoundError(
                f"no file {path}: expected the fixed test set mnist_test_seq.npy"
            )
        try:
            self._frames = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{path} is damaged or no .npy file ({reason})") from error
        found, length = self._frames, self.shape[0]
        if (
            found.dtype != np.uint8
            or found.ndim != 4
            or (found.shape[0], *found.shape[2:]) != (length, *self.shape[2:])
            or found.shape[1] == 0
        ):
            raise ValueError(
                f"{path} holds {found.dtype} {found.shape}, expected uint8 (20, N, 64, 64)"
            )

    def __reduce__(self) -> tuple[type, tuple[str | Path]]:
        # A memory map is pickled as the whole array; a worker process opens the file instead.
        return type(self), (self.path,)

    def __len__(self) -> int:
        return self._frames.shape[1]

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """Sequences `indices` as one tensor, uint8 `(B, 20, 1, 64, 64)`."""
        frames = self._frames[:, list(indices)].swapaxes(0, 1)
        return torch.from_numpy(np.ascontiguousarray(frames))[:, :, None]


def canvas_size(canvas: int | Sequence[int]) -> tuple[int, int]:
    """Height and width of a canvas given as one number or as two."""
    size = (canvas, canvas) if isinstance(canvas, int) else tuple(canvas)
    if len(size) != 2:
        raise ValueError(f"canvas is one number or (height, width), got {canvas}")
    return size
