"""What the models' settings share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from vidpred.cells import Cell
from vidpred.models.autoencoder import PatchDecoder, PatchEncoder
from vidpred.models.folding import folded_channels
from vidpred.models.predictor import Predictor

Size = tuple[int, int] | None


def stack_of(
    cell: Callable[[int, int], Any], in_channels: int, hidden_channels: int, layers: int
) -> list[Any]:
    """Units from bottom to top, the lowest with the width of what enters."""
    check_layers(layers)
    widths = [in_channels] + [hidden_channels] * (layers - 1)
    return [unit_of(cell, width, hidden_channels) for width in widths]


def unit_of(cell: Callable[[int, int], Any], in_channels: int, hidden_channels: int) -> Any:
    """Make a unit, and refuse what makes none."""
    if isinstance(cell, nn.Module) or not callable(cell):
        raise TypeError(
            "cell makes units of (in_channels, hidden_channels): a cell class or a partial of one, "
            f"got an instance of {type(cell).__name__}"
        )
    unit = cell(in_channels, hidden_channels)
    for attribute in ("wiring", "hidden_channels"):
        if not hasattr(unit, attribute):
            raise TypeError(
                f"{type(unit).__name__} has no {attribute}: a unit is a vidpred.cells.Cell with a "
                "wiring, such as Stack, and hidden_channels"
            )
    return unit


def check_layers(layers: int) -> None:
    """Refuse a model without a unit."""
    if layers < 1:
        raise ValueError(f"a predictor needs at least one layer, got layers={layers}")


def check_length(length: int) -> None:
    """Refuse clips without a frame."""
    if length < 1:
        raise ValueError(f"a clip has at least one frame, got length={length}")


def feature_size(size: Size, stride: int) -> Size:
    """The size of a feature map, for frames of ``size``."""
    if size is None or stride < 1:  # the encoder refuses such a stride
        return None
    if not isinstance(size, Sequence) or len(size) != 2:
        raise ValueError(f"size is (height, width) of a frame, got {size}")
    return -(-size[0] // stride), -(-size[1] // stride)


def patched(cells: list[Any], in_channels: int, patch: int) -> Predictor:
    """A predictor of units that see a frame as folded patches."""
    return on_patches(cells[0].wiring(cells), in_channels, patch)


def on_patches(core: Cell[Tensor, Any], in_channels: int, patch: int) -> Predictor:
    """A predictor of a core that sees a frame as folded patches."""
    folded = folded_channels(in_channels, patch)
    decoder = PatchDecoder(core.hidden_channels, folded)
    return Predictor(PatchEncoder(folded), core, decoder, patch)
