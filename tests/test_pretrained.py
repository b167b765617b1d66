"""Model folders: every model comes back bit for bit, whatever is wrong is one line and no model."""

from __future__ import annotations

import copy
import inspect
import json
import os
import pickle
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import vidpred
from vidpred import cells
from vidpred.models import ConvDecoder, Predictor, zoo

NEEDED: dict[str, dict[str, Any]] = {
    "encoder_forecaster": {"cell": partial(cells.ConvGRUCell, kernel_size=3)},
    "stacked": {"cell": partial(cells.STAUCell, tau=2)},
}


def small(name: str = "stau", **options: Any) -> Predictor:
    make = getattr(zoo, name)
    sizes = {"hidden_channels": 4, "layers": 2}
    arguments = {key: sizes[key] for key in sizes.keys() & inspect.signature(make).parameters}
    return make(**{**arguments, **NEEDED.get(name, {}), **options})


def forecast(model: Predictor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(2, 3, model.in_channels, 16, 16, generator=generator)
    with torch.no_grad():
        return model(frames.to(next(model.parameters()).dtype), horizon=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", zoo.__all__)
def test_every_model_comes_back(name: str, tmp_path: Path) -> None:
    model = small(name)
    model.save_pretrained(tmp_path / "new" / "folder")
    assert {file.name for file in (tmp_path / "new" / "folder").iterdir()} == {
        "config.json",
        "model.safetensors",
    }
    again = Predictor.from_pretrained(tmp_path / "new" / "folder")
    assert torch.equal(forecast(again), forecast(model))
    weights, expected = again.state_dict(), model.state_dict()
    assert weights.keys() == expected.keys()
    for key, weight in weights.items():
        assert torch.equal(weight, expected[key])
        assert weight.stride() == expected[key].stride()  # channels-last stays channels-last
    assert again.recipe == model.recipe
    again.save_pretrained(tmp_path / "again")  # and goes on


@pytest.mark.parametrize("unit", cells.UNITS, ids=lambda unit: unit.__name__)
def test_every_unit_comes_back(unit: Any, tmp_path: Path) -> None:
    model = small("stacked", cell=partial(unit, kernel_size=3))
    model.save_pretrained(tmp_path)
    assert torch.equal(forecast(Predictor.from_pretrained(str(tmp_path))), forecast(model))


def test_config_has_the_form_of_the_command_lines(tmp_path: Path) -> None:
    model = zoo.stacked(partial(cells.ConvLSTMCell, norm="layer", size=(4, 4)), 1, 4, layers=2)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class_path"] == "vidpred.models.zoo.stacked"
    cell = config["init_args"].pop("cell")
    assert config["init_args"] == {
        "in_channels": 1,
        "hidden_channels": 4,
        "layers": 2,
        "downsamplings": 2,
        "recall": 0.0,
    }
    assert cell["class_path"] == "vidpred.cells.ConvLSTMCell"
    parameters = list(inspect.signature(cells.ConvLSTMCell).parameters)[2:]
    assert list(cell["init_args"]) == parameters  # those with a default too: another may come
    assert cell["init_args"]["size"] == [4, 4]
    assert config["vidpred"] == vidpred.__version__
    assert Predictor.from_pretrained(tmp_path).recipe == model.recipe


def test_a_model_of_a_model_is_recorded_once() -> None:
    recipe = zoo.stau(hidden_channels=4, layers=1).recipe  # which calls `stacked`
    assert recipe is not None
    assert recipe["class_path"] == "vidpred.models.zoo.stau"
    assert copy.deepcopy(small()).recipe == pickle.loads(pickle.dumps(small())).recipe != recipe


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_the_dtype_stays(dtype: torch.dtype, tmp_path: Path) -> None:
    model = small().to(dtype)
    model.save_pretrained(tmp_path)
    again = Predictor.from_pretrained(tmp_path)
    assert {weight.dtype for weight in again.state_dict().values()} == {dtype}
    assert torch.equal(forecast(again), forecast(model))


def test_shared_weights_are_written_twice(tmp_path: Path) -> None:
    model = small("predrnn", layers=3)
    core: Any = model.core
    core.stack.cells[2].conv_h = core.stack.cells[1].conv_h
    model.save_pretrained(tmp_path)
    assert torch.equal(forecast(Predictor.from_pretrained(tmp_path)), forecast(model))


def test_saving_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    model = small()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    model.save_pretrained(tmp_path)
    assert torch.equal(torch.rand(3), expected)


def test_an_older_model_is_replaced_and_other_files_stay(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    model = small("mau")
    model.save_pretrained(folder)
    assert torch.equal(forecast(Predictor.from_pretrained(folder)), forecast(model))
    assert {file.name for file in folder.iterdir()} == {
        *("README.md", "config.json", "model.safetensors")
    }
    modes = {file.stat().st_mode & 0o777 for file in folder.iterdir()}
    assert len(modes) == 1  # as readable as any file of this user


def test_a_failure_leaves_the_older_model(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_: Any) -> bytes:
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        small("mau").save_pretrained(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def by_hand() -> Predictor:
    model = small()
    return Predictor(model.encoder, model.core, model.decoder, model.patch)


def changed() -> Predictor:
    model = small()
    model.decoder = ConvDecoder(4, 4, 3, 2)
    return model


def own_activation() -> Predictor:
    return zoo.stacked(partial(cells.TrajGRUCell, activation=torch.relu), 1, 4, 2)


class OwnCell(cells.STGRUCell):
    pass


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (by_hand, r"vidpred\.weights\.save"),
        (changed, r"changed after .*to_frame\.weight \(3, 4, 1, 1\) instead of \(1, 4, 1, 1\)"),
        (lambda: zoo.stacked(OwnCell, 1, 4, 2), r"units that vidpred\.cells exports"),
        (lambda: zoo.stacked(lambda i, h: cells.STGRUCell(i, h), 1, 4), r"vidpred\.cells exports"),
        (own_activation, "only a model .* made"),
    ],
    ids=["by hand", "changed", "own unit", "own function", "own activation"],
)
def test_what_cannot_be_made_again_is_not_written(make: Any, says: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says) as error:
        make().save_pretrained(tmp_path / "model")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "model").exists()


def put(path: str, value: Any) -> Any:
    """Change one entry of a config."""

    def change(config: dict[str, Any]) -> bytes:
        *way, last = path.split("/")
        inner = config
        for key in way:
            inner = inner[key]
        inner[last] = value
        return json.dumps(config).encode()

    return change


BAD_CONFIGS = {
    "cut": (lambda config: json.dumps(config).encode()[:40], r"config\.json is damaged"),
    "no text": (lambda config: b"\xff\xfe\x00", r"config\.json is damaged"),
    "empty": (lambda config: b"", r"config\.json is damaged"),
    "list": (lambda config: b"[1]", "expected a mapping with class_path and init_args"),
    "no path": (put("class_path", 3), "expected a mapping with class_path"),
    "no arguments": (put("init_args", None), "expected a mapping with class_path"),
    "unknown model": (put("class_path", "vidpred.models.zoo.no"), r"zoo\.no; .* has .*, stau"),
    "private": (put("class_path", "vidpred.models.zoo.common"), r"no vidpred\.models\.zoo\.common"),
    "code": (put("class_path", "os.system"), r"no os\.system; vidpred\.models\.zoo has"),
    "unknown argument": (put("init_args/taus", 3), "unexpected keyword argument 'taus'"),
    "wrong type": (put("init_args/layers", "two"), "no model can be made of it"),
    "wrong value": (put("init_args/layers", 0), "at least one layer, got layers=0"),
    "code for a unit": (
        put("init_args/norm", {"class_path": "os.system", "init_args": {}}),
        r"no os\.system; vidpred\.cells has",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_bad_configs_are_one_line(case: str, folder: Path) -> None:
    change, says = BAD_CONFIGS[case]
    path = folder / "config.json"
    path.write_bytes(change(json.loads(path.read_bytes())))
    with pytest.raises(ValueError, match=says) as error:
        Predictor.from_pretrained(folder)
    assert "\n" not in str(error.value)
    assert str(folder) in str(error.value)


def test_what_fails_says_that_another_version_wrote_it(folder: Path) -> None:
    path = folder / "config.json"
    path.write_bytes(put("vidpred", "99.0")(json.loads(path.read_bytes())))
    Predictor.from_pretrained(folder)  # a newer version, but nothing in it is new
    path.write_bytes(put("init_args/phi", 3)(json.loads(path.read_bytes())))
    with pytest.raises(ValueError, match=r"of vidpred 99\.0, this is .*'phi'") as error:
        Predictor.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [0, 5, 100, -1])
def test_damaged_weights_are_one_line(size: int, folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged") as error:
        Predictor.from_pretrained(folder)
    assert "\n" not in str(error.value)


def test_all_weights_that_do_not_fit_are_listed(folder: Path) -> None:
    path = folder / "model.safetensors"
    state = safetensors.torch.load_file(path)
    missing = [state.popitem()[0] for _ in range(3)]
    shapes, names = [], sorted(state)
    for name in names[:2]:
        state[name] = torch.zeros(7)
        shapes.append(rf"{name} \(7,\) instead of \(")
    state[names[2]] = state[names[2]].to(torch.int64)
    shapes.append(rf"{names[2]} \(.*\) torch\.int64 instead of \(")
    state.update({"else": torch.zeros(1), "more": torch.zeros(1)})
    safetensors.torch.save_file(state, path)
    with pytest.raises(ValueError, match="another model") as error:
        Predictor.from_pretrained(folder)
    message = str(error.value)
    assert "\n" not in message
    assert f"3 missing: {', '.join(sorted(missing))}; 2 unknown: else, more; 3 misshap" in message
    for shape in shapes:
        assert re.search(shape, message)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    torch.save(small().state_dict(), folder / "pytorch_model.bin")  # a pickle is never read
    with pytest.raises(FileNotFoundError, match=f"no {name} in .*save_pretrained"):
        Predictor.from_pretrained(folder)


def test_a_path_that_is_no_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere; expected"):
        Predictor.from_pretrained(tmp_path / "nowhere")


def from_the_hub(cache: Path, *models: tuple[str, str | None]) -> list[str]:
    """Load models by name and revision, without network, in a process that finds ``cache``."""
    code = (
        "from vidpred.models import Predictor\n"
        f"for model in {models!r}:\n"
        "    try: print(Predictor.from_pretrained(*model).recipe['class_path'])\n"
        "    except FileNotFoundError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_models_of_the_hub_load_from_its_cache(tmp_path: Path) -> None:
    place = tmp_path / "models--user--name"
    for branch, model in {"main": "stau", "small": "mau"}.items():
        commit = branch[0] * 40
        small(model).save_pretrained(place / "snapshots" / commit)
        (place / "refs").mkdir(exist_ok=True)
        (place / "refs" / branch).write_text(commit)
    main, branch, no_branch, no_model = from_the_hub(
        tmp_path,
        *(("user/name", None), ("user/name", "small"), ("user/name", "other"), ("user/none", None)),
    )
    assert main == "vidpred.models.zoo.stau"
    assert branch == "vidpred.models.zoo.mau"
    where = "on the Hugging Face hub or in its cache: "
    assert f"no folder user/name, and no model of that name at revision other {where}" in no_branch
    assert f"no folder user/none, and no model of that name {where}" in no_model
