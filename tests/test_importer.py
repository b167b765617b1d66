"""``vidpred import``: checkpoints become model folders, or one line says why not."""

from __future__ import annotations

import pickle
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from command import vidpred
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from vidpred import cells
from vidpred.models import Predictor, zoo
from vidpred.tasks import ForecastTask

CONF = Path(__file__).parent / "conf" / "forecast.yaml"
SMALL = ("--model.hidden_channels=4", "--model.layers=2")


def forecast(model: Predictor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        return model(torch.rand(2, 3, 1, 16, 16, generator=generator), horizon=2)


def trained(predictor: Predictor, path: Path) -> Path:
    """The checkpoint of a training, one step long."""
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    clips: Any = torch.rand(2, 4, 1, 16, 16)
    trainer.fit(ForecastTask(predictor, 2), DataLoader(clips))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints, of which most are bad."""
    folder = tmp_path_factory.mktemp("checkpoints")
    state = zoo.stau(hidden_channels=4, layers=2).state_dict()
    torch.save(state, folder / "good.pt")
    (folder / "cut.pt").write_bytes((folder / "good.pt").read_bytes()[:-1000])
    diverged = {name: weight / 0 if "conv_s" in name else weight for name, weight in state.items()}
    torch.save(diverged, folder / "diverged.pt")
    torch.save({"state_dict": state, "hyper_parameters": Path("code")}, folder / "code.pt")
    (folder / "old.pt").write_bytes(pickle.dumps(Trap(), protocol=2))
    torch.save({"state_dict": state, "recipe": {"class_path": "os.system"}}, folder / "recipe.pt")
    torch.save([state], folder / "list.pt")
    trained(zoo.stau(hidden_channels=4, layers=2, gamma=0.5, recall=1.0), folder / "run.ckpt")
    return folder


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("executed",)


def test_a_checkpoint_becomes_a_model(checkpoints: Path, tmp_path: Path) -> None:
    given = ("--model", "stau", *SMALL, "--out", tmp_path / "out", "--model.gamma", "2")
    status, out, err = vidpred("import", *given, checkpoints / "good.pt")  # in any order
    assert (status, out, err) == (0, f"model folder: {tmp_path / 'out'}\n", "")
    expected = zoo.stau(hidden_channels=4, layers=2, gamma=2.0)
    expected.load_state_dict(torch.load(checkpoints / "good.pt", weights_only=True))
    again = Predictor.from_pretrained(tmp_path / "out")
    assert again.recipe == expected.recipe
    assert torch.equal(forecast(again), forecast(expected))


@pytest.mark.parametrize(
    "predictor",
    [
        zoo.stau(hidden_channels=4, layers=2, gamma=0.5, recall=1.0),
        zoo.stacked(partial(cells.STAUCell, tau=2), 1, 4, layers=2),
    ],
    ids=["named", "stacked"],
)
def test_a_run_knows_its_settings(predictor: Predictor, tmp_path: Path) -> None:
    checkpoint = trained(predictor, tmp_path / "run.ckpt")
    assert vidpred("import", checkpoint, "--out", tmp_path / "out")[0] == 0
    again = Predictor.from_pretrained(tmp_path / "out")
    assert again.recipe == predictor.recipe
    assert torch.equal(forecast(again), forecast(predictor))


@pytest.mark.parametrize("model", [("--model", "stau"), ()], ids=["named", "known by the run"])
def test_the_command_line_overrules_a_run(
    checkpoints: Path, tmp_path: Path, model: tuple[str, ...]
) -> None:
    given = (*model, "--model.gamma", "2", "--out", tmp_path)  # an empty folder
    status, _, err = vidpred("import", checkpoints / "run.ckpt", *given)
    assert status == 0, err
    recipe = Predictor.from_pretrained(tmp_path).recipe
    assert recipe is not None
    settings = recipe["init_args"]
    assert (settings["hidden_channels"], settings["gamma"], settings["recall"]) == (4, 2.0, 1.0)


def test_a_run_of_a_unit_of_ones_own_is_saved_all_the_same(tmp_path: Path) -> None:
    class OwnCell(cells.STGRUCell):
        pass

    checkpoint = trained(zoo.stacked(OwnCell, 1, 4, layers=1), tmp_path / "run.ckpt")
    status, _, err = vidpred("import", checkpoint, "--out", tmp_path / "out")
    assert status == 2
    assert "does not say which model it is of, since no function of vidpred.models.zoo made" in err


def test_a_training_goes_on_from_a_model_folder(tmp_path: Path) -> None:
    model = zoo.stau(hidden_channels=4, layers=1, tau=2)
    model.save_pretrained(tmp_path / "before")
    source = ["--model.predictor", "vidpred.models.Predictor.from_pretrained"]
    source += ["--model.predictor.source", tmp_path / "before"]
    config = ["--config", CONF, "--trainer.default_root_dir", tmp_path]
    status, _, err = vidpred(
        *("fit", *config, *source, "--trainer.max_steps", "1"),
        *("--model.optimizer", "torch.optim.SGD", "--model.optimizer.lr", "0"),
    )
    assert status == 0, err
    (last,) = tmp_path.rglob("last.ckpt")
    assert vidpred("import", last, "--out", tmp_path / "after")[0] == 0
    for name in ("config.json", "model.safetensors"):
        before, after = (tmp_path / folder / name for folder in ("before", "after"))
        assert before.read_bytes() == after.read_bytes()
    status, _, err = vidpred("validate", *config, *source)
    assert status == 0, err
    assert "untrained weights" not in err


BAD = {
    "no model": (("good.pt",), "does not say which model .* give --model, one of .*stau"),
    "other model": (("good.pt", "--model", "stauu"), "--model: invalid choice: 'stauu'"),
    "no value": (("good.pt", "--model"), "--model: expected one argument"),
    "no file": (("none.pt", "--model", "stau"), "no checkpoint at .*none.pt"),
    "no setting": (("good.pt", "--model", "stau", "--model.layer=2"), "unrecognized .*layer=2"),
    "setting": (("good.pt", "--model", "stau", "--model.layers=x"), "model.layers: .*x"),
    "size": (("good.pt", "--model", "stau", "--model.size=32"), "model.size: "),
    "value": (("good.pt", "--model", "stau", "--model.layers=0"), "layers=0"),
    "unit": (("good.pt", "--model", "stacked"), r"required: model\.cell"),
    "two files": (("good.pt", "more.pt", "--model", "stau"), "unrecognized .*more.pt"),
    "cut": (("cut.pt", "--model", "stau"), "cut.pt is damaged or no checkpoint"),
    "diverged": (
        ("diverged.pt", "--model", "stau", *SMALL),
        r"diverged.pt holds values that are not finite, in .*conv_s.*: its training diverged",
    ),
    "code": (("code.pt", "--model", "stau"), "code.pt holds more than tensors .* could run code"),
    "old pickle": (
        ("old.pt", "--model", "stau"),
        "old.pt holds more than tensors .* could run code",
    ),
    "recipe": (("recipe.pt",), "no model can be made of it"),
    "list": (("list.pt", "--model", "stau"), "holds a dict of tensors, got list"),
    "run of another": (("run.ckpt", "--model", "mau"), "run.ckpt is of stau, not of mau"),
    "shapes": (
        ("good.pt", "--model", "stau", "--model.hidden_channels=4", "--model.layers=1"),
        r"other settings; 16 unknown: core\.stack\.cells\.1\.conv_s\.0\.bias, .*next\.1\.weight$",
    ),
    "names": (
        ("good.pt", "--model", "mau", *SMALL),
        r"other settings; \d+ missing: core\.cells\.0\.conv_s\.0\.bias, .*; \d+ unknown: core\.st",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(case: str, checkpoints: Path, tmp_path: Path) -> None:
    arguments, message = BAD[case]
    files = [checkpoints / x if x.endswith((".pt", ".ckpt")) else x for x in arguments]
    status, out, err = vidpred("import", *files, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert err.startswith("vidpred: error: ")
    assert re.search(message, err.rstrip()), err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_nothing_that_is_there_is_replaced(checkpoints: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    for out in (tmp_path, tmp_path / "config.json"):
        good = ("import", checkpoints / "good.pt", "--model", "stau", *SMALL)
        status, _, err = vidpred(*good, "--out", out)
        assert status == 2
        assert re.fullmatch(f"vidpred: error: {out} is there already: .*new or empty\n", err)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("model", zoo.__all__)
def test_help_lists_the_settings_of_a_model(model: str) -> None:
    status, out, _ = vidpred("import", "--model", model, "--help")
    assert status == 0
    assert out.startswith("usage: vidpred import CHECKPOINT --model NAME --out DIR")
    assert "--model.in_channels" in out
