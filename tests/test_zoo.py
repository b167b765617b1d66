"""The published models: their settings, their sizes, and IPRNN against its naive twin."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from naive.crevnet import crevnet as naive_crevnet
from naive.iprnn import iprnn as naive_iprnn
from naive.stae import stae as naive_stae
from naive.stip import stip as naive_stip
from torch import nn

from vidpred import cells
from vidpred.models import DomainStack, MergedStack, Predictor, SharedCore, zoo
from vidpred.models.crevnet import IRevNetBlock


def crevnet(hidden_channels: int | None = None, **options: Any) -> Predictor:
    """CrevNet, whose width follows from its frames; a small one where a width is given."""
    return zoo.crevnet(**({"blocks": (1, 1)} if hidden_channels else {}), **options)


MODELS: dict[str, Callable[..., Predictor]] = {
    "stau": zoo.stau,
    "mau": zoo.mau,
    "iprnn": zoo.iprnn,
    "predrnn": zoo.predrnn,
    "predrnnpp": zoo.predrnnpp,
    "mim": zoo.mim,
    "motionrnn": zoo.motionrnn,
    "predrnnv2": zoo.predrnnv2,
    "e3d_lstm": zoo.e3d_lstm,
    "stam": zoo.stam,
    "crevnet": crevnet,
    "convlstm": zoo.convlstm,
    "strpm": zoo.strpm,
    "stip": zoo.stip,
    "stae": zoo.stae,
    "sa_convlstm": zoo.sa_convlstm,
}
SETTINGS: dict[str, Callable[..., Predictor]] = {
    "stip_ucf_sports": zoo.stip_ucf_sports,
    "stip_human36m": zoo.stip_human36m,
    "stip_sjtu4k": zoo.stip_sjtu4k,
    "stae_ucf_sports": zoo.stae_ucf_sports,
    "stae_ucf101": zoo.stae_ucf101,
}
FREE_RUNNING: dict[str, Callable[..., Predictor]] = {
    "trajgru": zoo.trajgru,
    "frnn": zoo.frnn,
}
any_model = pytest.mark.parametrize("name", MODELS)
any_unit = pytest.mark.parametrize("unit", cells.UNITS, ids=lambda unit: unit.__name__)


def conv(in_channels: int, out_channels: int, kernel: int, bias: bool = True) -> int:
    return in_channels * out_channels * kernel**2 + (out_channels if bias else 0)


def normed(in_channels: int, out_channels: int, kernel: int) -> int:
    """A convolution and the scale and shift of its norm."""
    return conv(in_channels, out_channels, kernel) + 2 * out_channels


def frame(channels: int, scales: int, colours: int = 1) -> int:
    """Encoder and decoder of the papers' comparison, for frames of ``colours`` channels."""
    encoder = conv(colours, channels, 1) + scales * conv(channels, channels, 3)
    decoder = scales * conv(channels, channels, 3) + conv(channels, colours, 1)
    return encoder + decoder


def stlstm(in_channels: int, width: int = 128) -> int:
    x, h, m = (
        conv(channels, gates * width, 5)
        for channels, gates in ((in_channels, 7), (width, 4), (width, 3))
    )
    return x + h + m + conv(2 * width, width, 5) + conv(2 * width, width, 1, bias=False)


def causal_lstm(in_channels: int) -> int:
    x, h = conv(in_channels, 7 * 128, 5), conv(128, 4 * 128, 5)
    c, m = conv(128, 3 * 128, 5) + conv(128, 4 * 128, 5), conv(128, (3 + 1) * 128, 5)
    return x + h + c + m + conv(2 * 128, 128, 1, bias=False)


def mim_unit() -> int:
    memory = 2 * conv(128, 4 * 128, 5) + 3 * 128  # a ConvLSTM with peepholes
    gates = conv(128, 3 * 128, 5) + 2 * conv(128, 4 * 128, 5)
    return 2 * memory + gates + conv(2 * 128, 128, 1, bias=False)


def motion_unit() -> int:
    """MotionGRU at a quarter of 64 channels, the ways to it and back, and the gate."""
    gru = 3 * conv(16 + 18, 18, 3) + conv(16, 9, 3) + conv(16, 16, 3, bias=False)
    return conv(64, 16, 5) + gru + conv(16, 64, 4) + conv(2 * 64, 64, 5)


def e3d_lstm(in_channels: int) -> int:
    def deep(in_channels: int, gates: int) -> int:
        """Kernels two maps deep, with their bias and norm."""
        return 2 * conv(in_channels, gates * 64, 5, bias=False) + 3 * gates * 64

    gates = deep(in_channels, 7) + deep(64, 4) + deep(64, 3) + deep(2 * 64, 1)
    return gates + conv(2 * 64, 64, 1, bias=False) + 2 * 64


def stam(in_channels: int) -> int:
    def deep(in_channels: int, gates: int) -> int:
        """3x3x3 kernels with their bias and norm."""
        return 3 * conv(in_channels, gates * 32, 3, bias=False) + 3 * gates * 32

    gates = deep(in_channels, 7) + deep(32, 4) + deep(32, 3) + deep(2 * 32, 1)
    return gates + conv(2 * 32, 32, 1)


def cubic(in_channels: int, out_channels: int, norm: bool = False) -> int:
    """A 3x3x3 convolution and, after it, the scale and shift of a norm."""
    return 27 * in_channels * out_channels + (3 if norm else 1) * out_channels


def reversible_pm() -> int:
    gates = 2 * cubic(3 * 32, 3 * 32) + cubic(4 * 32, 32)
    return gates + conv(2 * 32, 32, 1) + conv(32, 32, 1)


def irevnet_block(in_channels: int, out_channels: int) -> int:
    inner = out_channels // 2
    first = 2 * in_channels + cubic(in_channels, inner, norm=True)
    return first + cubic(inner, inner, norm=True) + cubic(inner, out_channels)


def two_way() -> int:
    """Blocks for halves of folded grey frames; the first block of all begins without a norm."""
    larger = 4 * irevnet_block(2, 2) - 2 * 2 + irevnet_block(2, 8)
    return larger + 4 * irevnet_block(8, 8) + irevnet_block(8, 32) + 2 * irevnet_block(32, 32)


def convlstm(in_channels: int) -> int:
    return conv(in_channels, 4 * 128, 5) + conv(128, 4 * 128, 5)


def rpm() -> int:
    inputs, pasts = 5 * normed(128, 128, 5), 2 * normed(5 * 128, 128, 5)
    return inputs + pasts + normed(2 * 128, 128, 5) + conv(2 * 128, 128, 1)


def sa_convlstm(in_channels: int) -> int:
    lstm = conv(in_channels, 4 * 64, 5) + conv(64, 4 * 64, 5)
    attention = conv(64, (3 + 2) * 64, 1, bias=False) + conv(2 * 64, 64, 1, bias=False)
    return lstm + attention + conv(2 * 64, 3 * 64, 5)


def trajgru(in_channels: int, channels: int) -> int:
    gates = 13 * conv(channels, 3 * channels, 1, bias=False) + 3 * channels  # 13 links
    flows = conv(channels, 32, 5) + conv(32, 2 * 13, 5)
    if in_channels:
        gates, flows = gates + conv(in_channels, 3 * channels, 3), flows + conv(in_channels, 32, 5)
    return gates + flows


def trajgru_levels() -> int:
    down = conv(1, 16, 3) + conv(64, 96, 3) + conv(96, 96, 3)
    up = conv(96, 96, 4) + conv(96, 64, 4) + conv(64, 16, 3) + conv(16, 16, 3) + conv(16, 1, 1)
    encoder = trajgru(16, 64) + 2 * trajgru(96, 96)
    forecaster = trajgru(64, 64) + trajgru(96, 96) + trajgru(0, 96)
    return down + up + encoder + forecaster


def dgru(low: int, high: int, kernel: int) -> int:
    up = conv(low, 3 * high, kernel) + conv(high, 2 * high, kernel) + conv(high, high, kernel)
    down = conv(high, 3 * low, kernel) + conv(low, 2 * low, kernel) + conv(low, low, kernel)
    return up + down


def frnn_layers() -> int:
    frame = conv(1, 32, 5) + conv(32, 64, 5) + 1 + 32  # the decoder's biases
    lower = dgru(64, 128, 5) + dgru(128, 128, 5) + dgru(128, 256, 5) + dgru(256, 256, 5)
    upper = dgru(256, 512, 3) + dgru(512, 512, 3) + dgru(512, 256, 3) + dgru(256, 256, 3)
    return frame + lower + upper


# Two hats of one gate each, two fusions of three gates each.
STAU_UNIT = 2 * normed(64, 64, 5) + 2 * normed(64, 3 * 64, 5)
STGRU_UNIT = 2 * normed(64, 4 * 64, 5)


def stip(colours: int, patch: int) -> int:
    """16 units and, for clips of 2 frames, two encoders, two decoders and the two merges."""
    folded = colours * patch**2
    second = conv(folded, 64, 1, bias=False)  # an encoder's weights for the other frame
    frames = 2 * (frame(64, 4, folded) + second) + conv(2 * folded, folded, 1)
    return 16 * STGRU_UNIT + conv(2 * 64, 64, 1) + frames


def stae(colours: int, scales: int) -> int:
    """4 units, whose kernels are 3 maps deep, three encoders, three decoders and their merge."""
    gates = sum(
        3 * conv(channels, gates * 64, 5, bias=False) + 3 * gates * 64
        for channels, gates in ((64, 7), (64, 4), (64, 3), (2 * 64, 1))
    )
    folded = 64 * colours
    encoder = conv(folded, 64, 1) + scales * cubic(64, 64)
    decoder = scales * cubic(64, 64) + conv(2 * 64, folded, 1)
    merge = conv(2 * folded, folded, 1)
    return 4 * (gates + conv(2 * 64, 64, 1)) + 3 * (encoder + decoder) + merge


TO_PATCHES = conv(128, 16, 1, bias=False)
PARAMETERS = {
    "stau": 4 * STAU_UNIT + frame(64, 2),
    "mau": 4 * STAU_UNIT + frame(64, 2),
    "iprnn": 4 * STGRU_UNIT + conv(2 * 64, 64, 1) + frame(64, 2),
    "predrnn": stlstm(16) + 3 * stlstm(128) + TO_PATCHES,
    "predrnnv2": stlstm(16) + 3 * stlstm(128) + conv(128, 128, 1, bias=False) + TO_PATCHES,
    "predrnnpp": causal_lstm(16) + 3 * causal_lstm(128) + 2 * conv(128, 2 * 128, 5) + TO_PATCHES,
    "mim": stlstm(16) + 3 * mim_unit() + TO_PATCHES,
    "motionrnn": stlstm(16, 64)
    + 3 * stlstm(64, 64)
    + 3 * motion_unit()
    + conv(16, 64, 1, bias=False)
    + conv(64, 16, 1, bias=False),
    "e3d_lstm": e3d_lstm(16) + 3 * e3d_lstm(64) + conv(2 * 64, 16, 1, bias=False),
    "stam": stam(16) + 3 * stam(32) + conv(2 * 32, 16, 1),
    "crevnet": 8 * reversible_pm() + two_way(),
    "convlstm": convlstm(16) + 3 * convlstm(128) + TO_PATCHES,
    "strpm": 16 * rpm() + conv(3 * 128, 128, 1) + 3 * frame(128, 2, 64) + conv(2 * 64, 64, 1),
    "stip": stip(1, 2),
    "stip_ucf_sports": stip(3, 2),
    "stip_human36m": stip(3, 4),
    "stip_sjtu4k": stip(3, 8),
    "stae": stae(1, 2),
    "stae_ucf_sports": stae(3, 2),
    "stae_ucf101": stae(3, 1),
    "sa_convlstm": sa_convlstm(16) + 3 * sa_convlstm(64) + conv(64, 16, 1, bias=False),
    "trajgru": trajgru_levels(),
    "frnn": frnn_layers(),
}


def test_no_model_is_left_out() -> None:
    elsewhere = {"phydnet", "stacked", "encoder_forecaster"}  # test_phydnet.py; those of any unit
    assert {*MODELS, *SETTINGS, *FREE_RUNNING} == set(zoo.__all__) - elsewhere
    assert PARAMETERS.keys() == {*MODELS, *SETTINGS, *FREE_RUNNING}


@pytest.mark.parametrize("name", PARAMETERS)
def test_defaults_have_the_papers_size_and_forecast_odd_frames(name: str) -> None:
    model = {**MODELS, **FREE_RUNNING, **SETTINGS}[name]()
    assert sum(parameter.numel() for parameter in model.parameters()) == PARAMETERS[name]
    shape = 1, 2, model.in_channels, 9, 7
    with torch.no_grad():
        assert model(torch.rand(shape), horizon=2).shape == shape


def convolution_weights(module: nn.Module) -> int:
    kinds = nn.Conv2d, nn.Conv3d
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, kinds))


# (width, what the papers print, in 2**20, what they count beside the convolutions in use):
# STAU's Table 6 at 64 channels, STIP's Table VII at 128 (where eight 5x5 convolutions are 3.125).
PUBLISHED: dict[str, tuple[int, float, int]] = {
    "ConvLSTMCell": (64, 0.98, conv(2 * 64, 64, 5, bias=False)),  # an output gate without use
    "STLSTMCell": (64, 1.57, 0),
    "MAUCell": (64, 0.78, 0),
    "STAUCell": (64, 0.78, 0),
    "ConvGRUCell": (128, 2.34, 0),
    "DGRUCell": (128, 4.69, 0),
    "STGRUCell": (128, 3.14, 0),
    "RPMCell": (128, 6.72, conv(3 * 128, 128, 1, bias=False)),  # the lowest layer's residual
    "E3DLSTMCell": (64, 4.70, 0),
}
GATES = {  # square kernels of 5x5, and of 1x1, from `width` channels to `width` channels
    "ConvLSTMCell": (4 + 4, 0),
    "STLSTMCell": (7 + 4 + 3 + 2, 2),
    "MAUCell": (1 + 1 + 3 + 3, 0),
    "STAUCell": (1 + 1 + 3 + 3, 0),
    "ConvGRUCell": (3 + 2 + 1, 0),
    "DGRUCell": (2 * (3 + 2 + 1), 0),
    "STGRUCell": (4 + 4, 0),
    "RPMCell": (5 + 2 + 2 * 5, 2),
    "E3DLSTMCell": (3 * (7 + 4 + 3 + 2), 2),  # each 3 maps deep
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_units_have_the_published_size(name: str) -> None:
    width, published, beside = PUBLISHED[name]
    fives, ones = GATES[name]
    count = convolution_weights(getattr(cells, name)(width, width))
    assert count == (25 * fives + ones) * width**2
    assert (count + beside) / 2**20 == pytest.approx(published, rel=0.006)


def test_patch_models_have_the_published_size() -> None:
    # OpenSTL prints 23.8M, 23.9M, 38.6M, 38.0M and 15.0M; its causal LSTM and ConvLSTM hold
    # ST-LSTM's output convolutions, unused.
    assert round(convolution_weights(zoo.predrnn()) / 1e6, 1) == 23.8
    assert round(convolution_weights(zoo.predrnnv2()) / 1e6, 1) == 23.9
    unused = 4 * conv(2 * 128, 128, 5, bias=False)
    assert round((convolution_weights(zoo.predrnnpp()) + unused) / 1e6, 1) == 38.6
    beside = 3 * (2 * 3 * 128 * 16**2 + conv(2 * 128, 128, 1, bias=False))  # peepholes; unused
    assert round((convolution_weights(zoo.mim()) + beside) / 1e6, 1) == 38.0
    unused += 4 * conv(2 * 128, 128, 1, bias=False)
    assert (convolution_weights(zoo.convlstm()) + unused) / 1e6 == pytest.approx(15.0, abs=0.1)


def test_e3d_lstm_has_the_published_size() -> None:
    # OpenSTL prints 51.0M: without biases, with a convolution of m that the paper does not have,
    # and with a scale and a shift for every element of the layer norm of C.
    count = convolution_weights(zoo.e3d_lstm(hidden_channels=128))
    beside = 4 * (2 * conv(128, 128, 5, bias=False) + 2 * 128 * 2 * 16**2)
    assert (count + beside) / 1e6 == pytest.approx(51.0, rel=0.01)


def layers(model: Predictor) -> Any:
    core: Any = model.core
    while isinstance(core, cells.Windowed | cells.Volumes | SharedCore):
        core = core.core
    found = getattr(core, "stack", core).cells
    beside = (cells.Decoupling, cells.Difference, cells.FirstHighway, IRevNetBlock)
    return nn.ModuleList(cell for cell in found if not isinstance(cell, beside))


def test_defaults_are_the_papers_settings() -> None:
    made = {name: make() for name, make in MODELS.items() if name != "crevnet"}
    assert {name: type(layers(model)[0]) for name, model in made.items()} == {
        "stau": cells.STAUCell,
        "mau": cells.MAUCell,
        "iprnn": cells.STGRUCell,
        "predrnn": cells.STLSTMCell,
        "predrnnpp": cells.CausalLSTMCell,
        "mim": cells.STLSTMCell,
        "motionrnn": cells.MotionLSTMCell,
        "predrnnv2": cells.DecoupledSTLSTMCell,
        "e3d_lstm": cells.E3DLSTMCell,
        "stam": cells.STAMCell,
        "convlstm": cells.ConvLSTMCell,
        "strpm": cells.RPMCell,
        "stip": cells.STGRUCell,
        "stae": cells.STAMCell,
        "sa_convlstm": cells.SAConvLSTMCell,
    }
    for name, model in made.items():
        assert len(
            [
                cell
                for cell in layers(model)
                if list(cell.children()) and not isinstance(cell, cells.GHUCell)
            ]
        ) == (16 if name in ("strpm", "stip") else 4)
        kernels = {m.kernel_size for m in layers(model).modules() if isinstance(m, nn.Conv2d)}
        assert kernels <= {(5, 5), (1, 1)} | ({(3, 3)} if name == "motionrnn" else set())
        kernels = {m.kernel_size for m in layers(model).modules() if isinstance(m, nn.Conv3d)}
        deep = {"stam": (3, 3, 3), "stae": (3, 5, 5)}.get(name, (2, 5, 5))
        assert kernels <= {deep, (1, 1, 1)}
        assert model.stride == {"strpm": 8 * 4, "stip": 2 * 16, "stae": 8 * 4}.get(name, 4)
    for cell in layers(made["stau"]):
        assert (cell.tau, cell.theta, cell.gamma, cell.scaled) == (5, 5, 0.0, True)
    for cell in layers(made["mau"]):
        assert (cell.tau, cell.gamma, cell.scaled) == (5, 0.0, True)
    assert {(cell.tau, cell.forget_bias) for cell in layers(made["strpm"])} == {(5, 1.0)}
    for cell in [cell for name in ("e3d_lstm", "stam", "stae") for cell in layers(made[name])]:
        assert (cell.tau, cell.volume[1]) == (5, 2)
    recalls = {name: model.decoder.recall for name, model in made.items()}
    assert recalls == {
        "stau": 0,
        "mau": 0,
        "iprnn": 1,
        "predrnn": 0,
        "predrnnpp": 0,
        "mim": 0,
        "motionrnn": 0,
        "predrnnv2": 0,
        "e3d_lstm": 0,
        "stam": 0,
        "convlstm": 0,
        "strpm": 0,
        "stip": 0.1,
        "stae": 0,
        "sa_convlstm": 0,
    }


def test_crevnets_defaults_are_the_papers_settings() -> None:
    """36 convolutions each way, 8 units of 32 channels, windows of 3 frames, all kernels cubic."""
    model = zoo.crevnet()
    assert model.stride == 8
    assert {type(cell) for cell in layers(model)} == {cells.ReversiblePMCell}
    assert len(layers(model)) == 8
    assert {cell.width for cell in layers(model)} == {32}
    core: Any = model.core
    assert core.window.depth == 3
    blocks = [cell for cell in core.core.stack.cells if isinstance(cell, IRevNetBlock)]
    convolutions = [m for block in blocks for m in block.modules() if isinstance(m, nn.Conv3d)]
    assert len(convolutions) == 36
    assert [block.hidden_channels // 2 for block in blocks] == [2] * 4 + [8] * 5 + [32] * 3
    kernels = {m.kernel_size for m in model.modules() if isinstance(m, nn.Conv3d)}
    assert kernels == {(3, 3, 3), (1, 1, 1)}
    assert not [m for cell in layers(model) for m in cell.modules() if isinstance(m, nn.GroupNorm)]


def test_arguments_arrive() -> None:
    model = zoo.stau(3, 8, 16, 3, kernel_size=3, tau=2, theta=4, gamma=1.0, recall=0.5)
    encoder: Any = model.encoder
    assert (encoder.stride, model.decoder.recall, len(layers(model))) == (8, 0.5, 16)
    for cell in layers(model):
        assert (cell.tau, cell.theta, cell.gamma) == (2, 4, 1.0)
        assert cell.conv_t[0].weight.shape == (24, 8, 3, 3)
    with torch.no_grad():
        assert model(torch.rand(1, 1, 3, 9, 17), horizon=1).shape == (1, 1, 3, 9, 17)
    model = zoo.mau(hidden_channels=8, tau=2, gamma=1.0)
    assert {(cell.tau, cell.gamma) for cell in layers(model)} == {(2, 1.0)}
    for make in (zoo.e3d_lstm, zoo.stam):
        model = make(3, 8, 2, kernel_size=(2, 3, 5), patch=2, depth=3, tau=2)
        assert {(cell.tau, cell.volume[1]) for cell in layers(model)} == {(2, 3)}
        assert layers(model)[0].conv_x[0].weight.shape == (56, 12, 2, 3, 5)
    model = zoo.e3d_lstm(3, 8, 2, kernel_size=3, patch=2, depth=3, tau=2)
    assert {(cell.tau, cell.volume[1]) for cell in layers(model)} == {(2, 3)}
    assert layers(model)[0].conv_x[0].weight.shape == (56, 12, 3, 3, 3)
    model = zoo.crevnet(3, 2, kernel_size=1, depth=2, blocks=(2, 1), norm="group")
    assert layers(model)[0].conv_c[0].weight.shape == (72, 72, 1, 1, 1)
    assert {cell.volume for cell in layers(model)} == {(48, 2)}
    model = zoo.convlstm(3, 8, 2, patch=2, forget_bias=0.0)
    assert layers(model)[0].conv_x[0].weight.shape == (32, 12, 5, 5)
    assert {cell.forget_bias for cell in layers(model)} == {0.0}
    model = zoo.strpm(3, 8, 3, 1, kernel_size=3, patch=4, tau=2)
    assert (model.encoder.stride, model.patch, len(layers(model))) == (2, 4, 3)
    assert {cell.att_m[0].weight.shape for cell in layers(model)} == {(8, 16, 3, 3)}


def stip_of(unit: Any, separate: bool) -> Predictor:
    return zoo.stip(1, 4, 2, 2, patch=1, separate=separate, cell=partial(unit, kernel_size=3))


FRAMES: dict[str, Callable[[Any], Predictor]] = {
    "stacked": lambda unit: zoo.stacked(partial(unit, kernel_size=3), 1, 4, 2, recall=0.5),
    "stip": lambda unit: stip_of(unit, separate=True),
    "stip without STED": lambda unit: stip_of(unit, separate=False),
}


@any_unit
@pytest.mark.parametrize("frame", FRAMES)
def test_any_unit_makes_a_model(unit: Any, frame: str) -> None:
    torch.manual_seed(0)
    model = FRAMES[frame](unit)
    core = model.core.core if isinstance(model.core, SharedCore) else model.core
    stgrus = {"stip": DomainStack, "stip without STED": MergedStack}
    wiring = stgrus.get(frame, unit.wiring) if unit is cells.STGRUCell else unit.wiring
    assert isinstance(core, wiring)
    assert [type(cell) for cell in layers(model)] == [unit, unit]
    frames = torch.rand(2, 4, 1, 9, 7)
    predicted, state = model.rollout_with_state(frames, torch.zeros(2, 3, dtype=torch.bool))
    assert predicted.shape == (2, 3, 1, 9, 7)
    (predicted.square().sum() + cells.total_penalty(state)).backward()
    for label, parameter in model.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.isfinite().all(), label


@any_model
def test_layer_norm_ties_a_model_to_its_size(name: str) -> None:
    model = MODELS[name](hidden_channels=4, layers=2)
    stride = model.patch * model.encoder.stride
    size = (8 * stride - 2, 6 * stride - 2)
    model = MODELS[name](hidden_channels=4, layers=2, norm="layer", size=size)
    with torch.no_grad():
        assert model(torch.rand(1, 2, 1, *size), horizon=1).shape == (1, 1, 1, *size)
        with pytest.raises(ValueError, match=r"size \((\d, )?8, 6\), got \((\d, )?8, 7\)"):
            model(torch.rand(1, 2, 1, size[0], 7 * stride), horizon=1)


@pytest.mark.parametrize("recall", [0.0, 1.0, 0.3])
def test_iprnn_is_its_naive_twin(recall: float) -> None:
    torch.manual_seed(0)
    model = zoo.iprnn(2, 4, 3, 2, kernel_size=3, recall=recall).double()
    frames = torch.rand(2, 3, 2, 8, 12, dtype=torch.float64)
    with torch.no_grad():
        expected = naive_iprnn(
            dict(model.state_dict()),
            [dict(cell.state_dict()) for cell in layers(model)],
            list(frames.unbind(1)),
            horizon=3,
            recall=recall,
        )
        predicted = model(frames, horizon=3)
    torch.testing.assert_close(predicted, torch.stack(expected, dim=1), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("recall", "length"), [(0.0, 2), (0.1, 1), (0.5, 3)])
def test_stip_is_its_naive_twin(recall: float, length: int) -> None:
    torch.manual_seed(0)
    options = {"patch": 2, "length": length, "recall": recall}
    model = zoo.stip(2, 4, 3, 3, kernel_size=3, **options).double()
    frames = torch.rand(2, 3, 2, 32, 48, dtype=torch.float64)
    with torch.no_grad():
        expected = naive_stip(
            dict(model.state_dict()),
            [dict(cell.state_dict()) for cell in layers(model)],
            list(frames.unbind(1)),
            horizon=3,
            **options,
        )
        predicted = model(frames, horizon=3)
    torch.testing.assert_close(predicted, torch.stack(expected, dim=1), rtol=0, atol=1e-10)


def test_without_sted_stip_is_iprnn_on_clips() -> None:
    one, two = (zoo.stip(1, 4, 2, 2, separate=separate) for separate in (False, True))
    weights = {name: tuple(weight.shape) for name, weight in one.state_dict().items()}
    assert weights.keys() == {
        name
        for name in two.state_dict()
        if not name.startswith(("encoder.domains.t", "decoder.domains.t"))
    }
    assert (weights["core.merge.weight"], weights["decoder.merge.weight"]) == (
        (4, 8, 1, 1),
        (4, 4, 1, 1),
    )
    assert isinstance(one.core, MergedStack)  # T and S are merged where they leave


@pytest.mark.parametrize("name", ["stip", "strpm", "stae"])
def test_the_decoders_of_domains_keep_no_map_of_the_frame_s_size(name: str) -> None:
    model = MODELS[name](hidden_channels=4, layers=1)
    *finer, coarsest = model.encoder(torch.rand(1, model.encoder.in_channels, 64, 64))
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        model.decoder(coarsest, finer)
    # But the product of two frames where there is an output domain.
    width = model.in_channels * model.patch**2 if name != "stip" else 0
    sizes = {x.shape for x in kept if x.dim() == 4}
    widths = {size[1] for size in sizes if size[-1] == 64}
    assert widths <= {width}


STAE: list[dict[str, Any]] = [
    {"downsamplings": 1, "patch": 2, "tau": 3},
    {"downsamplings": 2, "patch": 1, "tau": 2, "length": 1, "norm": None},
    {"downsamplings": 0, "patch": 2, "tau": 1, "norm": "layer", "size": (8, 12)},
    {"downsamplings": 2, "patch": 2, "length": 3, "kernel_size": (2, 3, 5)},
]


@pytest.mark.parametrize("separate", [True, False])
@pytest.mark.parametrize("options", STAE, ids=str)
def test_stae_is_its_naive_twin(options: dict[str, Any], separate: bool) -> None:
    torch.manual_seed(0)
    options = {"kernel_size": 3, "length": 2, "tau": 5, **options}
    model = zoo.stae(2, 4, 3, separate=separate, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start at 0 or 1
            parameter.add_(0.3 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    frames = torch.rand(2, 4, 2, 8, 8 if options["downsamplings"] else 12, dtype=torch.float64)
    with torch.no_grad():
        expected = naive_stae(
            dict(model.state_dict()),
            [dict(cell.state_dict()) for cell in layers(model)],
            list(frames.unbind(1)),
            horizon=3,
            **{name: options[name] for name in ("length", "patch", "tau")},
        )
        predicted = model(frames, horizon=3)
    torch.testing.assert_close(predicted, torch.stack(expected, dim=1), rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth", [1, 3])
def test_crevnet_is_its_naive_twin(depth: int) -> None:
    torch.manual_seed(0)
    model = zoo.crevnet(2, 3, blocks=(2, 1), depth=depth, norm="group").double()
    with torch.no_grad():
        for parameter in model.parameters():  # also those that start at 0 or 1
            parameter.add_(0.3 * torch.randn_like(parameter) / parameter[0].numel() ** 0.5)
    frames = torch.rand(2, 4, 2, 8, 12, dtype=torch.float64)
    core: Any = model.core
    blocks = [cell for cell in core.core.stack.cells if isinstance(cell, IRevNetBlock)]
    with torch.no_grad():
        expected = naive_crevnet(
            [dict(block.state_dict()) for block in blocks],
            [dict(cell.state_dict()) for cell in layers(model)],
            list(frames.unbind(1)),
            horizon=3,
            depth=depth,
        )
        predicted = model(frames, horizon=3)
    torch.testing.assert_close(predicted, torch.stack(expected, dim=1), rtol=0, atol=1e-10)


@any_model
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"layers": 0}, "at least one layer, got layers=0"),
        ({"layers": -1}, "at least one layer, got layers=-1"),
        ({"kernel_size": 4}, r"kernel_size must be odd .* got \(?4"),
        ({"norm": "batch"}, "norm must be 'group', 'layer' or None, got 'batch'"),
        ({"norm": "layer"}, r"norm='layer' needs size=\(H, W\)"),
    ],
    ids=str,
)
def test_what_every_model_refuses(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        MODELS[name](**{"hidden_channels": 4, **options})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", sorted({*MODELS} - {"crevnet"}))  # which has no such arguments
@pytest.mark.parametrize("channels", [0, -4])
@pytest.mark.parametrize("argument", ["in_channels", "hidden_channels"])
def test_a_model_has_channels(name: str, argument: str, channels: int) -> None:
    with pytest.raises(ValueError, match=rf"at least one channel, got .*{argument}") as error:
        MODELS[name](**{"hidden_channels": 4, argument: channels})
    assert "\n" not in str(error.value)


class Bare(torch.nn.Module):
    """A unit that lacks what a wiring needs."""

    def __init__(self, in_channels: int, hidden_channels: int) -> None:
        super().__init__()


class Wired(Bare):
    wiring = cells.Stack


@pytest.mark.parametrize(
    "make", [zoo.stacked, zoo.encoder_forecaster, lambda cell: zoo.stip(cell=cell)]
)
@pytest.mark.parametrize(
    ("cell", "says"),
    [
        (
            cells.STGRUCell(64, 64),
            "a cell class or a partial of one, got an instance of STGRUCell$",
        ),
        ("STGRUCell", "a cell class or a partial of one, got an instance of str$"),
        (Bare, "^Bare has no wiring: .* such as Stack, and hidden_channels$"),
        (Wired, "^Wired has no hidden_channels: a unit is a vidpred.cells.Cell with a wiring"),
    ],
)
def test_what_is_no_unit(make: Callable[[Any], Any], cell: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says) as error:
        make(cell)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: zoo.stacked(cells.STGRUCell, layers=0), "at least one layer, got layers=0"),
        (lambda: zoo.trajgru(hidden_channels=8, strides=(2, 0, 2)), r"strides must be at least 1"),
        (lambda: zoo.trajgru(frame_channels=0), "at least one channel, got 0"),
        (lambda: zoo.stau(0), "a frame has at least one channel, got in_channels=0"),
        (lambda: zoo.predrnn(0), "a frame has at least one channel, got in_channels=0"),
        (lambda: zoo.stau(tau=0), "tau must be at least 1 .* got 0"),
        (lambda: zoo.stau(theta=0), "theta must be at least 1 .* got 0"),
        (lambda: zoo.mau(tau=-1), "tau must be at least 1 .* got -1"),
        (lambda: zoo.strpm(tau=0), "tau must be at least 1 .* got 0"),
        (lambda: zoo.strpm(patch=0), "patch must be at least 1 pixel, got 0"),
        (lambda: zoo.strpm(in_channels=0), "at least one channel, got in_channels=0"),
        (lambda: zoo.stae(tau=0), "tau must be at least 1 .* got 0"),
        (lambda: zoo.stae(patch=0), "patch must be at least 1 pixel, got 0"),
        (lambda: zoo.stae(in_channels=0), "at least one channel, got in_channels=0"),
        (lambda: zoo.stae(length=0), "a clip has at least one frame, got length=0"),
        (lambda: zoo.stip(length=0), "a clip has at least one frame, got length=0"),
        (lambda: zoo.e3d_lstm(tau=0), "tau must be at least 1 .* got 0"),
        (lambda: zoo.e3d_lstm(depth=0), "at least one feature map, got depth=0"),
        (lambda: zoo.crevnet(in_channels=0), "at least one channel, got .*in_channels"),
        (lambda: zoo.crevnet(depth=0), "at least one feature map, got depth=0"),
        (lambda: zoo.crevnet(blocks=(4, 0, 3)), r"1 or more at each size, got \(4, 0, 3\)"),
    ],
)
def test_what_one_model_refuses(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make()
    assert "\n" not in str(error.value)
