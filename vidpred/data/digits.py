"""Handwritten digits: MNIST's idx files, or the small set bundled with scikit-learn."""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

DigitSplit = Literal["train", "val", "test"]

_FILES = {
    "train": "train-images-idx3-ubyte",
    "val": "train-images-idx3-ubyte",  # held out of the training file
    "test": "t10k-images-idx3-ubyte",
}
_MAGIC = 0x00000803  # unsigned bytes, three dimensions
_HEADER = struct.Struct(">4i")  # magic, images, rows, columns
_SIZE = 28
_VAL_SHARE = 12  # one in twelve: 5,000 of MNIST's 60,000 training digits


def load_digits(root: str | Path | None, split: DigitSplit, download: bool = False) -> Tensor:
    """Load the digits of a split; no two splits share a digit.

    With `root`, training and validation digits come from MNIST's training file (validation: its
    last twelfth, 5,000 of 60,000) and test digits from its t10k file. Without, all come from the
    1,797 digits bundled with scikit-learn, 8x8 pixels scaled to 28x28, split by index.

    Args:
        root: Folder with MNIST's idx files, plain or `.gz`, in the folder itself or in `MNIST/raw`
            below it. `None`: the bundled digits, which need no file and no network.
        split: "train", "val" or "test".
        download: Let torchvision download MNIST to `root` if its files are not there.

    Returns:
        uint8 `(N, 28, 28)`, 0 (background) to 255 (ink).

    Raises:
        FileNotFoundError: The folder or the file is missing.
        ValueError: Unknown split, a damaged file, or a download without a folder to put it in.

    Example:
        >>> digits = load_digits(None, "val")
        >>> digits.shape, digits.dtype
        (torch.Size([149, 28, 28]), torch.uint8)
    """
    if split not in _FILES:
        raise ValueError(f"split {split!r} is unknown: use one of {', '.join(_FILES)}")
    if root is None:
        if download:
            raise ValueError("download=True needs a folder: pass root")
        return _bundled(split)
    digits = _read_idx(digits_file(Path(root), split, download))
    if split == "test":
        return digits
    held_out = math.ceil(len(digits) / _VAL_SHARE)
    return digits[-held_out:] if split == "val" else digits[:-held_out]


def _bundled(split: DigitSplit) -> Tensor:
    from sklearn import datasets

    pixels, _ = datasets.load_digits(return_X_y=True)
    images = torch.as_tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    # The strokes touch the 8x8 border: a rim keeps them off the edge, as in MNIST. Interpolation
    # blurs them, so the contrast is stretched until edges are about as sharp as MNIST's.
    padded = F.pad(images, (1, 1, 1, 1))
    smooth = F.interpolate(padded, (_SIZE, _SIZE), mode="bicubic")[:, 0]
    digits = ((smooth - 0.15) / 0.7).clamp(0, 1).mul(255).round().byte()
    held_out = len(digits) // _VAL_SHARE
    stop = len(digits) - 2 * held_out
    parts = {
        "train": digits[:stop],
        "val": digits[stop : stop + held_out],
        "test": digits[stop + held_out :],
    }
    return parts[split]


def digits_file(root: Path, split: DigitSplit, download: bool = False) -> Path:
    """The file of MNIST that holds the digits of a split.

    Args:
        root: As for `load_digits`, as are the others.
        split: See there.
        download: See there.

    Raises:
        FileNotFoundError: The folder or the file is missing.
    """
    name = _FILES[split]

    def present() -> Path | None:
        folders = (root, root / "MNIST" / "raw")
        candidates = [folder / f"{name}{end}" for folder in folders for end in ("", ".gz")]
        return next((path for path in candidates if path.is_file()), None)

    path = present()
    if path is None and download:
        from torchvision.datasets import MNIST

        try:
            MNIST(str(root), train=split != "test", download=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise FileNotFoundError(f"MNIST could not be downloaded to {root}: {reason}") from error
        path = present()
    if path is None:
        what = f"no file {name} or {name}.gz in" if root.is_dir() else "no folder"
        raise FileNotFoundError(
            f"{what} {root}: expected MNIST's idx files there; without a folder the digits of "
            "scikit-learn are used"
        )
    return path


def _read_idx(path: Path) -> Tensor:
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error, struct.error) as error:
        raise ValueError(f"{path} is truncated or not gzip ({error}): fetch it again") from error
    if len(content) < _HEADER.size:
        raise ValueError(
            f"{path} holds {len(content)} bytes, less than an idx header of {_HEADER.size}: "
            "fetch it again"
        )
    magic, count, height, width = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise ValueError(
            f"{path} starts with 0x{magic & 0xFFFFFFFF:08x}, expected 0x{_MAGIC:08x}: "
            "this is no idx file of images"
        )
    if (height, width) != (_SIZE, _SIZE) or count < 2:
        raise ValueError(
            f"{path} declares {count} images of {height}x{width}, "
            f"expected at least 2 of {_SIZE}x{_SIZE}"
        )
    pixels = len(content) - _HEADER.size
    if pixels != count * height * width:
        raise ValueError(
            f"{path} holds {pixels} pixels, its header declares {count * height * width} "
            f"({count} images of {height}x{width}): fetch it again"
        )
    flat = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=_HEADER.size)
    return flat.reshape(count, height, width)
