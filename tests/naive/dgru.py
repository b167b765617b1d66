"""Double-mapping GRU: Oliu et al., Folded Recurrent Neural Networks, 2018, by their code."""

from torch import Tensor

from naive.convgru import convgru
from naive.parts import Weights


def gru(W: Weights, gates: str, x: Tensor, h: Tensor) -> Tensor:
    """The set of gates ``up`` or ``down``: the new ``h``."""
    own = {name.removeprefix(f"{gates}."): w for name, w in W.items() if name.startswith(gates)}
    return convgru(own, x, h)


def encode(layers: list[Weights], x: Tensor, high: list[Tensor]) -> tuple[list[Tensor], ...]:
    """A frame: the inputs of all layers, and their states."""
    inputs, states = [], []
    for W, h in zip(layers, high, strict=True):
        inputs.append(x)
        x = gru(W, "up", x, h)
        states.append(x)
    return inputs, states


def predict(layers: list[Weights], low: list[Tensor], top: Tensor) -> tuple[list[Tensor], Tensor]:
    """What every layer foresees of its input, given the state of the highest, and that state."""
    foreseen, above = list(low), top
    for k in reversed(range(len(layers))):
        above = foreseen[k] = gru(layers[k], "down", above, low[k])
    return foreseen, gru(layers[-1], "up", foreseen[-1], top)


def run_dgru(
    layers: list[Weights], frames: list[Tensor], high: list[Tensor]
) -> tuple[list[Tensor], list[Tensor], list[Tensor], Tensor]:
    """The prediction after every frame; the last lower and upper states, and the top's."""
    outputs, foreseen, top = [], [], high[-1]
    for x in frames:
        low, high = encode(layers, x, high)
        foreseen, top = predict(layers, low, high[-1])
        outputs.append(foreseen[0])
    return outputs, foreseen, high, top
