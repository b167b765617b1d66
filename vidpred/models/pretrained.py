"""Model folders: how a model of the zoo was made, and its weights; on disk or on the hub."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from vidpred import __version__, cells
from vidpred.files import replacing

if TYPE_CHECKING:
    from vidpred.models.predictor import Predictor

CONFIG, WEIGHTS = "config.json", "model.safetensors"
P = ParamSpec("P")
Made = TypeVar("Made", bound="Predictor")


def recorded(make: Callable[P, Made]) -> Callable[P, Made]:
    """Let the predictors of a function of the zoo remember how they were made.

    Args:
        make: A function that ``vidpred.models.zoo`` exports.

    Returns:
        The function. Its predictors have a ``recipe``, unless an argument cannot be written down:
        numbers, text, sequences of these, and units that ``vidpred.cells`` exports can.
    """
    signature = inspect.signature(make)

    @functools.wraps(make)
    def make_and_record(*args: P.args, **kwargs: P.kwargs) -> Made:
        predictor = make(*args, **kwargs)
        chosen = signature.bind(*args, **kwargs).arguments
        try:
            predictor.recipe = _recipe("vidpred.models.zoo", make, chosen)
        except TypeError:
            predictor.recipe = None
        return predictor

    return make_and_record


def build(recipe: Any) -> Predictor:
    """Make a predictor, with fresh weights, from the ``recipe`` of another.

    Only functions of ``vidpred.models.zoo`` and units of ``vidpred.cells`` are called, whatever
    the recipe says.

    Args:
        recipe: As read from a file.

    Raises:
        ValueError: It does not describe a model of this version of vidpred.
    """
    from vidpred.models import zoo  # which imports this module

    try:
        return _named(recipe, zoo)()
    except Exception as error:  # whatever the zoo raises for arguments that are not checked yet
        raise ValueError(f"no model can be made of it: {_one_line(error)}") from error


def save(predictor: Predictor, folder: str | Path) -> None:
    """Write a model folder; see :meth:`vidpred.models.Predictor.save_pretrained`."""
    folder = Path(folder)
    if predictor.recipe is None:
        raise ValueError(
            "only a model that a function of vidpred.models.zoo made, of units that vidpred.cells "
            "exports, can be written as a folder: use vidpred.weights.save for the weights alone"
        )
    # In memory of their own: safetensors takes neither shared nor channels-last tensors.
    state = {
        name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, tensor in predictor.state_dict().items()
    }
    try:
        with torch.random.fork_rng(devices=[]):  # saving does not change what is drawn after it
            check(build(predictor.recipe), state)
    except ValueError as error:
        made = predictor.recipe["class_path"]
        raise ValueError(f"this model was changed after {made} made it: {error}") from error
    config = json.dumps({**predictor.recipe, "vidpred": __version__}, indent=2) + "\n"
    with replacing(folder / CONFIG) as new_config, replacing(folder / WEIGHTS) as new_weights:
        new_config.write_text(config, encoding="utf-8")
        # Not save_file: its files are private to their owner.
        new_weights.write_bytes(safetensors.torch.save(state, {"format": "pt"}))


def load(source: str | Path, revision: str | None = None) -> Predictor:
    """Read a model folder; see :meth:`vidpred.models.Predictor.from_pretrained`."""
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(str(source), revision)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no {name} in {folder}: expected a folder of save_pretrained")
    try:
        config = json.loads((folder / CONFIG).read_bytes())
    except ValueError as error:
        raise ValueError(f"{folder / CONFIG} is damaged: {error}") from error
    try:
        state = safetensors.torch.load((folder / WEIGHTS).read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{folder / WEIGHTS} is damaged: {error}") from error
    try:
        predictor = build(config)
        fill(predictor, state)
    except ValueError as error:
        wrote = config.get("vidpred") if isinstance(config, dict) else None
        same = wrote in (None, __version__)
        versions = "" if same else f" (of vidpred {wrote}, this is {__version__})"
        raise ValueError(f"{folder}{versions}: {error}") from error
    return predictor


def fill(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Give a module the weights of a file, and their dtype.

    Args:
        module: Whose weights to overwrite; left as it is when one does not fit.
        state: All of them.

    Raises:
        ValueError: As :func:`check`.
    """
    check(module, state)
    dtypes = (tensor.dtype for tensor in state.values() if tensor.is_floating_point())
    module.to(functools.reduce(torch.promote_types, dtypes))
    module.load_state_dict(state)


def check(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Refuse weights that do not fit a module, and name each that does not.

    Args:
        module: Whose ``state_dict`` they are to replace.
        state: Name and weight.

    Raises:
        ValueError: Weights are missing, unknown or of another shape.
    """
    expected = module.state_dict()
    wrong = {
        "missing": sorted(expected.keys() - state.keys()),
        "unknown": sorted(state.keys() - expected.keys()),
        "misshaped": [
            f"{name} {_form(state[name])} instead of {_form(expected[name])}"
            for name in sorted(expected.keys() & state.keys())
            if _form(state[name]) != _form(expected[name])
        ],
    }
    if any(wrong.values()):
        lists = (
            f"{len(names)} {kind}: {', '.join(names)}" for kind, names in wrong.items() if names
        )
        raise ValueError(
            f"these weights are of another model or of other settings; {'; '.join(lists)}"
        )


def _form(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{'' if tensor.is_floating_point() else f' {tensor.dtype}'}"


def _recipe(room: str, make: Callable[..., Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Name and arguments of a function or class, in the form that they have in a YAML file.

    Defaults are among the arguments, since a later version may have others; but for those that
    cannot be written down, such as functions.
    """
    parameters = inspect.signature(make).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    arguments = {}
    for name, value in {**defaults, **chosen}.items():
        try:
            arguments[name] = _plain(value)
        except TypeError:
            if value is not defaults.get(name):
                raise
    return {"class_path": f"{room}.{make.__name__}", "init_args": arguments}


def _plain(value: Any) -> Any:
    """An argument as JSON holds it."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    chosen: Mapping[str, Any] = {}
    if isinstance(value, functools.partial):
        # partial(Unit, tau=3), or partial(make, Unit, tau=3) from the command line.
        value, chosen = [value.func, *value.args][-1], value.keywords
    name = getattr(value, "__name__", "")
    if name not in cells.__all__ or getattr(cells, name) is not value:
        raise TypeError(f"neither plain nor a unit of vidpred.cells: {value}")
    return _recipe("vidpred.cells", value, chosen)


def _named(recipe: Any, room: ModuleType) -> Callable[..., Any]:
    """What :func:`_recipe` described, looked up among the public names of ``room``."""
    try:
        module, _, name = recipe["class_path"].rpartition(".")
        arguments = {key: _argument(value) for key, value in recipe["init_args"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("expected a mapping with class_path and init_args") from error
    if module != room.__name__ or name not in room.__all__:
        names = ", ".join(room.__all__)
        raise ValueError(f"no {recipe['class_path']}; {room.__name__} has {names}")
    return functools.partial(getattr(room, name), **arguments)


def _argument(value: Any) -> Any:
    """The inverse of :func:`_plain`."""
    if isinstance(value, list):
        return tuple(_argument(item) for item in value)
    return _named(value, cells) if isinstance(value, dict) else value


def _download(name: str, revision: str | None) -> Path:
    """The folder of the hub's cache that holds a model, downloaded if it is not there yet."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, WEIGHTS]))
    except HFValidationError as error:  # no name the hub could have
        raise FileNotFoundError(
            f"no folder {name}; expected one of save_pretrained, or user/name of the hub"
        ) from error
    except (OSError, ValueError) as error:  # all of the hub's errors are one of these
        at = f" at revision {revision}" if revision else ""
        raise FileNotFoundError(
            f"no folder {name}, and no model of that name{at} on the Hugging Face hub or in its "
            f"cache: {_one_line(error)}"
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
