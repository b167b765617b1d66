"""Evaluation: scores, clips and costs; the page and the tables; the command."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
import sys
import weakref
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchmetrics import Metric

from vidpred import cli, report, results
from vidpred.data import VideoData, prepare, sources
from vidpred.evaluation import Evaluation, evaluate
from vidpred.evaluator import _names
from vidpred.metrics import MSE, Column, protocols, psnr
from vidpred.models import Predictor, zoo
from vidpred.published import Published, published
from vidpred.tasks.forecast import copy_last_frame


class Clips(Dataset[Tensor]):
    """Clips of bytes in which everything moves, the later the more."""

    def __init__(self, count: int = 7, length: int = 7, channels: int = 1) -> None:
        self.shape = length, channels, 16, 24
        self.count = count
        self.alive: weakref.WeakSet[Tensor] = weakref.WeakSet()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        still = torch.randint(256, self.shape[1:], generator=generator)
        moved = [still.roll(index * t // 2, dims=-1) for t in range(self.shape[0])]
        clip = torch.stack(moved).to(torch.uint8)
        self.alive.add(clip)
        return clip


class ClipData(VideoData):
    def __init__(self, batch_size: int = 3, **shape: int) -> None:
        super().__init__(batch_size)
        self.clips = Clips(**shape)

    def setup(self, stage: str | None = None) -> None:
        self.test_set = self.clips


def half(known: Tensor, horizon: int) -> Tensor:
    return 0.5 * copy_last_frame(known, horizon)


def broken(known: Tensor, horizon: int) -> Tensor:
    """Finite for some clips and frames alone."""
    prediction = copy_last_frame(known, horizon).clone()
    prediction[known[:, -1].mean(dim=(1, 2, 3)) > 0.5, -1] = torch.inf
    return prediction


def everything(data: ClipData, length: int) -> Tensor:
    return torch.stack([data.clips[i][:length] for i in range(len(data.clips))]) / 255


@pytest.mark.parametrize("batch_size", [3, 7])
def test_scores_are_those_of_all_clips_at_once(batch_size: int) -> None:
    data = ClipData(batch_size)
    models = [("half", half), ("copy", copy_last_frame)]
    found = evaluate(models, data, context=3, horizon=2, protocols=protocols())
    frames = everything(data, length=5)
    assert list(found.results) == ["half", "copy"]
    assert (found.clips, found.context, found.horizon) == (7, 3, 2)
    for name, model in models:
        for protocol, columns in protocols().items():
            for column, (make, _, _, times) in columns.items():
                metric = make(2)
                metric.update(model(frames[:, :3], 2), frames[:, 3:])
                actual = found.results[name].scores[protocol][column]
                torch.testing.assert_close(actual, times * metric.compute(), rtol=1e-6, atol=0)


def test_best_median_and_worst_clip_of_the_first_model() -> None:
    data = ClipData()
    models = [("half", half), ("copy", copy_last_frame)]
    found = evaluate(models, data, context=3, horizon=2, protocols=protocols())
    frames = everything(data, length=5)
    ratings = psnr(half(frames[:, :3], 2), frames[:, 3:]).mean(dim=1)
    order = ratings.argsort(descending=True).tolist()
    assert [clip.place for clip in found.shown] == ["best", "median", "worst"]
    assert [clip.index for clip in found.shown] == [order[0], order[3], order[-1]]
    for number, clip in enumerate(found.shown):
        assert clip.psnr == pytest.approx(ratings[clip.index].item())
        torch.testing.assert_close(clip.frames, frames[clip.index])
        for name, model in models:
            forecast = found.results[name].forecasts[number]
            torch.testing.assert_close(forecast, model(clip.frames[None, :3], 2)[0])


@pytest.mark.parametrize(("count", "places"), [(1, ["best"]), (2, ["best", "median"])])
def test_a_clip_is_shown_once(count: int, places: list[str]) -> None:
    found = evaluate(
        [("half", half)], ClipData(count=count), context=3, horizon=2, protocols=protocols()
    )
    assert [clip.place for clip in found.shown] == places


def test_no_more_than_two_batches_are_in_memory() -> None:
    data = ClipData(batch_size=2, count=40)
    alive = []

    def model(known: Tensor, horizon: int) -> Tensor:
        alive.append(len(data.clips.alive))
        return copy_last_frame(known, horizon)

    evaluate([("copy", model)], data, context=3, horizon=2, protocols=protocols())
    assert len(alive) > 20
    assert max(alive) <= 4


def test_a_predictor_keeps_its_dtype_and_is_not_training() -> None:
    predictor = zoo.stau(hidden_channels=4, layers=1).double().train()
    found = evaluate([("stau", predictor)], ClipData(), 3, 2, protocols())
    assert next(predictor.parameters()).dtype == torch.float64
    assert not predictor.training
    assert found.results["stau"].forecasts[0].dtype == torch.float32
    assert found.results["stau"].cost.weights == sum(x.numel() for x in predictor.parameters())


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_memory_is_what_a_forecast_takes() -> None:
    def model(known: Tensor, horizon: int) -> Tensor:
        taken = torch.ones(200, 250_000)  # 200 MB
        return copy_last_frame(known, horizon) * taken[0, 0]

    models = [("large", model), ("copy", copy_last_frame)]
    found = evaluate(models, ClipData(count=1), context=3, horizon=2, protocols=protocols())
    large, copy = found.results["large"].cost, found.results["copy"].cost
    assert large.memory == pytest.approx(0.2, rel=0.05)
    assert copy.memory is not None
    assert copy.memory < 0.02
    assert large.seconds > copy.seconds > 0


def test_refuses_what_does_not_fit() -> None:
    def call(*models: tuple[str, Any], context: int = 3, horizon: int = 2, **shape: int) -> None:
        evaluate(models, ClipData(**shape), context, horizon, protocols())

    copy = "copy", copy_last_frame
    with pytest.raises(ValueError, match=r"clips of 4 frames are too short for 5 frames of"):
        call(copy, length=4)
    with pytest.raises(ValueError, match="horizon must be at least 1 frame, got 0"):
        call(copy, horizon=0)
    with pytest.raises(ValueError, match="expected at least one model"):
        call()
    with pytest.raises(ValueError, match="2 models are named 'copy'"):
        call(copy, copy)
    scored: list[Tensor] = []
    first = "first", lambda known, horizon: scored.append(known) or copy_last_frame(known, horizon)
    wrong = r"longer does not predict these clips: a model forecast \(1, 3, 1, 16, 24\) instead of"
    with pytest.raises(ValueError, match=wrong):
        call(first, ("longer", lambda known, horizon: copy_last_frame(known, horizon + 1)))
    assert {len(known) for known in scored} == {1}  # tried on a clip, not yet scored on batches
    with pytest.raises(FloatingPointError, match="nan predicts values that are not finite"):
        call(("nan", broken))

    class Pairs(ClipData):
        def setup(self, stage: str | None = None) -> None:
            self.test_set = [(self.clips[0], 1)]  # pyright: ignore[reportAttributeAccessIssue]

    with pytest.raises(ValueError, match=r"clips are one tensor \(B, T, C, H, W\), got tuple"):
        evaluate([copy], Pairs(), 3, 2, protocols())


def test_a_broken_model_leaves_the_scores_of_the_others(tmp_path: Path) -> None:
    data = ClipData()
    others = [("half", half), ("copy", copy_last_frame)]
    expected = evaluate(others, data, 3, 2, protocols())
    models = [("broken", broken), *others]
    found = evaluate(models, data, context=3, horizon=2, protocols=protocols())
    assert found.broken == {"broken": "predicts values that are not finite"}
    assert list(found.results) == ["half", "copy"]
    assert [clip.index for clip in found.shown] == [clip.index for clip in expected.shown]
    for name, result in found.results.items():
        torch.testing.assert_close(result.scores, expected.results[name].scores, rtol=0, atol=0)
    # It is marked wherever scores are, and what is written is valid.
    page = Page(results.write(found, tmp_path))
    assert results.table(found, "paper").splitlines()[-1].split() == ["broken", *["nan"] * 4]
    assert page.table(0)[-1] == ["broken", "nan", "nan", "nan"]
    assert all(row[1:] != ["nan"] * 3 for row in page.table(0)[:-1])
    assert len(list(page.all("table")[0].iter("b"))) == 3
    warning = next(p for p in page.all("p") if p.attrib.get("class") == "warning")
    assert warning.text == "broken predicts values that are not finite: it has no scores."
    with (tmp_path / "standard.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["model"] == "broken"] == ["1", "2", "mean"]
    assert all(row["PSNR"] == "nan" for row in rows if row["model"] == "broken")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    text = (tmp_path / "evaluation.json").read_text()
    content = json.loads(text, parse_constant=refuse)
    assert content["broken"] == found.broken
    assert list(content["models"]) == ["half", "copy"]


class Page:
    """A page as a browser would see it; any fault of form is an error."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        assert self.text.startswith("<!DOCTYPE html>\n")
        self.root = ElementTree.fromstring(self.text)

    def all(self, tag: str) -> list[ElementTree.Element]:
        return list(self.root.iter(tag))

    def table(self, number: int) -> list[list[str]]:
        rows = self.all("table")[number].iter("tr")
        return [["".join(cell.itertext()) for cell in row] for row in rows]


def found(context: int = 3, horizon: int = 2, **shape: int) -> Evaluation:
    models = [("half <of> it & more", half), ("copy", copy_last_frame)]
    return evaluate(models, ClipData(**shape), context, horizon, protocols())


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    evaluation = found(channels=3)
    facts = {"Command": "vidpred evaluate --out 'a <b>'"}
    page, *pictures = report.write(evaluation, tmp_path, "Models & data", facts=facts)
    assert page == tmp_path / "report.html"
    names = [path.relative_to(tmp_path).as_posix() for path in pictures]
    assert names[:4] == [
        "curves.png",
        "clips/best.png",
        "clips/best-1-half-of-it-more.gif",
        "clips/best-2-copy.gif",
    ]
    assert len(names) == 1 + 3 * 3
    content = Page(page)
    assert content.root.attrib == {"lang": "en"}
    metas = [meta.attrib for meta in content.all("meta")]
    assert {"charset": "utf-8"} in metas
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    # Neither script nor anything from elsewhere: all that an element may refer to is data.
    allowed = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "div"}
    allowed |= {"table", "thead", "tbody", "tr", "th", "td", "b", "details", "summary", "dl"}
    allowed |= {"dt", "dd", "code", "figure", "figcaption", "img"}
    assert {element.tag for element in content.root.iter()} <= allowed
    assert not re.search(r"url\(|@import|https?:", content.all("style")[0].text or "")
    images = content.all("img")
    assert len(images) == 3 + 3 * 3  # curves, strips and films
    for image in images:
        assert set(image.attrib) == {"alt", "src"}
        assert image.attrib["alt"]
        kind, _, data = image.attrib["src"].partition(";base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        assert kind == f"data:image/{(picture.format or '').lower()}"
        picture.load()
    assert content.all("h1")[0].text == "Models & data"
    assert content.all("code")[0].text == facts["Command"]


def test_page_shows_the_scores_and_marks_the_best(tmp_path: Path) -> None:
    evaluation = found()
    page = Page(report.write(evaluation, tmp_path, "Scores")[0])
    table = page.table(0)
    assert table[0] == ["", "MSE ↓", "PSNR ↑", "SSIM ↑"]
    assert [row[0] for row in table[1:]] == ["half <of> it & more", "copy"]
    for name, row in zip(evaluation.results, table[1:], strict=True):
        scores = evaluation.results[name].scores["standard"]
        for text, column in zip(row[1:], ("MSE", "PSNR", "SSIM"), strict=True):
            assert float(text) == pytest.approx(scores[column].mean().item(), rel=1e-3)
    for column, chosen in ((1, min), (2, max), (3, max)):
        best = chosen((row[column] for row in table[1:]), key=float)
        bold = [b.text for b in page.all("table")[0].iter("b")]
        assert bold[column - 1] == best
    steps = page.table(1)
    assert [row[0] for row in steps] == ["step", "1", "2", "mean"]
    assert steps[0][1:] == ["half <of> it & more", "copy"]


def test_published_scores_stand_above_ours_of_the_same_frames(tmp_path: Path) -> None:
    evaluation = found(context=3, horizon=4)
    columns = ["PSNR", "MSE x1000", "PSNR t=5", "weights, M"]
    rows = {"theirs": ["20.10", None, "19.0", "4"]}
    tables = [
        Published("Paper, Table 1", "", 3, 2, columns, rows, "a note"),
        Published("Paper, Table 2", "ablation", 3, 4, ["SSIM"], {"theirs": ["0.870"]}, ""),
        Published("Paper, Table 3", "", 4, 2, ["SSIM"], {"theirs": ["0.9"]}, ""),
        Published("Paper, Table 4", "", 3, 4, ["weights, M"], {"theirs": ["1"]}, ""),
    ]
    page = Page(report.write(evaluation, tmp_path, "Beside", tables)[0])
    first, second, third, fourth = (
        details for details in page.all("details") if "Paper" in (details[0].text or "")
    )
    assert first[0].text == "Paper, Table 1; 3 known frames, 2 predicted"
    assert "open" in first.attrib
    head, theirs, ours, copy = [
        ["".join(cell.itertext()) for cell in row] for row in first.iter("tr")
    ]
    assert head == ["", "PSNR ↑", "MSE x1000 ↓", "PSNR t=5 ↑", "weights, M"]
    assert theirs == ["theirs", "20.10", "–", "19.0", "4"]
    scores = evaluation.results["half <of> it & more"].scores["paper"]
    assert ours[0] == "half <of> it & more"
    assert float(ours[1]) == pytest.approx(scores["PSNR"][:2].mean().item(), rel=1e-3)
    assert float(ours[2]) == pytest.approx(scores["MSE x1000"][:2].mean().item(), rel=1e-3)
    assert float(ours[3]) == pytest.approx(scores["PSNR"][1].item(), rel=1e-3)  # frames 4, 5, ...
    assert ours[4] == copy[4] == "–"
    assert "a note" in "".join(first.itertext())
    assert "open" not in second.attrib
    assert len(list(second.iter("tr"))) == 4
    assert len(list(third.iter("tr"))) == 2
    assert "Other frames than those evaluated here." in "".join(third.itertext())
    assert len(list(fourth.iter("tr"))) == 2


def test_published_scores_on_other_data_stand_alone(tmp_path: Path) -> None:
    evaluation = found(context=3, horizon=2)
    table = Published("Paper, Table 1", "", 3, 2, ["PSNR"], {"theirs": ["20.10"]}, "")
    differences = ["size is [16, 24], not [64, 64]", "fps is 5, not <10>"]
    page = Page(report.write(evaluation, tmp_path, "Other data", [table], differences)[0])
    (shown,) = (x for x in page.all("details") if "Paper" in (x[0].text or ""))
    rows = [["".join(cell.itertext()) for cell in row] for row in shown.iter("tr")]
    assert rows == [["", "PSNR ↑"], ["theirs", "20.10"]]
    (warning,) = (p.text for p in page.all("p") if p.attrib.get("class") == "warning")
    assert warning is not None
    assert "not on the test set evaluated here: size is [16, 24], not [64, 64]; fps" in warning


def test_weights_are_counted_and_small_costs_shown(tmp_path: Path) -> None:
    models = [("stau", zoo.stau(hidden_channels=4, layers=1)), ("copy", copy_last_frame)]
    evaluation = evaluate(models, ClipData(), 3, 2, protocols())
    page = Page(report.write(evaluation, tmp_path, "Costs")[0])
    (costs,) = (
        page.table(i) for i, _ in enumerate(page.all("table")) if "weights" in page.table(i)[0]
    )
    assert [row[-1] for row in costs[1:]] == [f"{evaluation.results['stau'].cost.weights:,}", "0"]
    for row, result in zip(costs[1:], evaluation.results.values(), strict=True):
        assert float(row[1]) == pytest.approx(1000 * result.cost.seconds, rel=0.05)


def test_a_folder_holds_one_evaluation(tmp_path: Path) -> None:
    """No clip of an earlier one, a film for every model, and what is one's own."""
    models = [("run 1", half), ("run-1", copy_last_frame)]
    (tmp_path / "clips").mkdir()
    own = {"clips/best.txt", "clips/best-of-all.gif"}
    for name in own:
        (tmp_path / name).touch()

    def write(models: list[tuple[str, Any]], **shape: int) -> set[str]:
        found = evaluate(models, ClipData(**shape), 3, 2, protocols())
        page = results.write(found, tmp_path)
        assert page == tmp_path / "report.html"
        return {x.relative_to(tmp_path).as_posix() for x in tmp_path.rglob("*") if x.is_file()}

    tables = {"report.html", "curves.png", "evaluation.json", "standard.csv", "paper.csv"}
    names = {
        f"{place}{end}"
        for place in ("best", "median", "worst")
        for end in (".png", "-1-run-1.gif", "-2-run-1.gif")
    }
    assert write(models) == tables | own | {f"clips/{name}" for name in names}
    assert write(models[:1], count=1) == tables | own | {"clips/best.png", "clips/best-1-run-1.gif"}


def test_an_evaluation_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write(found(), tmp_path)
    before = {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()}

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vidpred.visual.gif", killed)
    with pytest.raises(KeyboardInterrupt):
        results.write(found(count=1), tmp_path)
    assert {x: x.read_bytes() for x in tmp_path.rglob("*") if x.is_file()} == before


def test_a_score_of_whole_sequences_is_in_the_tables_alone(tmp_path: Path) -> None:
    class Whole(Metric):
        total: Tensor

        def __init__(self, horizon: int) -> None:
            super().__init__()
            self.add_state("total", torch.tensor(0.0), dist_reduce_fx="sum")

        def update(self, prediction: Tensor, target: Tensor) -> None:
            self.total = self.total + (prediction - target).square().sum()

        def compute(self) -> Tensor:
            return self.total

    wanted = {
        name: {**columns, "FVD": Column(Whole, "distance")} for name, columns in protocols().items()
    }
    evaluation = evaluate([("copy", copy_last_frame)], ClipData(), 3, 2, wanted)
    assert evaluation.results["copy"].scores["paper"]["FVD"].dim() == 0
    tables = [
        Published("Paper", "", 3, horizon, ["FVD"], {"theirs": ["950.6"]}, "") for horizon in (2, 1)
    ]
    page = Page(report.write(evaluation, tmp_path, "Sequences", tables)[0])
    assert page.table(0)[0] == ["", "MSE ↓", "PSNR ↑", "SSIM ↑", "FVD ↓"]
    assert len(page.all("img")) == 3 + 2 * 3  # no curve of it
    same, other = (x for x in page.all("details") if (x[0].text or "").startswith("Paper"))
    ours = [["".join(cell.itertext()) for cell in x.iter("td")][-1] for x in (same, other)]
    expected = evaluation.results["copy"].scores["paper"]["FVD"].item()
    assert float(ours[0]) == pytest.approx(expected, rel=1e-3)
    assert ours[1] == "–"


def test_names_are_what_tells_models_apart() -> None:
    stau, mau = (make(hidden_channels=4, layers=1) for make in (zoo.stau, zoo.mau))
    runs = ["runs/a/version_0/last.ckpt", "runs/b/version_0/last.ckpt"]
    assert _names(dict.fromkeys(runs, stau)) == dict(zip(runs, ["a", "b"], strict=True))
    assert _names({"a/b": stau, "a/b/c": mau}) == {"a/b": "b", "a/b/c": "b/c"}
    # Of one path nothing does: everyone's is called last.ckpt.
    assert _names({runs[0]: mau}) == {runs[0]: "mau"}
    assert _names({}) == {}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for name, make in {"stau": zoo.stau, "mau": zoo.mau}.items():
            make(hidden_channels=4, layers=1).save_pretrained(folder / name)
    return [str(folder / "stau"), str(folder / "mau")]


DATA = ["--data", "vidpred.data.MovingMNISTData", "--data.test_size", "5", "--data.batch_size", "2"]


def test_command_writes_the_page_tables_and_pictures(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    args = ["--ckpt", *folders, *DATA, "--horizon", "3", "--out", str(out)]
    assert cli.main(["evaluate", *args, "--published", "moving_mnist"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^standard\n +model +MSE +PSNR +SSIM\n +stau ", printed)
    assert printed.endswith(f"report: {out / 'report.html'}\n")
    content = json.loads((out / "evaluation.json").read_text())
    assert list(content["models"]) == ["stau", "mau", "copy last frame"]
    assert (content["context"], content["horizon"], content["clips"]) == (10, 3, 5)
    assert content["facts"]["Model mau"] == folders[1]
    assert content["facts"]["Command"].startswith("vidpred evaluate --ckpt ")
    for protocol in ("standard", "paper"):
        with (out / f"{protocol}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert [row["step"] for row in rows] == ["1", "2", "3", "mean"] * 3
        for row in rows:
            scores = content["models"][row["model"]]["scores"][protocol]
            assert list(row) == ["model", "step", *scores]
            for name, score in scores.items():
                mean = row["step"] == "mean"
                expected = score["mean"] if mean else score["per_step"][int(row["step"]) - 1]
                assert float(row[name]) == expected
    page = Page(out / "report.html")
    assert page.all("h1")[0].text == "Evaluation of stau, mau, copy last frame"
    summaries = ["".join(summary.itertext()) for summary in page.all("summary")]
    for table in published("moving_mnist"):
        assert any(summary.startswith(table.source) for summary in summaries)
    assert (out / "clips" / "worst-2-mau.gif").is_file()


def test_example_runs(folders: list[str], tmp_path: Path) -> None:
    example = Path(__file__).parents[1] / "examples" / "evaluation" / "moving_mnist.yaml"
    out = tmp_path / "out"
    settings = ["--data.test_size", "2", "--ckpt", folders[0], "--out", str(out)]
    assert cli.main(["evaluate", "--config", str(example), *settings]) == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert list(content["models"]) == ["stau", "copy last frame"]
    assert (content["context"], content["horizon"], content["clips"]) == (10, 10, 2)
    assert "Table 3" in (out / "report.html").read_text(encoding="utf-8")


def rows_of_copy(page: Page) -> int:
    """Published tables in which our row stands."""
    tables = (x for x in page.all("details") if "OpenSTL" in (x[0].text or ""))
    return sum("copy last frame" in "".join(table.itertext()) for table in tables)


def warnings(page: Page) -> list[str]:
    return ["".join(p.itertext()) for p in page.all("p") if p.attrib.get("class") == "warning"]


def test_published_results_compare_on_the_published_sequences_alone(tmp_path: Path) -> None:
    clip = np.resize(Clips(length=20)[0].numpy(), (20, 1, 64, 64))
    np.save(tmp_path / "mnist_test_seq.npy", clip)
    sequences = ["--data.test_sequences", str(tmp_path / "mnist_test_seq.npy")]
    out = tmp_path / "out"
    for extra, compares in (([], False), (sequences, True)):
        assert (
            cli.main(["evaluate", *DATA, "--data.test_size", "1", *extra, "--out", str(out)]) == 0
        )
        page = Page(out / "report.html")
        assert rows_of_copy(page) == compares
        said = 'test_sequences is null, not "mnist_test_seq.npy"'
        assert [said in warning for warning in warnings(page)] == [True] * (not compares)
        facts = json.loads((out / "evaluation.json").read_text())["facts"]
        assert json.loads(facts["Test set"])["data"] == "moving_mnist"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    folder.mkdir()
    clips = torch.stack([Clips(length=20)[i] for i in range(7)])
    np.save(folder / "clips.npy", clips.numpy())
    source = sources.array(folder / "clips.npy", length=20, val_fraction=0, test_fraction=0.5)
    return prepare(source, tmp_path / "clips.h5", {"data": "caltech", "fps": 30})


def test_a_file_knows_what_is_published_on_its_data(tmp_path: Path, file: Path) -> None:
    out = tmp_path / "out"
    args = ["evaluate", "--data", str(file), "--context=2", "--horizon=1", "--out", str(out)]
    assert cli.main(args) == 0
    facts = json.loads((out / "evaluation.json").read_text())["facts"]
    made = json.loads(facts["Test set"])
    assert (made["data"], made["fps"]) == ("caltech", 30)
    assert "split by clip" in made["protocol"]
    assert str(file) in facts["Data"]
    page = Page(out / "report.html")
    assert any("Table 4" in (x.text or "") for x in page.all("summary"))
    assert "fps is 30, not 10" in warnings(page)[0]
    assert cli.main([*args, "--published", "ucf101"]) == 0
    assert "the data are caltech, not ucf101" in warnings(Page(out / "report.html"))[0]


@pytest.mark.parametrize("place", ["--data {}", "--data={}", "--config", "--config --data {}"])
def test_a_file_is_data_on_the_command_line_and_in_yaml(
    place: str, tmp_path: Path, file: Path
) -> None:
    out = tmp_path / "out"
    more = ["--data.batch_size", "2", "--data.test_length", "10", "--out", str(out)]
    more += ["--context", "2", "--horizon", "1"]
    if place.startswith("--config"):
        settings = tmp_path / "settings.yaml"
        named = "other.h5" if place.endswith("{}") else file
        settings.write_text(f"data: {named}\npublished: caltech\n")
        place = place.replace("--config", f"--config {settings}")
    args = [*place.format(file).split(" "), *more]
    assert cli.main(["evaluate", *args]) == 0
    content = json.loads((out / "evaluation.json").read_text())
    assert content["clips"] == 2 * 4  # windows of 10 frames in the 20 of each test clip
    data = json.loads(content["facts"]["Data"])
    assert data["class_path"] == "vidpred.data.ClipsData"
    assert (data["init_args"]["path"], data["init_args"]["batch_size"]) == (str(file), 2)


@pytest.mark.parametrize("name", ["A.ckpt", "test.mp4", "none.mp4", "clips", ".", "./clips", "a b"])
@pytest.mark.parametrize("place", ["--data {}", "--data={}", "--config settings.yaml"])
def test_what_is_no_data_is_refused_in_one_line(
    name: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "A.ckpt").write_bytes(b"\x80")
    (tmp_path / "test.mp4").touch()  # as if in Python's module of that name
    (tmp_path / "clips").mkdir()
    (tmp_path / "settings.yaml").write_text(f"data: {name}\n")
    args = [part.format(name) for part in place.split(" ")]
    assert cli.main(["evaluate", *args, "--out", "out"]) == 2
    expected = "expected for --data a FILE.h5 of vidpred data prepare or a data module, got"
    assert capsys.readouterr().err == f"vidpred: error: {expected} {name}\n"


def test_a_broken_model_is_told_by_the_exit_status(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = Predictor.from_pretrained(folders[0])
    for weight in model.parameters():
        torch.nn.init.constant_(weight, torch.nan)
    model.save_pretrained(tmp_path / "nan")
    out = tmp_path / "out"
    args = ["--ckpt", str(tmp_path / "nan"), folders[1], *DATA, "--horizon=1", "--out", str(out)]
    assert cli.main(["evaluate", *args]) == 1
    captured = capsys.readouterr()
    error = captured.err.splitlines()[-1]
    assert re.fullmatch(r"vidpred: error: \S*nan predicts values that are not finite: .*", error)
    assert re.search(r"nan +nan +nan +nan\n", captured.out)
    content = json.loads((out / "evaluation.json").read_text())
    assert len(content["broken"]) == 1
    assert [name.split("/")[-1] for name in content["models"]] == ["mau", "copy last frame"]


def test_command_measures_lpips_and_fvd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Network(nn.Module):
        def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
            return x.mean(dim=[1, 3])[:, :9].mean(2, keepdim=True).flatten(1) / 255

    with pytest.warns(FutureWarning, match="torch.jit.script"):
        torch.jit.script(Network()).save(str(tmp_path / "i3d.pt"))
    monkeypatch.setattr("vidpred.evaluator.LPIPS", lambda horizon, net: MSE(horizon))
    out = tmp_path / "out"
    args = [*DATA, "--out", str(out), "--i3d", str(tmp_path / "i3d.pt"), "--lpips", "vgg"]
    assert cli.main(["evaluate", *args]) == 0
    capsys.readouterr()
    scores = json.loads((out / "evaluation.json").read_text())["models"]["copy last frame"][
        "scores"
    ]
    assert list(scores["paper"])[-2:] == ["LPIPS x100", "FVD"]
    assert scores["paper"]["LPIPS x100"]["mean"] == pytest.approx(
        100 * scores["standard"]["LPIPS"]["mean"]
    )
    assert scores["standard"]["FVD"]["mean"] > 0
    assert scores["standard"]["FVD"]["per_step"] is None
    with (out / "standard.csv").open(newline="", encoding="utf-8") as file:
        column = [row["FVD"] for row in csv.DictReader(file)]
    assert column == [""] * 10 + [str(scores["standard"]["FVD"]["mean"])]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--ckpt", "nowhere.ckpt"], "no checkpoint at nowhere.ckpt"),
        (["--ckpt", "a.ckpt", "./a.ckpt"], "a model is given twice: a.ckpt ./a.ckpt"),
        (["--ckpt", "a.ckpt", str(Path("a.ckpt").resolve())], "a model is given twice: a.ckpt /"),
        (["--out", "/proc/out", "--ckpt", "nowhere.ckpt"], "cannot write to /proc/out: "),
        (["--published", "kitti"], "no published results on kitti: there are some on moving_mnist"),
        (
            ["--horizon", "11"],
            "clips of 20 frames are too short for 21 frames of context and horizon: ",
        ),
        (
            ["--i3d", "nowhere.pt"],
            "FVD needs an I3D network as a TorchScript file: no file no",
        ),
        (
            ["--lpips", "alex"],
            "no file {home}/hub/checkpoints/alexnet-owt-7be5be79.pth; get it from",
        ),
        (["--device", "tpu7"], "there is no device tpu7 here"),
        (["--lpips", "resnet"], "lpips"),
        (["--steps", "3"], "--steps"),
    ],
)
def test_command_says_in_one_line_what_is_wrong(
    args: list[str],
    expected: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    assert cli.main(["evaluate", *DATA, "--out", str(tmp_path / "out"), *args]) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("vidpred: error: ")
    assert expected.format(home=tmp_path / "home") in message
    assert not (tmp_path / "out").exists()


def test_scores_are_printed_before_files_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").mkdir()
    assert cli.main(["evaluate", *DATA, "--horizon", "1", "--out", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert re.search(r"^paper\n +model .*\ncopy last frame +\d", captured.out, re.MULTILINE)
    error = captured.err.splitlines()[-1]
    assert error.startswith(f"vidpred: error: {tmp_path / 'report.html'} is a folder: ")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
