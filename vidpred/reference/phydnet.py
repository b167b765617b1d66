"""The weights of PhyDNet in the authors' code, and in OpenSTL's."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# The authors' name of a weight, and ours. OpenSTL has the authors' model in `encoder`.
_NAMES = [
    (r"^encoder\.(?=(en|de)coder_|phycell|convcell)", ""),
    (r"^encoder_E\.c(\d)\.main", lambda m: f"encoder.blocks.{int(m[1]) - 1}"),
    (r"^decoder_D\.upc3", "decoder.to_frame"),
    (r"^decoder_D\.upc(\d)\.main", lambda m: f"decoder.blocks.{int(m[1]) - 1}"),
    (
        r"^(en|de)coder_[ED]([pr])\.(?:up)?c(\d)\.main",
        lambda m: f"core.branches.{'pr'.index(m[2])}.{m[1]}coder.{int(m[3]) - 1}",
    ),
    (r"^phycell\.cell_list\.0", "core.branches.0.cell"),
    (r"^convcell\.cell_list", "core.branches.1.cell.cells"),
    (r"\bF\.conv1\.", "derivatives."),
    (r"\bF\.bn1\.", "norm."),
    (r"\bF\.conv2\.", "combine."),
    (r"\bconvgate\.", "gain."),
]


def gather(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give PhyDNet's weights our names, and its ConvLSTMs a convolution of each input.

    The reference has one of input and hidden state together, with the gates i, f, o, g.
    """
    gathered = {}
    for name, weight in reference.items():
        for pattern, replacement in _NAMES:
            name = re.sub(pattern, replacement, name)
        place, conv, kind = name.rpartition("conv.")
        if not (conv and place.startswith("core.branches.1.cell.")):
            gathered[name] = weight
            continue
        i, f, o, g = weight.chunk(4)
        hidden, weight = len(i), torch.cat([i, f, g, o])
        if kind == "bias":
            gathered[f"{place}conv_x.0.bias"] = weight
            gathered[f"{place}conv_h.0.bias"] = torch.zeros_like(weight)
        else:
            gathered[f"{place}conv_x.0.weight"] = weight[:, :-hidden]
            gathered[f"{place}conv_h.0.weight"] = weight[:, -hidden:]
    return gathered
