"""Small video files of known frames."""

from pathlib import Path

import av
import numpy as np


def write(path: Path, levels) -> Path:
    """A video of one-coloured frames: grey of the levels given, but red 255 in the left third."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, pixels = {".mkv": ("ffv1", "bgr0"), ".mp4": ("libx264", "yuv420p")}[path.suffix]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 24, pixels
        for level in levels:
            image = np.full((24, 32, 3), level, np.uint8)
            image[:, :10, 0] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path
