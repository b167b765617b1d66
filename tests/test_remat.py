"""Rematerialisation: equal numbers, equal weights' names, less memory, for every model."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
import torch
import yaml
from command import vidpred
from test_cli import weights
from test_predictor import CHANNELS, any_model, build, clip
from torch import Tensor

from vidpred.cells import Cell, ConvGRUCell, Remat, Stack, total_penalty
from vidpred.models import Discriminator, Predictor, zoo
from vidpred.models.remat import RematSetting
from vidpred.tasks import ForecastTask

CONF = Path(__file__).parent / "conf"


def step(model: Predictor, remat: RematSetting, precision: torch.dtype) -> tuple[list[Any], int]:
    """Predictions, penalty and gradients of a training step, and the bytes that autograd keeps."""
    frames = clip(6, (7, 9), dtype=torch.float32)
    # True frames, predictions, and both: all that can enter the first step of a chunk.
    keep = torch.rand(2, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    keep[:, 1], keep[:, 2] = True, False
    storages: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    model.remat = remat
    model.zero_grad()
    with (
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16),
    ):
        prediction, state = model.rollout_with_state(frames, keep)
    penalty = total_penalty(state)
    ((prediction - frames[:, 1:]).square().mean() + penalty).backward()
    gradients = [p.grad if p.grad is None else p.grad.clone() for p in model.parameters()]
    return [prediction, penalty, *gradients], sum(storages.values())


def same(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) else a == b


@any_model
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_a_training_step_has_equal_numbers_and_keeps_less(
    name: str, precision: torch.dtype
) -> None:
    model = build(name, torch.float32)
    names = list(model.state_dict())
    expected, plain = step(model, None, precision)
    # All steps, chunks that do not divide them, each step for itself; each unit for itself.
    for remat in (9, 2, 1, "cells"):
        found, kept = step(model, remat, precision)  # type: ignore[arg-type]
        assert len(found) == len(expected)
        assert all(map(same, found, expected)), remat
        assert list(model.state_dict()) == names
        # CrevNet's core is reversible: without remat it keeps no activations.
        if remat != "cells" or name != "crevnet":
            assert kept < plain * (0.8 if remat == "cells" else 0.2), remat
    assert step(model, None, precision)[1] > 0.9 * plain


class Wide(NamedTuple):
    """A model whose widest maps are always computed again: what runs, and on what."""

    module: str
    run: Callable[[], Tensor]
    parameters: list[Tensor]


def wide(name: str) -> Wide:
    torch.manual_seed(0)
    frames = torch.rand(2, 5, 3, 70, 40)  # padded to 96 x 64
    if name == "discriminator":
        model = Discriminator(3, 8, downsamplings=3, patch=4)
        return Wide("discriminator", lambda: model(frames)[0], [*model.parameters()])
    predictor = zoo.stip(3, hidden_channels=4, layers=2, downsamplings=3, patch=4)
    keep = torch.ones(2, 4, dtype=torch.bool)
    return Wide("clip", lambda: predictor.rollout(frames, keep), [*predictor.parameters()])


@pytest.mark.parametrize("name", ["predictor of clips", "discriminator"])
def test_the_widest_maps_are_never_kept(name: str, monkeypatch: Any) -> None:
    def gradients(module: str, run: Callable[[], Tensor], parameters: list[Tensor]) -> list[Tensor]:
        largest.append(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            run().square().mean().backward()
        return [cast(Tensor, parameter.grad) for parameter in parameters]

    def note(tensor: Tensor) -> Tensor:
        if tensor.shape[-2:] != (70, 40):  # frames, which are there in any case
            largest[-1] = max(largest[-1], tensor.numel())
        return tensor

    largest: list[int] = []
    found = gradients(*wide(name))
    model = wide(name)
    monkeypatch.setattr(f"vidpred.models.{model.module}.recomputed", lambda run, *args: run(*args))
    for gradient, expected in zip(found, gradients(*model), strict=True):
        assert torch.equal(gradient, expected)
    assert largest[0] < largest[1] / 2


def test_a_prediction_is_the_same_and_nothing_is_run_twice(monkeypatch: Any) -> None:
    model, context = build("iprnn"), clip(3)
    expected = model(context, 2).detach()
    runs: list[Any] = []
    forward = model.decoder.forward
    monkeypatch.setattr(model.decoder, "forward", lambda *x: (runs.append(x), forward(*x))[1])
    model.remat = 1
    with torch.no_grad():
        assert torch.equal(model(context, 2), expected)
    assert len(runs) == 2
    model(context, 2).sum().backward()
    assert len(runs) == 2 + 2 + 2


def switched(cell: Cell) -> Cell:
    cell.remat = True
    return cell


@pytest.mark.parametrize(("own", "unset"), [(switched, 1), (Remat, 2)])
def test_units_have_a_remat_of_their_own(own: Callable[[Cell], Cell], unset: int) -> None:
    runs: list[Any] = []
    frames, plain = clip(3, dtype=torch.float32), zoo.stacked(ConvGRUCell, CHANNELS, 4, 2, 2)

    def unit() -> Cell:
        cell = ConvGRUCell(4, 4, 3)
        cell.register_forward_pre_hook(lambda *given: runs.append(given))
        return cell

    def times(model: Predictor) -> float:
        runs.clear()
        model(frames, 2).sum().backward()
        return len(runs) / (4 * 2)

    wirings = own(Stack([unit(), unit()])), Stack([own(unit()), own(unit())])
    whole, each = (Predictor(plain.encoder, core, plain.decoder) for core in wirings)
    assert times(whole) == times(each) == 2
    for remat, expected in (("cells", 2), (None, unset)):
        each.remat = remat  # type: ignore[assignment]
        assert times(each) == expected


def test_predictions_that_do_not_enter_are_not_kept(monkeypatch: Any) -> None:
    model, frames = build("iprnn"), clip(5)
    model.remat = 1
    predictions: list[Any] = []
    decode = model._decode

    def noted(*given: Any) -> Tensor:
        prediction = decode(*given)
        predictions.append(weakref.ref(prediction))
        return prediction

    monkeypatch.setattr(model, "_decode", noted)
    fed = torch.tensor([[True, True, False, True]] * 2)  # the third step takes the second's
    result = model.rollout(frames, fed)
    assert [prediction() is None for prediction in predictions] == [True, False, True, True]
    assert result.requires_grad


@pytest.mark.parametrize("remat", [0, -1, True, 1.0, "steps"])
def test_what_remat_cannot_be(remat: Any) -> None:
    with pytest.raises(ValueError, match=rf"at least 1.*'cells', or None; got {remat!r}"):
        ForecastTask(zoo.stau(CHANNELS, 4, 2), remat=remat)


def test_a_task_without_remat_leaves_the_predictors(tmp_path: Path) -> None:
    model = zoo.stau(CHANNELS, 4, 2)
    model.remat = 2
    assert ForecastTask(model).predictor.remat == 2
    model.save_pretrained(tmp_path)
    assert Predictor.from_pretrained(tmp_path).remat is None


def fit(folder: Path, *arguments: Any, conf: str = "forecast.yaml") -> Path:
    status, _, err = vidpred(
        *("fit", "--config", CONF / conf, "--trainer.default_root_dir", folder), *arguments
    )
    assert status == 0, err
    return max((folder / "lightning_logs").iterdir())


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("remat", ["cells", 1, 2])
def test_a_run_has_the_weights_of_one_without(plain: Path, tmp_path: Path, remat: Any) -> None:
    run = fit(tmp_path, "--model.remat", remat)
    found, expected = weights(run), weights(plain)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    assert settings["model"]["init_args"]["remat"] == remat


def test_an_adversarial_run_has_the_weights_of_one_without(tmp_path: Path) -> None:
    found, expected = (
        weights(fit(tmp_path / str(remat), "--model.remat", remat, conf="adversarial.yaml"))
        for remat in (1, "null")
    )
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("before", "after"), [("null", 1), (1, "null")])
def test_a_run_goes_on_with_it_or_without(
    plain: Path, tmp_path: Path, before: Any, after: Any
) -> None:
    half = fit(tmp_path, "--trainer.max_steps=2", "--model.remat", before)
    checkpoint = half / "checkpoints" / "last.ckpt"
    found = weights(fit(tmp_path, "--ckpt_path", checkpoint, "--model.remat", after))
    assert all(torch.equal(found[name], weight) for name, weight in weights(plain).items())


def test_a_wrong_number_is_a_one_line_error() -> None:
    status, _, err = vidpred("fit", "--config", CONF / "forecast.yaml", "--model.remat", "0")
    assert status == 2
    assert "remat is a number of time steps, at least 1" in err
    assert len(err.splitlines()) == 1
