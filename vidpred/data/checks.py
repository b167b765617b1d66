"""Whether a file of clips is sound, to its last byte."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

from tqdm import tqdm

from vidpred.data.clips import ClipsFile, index_checksum
from vidpred.data.hdf5 import attribute, checksum, dataset, texts


def check(path: str | os.PathLike[str]) -> Sequence[str]:
    """Verify the structure of a file of clips, and the checksums of its index and of every clip.

    Args:
        path: A file of :func:`vidpred.data.prepare`.

    Returns:
        A line for everything that is as it was written, but looks like a mistake: clips that come
        in two splits, that show a single colour, that are shorter than a sample.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not as it was written.
    """
    file = ClipsFile(path)
    seen: dict[str, str] = {}
    found: dict[str, list[str]] = defaultdict(list)
    with file.reading() as content:
        frames = dataset(content, "frames")
        names, digests = (texts(content, f"clips/{name}") for name in ("name", "sha256"))
        if index_checksum(content) != attribute(content, "sha256", str):
            raise ValueError("its index is not as it was written")
        clips = zip(names, file.split, file.start, file.frames, digests, strict=True)
        for name, split, start, count, digest in tqdm(
            clips, "checking", len(names), unit="clip", disable=None
        ):
            pieces = -(-count // file.length)
            padding = frames[start + count : start + pieces * file.length]
            if padding.any() or checksum(frames, start, count, file.length) != digest:
                raise ValueError(f"clip {name} is not as it was written")
            if seen.setdefault(digest, split) != split:
                found["the same as one of another split"].append(name)
            if count < file.length:
                found[f"shorter than a sample of {file.length} frames"].append(name)
            ends = frames[start], frames[start + count - 1]
            if all((frame == ends[0].flat[0]).all() for frame in ends):
                found["blank, first frame and last"].append(name)
    return [
        f"{len(clips)} of {len(names)} clips: {what}, such as {clips[0]}"
        for what, clips in found.items()
    ]
