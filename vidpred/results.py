"""What an evaluation leaves in a folder: the report with its pictures, tables and a record."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidpred import report, tables
from vidpred.evaluation import Evaluation, Result
from vidpred.files import replacing_files
from vidpred.published import Published

# What the pictures of an earlier evaluation may be named, of other models or other clips.
_PICTURES = [
    f"clips/{place}{rest}"
    for place in ("best", "median", "worst")
    for rest in (".png", "-[0-9]*-*.gif")
]


def write(
    found: Evaluation,
    folder: Path,
    published: Sequence[Published] = (),
    differences: Sequence[str] = (),
    facts: Mapping[str, str] = {},
) -> Path:
    """Write ``report.html`` with its pictures, ``evaluation.json`` and a CSV of each protocol.

    All of it or nothing. What an earlier evaluation wrote there is replaced.

    Args:
        found: What to write.
        folder: Where to.
        published: As for :func:`vidpred.report.write`.
        differences: See there.
        facts: See there.

    Returns:
        The report.
    """
    models = [*found.results, *found.broken]
    with replacing_files(folder, stale=_PICTURES) as temporary:
        for protocol in found.protocols:
            _write_csv(found, protocol, temporary / f"{protocol}.csv")
        record = json.dumps(_content(found, facts), indent=2, allow_nan=False)
        (temporary / "evaluation.json").write_text(f"{record}\n", encoding="utf-8")
        title = f"Evaluation of {', '.join(models)}"
        page, *_ = report.write(found, temporary, title, published, differences, facts)
    return folder / page.name


def table(found: Evaluation, protocol: str) -> str:
    """The mean scores of a protocol as text, a row for every model."""
    means = {
        column: [float(x.mean()) for x in found.scores(protocol, column).values()]
        for column in found.protocols[protocol]
    }
    return tables.text_table("model", [*found.results, *found.broken], means)


def _write_csv(found: Evaluation, protocol: str, path: Path) -> None:
    """A row for every model and predicted step, and for the mean."""
    columns = {name: found.scores(protocol, name) for name in found.protocols[protocol]}
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "step", *columns])
        for name in [*found.results, *found.broken]:
            scores = [models[name] for models in columns.values()]
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
        "broken": dict(found.broken),
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
