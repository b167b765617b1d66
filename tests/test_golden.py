"""Cells and models against recorded outputs of the authors' and OpenSTL's code, in float64.

A file holds ``meta`` (JSON), ``param/<name>`` (their state dict), ``in/<name>``, ``out/<name>``;
where a loss is compared, also ``gradient/<name>`` by their weights. Its name begins with the unit's
or model's, everything else is read from the file: ``--golden DIR`` runs another folder of such
files, of any size, batch or width.

Outputs must agree to 1e-10. One exception: weights named as a layer norm's were drawn in float64
(in MotionRNN also convolutions of the second layer are so named), and where they are stored in
float32, no code can repeat the recorded outputs (the authors' own is off by up to 6e-7 of their
range); such a file is compared to 1e-6 of the range. The files shipped here store float64.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch import Tensor

from vidpred import cells, cli
from vidpred.models import Discriminator, Predictor, zoo
from vidpred.reference import translate
from vidpred.tasks import ForecastTask


def is_norm(name: str, dimensions: int) -> bool:
    """Whether a weight is a layer norm's shift: after a convolution, number 0, for each element."""
    return name.endswith(".1.bias") and dimensions > 1


class Golden:
    def __init__(self, path: Path) -> None:
        groups = ("param", "in", "out", "gradient")
        self.tensors: dict[str, dict[str, Tensor]] = {group: {} for group in groups}
        self.rounded = False
        with np.load(path, allow_pickle=False) as file:
            self.meta: dict[str, Any] = json.loads(str(file["meta"]))
            for key in file.files:
                group, _, name = key.partition("/")
                if name:
                    array = file[key]
                    self.rounded |= name.endswith(".1.weight") and array.dtype == "f4"
                    self.tensors[group][name] = torch.from_numpy(array).double()
        self.weights, self.inputs, self.outputs, self.gradients = self.tensors.values()
        self.unchecked = set(self.outputs)

    def build(self, make: Callable[..., torch.nn.Module], *args: Any, **options: Any) -> Any:
        """Make a module of these weights."""
        if kernel := self.meta.get("kernel"):
            options["kernel_size"] = kernel if isinstance(kernel, int) else tuple(kernel)
        module = make(*args, **options).double()
        module.load_state_dict(translate(module, self.weights))
        return module

    def expect(self, **outputs: Tensor) -> None:
        for name, output in outputs.items():
            expected = self.outputs[name]
            self.unchecked.discard(name)
            torch.testing.assert_close(
                output,
                expected,
                rtol=0.0,
                atol=1e-6 * expected.abs().max().item() if self.rounded else 1e-10,
                msg=lambda message, name=name: f"{name}: {message}",
            )


def layer_norm(golden: Golden, size: Any) -> dict[str, Any]:
    """The norm of the weights, and the size of the maps or frames."""
    normed = any(is_norm(name, weight.dim()) for name, weight in golden.weights.items())
    return {"norm": "layer" if normed else None, "size": tuple(size)}


def cell_convlstm(golden: Golden) -> None:
    x, h, c = (golden.inputs[name] for name in "xHC")
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.ConvLSTMCell, x.shape[1], h.shape[1], forget_bias=0.0, **norm)
    flow, state = cell(x, cells.ConvLSTMState(h, c))
    golden.expect(H=flow, C=state.c)


def cell_stlstm(golden: Golden) -> None:
    x, h, c, m = (golden.inputs[name] for name in "xHCM")
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.STLSTMCell, x.shape[1], h.shape[1], **norm)
    flow, state = cell(cells.ZigzagFlow(x, m), cells.STLSTMState(h, c))
    golden.expect(H=flow.x, C=state.c, M=flow.m)


def cell_stlstm_motion_highway(golden: Golden) -> None:
    x, h, c, m, highway = (golden.inputs[name] for name in ("x", "H", "C", "M", "highway"))
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.MotionHighwayCell, x.shape[1], h.shape[1], **norm)
    flow, state = cell(cells.MotionFlow(x, m, highway), cells.STLSTMState(h, c))
    golden.expect(H=flow.x, C=state.c, M=flow.m, highway=flow.highway)


def cell_causal_lstm(golden: Golden) -> None:
    x, h, c, m = (golden.inputs[name] for name in "xHCM")
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.CausalLSTMCell, x.shape[1], h.shape[1], **norm)
    flow, state = cell(cells.ZigzagFlow(x, m), cells.CausalLSTMState(h, c))
    golden.expect(H=flow.x, C=state.c, M=flow.m)


def cell_ghu(golden: Golden) -> None:
    x, z = golden.inputs["x"], golden.inputs["Z"]
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.GHUCell, x.shape[1], z.shape[1], **norm)
    flow, _ = cell(cells.ZigzagFlow(x, torch.zeros_like(x)), cells.GHUState(z))
    golden.expect(Z=flow.x)


def cell_mim_n(golden: Golden) -> None:
    x, h, c = (golden.inputs[name] for name in "xHC")
    norm = layer_norm(golden, x.shape[-2:])
    cell = golden.build(cells.ConvLSTMCell, x.shape[1], h.shape[1], peepholes=True, **norm)
    flow, state = cell(x, cells.ConvLSTMState(h, c))
    golden.expect(H=flow, C=state.c)


def cell_mim_block(golden: Golden) -> None:
    x, d, h, c, m = (golden.inputs[name] for name in ("x", "diff_h", "H", "C", "M"))
    # Without MIM-N: its weights are in other files.
    norm = layer_norm(golden, x.shape[-2:])
    cell = cells.MIMCell(x.shape[1], h.shape[1], golden.meta["kernel"], **norm).double()
    cell.n = torch.nn.Identity()  # type: ignore[assignment]
    cell.load_state_dict(translate(cell, golden.weights))
    s = torch.zeros_like(c)
    for step in "12":
        h, c, m, s = cell.update(x, m, d, h, c, s)
        golden.expect(**{f"H{step}": h, f"C{step}": c, f"M{step}": m})
        if f"S{step}" in golden.outputs:
            golden.expect(**{f"S{step}": s})


def cell_motion_gru(golden: Golden) -> None:
    x, offset, trend = (golden.inputs[name] for name in ("x", "offset", "trend"))
    n = golden.meta["neighbour"]
    cell = cells.MotionGRUCell(x.shape[1], x.shape[1], neighbours=n).double()
    cell.load_state_dict(translate(cell, golden.weights))
    x, state = cell(x, cells.MotionGRUState(offset, trend))
    golden.expect(x=x, offset=state.offset, trend=state.trend)


def cell_strpm(golden: Golden) -> None:
    t, s, o, h, m = (golden.inputs[name] for name in ("T_in", "S_in", "O_in", "H", "M"))
    past_c, past_m = golden.inputs["C_history"], golden.inputs["M_history"]
    norm = layer_norm(golden, h.shape[-2:])
    cell = golden.build(cells.RPMCell, 3 * h.shape[1], h.shape[1], tau=len(past_c), **norm)
    # The file's M is not the last of its history, as it is in a sequence: the equations alone.
    h, o, c, m = cell.update(torch.cat([t, s, o], dim=1), h, m, past_c.unbind(), past_m.unbind())
    golden.expect(H=h, O=o, C=c, M=m)


def cell_phycell(golden: Golden) -> None:
    x, h = (golden.inputs[name] for name in "xH")
    cell = golden.build(cells.PhyCell, x.shape[1], h.shape[1])
    flow, state = cell(x, cell.init_state(x)._replace(h=h))
    golden.expect(H=flow, penalty=state.penalty.total.mean())


def cell_stam(golden: Golden) -> None:
    x, h, m = (golden.inputs[name] for name in "xHM")
    past_c, past_m = (
        cells.PastMemories(tuple(golden.inputs[name]), torch.zeros(len(x), 1, 1, 1, 1))
        for name in ("C_history", "M_history")
    )
    cell = golden.build(
        cells.STAMCell,
        x.shape[1],
        h.shape[1],
        depth=x.shape[2],
        tau=len(past_c.maps),
        **layer_norm(golden, x.shape[-2:]),
    )
    # The file's M is not the last of its history, as it is in a sequence: the equations alone.
    h, _, c, m = cell.update(x, h, m, past_c, past_m)
    golden.expect(H=h, C=c, M=m)


def cell_crevnet_rpm(golden: Golden) -> None:
    x1, x2, m = (golden.inputs[name] for name in ("x1", "x2", "M"))
    width, depth = 2 * x1.shape[1], x1.shape[2]
    layers = [
        cells.ReversiblePMCell(width, width, golden.meta["kernel"], depth=depth, norm=None)
        for _ in range(golden.meta["layers"])
    ]
    stack = cells.Reversible(layers).double()
    stack.load_state_dict(translate(stack, golden.weights))
    before = tuple(
        cells.ReversiblePMState(golden.inputs[f"H{k}"], golden.inputs[f"C{k}"])
        for k in range(len(layers))
    )
    flow, state = stack(cells.ReversibleFlow(x1, x2, m), before)
    golden.expect(x1=flow.x1, x2=flow.x2, M=flow.m)
    for k, (h, c) in enumerate(state):
        golden.expect(**{f"H{k}": h, f"C{k}": c})


def cell_stgru(golden: Golden) -> None:
    t, s = golden.inputs["T"], golden.inputs["S"]
    cell = golden.build(cells.STGRUCell, s.shape[1], t.shape[1], **layer_norm(golden, t.shape[-2:]))
    s_new, state = cell(s, cells.STGRUState(t))
    u_t, r_t, *_ = cell.conv_t(t).chunk(4, dim=1)
    u_s, r_s, *_ = cell.conv_s(s).chunk(4, dim=1)
    update, trend = torch.sigmoid(u_t + u_s + cell.update_bias), torch.sigmoid(r_t + r_s)
    golden.expect(T=state.t, S=s_new, update_gate=update, trend_gate=trend)


def cell_mau(golden: Golden) -> None:
    t, s = golden.inputs["T"], golden.inputs["S"]
    past = cells.MAUState(tuple(golden.inputs["T_history"]), tuple(golden.inputs["S_history"]))
    cell = golden.build(
        cells.MAUCell,
        s.shape[1],
        t.shape[1],
        tau=golden.meta["tau"],
        gamma=golden.meta["gamma"],
        **layer_norm(golden, t.shape[-2:]),
    )
    # The file's T is not the last of its history, as it is in a sequence: the equations alone.
    t_new, s_new = cell.update(t, s, past)
    golden.expect(T=t_new, S=s_new)


def cell_stau(golden: Golden) -> None:
    t, s = golden.inputs["T"], golden.inputs["S"]
    past = cells.MAUState(tuple(golden.inputs["T_history"]), tuple(golden.inputs["S_history"]))
    rungs = tuple(zip(golden.inputs["S_lower"], golden.inputs["T_lower"], strict=True))
    cell = golden.build(
        cells.STAUCell,
        s.shape[1],
        t.shape[1],
        tau=golden.meta["tau"],
        theta=golden.meta["theta"],
        gamma=golden.meta["gamma"],
        **layer_norm(golden, t.shape[-2:]),
    )
    t_new, s_new = cell.update(t, s, past, rungs)
    golden.expect(T=t_new, S=s_new)


def cell_trajgru(golden: Golden) -> None:
    x, h = golden.inputs["x"], golden.inputs["H"]
    cell = golden.build(
        cells.TrajGRUCell,
        x.shape[1],
        h.shape[1],
        links=golden.meta["links"],
        activation=torch.nn.LeakyReLU(0.2),
        norm=None,
    )
    flow, _ = cell(x, cells.TrajGRUState(h))
    golden.expect(H=flow)


def keep_first(golden: Golden, frames: Tensor) -> Tensor:
    """True frames enter for ``input_length`` steps, and predictions after them."""
    steps = torch.arange(frames.shape[1] - 1)
    return (steps < golden.meta["input_length"]).expand(frames.shape[0], -1)


def run_model(golden: Golden, model: Any, frames: Tensor) -> Tensor:
    return model.rollout(frames, keep_first(golden, frames))


def patch_model(
    golden: Golden, make: Callable[..., Any], fold: str = "h w (p q c)", **options: Any
) -> tuple[Predictor, Tensor]:
    """Check the predictions; return the model and its frames."""
    # These files hold frames already folded into patches.
    p = golden.meta["patch"]
    folded = golden.inputs["frames"]
    frames = rearrange(folded, f"b t {fold} -> b t c (h p) (w q)", p=p, q=p)
    model = golden.build(
        make,
        frames.shape[2],
        golden.meta["hidden"],
        golden.meta["layers"],
        patch=p,
        **layer_norm(golden, frames.shape[-2:]),
        **options,
    )
    predicted = run_model(golden, model, frames)
    golden.expect(frames=rearrange(predicted, f"b t c (h p) (w q) -> b t {fold}", p=p, q=p))
    return model, frames


def model_convlstm(golden: Golden) -> None:
    patch_model(golden, zoo.convlstm, forget_bias=0.0)


def model_predrnn(golden: Golden) -> None:
    patch_model(golden, zoo.predrnn)


def model_predrnnv2(golden: Golden) -> None:
    decoupling = golden.meta["decouple_beta"]
    model, frames = patch_model(golden, zoo.predrnnv2, decoupling=decoupling)
    loss = ForecastTask(model).loss(frames, keep_first(golden, frames))
    golden.expect(loss=loss)
    loss.backward()
    expected = translate(model, golden.gradients)
    for name, parameter in model.named_parameters():
        if not name.endswith(".bias"):  # the reference has none
            torch.testing.assert_close(parameter.grad, expected[name], rtol=0.0, atol=1e-10)


def model_predrnnpp(golden: Golden) -> None:
    patch_model(golden, zoo.predrnnpp)


def model_crevnet(golden: Golden) -> None:
    frames = golden.inputs["frames"]
    model = golden.build(
        zoo.crevnet,
        frames.shape[2],
        golden.meta["layers"],
        depth=golden.meta["depth"],
        blocks=golden.meta["blocks"],
    )
    golden.expect(frames=run_model(golden, model, frames))


def model_mim(golden: Golden) -> None:
    patch_model(golden, zoo.mim)


def model_motionrnn(golden: Golden) -> None:
    patch_model(golden, zoo.motionrnn)


def model_phydnet(golden: Golden) -> None:
    frames, meta = golden.inputs["frames"], golden.meta
    model = golden.build(zoo.phydnet, frames.shape[2], meta["hidden"], meta["layers"])
    loss = ForecastTask(model).loss(frames, keep_first(golden, frames))
    golden.expect(frames=run_model(golden, model, frames), loss=loss)


def model_stam(golden: Golden) -> None:
    kernel = golden.weights["cell_list.0.conv_x.0.weight"].shape[2:]
    golden.meta["kernel"] = kernel  # not among the file's
    window = {"depth": golden.meta["clip_length"], "tau": golden.meta["tau"]}
    patch_model(golden, zoo.stam, "(p q c) h w", **window)


def conv_model(golden: Golden, make: Callable[..., Any], *options: str) -> None:
    frames = golden.inputs["frames"]
    model = golden.build(
        make,
        frames.shape[2],
        golden.meta["hidden"],
        golden.meta["layers"],
        golden.meta["downsamplings"],
        recall=float(golden.meta["recall"]),
        **{name: golden.meta[name] for name in ("tau", "gamma", *options)},
        **layer_norm(golden, frames.shape[-2:]),
    )
    golden.expect(frames=run_model(golden, model, frames))


def model_mau(golden: Golden) -> None:
    conv_model(golden, zoo.mau)


def model_stau(golden: Golden) -> None:
    conv_model(golden, zoo.stau, "theta")


def model_stip(golden: Golden) -> None:
    frames, meta = golden.inputs["frames"], golden.meta
    model = golden.build(
        zoo.stip,
        frames.shape[2],
        meta["hidden"],
        meta["layers"],
        meta["downsamplings"],
        patch=meta["patch"],
        length=meta["clip_length"],
        recall=meta["recall_weight"],
        **layer_norm(golden, frames.shape[-2:]),
    )
    steps = frames.shape[1] - 1
    known = steps if meta["feedback"] == "forced" else meta["input_length"]
    keep = (torch.arange(steps) < known).expand(len(frames), -1)
    golden.expect(frames=model.rollout(frames, keep))


def model_strpm(golden: Golden) -> None:
    frames = golden.inputs["frames"]
    model = golden.build(
        zoo.strpm,
        frames.shape[2],
        golden.meta["hidden"],
        golden.meta["layers"],
        golden.meta["downsamplings"],
        patch=golden.meta.get("patch", 1),
        tau=golden.meta["tau"],
        **layer_norm(golden, frames.shape[-2:]),
    )
    golden.expect(frames=run_model(golden, model, frames))


def free_running_model(golden: Golden, make: Callable[..., Any], *options: str) -> None:
    frames, expected = golden.inputs["frames"], golden.outputs["frames"]
    settings = {name: golden.meta[name] for name in ("strides", "frame_channels", *options)}
    model = golden.build(make, frames.shape[2], golden.meta["hidden"], **settings)
    golden.expect(frames=model(frames, horizon=expected.shape[1]))


def model_frnn(golden: Golden) -> None:
    free_running_model(golden, zoo.frnn)


def model_trajgru(golden: Golden) -> None:
    free_running_model(golden, zoo.trajgru, "links")


def discriminator(golden: Golden) -> None:
    frames, meta = golden.inputs["frames"], golden.meta
    layers = int(math.log2(meta["height"]))
    model = golden.build(Discriminator, frames.shape[2], meta["hidden"], layers, slope=0.0)
    logits, features = model(frames)
    golden.expect(probability=logits.sigmoid().mean(dim=1), features=features.flatten(2))


CHECKS = {
    check.__name__: check
    for check in (
        cell_causal_lstm,
        cell_convlstm,
        cell_crevnet_rpm,
        cell_ghu,
        cell_mau,
        cell_mim_block,
        cell_mim_n,
        cell_motion_gru,
        cell_phycell,
        cell_stam,
        cell_stau,
        cell_stgru,
        cell_stlstm,
        cell_stlstm_motion_highway,
        cell_strpm,
        cell_trajgru,
        discriminator,
        model_convlstm,
        model_frnn,
        model_crevnet,
        model_mau,
        model_mim,
        model_motionrnn,
        model_phydnet,
        model_predrnn,
        model_predrnnpp,
        model_predrnnv2,
        model_stam,
        model_stau,
        model_stip,
        model_strpm,
        model_trajgru,
    )
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "path" not in metafunc.fixturenames:
        return
    folder = Path(str(metafunc.config.getoption("golden")))
    paths = sorted(folder.glob("*.npz"))
    if not paths:
        raise pytest.UsageError(f"--golden: no .npz files in {folder}")
    metafunc.parametrize("path", paths, ids=[path.stem for path in paths])


def test_shipped_files_allow_the_strict_tolerance() -> None:
    folder = Path(__file__).parent / "golden"
    assert not [path.stem for path in folder.glob("*.npz") if Golden(path).rounded]


def unit_of(path: Path) -> str | None:
    """The unit or model of a file, by the longest name that its own begins with."""
    matching = [name for name in CHECKS if f"{path.stem}_".startswith(f"{name}_")]
    return max(matching, key=len, default=None)


def test_every_shipped_file_is_checked() -> None:
    folder = Path(__file__).parent / "golden"
    assert {unit_of(path) for path in folder.glob("*.npz")} == set(CHECKS)


def test_golden(path: Path) -> None:
    unit = unit_of(path)
    if unit not in CHECKS:  # only in a folder of the user's
        pytest.skip(f"{path.stem}: vidpred has no such unit or model yet")
    golden = Golden(path)
    CHECKS[unit](golden)
    assert not golden.unchecked


class Spoilt(Golden):
    """Takes every weight away in turn, or its shape: the model is refused, or never used it."""

    def build(self, make: Callable[..., torch.nn.Module], *args: Any, **options: Any) -> Any:
        module = super().build(make, *args, **options)
        for spoilt in self.weights:
            rest = {name: weight for name, weight in self.weights.items() if name != spoilt}
            for state in (rest, {**rest, spoilt: torch.zeros(7)}):
                with contextlib.suppress(ValueError):
                    translated = translate(module, state)
                    for name, weight in module.state_dict().items():
                        assert torch.equal(translated[name], weight), f"{name} without {spoilt}"
        return module


class Imported(Golden):
    """Makes models as a user does: ``vidpred import``, then ``from_pretrained``."""

    def build(self, make: Callable[..., torch.nn.Module], *args: Any, **options: Any) -> Any:
        call = inspect.signature(make).bind(*args, kernel_size=self.meta["kernel"], **options)
        with tempfile.TemporaryDirectory() as folder:
            checkpoint, out = Path(folder, "theirs.pth"), Path(folder, "ours")
            torch.save(self.weights, checkpoint)
            command = ["import", str(checkpoint), "--model", make.__name__, "--out", str(out)]
            settings = [
                f"--model.{name}={value if isinstance(value, str) else json.dumps(value)}"
                for name, value in call.arguments.items()
            ]
            assert cli.main([*command, *settings]) == 0
            return Predictor.from_pretrained(out)


def test_no_weight_may_be_missing_or_misshaped(path: Path) -> None:
    if unit := CHECKS.get(unit_of(path) or ""):
        unit(Spoilt(path))


def test_imported_models_give_the_recorded_outputs(path: Path) -> None:
    unit = unit_of(path) or ""
    if unit in CHECKS and unit.startswith("model_"):
        CHECKS[unit](Imported(path))
