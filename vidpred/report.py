"""An evaluation as one HTML file that opens anywhere: pictures within, no script, no network."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from torch import Tensor

from vidpred import tables, visual
from vidpred.evaluation import Evaluation, Result
from vidpred.files import replacing
from vidpred.metrics import Column
from vidpred.published import Published

_STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.2; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
figure { margin: 0.5rem 0; }
.wide { overflow-x: auto; }
.wide img { width: max(100%, 56rem); max-width: none; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 0.5rem 0; }
th, td { text-align: right; white-space: nowrap; padding: 0.3rem 0.7rem; }
tr { border-bottom: 1px solid var(--line); }
tr > :first-child { text-align: left; white-space: normal; overflow-wrap: break-word;
  max-width: 40vw; position: sticky; left: 0; background: Canvas; padding-left: 0; }
thead { font-size: 0.9rem; }
.own { font-weight: bold; }
img { display: block; max-width: 100%; height: auto; background: white; }
.grid { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.warning { border-left: 0.3rem solid #e07b00; padding-left: 0.7rem; }
summary { cursor: pointer; padding: 0.3rem 0; }
code { white-space: pre-wrap; }
dt { font-weight: bold; }
dd { margin: 0 0 0.5rem; }
"""


def write(
    evaluation: Evaluation,
    folder: Path,
    title: str,
    published: Sequence[Published] = (),
    differences: Sequence[str] = (),
    facts: Mapping[str, str] = {},
) -> list[Path]:
    """Write ``report.html``, and its pictures also as files: ``curves.png`` and ``clips/``.

    Args:
        evaluation: What to report.
        folder: Where to.
        title: What was evaluated on what.
        published: Tables to show beside one's own scores.
        differences: What sets the test set apart from theirs: if anything, one's own scores do not
            stand in their tables.
        facts: What else there is to know, by name.

    Returns:
        The files, the report first.

    Example:
        >>> import tempfile
        >>> from vidpred.data import MovingMNISTData
        >>> from vidpred.evaluation import evaluate
        >>> from vidpred.metrics import protocols
        >>> from vidpred.tasks.forecast import copy_last_frame
        >>> data = MovingMNISTData(batch_size=1, length=6, test_size=1)
        >>> found = evaluate([("copy", copy_last_frame)], data, 4, 2, protocols())
        >>> for path in write(found, Path(tempfile.mkdtemp()), "The copy on Moving MNIST"):
        ...     print(path.name)
        report.html
        curves.png
        best.png
        best-1-copy.gif
    """
    curves = {name: _per_step(result) for name, result in evaluation.results.items()}
    overview = folder / "curves.png"
    visual.save_figure(visual.plot_curves(curves), overview)
    pictures, clips = _clips(evaluation, folder / "clips")
    span = f"{evaluation.context} known frames, {evaluation.horizon} predicted"
    size = "×".join(map(str, evaluation.shown[0].frames.shape[-2:]))
    sections = [
        f"<p>{span}; {evaluation.clips:,} clips of {size} pixels.</p>",
        "<h2>Scores</h2>",
        "<p>Means over all clips and predicted frames; the best in bold.</p>",
        *(
            f'<p class="warning">{escape(f"{name} {wrong}: it has no scores.")}</p>'
            for name, wrong in evaluation.broken.items()
        ),
        *_scores(evaluation, "standard"),
        "<h2>Over the predicted frames</h2>",
        *_curves(curves),
        "<h2>Scores as the papers count them</h2>",
        *_scores(evaluation, "paper"),
        *_published(evaluation, published, differences),
        "<h2>Cost</h2>",
        f"<p>Of the forecast of one clip, {span}. Memory is what it takes beside the weights.</p>",
        _costs(evaluation.results),
        "<h2>Clips</h2>",
        f"<p>Those that {escape(next(iter(curves)))} predicts best, worst and in the middle, by "
        "PSNR. Strips scroll sideways.</p>",
        *clips,
        "<h2>How this was made</h2>",
        _definitions({name: f"<code>{escape(fact)}</code>" for name, fact in facts.items()}),
    ]
    report = folder / "report.html"
    with replacing(report) as temporary:
        temporary.write_text(_page(title, sections), encoding="utf-8")
    return [report, overview, *pictures]


def _page(title: str, sections: Sequence[str]) -> str:
    # Also well-formed XML: any parser reads it.
    head = (
        '<meta charset="utf-8"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join([f"<h1>{escape(title)}</h1>", *sections])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], own: int = 0) -> str:
    """A table that scrolls sideways, of text and of HTML; its last ``own`` rows are set apart."""
    lines = []
    for number, row in enumerate(rows):
        kind = ' class="own"' if number >= len(rows) - own else ""
        lines.append(f"<tr{kind}>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>")
    names = "".join(f"<th>{name}</th>" for name in head)
    return (
        f'<div class="wide"><table><thead><tr>{names}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _definitions(meanings: Mapping[str, str]) -> str:
    entries = (f"<dt>{escape(name)}</dt><dd>{text}</dd>" for name, text in meanings.items())
    return f"<dl>{''.join(entries)}</dl>"


def _details(summary: str, content: str, opened: bool = False) -> str:
    state = ' open=""' if opened else ""
    return f"<details{state}><summary>{escape(summary)}</summary>{content}</details>"


def _image(content: bytes, kind: str, alt: str) -> str:
    data = base64.b64encode(content).decode()
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data}"/>'


def _head(name: str, column: Column) -> str:
    return f"{escape(name)} {'↑' if column.higher_is_better else '↓'}"


def _scores(evaluation: Evaluation, protocol: str) -> list[str]:
    """The means of all models, and what the columns mean."""
    columns = evaluation.protocols[protocol]
    cells = [[escape(name) for name in [*evaluation.results, *evaluation.broken]]]
    for name, column in columns.items():
        values = [float(x.mean()) for x in evaluation.scores(protocol, name).values()]
        sound = values[: len(evaluation.results)]
        best = max(sound) if column.higher_is_better else min(sound)
        texts = zip(values, tables.decimals(values), strict=True)
        cells.append([f"<b>{text}</b>" if value == best else text for value, text in texts])
    head = ["", *(_head(name, column) for name, column in columns.items())]
    meanings = {name: escape(column.meaning) for name, column in columns.items()}
    table = _table(head, list(zip(*cells, strict=True)))
    return [table, _details("What the columns are", _definitions(meanings))]


def _per_step(result: Result) -> dict[str, Tensor]:
    """The scores that there are for every predicted frame."""
    return {name: values for name, values in result.scores["standard"].items() if values.dim()}


def _curves(models: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """A picture for each metric, so that they lie beside or below each other; then the values."""
    pictures, values = [], []
    for metric in next(iter(models.values())):
        content = io.BytesIO()
        figure = visual.plot_curves({name: {metric: x[metric]} for name, x in models.items()})
        figure.savefig(content, format="png")
        pictures.append(_image(content.getvalue(), "png", f"{metric} over the predicted frames"))
        steps, columns = tables.with_mean({name: x[metric] for name, x in models.items()})
        rows = zip(steps, *map(tables.decimals, columns.values()), strict=True)
        values.append(
            f"<h3>{escape(metric)}</h3>{_table(['step', *map(escape, columns)], [*rows])}"
        )
    grid = f'<div class="grid">{"".join(pictures)}</div>'
    return [grid, _details("All values", "".join(values))]


def _clips(evaluation: Evaluation, folder: Path) -> tuple[list[Path], list[str]]:
    """Strips and animations of the shown clips, as files and for the page."""
    files, sections = [], []
    for number, clip in enumerate(evaluation.shown):
        known, truth = clip.frames[: evaluation.context], clip.frames[evaluation.context :]
        place = f"{clip.place.capitalize()} clip: number {clip.index}, PSNR {clip.psnr:.2f} dB"
        sections.append(f"<h3>{place}</h3>")
        forecasts = {name: x.forecasts[number] for name, x in evaluation.results.items()}
        strip = folder / f"{clip.place}.png"
        visual.save_figure(visual.filmstrip(known, truth, forecasts), strip)
        picture = _image(strip.read_bytes(), "png", f"{clip.place} clip: frames")
        films = []
        files.append(strip)
        for model, (name, forecast) in enumerate(forecasts.items(), 1):
            # Numbered: names may differ in what no file name can hold.
            plain = re.sub("[^a-zA-Z0-9._-]+", "-", name).strip("-")[-80:]
            film = folder / f"{clip.place}-{model}-{plain}.gif"
            visual.gif(known, truth, forecast, film)
            files.append(film)
            image = _image(film.read_bytes(), "gif", f"{clip.place} clip: film of {name}")
            films.append(f"<figure><figcaption>{escape(name)}</figcaption>{image}</figure>")
        sections.append(
            f'<div class="wide">{picture}</div><div class="grid">{"".join(films)}</div>'
        )
    return files, sections


def _published(
    evaluation: Evaluation, tables: Sequence[Published], differences: Sequence[str]
) -> list[str]:
    """What the papers print, and whether it is of such data as our scores."""
    if not tables:
        return []
    sections = ["<h2>Published results</h2>"]
    if differences:
        what = escape("; ".join(differences))
        sections.append(
            f'<p class="warning">These are not on the test set evaluated here: {what}. Our scores '
            "do not compare with them and do not stand in their tables.</p>"
        )
    return sections + [_beside(evaluation, table, not differences) for table in tables]


def _beside(evaluation: Evaluation, table: Published, same_data: bool) -> str:
    """A published table, with our models below where they saw and predicted such frames."""
    columns = evaluation.protocols["paper"]
    metrics = [name.partition(" t=")[0] for name in table.columns]
    head = ["", *(
        _head(name, columns[metric]) if metric in columns else escape(name)
        for name, metric in zip(table.columns, metrics, strict=True)
    )]  # fmt: skip
    rows = [
        [escape(method), *(value or "–" for value in values)]
        for method, values in table.rows.items()
    ]
    alike = evaluation.context == table.context and evaluation.horizon >= table.horizon
    shared = same_data and alike and any(metric in columns for metric in metrics)
    if shared:
        for name, result in evaluation.results.items():
            values = (_score(evaluation, table, result, column) for column in table.columns)
            rows.append([escape(name), *values])
    span = f"{table.context} known frames, {table.horizon} predicted"
    about = "; ".join(filter(None, [table.source, table.about, span]))
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    if not alike:
        note += "<p>Other frames than those evaluated here.</p>"
    shown = _table(head, rows, own=len(evaluation.results) * shared)
    return _details(about, shown + note, opened=shared and not table.about)


def _score(evaluation: Evaluation, table: Published, result: Result, column: str) -> str:
    """Our score in a column of a published table."""
    metric, _, frame = column.partition(" t=")
    if metric not in result.scores["paper"]:
        return "–"
    values = result.scores["paper"][metric]
    if values.dim() == 0:  # of sequences of one length
        return tables.decimals([float(values)])[0] if evaluation.horizon == table.horizon else "–"
    chosen = values[int(frame) - table.context - 1] if frame else values[: table.horizon].mean()
    return tables.decimals([float(chosen)])[0]


def _costs(models: Mapping[str, Result]) -> str:
    costs = [result.cost for result in models.values()]
    times = tables.decimals([1000 * cost.seconds for cost in costs])
    memory = tables.decimals([1000 * (cost.memory or 0) for cost in costs])
    rows = [
        [escape(name), time, "–" if cost.memory is None else held, f"{cost.weights:,}"]
        for name, cost, time, held in zip(models, costs, times, memory, strict=True)
    ]
    return _table(["", "time, ms", "memory, MB", "weights"], rows)
