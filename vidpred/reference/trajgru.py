"""The weights of TrajGRU in its PyTorch port."""

from __future__ import annotations

import re
from collections.abc import Mapping

from einops import rearrange
from torch import Tensor

# The name of a weight in the PyTorch port, which counts levels from 1, and ours.
_NAMES = [
    (r"^(encoder|forecaster)\.rnn(\d)\.", lambda m: f"core.{m[1]}.{int(m[2]) - 1}.cells.0."),
    (r"^encoder\.stage1\.conv1_leaky_1\.", "encoder.conv."),
    (r"^encoder\.stage(\d)\.conv\d_leaky_1\.", lambda m: f"core.down.{int(m[1]) - 2}."),
    (r"^forecaster\.stage1\.deconv3_leaky_1\.", "decoder.up."),
    (r"^forecaster\.stage1\.conv3_leaky_2\.", "decoder.conv."),
    (r"^forecaster\.stage1\.conv3_3\.", "decoder.to_frame."),
    (r"^forecaster\.stage(\d)\.deconv\d_leaky_1\.", lambda m: f"core.up.{int(m[1]) - 2}."),
    (r"i2h\.", "conv_x.0."),
    (r"ret\.", "conv_h.0."),
    (r"i2f_conv1\.", "flow_x.0."),
    (r"h2f_conv1\.", "flow_h.0."),
    (r"flows_conv\.", "flow.0."),
]
# What the port's highest forecaster holds for an input that it does not have.
_UNUSED = re.compile(r"^core\.forecaster\.2\.cells\.0\.(conv|flow)_x\.")


def gather(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give TrajGRU's weights the form of ours, which have the links of a channel side by side."""
    if not any("flows_conv." in name for name in reference):
        return dict(reference)
    gathered = {}
    for name, weight in reference.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        if _UNUSED.match(name):
            continue
        if name.endswith("conv_h.0.weight"):
            weight = rearrange(weight, "o (l c) p q -> o (c l) p q", c=len(weight) // 3)
        gathered[name] = weight
    return gathered
