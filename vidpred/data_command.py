"""``vidpred data prepare | check | info``: data sets as files."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from jsonargparse import ArgumentParser, Namespace

from vidpred.data import ClipsFile, check, prepare, sources
from vidpred.data.clip_data import lacking
from vidpred.data.crop import crop_and_resize
from vidpred.data.hdf5 import texts
from vidpred.data.parts import check_output
from vidpred.data.sources import Split
from vidpred.strips import Strip, spread, strips
from vidpred.visual import figure_path, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HELP = """\
usage: vidpred data prepare NAME --source DIR --out FILE.h5 [--SETTING VALUE ...]
   or: vidpred data check FILE.h5
   or: vidpred data info FILE.h5 [--sheet PICTURE.png]

prepare  make one file of a data set as it is downloaded, or of your own videos: frames cut, scaled
         and stored as bytes. Interrupted, the same command goes on.
check    read all of a file and compare it with the checksums in it
info     what is in it, and a contact sheet of its clips

NAME is one of {names}.

  vidpred data prepare NAME --help     lists the settings, with what was published as defaults
  vidpred data prepare videos --source DIR --size '[64,64]' --out clips.h5
  vidpred fit --config examples/clips/stgru.yaml --data.path clips.h5"""

# On a contact sheet: clips, frames of each, pixels of a frame and letters of a name.
_CLIPS, _FRAMES, _SIDE, _NAME = 12, 8, 256, 24


def main(args: Sequence[str]) -> None:
    """Run ``vidpred data``.

    Args:
        args: The arguments after ``data``.

    Raises:
        ValueError: They are not those that it takes, or a file is damaged.
        OSError: A file is missing, is there already or cannot be written.
    """
    command, *rest = args or ["--help"]
    if command in ("-h", "--help") or (command == "prepare" and rest in ([], ["-h"], ["--help"])):
        print(HELP.format(names=", ".join(_names())))
    elif command == "prepare":
        _prepare(rest)
    elif command == "check":
        _check(rest)
    elif command == "info":
        _info(rest)
    else:
        raise ValueError(f"no command data {command}; expected prepare, check or info")


def _names() -> list[str]:
    """The data sets: functions of :mod:`vidpred.data.sources`."""
    return [name for name in sources.__all__ if inspect.isfunction(getattr(sources, name))]


def _prepare(args: Sequence[str]) -> None:
    name, *rest = args
    if name not in _names():
        raise ValueError(f"no data set {name!r}; expected one of {', '.join(_names())}")
    function = getattr(sources, name)
    parser = _parser(f"prepare {name} --source DIR --out FILE.h5 [--SETTING VALUE ...]")
    settings = parser.add_function_arguments(function, as_group=False)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser.add_argument("--out", metavar="FILE.h5", required=True, help="file to write")
    parser.add_argument(
        "--workers", type=int, default=cores, help="processes that decode; 0: this one"
    )
    parser.add_argument("--zstd", action="store_true", help="compress; needs hdf5plugin")
    config = _parse(parser, rest)
    arguments = {setting: config[setting] for setting in settings}
    check_output(Path(config.out), config.workers)
    source = function(**arguments)
    record = {"data": name, **{key: _shown(value) for key, value in arguments.items()}}
    out = prepare(source, config.out, record, config.workers, config.zstd)
    file = ClipsFile(out)
    print(_table(file))
    print(f"{out}: {out.stat().st_size / 1e6:,.1f} MB")
    if not any(clip.split == "train" for clip in source.clips):
        print("note: no clip is there to train on")
    for split in get_args(Split):
        wanted = file.clips(split) or arguments.get(f"{split}_fraction")
        if wanted and (lack := lacking(file, split, file.length)):
            print(f"note: {lack}")


def _check(args: Sequence[str]) -> None:
    parser = _parser("check FILE.h5")
    parser.add_argument("file", metavar="FILE.h5")
    path = _parse(parser, args).file
    for remark in check(path):
        print(f"note: {remark}")
    print(f"{path} is sound")


def _info(args: Sequence[str]) -> None:
    parser = _parser("info FILE.h5 [--sheet PICTURE.png]")
    parser.add_argument("file", metavar="FILE.h5")
    parser.add_argument("--sheet", metavar="PICTURE.png", help="default: beside the file")
    config = _parse(parser, args)
    file = ClipsFile(config.file)
    sheet = figure_path(config.sheet or file.path.with_suffix(".png"))
    channels, height, width = file.shape
    print(f"{file.path}, written by vidpred {file.vidpred}")
    print(f"frames: {height}x{width}, {channels} channels; samples of {file.length}")
    if file.classes:
        print(f"classes: {len(file.classes)}, {file.classes[0]} to {file.classes[-1]}")
    print(f"protocol: {file.protocol}")
    print("settings: " + ", ".join(f"{name}={value}" for name, value in file.settings.items()))
    print(_table(file))
    save_figure(_contact_sheet(file), sheet)
    print(f"contact sheet: {sheet}")


def _parser(usage: str) -> ArgumentParser:
    return ArgumentParser(exit_on_error=False, allow_abbrev=False, usage=f"vidpred data {usage}")


def _parse(parser: ArgumentParser, args: Sequence[str]) -> Namespace:
    return parser.instantiate(parser.parse_args(list(args)))


def _shown(value: Any) -> Any:
    """A setting for the record: where a folder lies is of this machine."""
    return os.path.basename(os.path.abspath(value)) if isinstance(value, os.PathLike) else value


def _table(file: ClipsFile) -> str:
    """A line for each split: clips, frames, and samples that follow one another."""
    rows = [["split", "clips", "frames", "samples"]]
    for split in get_args(Split):
        lengths = [len(clip) for clip in file.clips(split)]
        samples = sum(length // file.length for length in lengths)
        rows.append([split, *(f"{n:,}" for n in (len(lengths), sum(lengths), samples))])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )


def _contact_sheet(file: ClipsFile) -> Figure:
    """Clips of the whole file, a few frames each."""
    with file.reading() as content:
        names = dict(zip(file.start.tolist(), texts(content, "clips/name"), strict=True))
    clips = [(split, clip) for split in get_args(Split) for clip in file.clips(split)]
    _, height, width = file.shape
    scale = min(1, _SIDE / max(height, width))
    size = max(1, round(height * scale)), max(1, round(width * scale))
    rows = []
    for split, clip in (clips[number] for number in spread(len(clips), _CLIPS)):
        shown = spread(len(clip), _FRAMES)
        frames = torch.cat([crop_and_resize(clip[t : t + 1], size) for t in shown])
        pictures = frames.permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy() / 255
        name = names[clip.start]
        short = name if len(name) <= _NAME else f"…{name[1 - _NAME :]}"
        rows.append(Strip(f"{split}: {short}", pictures, [str(t) for t in shown]))
    return strips(rows, file.path.name)
