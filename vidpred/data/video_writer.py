"""A writer of videos, animations and numbered pictures whose memory does not grow with the clip."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from vidpred.data.video import check_fps
from vidpred.files import check_new_folder, output_folder, replacing, replacing_files

if TYPE_CHECKING:
    from av.filter import Graph

Write = Callable[[Tensor, Fraction], None]


@contextmanager
def write_video(path: str | os.PathLike[str], fps: float | Fraction) -> Iterator[Write]:
    """Write frames to a video, an animation or a folder of pictures, as they come.

    The suffix says what: ``.mp4`` (H.264, which every player knows; odd sides grow by one pixel,
    for it wants even ones), ``.gif`` (256 colours of its own for every frame; times in hundredths
    of a second), or none for a folder of pictures ``000001.png`` and so on, which are exact. Either
    is there when it is whole, or not at all.

    Args:
        path: The file, or a folder that is new or empty.
        fps: Frames a second, which the encoder reckons with; frames are shown at their own times.

    Yields:
        A function that writes a frame: its bytes, uint8 ``(C, H, W)``, grey or RGB, and the
        seconds from the first frame to it. They are those of a :class:`Frame`.

    Raises:
        ValueError: ``fps`` out of range; another suffix; frames of another form, or that differ in
            size; no frame.
        FileExistsError: There is something in the folder.

    Example:
        >>> import tempfile, torch
        >>> from vidpred.data import Video
        >>> path = Path(tempfile.mkdtemp(), "clip.mp4")
        >>> with write_video(path, fps=25) as write:
        ...     for t in range(3):
        ...         write(torch.full((1, 47, 63), 100 * t, dtype=torch.uint8), Fraction(t, 25))
        >>> Video(path).size
        (48, 64)
    """
    check_fps(fps)
    path = Path(path)
    if path.suffix.lower() not in (".mp4", ".gif", ""):
        raise ValueError(f"cannot write {path}: expected .mp4, .gif or a folder (no suffix)")
    output_folder(path.parent)
    size = None

    def checked(image: Tensor, time: Fraction) -> None:
        nonlocal size
        if image.dim() != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.uint8:
            form = f"{tuple(image.shape)}, {image.dtype}"
            raise ValueError(f"a frame is bytes (C, H, W), grey or colour; got {form}")
        size = size or image.shape
        if image.shape != size:
            raise ValueError(f"frames change from {tuple(size)} to {tuple(image.shape)}")
        write(image.cpu(), time)

    rate = Fraction(fps).limit_denominator(10**6)
    with _pictures(path) if path.suffix == "" else _film(path, rate) as write:
        yield checked
        if size is None:
            raise ValueError(f"there are no frames to write to {path}")


@contextmanager
def _film(path: Path, fps: Fraction) -> Iterator[Write]:
    import av
    from av.video.reformatter import ColorRange, Colorspace

    gif = path.suffix.lower() == ".gif"
    tick = Fraction(1, 100 if gif else 90_000)
    now, stream, palette = -1, None, None

    def write(image: Tensor, time: Fraction) -> None:
        nonlocal now, stream, palette
        array = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
        odd = [(0, 0 if gif else side % 2) for side in array.shape[:2]]
        array = np.pad(array, [*odd, (0, 0)], mode="edge")
        height, width = array.shape[:2]
        if stream is None:
            stream = container.add_stream("gif" if gif else "libx264", rate=fps)
            stream.width, stream.height = width, height
            stream.time_base = stream.codec_context.time_base = tick
            if gif:
                stream.pix_fmt = "pal8"
                palette = _palette(width, height, tick)
            else:
                stream.pix_fmt = "yuv420p"
                # At 18 the eye hardly tells it from the original. Frames that are coded out of
                # order would make a film of uneven rate seem shorter than it is.
                stream.options = {"crf": "18", "bf": "0"}
                # FFmpeg converts by BT.601; players take large frames for BT.709 unless told.
                stream.codec_context.colorspace = Colorspace.ITU601
                stream.codec_context.color_range = ColorRange.MPEG
        frame = av.VideoFrame.from_ndarray(array, format="rgb24")
        now = max(now + 1, round(time / tick))
        frame.pts, frame.time_base = now, tick
        if palette is not None:
            palette.push(frame)
            frame = palette.pull()
        container.mux(stream.encode(frame))

    # With the index at its start a film begins to play before all of it is there.
    options = {} if gif else {"movflags": "faststart"}
    with replacing(path) as temporary, av.open(str(temporary), "w", options=options) as container:
        yield write
        if stream is not None:
            container.mux(stream.encode())


def _palette(width: int, height: int, tick: Fraction) -> Graph:
    """Gives every frame the 256 colours that suit it best."""
    from av import VideoFormat
    from av.filter import Graph

    graph = Graph()
    rgb = VideoFormat("rgb24", width, height)
    source = graph.add_buffer(width=width, height=height, format=rgb, time_base=tick)
    split, choice = graph.add("split"), graph.add("palettegen", "stats_mode=single")
    # Dots in a fixed order: others would flicker where the picture stands still.
    use, sink = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(choice, 1, 0)
    choice.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


@contextmanager
def _pictures(folder: Path) -> Iterator[Write]:
    from PIL import Image

    check_new_folder(folder)
    numbers = itertools.count(1)
    with replacing_files(folder) as temporary:  # all or none of them, like a film

        def write(image: Tensor, time: Fraction) -> None:
            array = image.squeeze(0) if image.shape[0] == 1 else image.permute(1, 2, 0)
            Image.fromarray(array.numpy()).save(temporary / f"{next(numbers):06d}.png")

        yield write
