"""``vidpred evaluate``: models and the copy of the last frame on one test set, as a report."""

from __future__ import annotations

import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentParser, Namespace

from vidpred import __version__, processes, results, weights
from vidpred.data import VideoData
from vidpred.evaluation import evaluate
from vidpred.files import output_folder
from vidpred.metrics import FVD, LPIPS, protocols
from vidpred.models import Predictor
from vidpred.published import data_sets, differences
from vidpred.published import published as published_tables
from vidpred.streaming import find_device
from vidpred.tasks.forecast import COPY, copy_last_frame


class _Parser(ArgumentParser):
    """Takes a file of ``vidpred data prepare`` for data, on the command line and in YAML."""

    def parse_args(self, args: Sequence[str], **options: Any) -> Namespace:  # pyright: ignore
        return super().parse_args([*_read(args)], **options)

    def parse_string(self, content: str, *args: Any, **options: Any) -> Namespace:
        try:
            settings = yaml.safe_load(content)
        except yaml.YAMLError:  # which is said below
            settings = None
        if isinstance(settings, dict) and isinstance(settings.get("data"), str):
            made = _module(settings["data"])
            if isinstance(made, dict):
                content = yaml.safe_dump({**settings, "data": made})
        return super().parse_string(content, *args, **options)


def main(args: Sequence[str]) -> None:
    """Run ``vidpred evaluate``.

    Args:
        args: The arguments after ``evaluate``.

    Raises:
        FileNotFoundError: No such checkpoint, data or network.
        ValueError: One of them is damaged or does not fit the others, or an argument is out of
            range.
        FloatingPointError: A model predicts values that are not finite; the others have scores.
        ConnectionError: Another process of the evaluation has gone.
    """
    parser = _Parser(prog="vidpred evaluate", exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_argument(
        "--ckpt",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="checkpoints of runs, or model folders; without them the copy of the last frame alone",
    )
    parser.add_subclass_arguments(VideoData, "data", required=True)
    parser.add_function_arguments(_run, skip={"data", "models", "command", "settings"})
    config = parser.parse_args(args)
    settings = json.dumps(config.data.as_dict(), default=str)
    chosen = parser.instantiate(config)
    options = {
        name: value for name, value in chosen.items() if name not in ("config", "ckpt", "data")
    }
    command = shlex.join(["vidpred", "evaluate", *args])
    with processes.joined():
        _run(chosen.data, chosen.ckpt, command, settings, **options)


def _run(
    data: VideoData,
    models: Sequence[str],
    command: str,
    settings: str,
    out: str,
    context: int = 10,
    horizon: int = 10,
    lpips: Literal["alex", "vgg", "squeeze"] | None = None,
    i3d: str | None = None,
    published: str | None = None,
    device: str | None = None,
) -> None:
    """Score models on a test set.

    Args:
        data: Whose test set to take.
        models: Their paths.
        command: For the record, as the settings of the data.
        settings: See there.
        out: Folder for the report, tables and pictures; files of their names are replaced.
        context: Frames of each clip that the models see.
        horizon: Frames that they predict after them.
        lpips: Measure LPIPS too, with this network, whose weights lie in $TORCH_HOME.
        i3d: Measure FVD too, with this TorchScript file of an I3D.
        published: Data set whose published results to show beside, such as caltech; by default
            the one that the data are of.
        device: Such as cpu or cuda; by default cuda where there is such a device.
    """
    if len({Path(path).resolve() for path in models}) < len(models):
        raise ValueError(f"a model is given twice: {' '.join(models)}")
    place = find_device(device)
    folder = output_folder(out)
    if published is not None:  # refused before anything takes its time
        published_tables(published)
    wanted = protocols(
        partial(LPIPS, net=lpips) if lpips else None, partial(FVD, i3d=i3d) if i3d else None
    )
    # All at once: a damaged one is found before the first has taken its time.
    loaded = {path: weights.load_predictor(path) for path in models}
    names = _names(loaded)
    forecasters = [(names[path], model) for path, model in loaded.items()]
    found = evaluate([*forecasters, (COPY, copy_last_frame)], data, context, horizon, wanted, place)

    def write() -> None:
        made = data.settings.get("data")
        name = published or (made if made in data_sets() else None)
        tables = published_tables(name) if name else []
        other = differences(name, data.settings) if name else []
        facts = {
            "Command": command,
            "Data": settings,
            "Test set": json.dumps(dict(data.settings)) if data.settings else "not known",
            **{f"Model {name}": path for path, name in names.items()},
            "Device": _device(place),
            "Versions": f"vidpred {__version__}, torch {torch.__version__}",
        }
        for protocol in wanted:  # first: should no file be written, the scores are not lost
            print(f"{protocol}\n{results.table(found, protocol)}\n", flush=True)
        page = results.write(found, folder, tables, other, facts)
        print(f"report: {page}", flush=True)

    processes.first(write)  # the others wait: torchrun ends all when one has failed
    if found.broken:
        wrong = "; ".join(f"{name} {wrong}" for name, wrong in found.broken.items())
        raise FloatingPointError(f"{wrong}: the scores are of the others")


def _read(args: Sequence[str]) -> Iterator[str]:
    """The arguments, with the file of ``--data FILE.h5`` as settings."""
    previous = ""
    for argument in chain.from_iterable(
        x.split("=", 1) if x.startswith("--data=") else [x] for x in args
    ):
        made = _module(argument) if previous == "--data" else argument
        yield json.dumps(made) if isinstance(made, dict) else made
        previous = argument


def _module(data: str) -> str | dict[str, Any]:
    """What the parser takes for data: of a file of clips the settings of a module on it."""
    kind = Path(data).suffix
    if kind in (".h5", ".hdf5"):
        return {"class_path": "vidpred.data.ClipsData", "init_args": {"path": data}}
    if data.startswith("{") or kind in (".yaml", ".yml", ".json"):
        return data
    names = data.split(".")
    importable = all(map(str.isidentifier, names)) and (len(names) == 1 or find_spec(names[0]))
    if Path(data).exists() or not importable:
        raise ValueError(
            f"expected for --data a FILE.h5 of vidpred data prepare or a data module, got {data}"
        )
    return data


def _names(models: Mapping[str, Predictor]) -> dict[str, str]:
    """Names by path: of several what their paths do not have in common, of one what model it is."""
    if len(models) == 1:
        return {path: (x.recipe or {})["class_path"].split(".")[-1] for path, x in models.items()}
    parts = [Path(path).parts for path in models]

    def alike(end: int) -> bool:
        return min(map(len, parts)) > 1 and len({path[end] for path in parts}) == 1

    while parts and alike(0):
        parts = [path[1:] for path in parts]
    while parts and alike(-1):
        parts = [path[:-1] for path in parts]
    return {path: str(Path(*part)) for part, path in zip(parts, models, strict=True)}


def _device(place: torch.device) -> str:
    """What the evaluation ran on."""
    if place.type == "cuda":
        name = torch.cuda.get_device_name(place)
    else:
        name = f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"
    several = processes.count()
    return name if several == 1 else f"{several} processes, each {name}"
