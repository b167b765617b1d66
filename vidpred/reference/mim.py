"""The weights of MIM in OpenSTL's code."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor


def gather(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give MIM's weights the form of ours, where MIM-N and MIM-S are ConvLSTMs with peepholes.

    The reference has peepholes of input and forget gate in one weight, that of the output gate in
    another, orders the gates i, g, f, o, and keeps MIM-N in a list of its own.
    """
    gathered = {}
    for name, weight in reference.items():
        layer = re.match(r"stlstm_layer(_diff)?\.(\d+)\.", name)
        place = layer[0] if layer else ""
        key = name.removeprefix(place)
        peepholes, output = (reference.get(f"{place}{end}_weight") for end in ("ct", "oc"))
        if (
            peepholes is None
            or output is None
            or peepholes.shape != (2 * len(output), *output.shape[1:])
        ):
            gathered[name] = weight  # of another unit, or to be listed as it is
            continue
        if layer and layer[1]:
            lstm = f"stlstm_layer.{int(layer[2]) + 1}.n."
        else:
            lstm = f"{place}s." if f"{place}conv_t_cc.0.weight" in reference else place
        if key == "ct_weight":
            gathered[f"{lstm}peephole"] = torch.cat([peepholes, output]).unflatten(0, (3, -1))
        elif key.startswith(("conv_h_concat", "conv_x_concat")):
            i, g, f, o = weight.tensor_split(4)
            gathered[lstm + key.replace("_concat", "")] = torch.cat([i, f, g, o])
        elif key != "oc_weight":
            gathered[place + key.replace("_cc.", ".")] = weight
    return gathered
