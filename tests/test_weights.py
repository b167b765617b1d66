"""Weights are saved whole, loaded safely, and refused in one line when they belong elsewhere."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from torch.nn.functional import conv2d, conv3d, leaky_relu

from vidpred import weights
from vidpred.cells import ConvLSTMCell
from vidpred.models import Predictor, zoo
from vidpred.reference import translate


def small(**options: Any) -> Predictor:
    return zoo.stau(hidden_channels=4, layers=2, **options)


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))


def test_saved_weights_come_back(tmp_path: Path) -> None:
    saved, loaded = small(), small()
    assert not same(saved, loaded)
    weights.save(saved, tmp_path / "new folder" / "weights.pt")
    weights.load(loaded, tmp_path / "new folder" / "weights.pt")
    assert same(saved, loaded)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": {f"predictor.{k}": v for k, v in state.items()}, "epoch": 3},
        lambda state: {"net_param": {f"module.{k}": v for k, v in state.items()}},
        lambda state: {"state_dict": {f"model.{k}": v for k, v in state.items()}},
        lambda state: {"model": {f"_orig_mod.{k}": v for k, v in state.items()}, "epoch": 3},
    ],
    ids=["lightning task", "authors", "openstl", "compiled"],
)
def test_wrapped_weights_are_found(wrap: Any, tmp_path: Path) -> None:
    saved, loaded = small(), small()
    torch.save(wrap(saved.state_dict()), tmp_path / "checkpoint")
    weights.load(loaded, tmp_path / "checkpoint")
    assert same(saved, loaded)


def test_a_file_in_the_authors_names_is_translated(tmp_path: Path) -> None:
    theirs = {
        "conv_x.0.weight": torch.rand(16, 3, 5, 5),
        "conv_h.0.weight": torch.rand(16, 4, 5, 5),
        "conv_o.0.weight": torch.rand(4, 8, 5, 5),  # unused in the reference
        "conv_last.weight": torch.rand(4, 8, 1, 1),
    }
    cell = ConvLSTMCell(3, 4, norm=None)
    cell.load_state_dict(translate(cell, theirs))
    ours = cell.state_dict()
    assert torch.equal(ours["conv_x.0.weight"], theirs["conv_x.0.weight"])
    assert not ours["conv_h.0.bias"].any()
    torch.save(theirs, tmp_path / "theirs")
    other = ConvLSTMCell(3, 4, norm=None)
    weights.load(other, tmp_path / "theirs")
    assert same(cell, other)


def test_openstl_keeps_the_authors_phydnet_in_its_model() -> None:
    path = Path(__file__).parent / "golden" / "model_phydnet.npz"
    with np.load(path, allow_pickle=False) as file:
        names = [name for name in file.files if name.startswith("param/")]
        theirs = {name.removeprefix("param/"): torch.from_numpy(file[name]) for name in names}
    cells = {name: weight for name, weight in theirs.items() if "cell_list" in name}
    moments = {f"k2m._{name}": torch.rand(7, 7) for name in ("M0", "M1", "invM0", "invM1")}
    openstl = {f"encoder.{name}": weight for name, weight in theirs.items()} | cells | moments
    model, other = (zoo.phydnet(hidden_channels=32, layers=2) for _ in range(2))
    model.load_state_dict(translate(model, theirs))
    other.load_state_dict(translate(other, openstl))
    assert same(model, other)


def test_colour_patches_are_reordered() -> None:
    """The reference folds (row, column, colour), we fold (colour, row, column)."""
    p, colours, hidden = 2, 3, 4
    model = zoo.convlstm(in_channels=colours, hidden_channels=hidden, layers=1, patch=p)
    folded = p * p * colours
    theirs = {
        "cell_list.0.conv_x.0.weight": torch.rand(4 * hidden, folded, 5, 5),
        "cell_list.0.conv_h.0.weight": torch.rand(4 * hidden, hidden, 5, 5),
        "conv_last.weight": torch.rand(folded, hidden, 1, 1),
    }
    model.load_state_dict(translate(model, theirs))
    frames = torch.rand(2, colours, 8, 6)
    their_fold = rearrange(frames, "b c (h p) (w q) -> b (p q c) h w", p=p, q=p)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(
        conv(
            model._encode(frames)[-1], model.state_dict()["core.cells.0.conv_x.0.weight"], padding=2
        ),
        conv(their_fold, theirs["cell_list.0.conv_x.0.weight"], padding=2),
    )
    top = torch.rand(2, hidden, 4, 3)
    torch.testing.assert_close(
        model._decode(top, [], frames.shape[-2:]),
        rearrange(
            conv(top, theirs["conv_last.weight"]), "b (p q c) h w -> b c (h p) (w q)", p=p, q=p
        ),
    )


def test_colour_patches_of_strpm_are_reordered() -> None:
    p, colours, hidden = 2, 3, 4
    model = zoo.strpm(colours, hidden, layers=1, downsamplings=0, patch=p)
    folded = p * p * colours
    theirs = {
        name.replace("core.stack.cells", "cell_list"): weight
        for name, weight in model.state_dict().items()
        if name.startswith("core.")
    }
    for domain, srcnn in (("t", "c"), ("s", "m"), ("o", "o")):
        theirs |= {
            f"encoder_{domain}.encoder_{domain}_conv-1.weight": torch.rand(hidden, folded, 1, 1),
            f"encoder_{domain}.encoder_{domain}_conv-1.bias": torch.rand(hidden),
            f"{srcnn}_srcnn.0.weight": torch.rand(folded, hidden, 1, 1),
            f"{srcnn}_srcnn.0.bias": torch.rand(folded),
        }
    theirs["conv_last_sr.weight"] = torch.rand(folded, 2 * folded, 1, 1)
    theirs["conv_last_sr.bias"] = torch.rand(folded)
    model.load_state_dict(translate(model, theirs))

    def conv(name: str, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(x, theirs[f"{name}.weight"], theirs[f"{name}.bias"])

    frames = torch.rand(2, colours, 8, 6)
    their_fold = rearrange(frames, "b c (h p) (w q) -> b (p q c) h w", p=p, q=p)
    features = [conv(f"encoder_{d}.encoder_{d}_conv-1", their_fold).relu() for d in "tso"]
    torch.testing.assert_close(model._encode(frames)[-1], torch.cat(features, dim=1))
    c, m, o = (conv(f"{d}_srcnn.0", x) for d, x in zip("cmo", features, strict=True))
    unfolded = o * torch.tanh(conv("conv_last_sr", torch.cat([c, m], dim=1)))
    torch.testing.assert_close(
        model._decode(torch.cat(features, dim=1), [], frames.shape[-2:]),
        rearrange(unfolded, "b (p q c) h w -> b c (h p) (w q)", p=p, q=p),
    )


def test_colour_patches_of_stip_s_clips_are_reordered() -> None:
    p, colours, hidden = 2, 3, 4
    model = zoo.stip(colours, hidden, layers=1, downsamplings=0, patch=p, length=2)
    folded = p * p * colours
    theirs = {
        name.replace("core.stack.cells", "cell_list"): weight
        for name, weight in model.state_dict().items()
        if name.startswith("core.stack")
    }
    theirs |= {"merge_t.weight": torch.rand(hidden, 2 * hidden, 1, 1)}
    theirs |= {"merge_t.bias": torch.rand(hidden)}
    for domain in "ts":
        theirs |= {
            f"{domain}_encoder3d.encoder3d_{domain}_conv-1.weight": torch.rand(
                hidden, folded, 2, 1, 1
            ),
            f"{domain}_encoder3d.encoder3d_{domain}_conv-1.bias": torch.rand(hidden),
            f"{domain}_srcnn.0.weight": torch.rand(folded, hidden, 1, 1),
            f"{domain}_srcnn.0.bias": torch.rand(folded),
        }
    theirs["conv_last_sr.weight"] = torch.rand(folded, 2 * folded, 1, 1)
    theirs["conv_last_sr.bias"] = torch.rand(folded)
    model.load_state_dict(translate(model, theirs))

    def weights(name: str) -> tuple[torch.Tensor, torch.Tensor]:
        return theirs[f"{name}.weight"], theirs[f"{name}.bias"]

    clip = torch.rand(2, 2, colours, 8, 6)
    their_fold = rearrange(clip, "b l c (h p) (w q) -> b (p q c) l h w", p=p, q=p)
    features = [
        leaky_relu(conv3d(their_fold, *weights(f"{d}_encoder3d.encoder3d_{d}_conv-1")), 0.2)
        for d in "ts"
    ]
    encoded = torch.cat(features, dim=1).squeeze(2)
    torch.testing.assert_close(model._encode(*clip.unbind(1))[-1], encoded)
    # What the core gives of T is decoded by what is named after S.
    pairs = zip("st", encoded.chunk(2, dim=1), strict=True)
    domains = [conv2d(x, *weights(f"{d}_srcnn.0")) for d, x in pairs]
    frame = conv2d(torch.cat(domains, dim=1), *weights("conv_last_sr"))
    torch.testing.assert_close(
        model._decode(encoded, [], clip.shape[-2:]),
        rearrange(frame, "b (p q c) h w -> b c (h p) (w q)", p=p, q=p),
    )


def test_weights_for_other_colours_are_refused() -> None:
    grey, coloured = (zoo.convlstm(c, hidden_channels=4, layers=1, patch=2) for c in (1, 3))
    theirs = {
        name.replace("core.cells", "cell_list").replace("decoder.to_patches", "conv_last"): weight
        for name, weight in grey.state_dict().items()
    }
    grey.load_state_dict(translate(grey, theirs))
    with pytest.raises(ValueError, match="weights are of another model"):
        translate(coloured, theirs)


def test_the_first_highway_is_reordered_too() -> None:
    p, colours, hidden = 2, 3, 4
    folded = p * p * colours
    model = zoo.motionrnn(in_channels=colours, hidden_channels=hidden, layers=1, patch=p)
    theirs = {
        "cell_list.0.conv_x.0.weight": torch.rand(7 * hidden, folded, 5, 5),
        "cell_list.0.conv_h.0.weight": torch.rand(4 * hidden, hidden, 5, 5),
        "cell_list.0.conv_m.0.weight": torch.rand(3 * hidden, hidden, 5, 5),
        "cell_list.0.conv_o.0.weight": torch.rand(hidden, 2 * hidden, 5, 5),
        "cell_list.0.conv_last.weight": torch.rand(hidden, 2 * hidden, 1, 1),
        "conv_first_v.weight": torch.rand(hidden, folded, 1, 1),
        "conv_last.weight": torch.rand(folded, hidden, 1, 1),
    }
    ours = translate(model, theirs)
    frames = torch.rand(2, colours, 8, 6)
    their_fold = rearrange(frames, "b c (h p) (w q) -> b (p q c) h w", p=p, q=p)
    conv = torch.nn.functional.conv2d
    torch.testing.assert_close(
        conv(model._encode(frames)[-1], ours["core.stack.cells.0.conv.weight"]),
        conv(their_fold, theirs["conv_first_v.weight"]),
    )


def test_windows_of_colour_patches_are_reordered() -> None:
    """The reference's last kernel spans the window, whose maps lie in our channels."""
    p, colours, hidden, depth = 2, 3, 4, 2
    model = zoo.stam(colours, hidden, 1, patch=p, norm=None)
    place = "core.core.stack.cells.0."
    cell = {
        name.removeprefix(place): torch.rand_like(weight)
        for name, weight in model.state_dict().items()
        if name.startswith(place)
    }
    theirs = {f"cell_list.0.{name}": weight for name, weight in cell.items()} | {
        "conv_last.weight": torch.rand(p * p * colours, hidden, depth, 1, 1),
        "conv_last.bias": torch.rand(p * p * colours),
    }
    model.load_state_dict(translate(model, theirs))
    top = torch.rand(2, hidden, depth, 4, 3)
    conv = torch.nn.functional.conv3d(top, theirs["conv_last.weight"], theirs["conv_last.bias"])
    torch.testing.assert_close(
        model._decode(top.flatten(1, 2), [], torch.Size((8, 6))),
        rearrange(conv.squeeze(2), "b (p q c) h w -> b c (h p) (w q)", p=p, q=p),
    )
    weight = model.state_dict()[f"{place}conv_x.0.weight"]
    expected = rearrange(cell["conv_x.0.weight"], "o (p q c) d h w -> o (c p q) d h w", p=p, q=p)
    assert torch.equal(weight, expected)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "damaged or no checkpoint"),
        (b"no weights at all", "damaged or no checkpoint"),
        (pickle.dumps(Trap(), protocol=2), "plain values, print, which could run code"),
        ([1, 2], "holds a dict of tensors, got list"),
        ({}, "no weights in the file: .* got nothing"),
        ({"epoch": 3}, "no weights in the file: .* got epoch"),
        ({"something": torch.zeros(2)}, "another model"),
        (zoo.stau(hidden_channels=4, layers=3).state_dict(), "another model"),
        (zoo.stau(hidden_channels=6, layers=2).state_dict(), r"instead of \(12,"),
        (zoo.convlstm(hidden_channels=4).state_dict(), "another model"),
    ],
)
def test_foreign_files_are_refused_in_one_line(
    content: Any, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "weights.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=says) as error:
        weights.load(model, path)
    assert "\n" not in str(error.value)
    assert "executed" not in capsys.readouterr().out
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    weights.save(small(), path)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"weights\.pt is damaged or no checkpoint"):
        weights.load(small(), path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere\.pt"):
        weights.load(small(), tmp_path / "nowhere.pt")
