"""``vidpred evaluate``: models and the copy of the last frame on one test set, as a report."""

from __future__ import annotations

import csv
import json
import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import ArgumentParser

from vidpred import __version__, report, tables, weights
from vidpred.data import ClipsData, VideoData
from vidpred.evaluation import Evaluation, Forecaster, Result, evaluate
from vidpred.files import output_folder, replacing
from vidpred.metrics import FVD, LPIPS, protocols
from vidpred.models import Predictor
from vidpred.published import data_sets
from vidpred.published import published as published_tables
from vidpred.streaming import find_device
from vidpred.tasks.forecast import COPY, copy_last_frame


def main(args: Sequence[str]) -> None:
    """Run ``vidpred evaluate``.

    Args:
        args: The arguments after ``evaluate``.

    Raises:
        FileNotFoundError: No such checkpoint, data or network.
        ValueError: One of them is damaged or does not fit the others, or an argument is out of
            range.
        FloatingPointError: A model predicts values that are not finite.
    """
    parser = ArgumentParser(prog="vidpred evaluate", exit_on_error=False, allow_abbrev=False)
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
    config = parser.parse_args(list(_expanded(args)))
    settings = json.dumps(config.data.as_dict(), default=str)
    chosen = parser.instantiate(config)
    options = {
        name: value for name, value in chosen.items() if name not in ("config", "ckpt", "data")
    }
    command = shlex.join(["vidpred", "evaluate", *args])
    _run(
        data=chosen.data, models=_named(chosen.ckpt), command=command, settings=settings, **options
    )


def _run(
    data: VideoData,
    models: Mapping[str, str],
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
        models: Name and path.
        command: For the record, as the settings of the data.
        settings: See there.
        out: Folder for the report, tables and pictures; files of their names are replaced.
        context: Frames of each clip that the models see.
        horizon: Frames that they predict after them.
        lpips: Measure LPIPS too, with this network, whose weights lie in $TORCH_HOME.
        i3d: Measure FVD too, with this TorchScript file of an I3D.
        published: Data set whose published results to show beside, such as caltech; by default
            the one that a file of vidpred data prepare was made of.
        device: Such as cpu or cuda; by default cuda where there is such a device.
    """
    place = find_device(device)
    folder = output_folder(out)
    facts = {"Command": command, "Data": settings}
    facts |= {f"Model {name}": path for name, path in models.items()}
    if isinstance(data, ClipsData):
        data.setup("test")
        assert data.file is not None
        facts["Data"] = f"{data.file.protocol} {json.dumps(data.file.settings)}"
        published = published or _known(data.file.settings.get("data"))
    beside = published_tables(published) if published else []
    wanted = protocols(
        partial(LPIPS, net=lpips) if lpips else None, partial(FVD, i3d=i3d) if i3d else None
    )
    # All at once: a damaged one is found before the first has taken its time.
    loaded = {name: weights.load_predictor(path) for name, path in models.items()}
    found = evaluate(_in_turn(loaded), data, context, horizon, wanted, place)
    facts |= {
        "Device": torch.cuda.get_device_name(place) if place.type == "cuda" else _processor(),
        "Versions": f"vidpred {__version__}, torch {torch.__version__}",
    }
    for protocol in wanted:
        _write_csv(found, protocol, folder / f"{protocol}.csv")
        means = {
            name: [float(x.scores[protocol][name].mean()) for x in found.results.values()]
            for name in wanted[protocol]
        }
        print(f"{protocol}\n{tables.text_table('model', list(found.results), means)}\n")
    with replacing(folder / "evaluation.json") as temporary:
        temporary.write_text(json.dumps(_content(found, facts), indent=2) + "\n", encoding="utf-8")
    title = f"Evaluation of {', '.join(found.results)}"
    page, *_ = report.write(found, folder, title, beside, facts)
    print(f"report: {page}")


def _expanded(args: Sequence[str]) -> Iterator[str]:
    """The arguments, with ``--data FILE.h5`` written out."""
    previous = ""
    for argument in chain.from_iterable(
        x.split("=", 1) if x.startswith("--data=") else [x] for x in args
    ):
        if previous == "--data" and Path(argument).suffix in (".h5", ".hdf5"):
            yield from ("vidpred.data.ClipsData", "--data.path", argument)
        else:
            yield argument
        previous = argument


def _named(paths: Sequence[str]) -> dict[str, str]:
    """Names for models: their paths without what all of them begin and end with."""
    parts = [Path(path).parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"a model is given twice: {' '.join(paths)}")

    def alike(end: int) -> bool:
        return min(map(len, parts)) > 1 and len({path[end] for path in parts}) == 1

    while parts and alike(0):
        parts = [path[1:] for path in parts]
    while parts and alike(-1):
        parts = [path[:-1] for path in parts]
    return {str(Path(*part)): path for part, path in zip(parts, paths, strict=True)}


def _in_turn(models: Mapping[str, Predictor]) -> Iterator[tuple[str, Forecaster]]:
    for name, model in models.items():
        yield name, model
        model.cpu()  # leaves the device to the next
    yield COPY, copy_last_frame


def _known(data: str | None) -> str | None:
    """The name of a data set, if there are published results on it."""
    return data if data in data_sets() else None


def _processor() -> str:
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def _write_csv(found: Evaluation, protocol: str, path: Path) -> None:
    """A row for every model and predicted step, and for the mean."""
    columns = found.protocols[protocol]
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "step", *columns])
        for name, result in found.results.items():
            scores = [result.scores[protocol][column] for column in columns]
            for step in range(found.horizon):
                values = ["" if x.dim() == 0 else float(x[step]) for x in scores]
                writer.writerow([name, step + 1, *values])
            writer.writerow([name, "mean", *(float(x.mean()) for x in scores)])


def _content(found: Evaluation, facts: Mapping[str, str]) -> dict[str, Any]:
    return {
        "facts": dict(facts),
        "context": found.context,
        "horizon": found.horizon,
        "clips": found.clips,
        "shown": {clip.place: {"index": clip.index, "psnr": clip.psnr} for clip in found.shown},
        "models": {name: _record(result) for name, result in found.results.items()},
    }


def _record(result: Result) -> dict[str, Any]:
    scores = {
        protocol: {
            name: {"mean": float(x.mean()), "per_step": x.tolist() if x.dim() else None}
            for name, x in table.items()
        }
        for protocol, table in result.scores.items()
    }
    return {"cost": result.cost._asdict(), "scores": scores}
