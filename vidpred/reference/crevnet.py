"""The weights of CrevNet in the authors' code."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Our convolutions and the gates there, our layers of a block and their number there.
_GATES = {
    "conv_c.0": ("in_gate", "remember_gate", "cell_gate"),
    "conv_m.0": ("in_gate1", "remember_gate1", "cell_gate1"),
    "conv_o.0": ("out_gate",),
    "conv_last": ("w1",),
    "attention": ("0",),
}
_LAYERS = {
    0: "enter.0",
    2: "residual.0.0",
    3: "residual.0.1",
    5: "residual.2.0",
    7: "residual.2.1",
    9: "residual.4.0",
}


def gather(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give CrevNet's weights the form of ours, where the units stand behind the blocks.

    The reference has no bias in a block, whose layers it counts, with the activations and a
    dropout; the first begins with its convolution. In a unit it has a convolution for every gate.
    """
    gathered = {}
    blocks = {b[1] for name in reference if (b := re.search(r"\bstack\.(\d+)\.bottleneck", name))}
    for name, weight in reference.items():
        block = re.search(r"\bstack\.(\d+)\.bottleneck_block\.(\d+)\.", name)
        unit = re.search(r"\b(?:convlstm|att)\.(\d+)\.(\w+)\.(?=\w+$)", name)
        if block:
            layer = int(block[2]) + (2 if block[1] == "0" else 0)
            place = f"cell_list.{block[1]}.{_LAYERS.get(layer, layer)}."
            gathered[place + name[block.end() :]] = weight
            if name.endswith("weight") and weight.dim() > 1:
                gathered[f"{place}bias"] = weight.new_zeros(len(weight))
        elif unit:
            for ours, (first, *others) in _GATES.items():
                if unit[2] == first:
                    place, kind = name[: unit.start(2)], name[unit.end() :]
                    weights = [weight, *(reference[f"{place}{gate}.{kind}"] for gate in others)]
                    k = len(blocks) + int(unit[1])
                    gathered[f"cell_list.{k}.{ours}.{kind}"] = torch.cat(weights)
        else:
            gathered[name] = weight
    return gathered
