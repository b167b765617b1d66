"""``vidpred import``: checkpoints of the authors, of OpenSTL and of runs become model folders."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vidpred import weights
from vidpred.files import check_new_folder, read_checkpoint
from vidpred.models import pretrained, zoo


def main(args: Sequence[str]) -> None:
    """Run ``vidpred import``.

    Args:
        args: The arguments after ``import``.

    Raises:
        FileNotFoundError: No such checkpoint.
        FileExistsError: There is something in the output folder.
        ValueError: The checkpoint is damaged, or its weights are not those of the model, or not
            finite.
    """
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--model", choices=zoo.__all__)
    chosen, rest = first.parse_known_args(args)
    if {"-h", "--help"} & set(rest):
        _parse(rest, chosen.model, {})  # prints it, and the end
    config = _parse(_without_settings(rest), None, {})  # whose model the checkpoint may know
    out = Path(config.out)
    check_new_folder(out)
    content = read_checkpoint(config.checkpoint)
    model, settings = chosen.model, {}
    if recorded := _recorded(content):
        if model not in (None, recorded[0]):
            raise ValueError(f"{config.checkpoint} is of {recorded[0]}, not of {model}")
        model, settings = recorded  # as in training, but for what is given
    if model is None and weights.is_of_a_run(content):
        raise ValueError(f"{config.checkpoint} {weights.without_recipe(content)}")
    if model is None:
        raise ValueError(
            f"{config.checkpoint} does not say which model it is of: give --model, one of "
            f"{', '.join(zoo.__all__)}"
        )
    config = _parse(rest, model, settings)
    predictor = getattr(zoo, model)(**config.model)
    state = weights.fitting(predictor, content)
    if diverged := [name for name, weight in state.items() if not weight.isfinite().all()]:
        raise ValueError(
            f"{config.checkpoint} holds values that are not finite, in {diverged[0]}: its training "
            "diverged, give an earlier checkpoint"
        )
    pretrained.fill(predictor, state)
    predictor.save_pretrained(out)
    print(f"model folder: {out}")


def _without_settings(args: Sequence[str]) -> list[str]:
    """The arguments without ``--model.SETTING VALUE``."""
    rest, left = [], iter(args)
    for argument in left:
        if not argument.startswith("--model."):
            rest.append(argument)
        elif "=" not in argument:
            next(left, None)
    return rest


def _parse(args: Sequence[str], model: str | None, settings: Mapping[str, Any]) -> Namespace:
    """The arguments, with those of a function of the zoo, for which ``settings`` are defaults."""
    parser = ArgumentParser(
        exit_on_error=False,
        allow_abbrev=False,
        usage="vidpred import CHECKPOINT --model NAME --out DIR [--model.SETTING VALUE ...]",
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="file of torch.save")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder, new or empty")
    if model:
        parser.add_function_arguments(getattr(zoo, model), "model", as_group=False)
        parser.set_defaults({f"model.{name}": value for name, value in settings.items()})
    return parser.instantiate(parser.parse_args(list(args)))


def _recorded(content: Any) -> tuple[str, Mapping[str, Any]] | None:
    """The model and its settings, which the checkpoint of a run knows."""
    recipe = weights.recorded_recipe(content)
    if recipe is None:
        return None
    pretrained.build(recipe)  # refuses what is none
    return recipe["class_path"].rpartition(".")[2], recipe["init_args"]
