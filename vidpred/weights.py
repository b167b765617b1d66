"""Weights in and out: our files, Lightning checkpoints, the authors' and OpenSTL's checkpoints."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidpred.cells import Decoupling, Difference, FirstHighway, GHUCell, MIMCell
from vidpred.files import replacing
from vidpred.models.predictor import Predictor
from vidpred.models.pretrained import check

# Our name of a weight, its cell's already replaced, and its name in the authors' (STAU, MAU, STRPM,
# MotionRNN, STAM) and OpenSTL's (PredRNN, ConvLSTM) code. The cells' own names are those there.
_REFERENCE_NAMES = [
    (r"^cell_list\.(\d+)\.host\.", r"cell_list.\1."),
    (r"^cell_list\.(\d+)\.(enc|motion|dec|gate)\.", r"\2_list.\1."),
    (r"^(motion_list\.\d+\.)?mask\.", r"\1warp.warp_gate."),
    (r"^(motion_list\.\d+\.)?gather\.", r"\1warp.conv."),
    (r"^conv_first_v\.conv\.", "conv_first_v."),
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
# PhyDNet: the authors' name of a weight, and ours. OpenSTL has the authors' model in `encoder`.
_PHYDNET_NAMES = [
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
# TrajGRU: the name of a weight in the PyTorch port, which counts levels from 1, and ours.
_TRAJGRU_NAMES = [
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
# CrevNet: our convolutions and the gates there, our layers of a block and their number there.
_CREVNET_GATES = {
    "conv_c.0": ("in_gate", "remember_gate", "cell_gate"),
    "conv_m.0": ("in_gate1", "remember_gate1", "cell_gate1"),
    "conv_o.0": ("out_gate",),
    "conv_last": ("w1",),
    "attention": ("0",),
}
_CREVNET_LAYERS = {
    0: "enter.0",
    2: "residual.0.0",
    3: "residual.0.1",
    5: "residual.2.0",
    7: "residual.2.1",
    9: "residual.4.0",
}
_CELL = r"(?:core\.)*(?:stack\.)?cells\.(\d+)"
# Weights that the references hold and never use; the last are those of an input that is not there.
_UNUSED = re.compile(
    r"^(((cell_list|stlstm_layer_diff)\.\d+\.)?conv_(o|last|sto)|merge|conv_last_sr|k2m"
    r"|core\.forecaster\.2\.cells\.0\.(conv|flow)_x)\."
)
# Weights there whose inputs, and whose outputs, are folded patches of a frame.
_FROM_PATCHES = re.compile(
    r"((cell_list|stlstm_layer)\.0\.conv_x\.0|conv_first_v|encoder_.\.encoder_._conv-1|conv_last_sr)"
    r"\.weight"
)
_TO_PATCHES = re.compile(r"(conv_last|._srcnn\.0|conv_last_sr)\.")


def save(module: nn.Module, path: str | Path) -> None:
    """Write the weights of a cell or predictor, readable with ``torch.load(weights_only=True)``.

    Args:
        module: Whose ``state_dict`` to write.
        path: The file; an old one is replaced only once the new one is complete.
    """
    with replacing(Path(path)) as temporary:
        torch.save(module.state_dict(), temporary)


def load(module: nn.Module, path: str | Path) -> None:
    """Load weights into a cell or predictor, in place.

    Args:
        module: Built with the settings that the weights were trained with.
        path: A file of :func:`save`, a Lightning checkpoint of a task, or a checkpoint of the
            authors' code or OpenSTL.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a weights file, or the weights of another model.
    """
    module.load_state_dict(fitting(module, read(path)))


def read(path: str | Path) -> Any:
    """Read a checkpoint without running code that it may hold.

    Args:
        path: A file of ``torch.save``.

    Returns:
        What was saved: a state dict, or a dict that has one among others.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Damaged, or it holds more than tensors and plain Python values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises a dozen types for a file that is cut, foreign, unsafe
        raise ValueError(
            f"{path} is damaged or no checkpoint: torch.load(weights_only=True) cannot read it"
        ) from error


def fitting(module: nn.Module, content: Any) -> dict[str, Tensor]:
    """Find the weights of a cell or predictor in what a checkpoint holds.

    Args:
        module: Built with the settings that the weights were trained with.
        content: What :func:`read` returned.

    Returns:
        A state dict for ``module``.

    Raises:
        ValueError: There are no weights, or those of another model: the weights that are missing,
            unknown or of another shape are listed.
    """
    state = _unwrap(content)
    if state.keys() != module.state_dict().keys():
        state = translate(module, state)
    check(module, state)
    return state


def translate(module: nn.Module, reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename reference weights to ours.

    Args:
        module: The cell or predictor to load them into.
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
    with contextlib.suppress(LookupError, RuntimeError, ValueError):
        reference = _gather_trajgru(_gather_phydnet(_gather_mim(_gather_crevnet(reference))))
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
    if isinstance(module, Predictor) and (p := module.encoder.patch) > 1:
        colours = module.encoder.in_channels
        for name in ours:
            if _FROM_PATCHES.match(names[name]):
                order = "o (n p q c) ... -> o (n c p q) ..."
                ours[name] = rearrange(ours[name], order, p=p, q=p, c=colours)
            if _TO_PATCHES.match(names[name]):
                ours[name] = rearrange(ours[name], "(p q c) ... -> (c p q) ...", p=p, q=p)
    return ours


def _places(module: nn.Module) -> list[str]:
    """Where the references keep each cell of a core: what is between the layers is not counted."""
    found = [cell for name, cell in module.named_modules() if re.fullmatch(_CELL, name)]
    layers = "stlstm_layer" if any(isinstance(cell, MIMCell) for cell in found) else "cell_list"
    places, count = [], 0
    for cell in found:
        between = _BETWEEN.get(type(cell))
        places.append(between or f"{layers}.{count}")
        count += between is None
    return places


def _gather_mim(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
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


def _gather_phydnet(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give PhyDNet's weights our names, and its ConvLSTMs a convolution of each input.

    The reference has one of input and hidden state together, with the gates i, f, o, g.
    """
    gathered = {}
    for name, weight in reference.items():
        for pattern, replacement in _PHYDNET_NAMES:
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


def _gather_trajgru(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give TrajGRU's weights the form of ours, which have the links of a channel side by side."""
    if not any("flows_conv." in name for name in reference):
        return dict(reference)
    gathered = {}
    for name, weight in reference.items():
        for pattern, replacement in _TRAJGRU_NAMES:
            name = re.sub(pattern, replacement, name)
        if name.endswith("conv_h.0.weight"):
            weight = rearrange(weight, "o (l c) p q -> o (c l) p q", c=len(weight) // 3)
        gathered[name] = weight
    return gathered


def _gather_crevnet(reference: Mapping[str, Tensor]) -> dict[str, Tensor]:
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
            place = f"cell_list.{block[1]}.{_CREVNET_LAYERS.get(layer, layer)}."
            gathered[place + name[block.end() :]] = weight
            if weight.dim() > 1:
                gathered[f"{place}bias"] = weight.new_zeros(len(weight))
        elif unit:
            for ours, (first, *others) in _CREVNET_GATES.items():
                if unit[2] == first:
                    place, kind = name[: unit.start(2)], name[unit.end() :]
                    weights = [weight, *(reference[f"{place}{gate}.{kind}"] for gate in others)]
                    k = len(blocks) + int(unit[1])
                    gathered[f"cell_list.{k}.{ours}.{kind}"] = torch.cat(weights)
        else:
            gathered[name] = weight
    return gathered


def _reference_name(name: str, places: Sequence[str]) -> str:
    if cell := re.match(_CELL, name):
        name = places[int(cell[1])] + name[cell.end() :]
    for pattern, replacement in _REFERENCE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _unwrap(content: Any) -> dict[str, Tensor]:
    """The plain state dict inside a checkpoint of Lightning, OpenSTL or the authors' code."""
    for key in ("state_dict", "net_param"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise ValueError(f"a weights file holds a dict of tensors, got {type(content).__name__}")
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    return {re.sub(r"^((module|model|predictor)\.)+", "", k): v for k, v in tensors.items()}
