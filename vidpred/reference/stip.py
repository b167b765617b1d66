"""The weights of STIP in the authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping

from einops import rearrange
from torch import Tensor

# The authors' name of a weight, and ours. What decodes T has its convolutions named after s.
_NAMES = [
    (r"^([ts])_encoder3d\.encoder3d_\1_conv-1\.", r"encoder.domains.\1.convs.0."),
    (
        r"^([ts])_encoders\.(\d+)\.encoder_\1\2\.",
        lambda m: f"encoder.domains.{m[1]}.convs.{int(m[2]) + 1}.",
    ),
    (
        r"^([ts])_decoders\.(\d+)\.\1_decoder\2\.",
        lambda m: f"decoder.domains.{_DECODES[m[1]]}.convs.{m[2]}.",
    ),
    (r"^([ts])_srcnn\.0\.", lambda m: f"decoder.domains.{_DECODES[m[1]]}.to_frame."),
    (r"^merge_t\.", "core.merge."),
]
_DECODES = {"s": "t", "t": "s"}


def gather(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give STIP's weights our names, and its clip's frames a place side by side in the channels."""
    gathered = {}
    for name, weight in reference.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if name.startswith("encoder.domains.") and weight.dim() == 5:
            weight = rearrange(weight, "o k l 1 1 -> o (l k) 1 1")
        gathered[name] = weight
    return gathered
