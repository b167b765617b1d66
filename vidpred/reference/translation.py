"""The names of weights here and in the reference code: the authors', OpenSTL's, a port's."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from functools import cache

import torch
from einops import rearrange
from torch import Tensor, nn

from vidpred.cells import Decoupling, Difference, FirstHighway, GHUCell, MIMCell
from vidpred.models.pretrained import check
from vidpred.reference import crevnet, mim, phydnet, stip, trajgru

# Our name of a weight, its cell's already replaced, and its name in the authors' (STAU, MAU, STRPM,
# MotionRNN, STAM) and OpenSTL's (PredRNN, ConvLSTM) code. The cells' own names are those there.
_REFERENCE_NAMES = [
    (r"^cell_list\.(\d+)\.host\.", r"cell_list.\1."),
    (r"^cell_list\.(\d+)\.(enc|motion|dec|gate)\.", r"\2_list.\1."),
    (r"^(motion_list\.\d+\.)?mask\.", r"\1warp.warp_gate."),
    (r"^(motion_list\.\d+\.)?gather\.", r"\1warp.conv."),
    (r"^conv_first_v\.conv\.", "conv_first_v."),
    (r"^layers\.0\.conv\.", "main.0."),
    (r"^layers\.0\.norm\.", "main.1."),
    (r"^layers\.(\d+)\.conv\.", r"main.conv_\1."),
    (r"^layers\.(\d+)\.norm\.", r"main.gn_\1."),
    (r"^linear\.", "linear.0."),
    (r"^decoupling\.adapter\.", "adapter."),
    (r"^encoder\.convs\.0\.", "encoders.0.encoder_t_conv-1."),
    (r"^encoder\.convs\.(\d+)\.", lambda m: f"encoders.{m[1]}.encoder_t{int(m[1]) - 1}."),
    (r"^decoder\.convs\.(\d+)\.", r"decoders.\1.c_decoder\1."),
    (r"^decoder\.to_frame\.", "srcnn.0."),
    (r"^decoder\.to_patches\.", "conv_last."),
    (r"^encoder\.domains\.(.)\.convs\.0\.", r"encoder_\1.encoder_\1_conv-1."),
    (
        r"^encoder\.domains\.(.)\.convs\.(\d+)\.",
        lambda m: f"encoder_{m[1]}.encoder_{m[1]}{int(m[2]) - 1}.",
    ),
    # The decoder of c has its convolutions named after m, and the other way round.
    (r"^decoder\.domains\.t\.convs\.(\d+)\.", r"decoder_t.m_decoder\1."),
    (r"^decoder\.domains\.s\.convs\.(\d+)\.", r"decoder_s.c_decoder\1."),
    (r"^decoder\.domains\.o\.convs\.(\d+)\.", r"decoder_o.o_decoder\1."),
    (r"^decoder\.domains\.t\.to_frame\.", "c_srcnn.0."),
    (r"^decoder\.domains\.s\.to_frame\.", "m_srcnn.0."),
    (r"^decoder\.domains\.o\.to_frame\.", "o_srcnn.0."),
    (r"^decoder\.merge\.", "conv_last_sr."),
]
# What is between the layers, and its name there.
_BETWEEN = {
    Decoupling: "decoupling",
    Difference: "difference",
    FirstHighway: "conv_first_v",
    GHUCell: "gradient_highway",
}
_CELL = r"(?:core\.)*(?:stack\.)?cells\.(\d+)"
# Weights that the references hold and never use.
_UNUSED = re.compile(
    r"^(((cell_list|stlstm_layer_diff)\.\d+\.)?conv_(o|last|sto)|merge|conv_last_sr|k2m)\."
)
# Weights there whose inputs, and whose outputs, are folded patches of a frame.
_FROM_PATCHES = re.compile(
    r"((cell_list|stlstm_layer)\.0\.conv_x\.0|conv_first_v|encoder_.\.encoder_._conv-1|conv_last_sr"
    r"|main\.0)\.weight"
)
_TO_PATCHES = re.compile(r"(conv_last|._srcnn\.0|conv_last_sr)\.")


def translate(module: nn.Module, reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename reference weights to ours.

    Args:
        module: The cell, predictor or discriminator to load them into.
        reference: The state dict of the authors' or OpenSTL's cell or model.

    Returns:
        A state dict for ``module``. Biases are zero where the reference's units have none at all;
        folded patches are reordered from (row, column, colour) to (colour, row, column).

    Raises:
        ValueError: A weight is missing, left over or of another shape.

    Example:
        >>> from vidpred.cells import ConvLSTMCell
        >>> cell = ConvLSTMCell(3, 8, norm=None)
        >>> names = {"conv_x.0.weight": torch.ones(32, 3, 5, 5),
        ...          "conv_h.0.weight": torch.ones(32, 8, 5, 5)}
        >>> sorted(translate(cell, names))
        ['conv_h.0.bias', 'conv_h.0.weight', 'conv_x.0.bias', 'conv_x.0.weight']
    """
    places = _places(module)
    # Of a weight that is missing or misshaped, which the check below lists.
    for family in (crevnet, mim, phydnet, stip, trajgru):
        with contextlib.suppress(LookupError, RuntimeError, TypeError, ValueError):
            reference = family.gather(reference)
    names = {name: _reference_name(name, places) for name in module.state_dict()}
    ours = {name: reference[theirs] for name, theirs in names.items() if theirs in reference}
    if not any(re.search(r"conv_\w+\.0\.bias$", name) for name in reference):
        for name, parameter in module.state_dict().items():
            if name not in ours and name.endswith(".0.bias"):
                ours[name] = torch.zeros_like(parameter)
    for name, weight in ours.items():
        if name.startswith("decoder.") and weight.dim() == 5:
            # It sees a whole window of maps, which here lie side by side in the channels.
            ours[name] = weight.flatten(1, 2)
    used = set(names.values())
    left = {name for name in reference if name not in used and not _UNUSED.match(name)}
    ours |= {name: reference[name] for name in left}
    check(module, ours)
    if (p := getattr(module, "patch", 1)) > 1:
        colours = module.in_channels
        for name in ours:
            if _FROM_PATCHES.match(names[name]):
                order = "o (n p q c) ... -> o (n c p q) ..."
                ours[name] = rearrange(ours[name], order, p=p, q=p, c=colours)
            if _TO_PATCHES.match(names[name]):
                ours[name] = rearrange(ours[name], "(p q c) ... -> (c p q) ...", p=p, q=p)
    return ours


def _places(module: nn.Module) -> tuple[str, ...]:
    """Where the references keep each cell of a core: what is between the layers is not counted."""
    found = [cell for name, cell in module.named_modules() if re.fullmatch(_CELL, name)]
    layers = "stlstm_layer" if any(isinstance(cell, MIMCell) for cell in found) else "cell_list"
    places, count = [], 0
    for cell in found:
        between = _BETWEEN.get(type(cell))
        places.append(between or f"{layers}.{count}")
        count += between is None
    return tuple(places)


@cache  # whoever tries weights one by one asks for all names each time
def _reference_name(name: str, places: tuple[str, ...]) -> str:
    if cell := re.match(_CELL, name):
        name = places[int(cell[1])] + name[cell.end() :]
    for pattern, replacement in _REFERENCE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name
