"""The pages: their programs run, and their commands are commands."""

import importlib
import re
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Trainer
from videos import write

from vidpred import cells, cli, weights
from vidpred.data import prepare, sources
from vidpred.models import zoo
from vidpred.tasks import ForecastTask

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ELSEWHERE = ROOT / "docs" / "adding-a-cell.md"  # what tests/test_adding_a_cell.py runs
# What a block says a name is, of which the page does not tell how to come by it.
GIVEN: dict[str, dict[str, Any]] = {
    "concepts.md": {
        "cell": cells.STGRUCell(2, 2),
        "flow": torch.rand(1, 2, 8, 8),
        "state": cells.STGRUCell(2, 2).init_state(torch.rand(1, 2, 8, 8)),
    },
    "detection.md": {"prediction": torch.rand(1, 10, 3, 32, 32)},
}
SMALLER = {  # where a program is of the published size
    "zoo.iprnn(in_channels=1)": "zoo.iprnn(in_channels=1, hidden_channels=4)",
    "MovingMNISTData()": "MovingMNISTData(batch_size=2)",
    "test_size=500": "test_size=2",
}


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """The blocks of a page in a language, and how many lines stand before each."""
    text = page.read_text()
    for block in re.finditer(rf"^( *)```{language}\b.*\n((?s:.*?))^\1```$", text, re.MULTILINE):
        yield text.count("\n", 0, block.start(2)), textwrap.dedent(block[2])


def commands(page: Path) -> list[list[str]]:
    """Every command on a page: its program, ``vidpred`` or a benchmark, and the arguments."""
    text = "".join(block for _, block in blocks(page, "console")).replace("\\\n", " ")
    program = r"^(?:torchrun .* -m |python )?((?:vidpred|benchmarks/\w+\.py) .+)$"
    lines = re.findall(program, text, re.MULTILINE)
    return [shlex.split(line.replace(" NAME ", " videos "), comments=True) for line in lines]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of, small: runs, videos, clips, weights."""
    from torchvision import models

    folder = tmp_path_factory.mktemp("docs")
    (folder / "examples").symlink_to(ROOT / "examples")
    torch.manual_seed(0)
    for path, channels in (("RUN/checkpoints/last.ckpt", 3), ("last.ckpt", 1)):
        task = ForecastTask(zoo.stau(channels, hidden_channels=16, layers=1))
        trainer = Trainer(accelerator="cpu", logger=False, default_root_dir=folder)
        trainer.strategy.connect(task)
        trainer.save_checkpoint(folder / path)
    for name in ("RUN/config.yaml", "RUN.yaml", "FILE"):
        shutil.copy(ROOT / "tests" / "conf" / "forecast.yaml", folder / name)
    shutil.copytree(folder / "RUN", folder / "RUN2")
    for model in ("CLONE_OF_STAU/core/models/STAU.py", "STIPHR/core/models/STIP.py"):
        (folder / model).parent.mkdir(parents=True)
        (folder / model).touch()
    (_, detector), *_ = blocks(ROOT / "docs" / "detection.md", "python")
    (folder / "my_module.py").write_text(detector)

    write(folder / "clip.mp4", range(20))
    for number in range(4):
        garden = ("south", "north")[number % 2]
        write(folder / "DIR" / garden / f"{number}.mp4", range(10 * number, 10 * number + 100))
    fractions: Any = {"val_fraction": 0.3, "test_fraction": 0.3}
    source = sources.videos(
        folder / "DIR", (64, 64), classes="folder", split_by="time", **fractions
    )
    prepare(source, folder / "clips.h5")

    weights.save(zoo.stau(norm="layer", size=(64, 64)), folder / "stau.pth")
    name = "fasterrcnn_mobilenet_v3_large_320_fpn"
    network = models.get_model(name, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), folder / "weights.pth")
    return folder


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page != ELSEWHERE and any(blocks(page, "python"))],
    ids=lambda page: page.stem,
)
def test_programs_run(page: Path, files: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(files)
    monkeypatch.setenv("PL_TRAINER_FAST_DEV_RUN", "1")
    namespace = {"__name__": page.stem, **GIVEN.get(page.name, {})}
    for line, code in blocks(page, "python"):
        for whole, part in SMALLER.items():
            code = code.replace(whole, part)
        exec(compile("\n" * line + code, page, "exec"), namespace)


def test_the_programs_that_are_made_smaller_are_there():
    pages = "".join(page.read_text() for page in PAGES)
    assert all(pages.count(text) == 1 for text in SMALLER)


def test_the_page_on_cells_is_run_by_its_own_test():
    titles = re.findall(r"```python(?: title=\"(.*)\")?", ELSEWHERE.read_text())
    own = (ROOT / "tests" / "test_adding_a_cell.py").read_text()
    assert len(titles) == 4
    assert all(f'block("{title}")' in own for title in titles)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page != ELSEWHERE and commands(page)], ids=lambda x: x.stem
)
def test_commands_parse(page: Path, files: Path, monkeypatch: pytest.MonkeyPatch):
    """Each is stopped when it has read its arguments, and would begin."""
    monkeypatch.chdir(files)
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.setattr(ArgumentParser, "instantiate", lambda *_: sys.exit(0))
    for program, *arguments in commands(page):
        if program != "vidpred":
            monkeypatch.setattr(sys, "argv", [program, *arguments])
            importlib.import_module(Path(program).stem).parse()
            continue
        with pytest.raises(SystemExit) as end:
            sys.exit(cli.main(arguments))
        assert end.value.code == 0, arguments


def test_the_tables_of_the_readme_name_every_unit_and_model():
    text = (ROOT / "README.md").read_text()
    _, tables, _ = re.split(r"\[(?:start|end):tables\]", text)
    units, models, below = tables.split("|\n\n")
    assert set(re.findall(r"`(\w+Cell)`", units)) == {unit.__name__ for unit in cells.UNITS}
    rows = set(re.findall(r"^\| `(\w+)", models, re.MULTILINE))
    settings = set(re.findall(r"`(\w+_\w+)`", below))
    assert rows | settings == set(zoo.__all__)
