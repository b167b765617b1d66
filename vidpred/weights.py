"""Weights in and out: our files, Lightning checkpoints, the authors' and OpenSTL's checkpoints."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidpred.files import read_checkpoint, replacing
from vidpred.models import ActionClassifier, Discriminator, Predictor
from vidpred.models.pretrained import build, check, fill
from vidpred.reference import translate


def save(module: nn.Module, path: str | Path) -> None:
    """Write the weights of a module, readable with ``torch.load(weights_only=True)``.

    Args:
        module: Whose ``state_dict`` to write.
        path: The file; an old one is replaced only once the new one is complete.
    """
    with replacing(Path(path)) as temporary:
        torch.save(module.state_dict(), temporary)


def load(module: nn.Module, path: str | Path) -> None:
    """Load weights into a cell, predictor, discriminator or classifier, in place.

    Args:
        module: Built with the settings that the weights were trained with.
        path: A file of :func:`save`, a Lightning checkpoint of a task, or a checkpoint of the
            authors' code or OpenSTL.

    Raises:
        FileNotFoundError: No such file.
        ValueError: Not a weights file, or the weights of another model.
    """
    module.load_state_dict(fitting(module, read_checkpoint(path)))


def load_predictor(path: str | Path) -> Predictor:
    """Load a trained model of any kind.

    Args:
        path: Checkpoint of a run, or a model folder.

    Returns:
        The model, on the CPU, with the dtype of its weights.

    Raises:
        FileNotFoundError: Nothing is there, or a file of the folder is missing.
        ValueError: Damaged, the model is none of this version of vidpred, or the checkpoint does
            not say what model it is of.
    """
    path = Path(path)
    if path.is_dir():
        return Predictor.from_pretrained(path)
    content = read_checkpoint(path)
    recipe = recorded_recipe(content)
    if recipe is None:
        raise ValueError(f"{path} {without_recipe(content)}")
    try:
        predictor = build(recipe)
        fill(predictor, fitting(predictor, content))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return predictor


def recorded_recipe(content: Any) -> Any:
    """Find in a checkpoint how its predictor was made.

    Args:
        content: What :func:`vidpred.files.read_checkpoint` returned.

    Returns:
        The ``recipe`` of the predictor; ``None`` if the checkpoint has none: it is not of a run, or
        no function of ``vidpred.models.zoo`` makes such a model.
    """
    return content.get("recipe") if isinstance(content, dict) else None


def is_of_a_run(content: Any) -> bool:
    """Whether a checkpoint is of a run of ``vidpred fit``, with a recipe or without.

    Args:
        content: What :func:`vidpred.files.read_checkpoint` returned.
    """
    return isinstance(content, dict) and "recipe" in content


def without_recipe(content: Any) -> str:
    """Say what is missing in a checkpoint without recipe, and what to do.

    Args:
        content: What :func:`vidpred.files.read_checkpoint` returned.
    """
    if is_of_a_run(content):
        state = _content(content)
        if _has(state, "predictor"):
            return (
                "does not say which model it is of, since no function of vidpred.models.zoo made "
                "it: load it in Python, into the same model (vidpred.weights.load)"
            )
        trained = [part for part in _PARTS.values() if _has(state, part)]
        return f"holds no predictor: its run trained a {' and a '.join(trained)} alone"
    return (
        "does not say which model it is of, as checkpoints of runs and model folders do: if it is "
        "of the authors' code or of OpenSTL, make a folder of it (vidpred import --help)"
    )


def fitting(module: nn.Module, content: Any) -> dict[str, Tensor]:
    """Find the weights of a cell, predictor, discriminator or classifier in a checkpoint.

    Args:
        module: Built with the settings that the weights were trained with.
        content: What :func:`vidpred.files.read_checkpoint` returned.

    Returns:
        A state dict for ``module``.

    Raises:
        ValueError: There are no weights, or those of another model: the weights that are missing,
            unknown or of another shape are listed.
    """
    parts = (part for kind, part in _PARTS.items() if isinstance(module, kind))
    state = _unwrap(content, next(parts, "predictor"))
    if state.keys() != module.state_dict().keys():
        state = translate(module, state)
    check(module, state)
    return state


# The networks beside the predictor that a task may train.
_PARTS: dict[type, str] = {Discriminator: "discriminator", ActionClassifier: "classifier"}


def _content(content: Any) -> Any:
    """What a checkpoint holds beside settings and states of the training: weights by name."""
    for key in ("state_dict", "net_param", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    return content


def _has(state: Mapping[str, Any], part: str) -> bool:
    return any(str(name).startswith(f"{part}.") for name in state)


def _unwrap(content: Any, part: str) -> dict[str, Tensor]:
    """The plain state dict inside a checkpoint of Lightning, OpenSTL or the authors' code.

    Of the networks that a task trains together only the ``part`` is left.
    """
    content = _content(content)
    if not isinstance(content, dict):
        raise ValueError(f"a weights file holds a dict of tensors, got {type(content).__name__}")
    tensors = {str(name): x for name, x in content.items() if isinstance(x, Tensor)}
    if not tensors:
        found = ", ".join(sorted(map(str, content))[:5]) or "nothing"
        raise ValueError(f"there are no weights in the file: expected tensors by name, got {found}")
    prefix = re.compile(rf"^((module|model|{part}|_orig_mod)\.)+")
    others = tuple(f"{name}." for name in {"predictor", *_PARTS.values()} - {part})
    return {
        prefix.sub("", name): tensor
        for name, tensor in tensors.items()
        if not name.startswith(others)
    }
