"""The package as a whole: the direction of imports, what importing loads, what is shipped."""

import ast
import importlib.util
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vidpred

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "vidpred").rglob("*.py"))

# A module may import its own level and the lower ones.
LEVELS = {
    **dict.fromkeys(["data", "errors", "files", "losses", "metrics", "published", "random"], 0),
    **dict.fromkeys(["panels", "processes", "sampling", "strips", "tables", "visual"], 0),
    "cells": 1,
    "models": 2,
    **dict.fromkeys(["reference", "weights"], 3),
    **dict.fromkeys(["detectors", "tasks"], 4),
    **dict.fromkeys(["cli", "commands", "data_command", "demo", "detection"], 5),
    **dict.fromkeys(["cost", "evaluation", "evaluator", "importer", "inspector"], 5),
    **dict.fromkeys(["report", "results"], 5),
    **dict.fromkeys(["__main__", "streaming"], 5),
}
# Slow to import or, for torchvision, unusable next to a CPU-only build of torch.
HEAVY = {
    "av",
    "huggingface_hub",
    "kornia",
    "lpips",
    "matplotlib",
    "sklearn",
    "torchvision",
    "wandb",
}


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def room(name: str) -> str:
    """``cells`` for ``vidpred.cells.base``, nothing outside vidpred and for vidpred itself."""
    parts = [*name.split("."), ""]
    return parts[1] if parts[0] == "vidpred" else ""


def imports(node: ast.AST, path: Path) -> list[str]:
    """Names that an import statement may load: ``a.b`` and ``a.b.c`` for ``from a.b import c``."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = dotted(path) if path.stem == "__init__" else dotted(path).rpartition(".")[0]
        base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
        return [base, *(f"{base}.{alias.name}" for alias in node.names)]
    return []


def run_on_import(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes outside functions and outside ``if TYPE_CHECKING``."""
    for child in ast.iter_child_nodes(node):
        checking = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
        if not checking and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from run_on_import(child)


def fresh_python(code: str) -> str:
    """What the code prints in an interpreter that has imported nothing yet."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_imports_run_one_way(path: Path) -> None:
    own = room(dotted(path))
    assert own in {*LEVELS, ""}, f"give {own} a level in tests/{Path(__file__).name}"
    for node in ast.walk(ast.parse(path.read_text())):
        for name in imports(node, path):
            above = LEVELS.get(room(name), -1) > LEVELS.get(own, -1)
            assert not above, f"{dotted(path)} must not import {name}"


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    for node in run_on_import(ast.parse(path.read_text())):
        heavy = {name.split(".")[0] for name in imports(node, path)} & HEAVY
        assert not heavy, f"import {heavy} inside the function that needs it"


def test_cells_and_models_load_nothing_heavy() -> None:
    """They need torch alone, so they start fast and run next to any torchvision."""
    seconds, *loaded = fresh_python(
        "import time, torch, sys\n"
        "start = time.perf_counter()\n"
        "import vidpred, vidpred.cells, vidpred.models\n"
        "print(time.perf_counter() - start, *{name.split('.')[0] for name in sys.modules})\n"
    ).split()
    assert {"vidpred", "torch"} <= set(loaded)
    assert not {*HEAVY, "lightning", "torchmetrics"} & set(loaded)
    # A tenth of a second here; far above it something heavy has crept in.
    assert float(seconds) < 3


def test_training_loads_nothing_heavy_of_its_own() -> None:
    """Lightning loads torchmetrics, which loads torchvision and matplotlib: we add nothing."""
    added = fresh_python(
        "import lightning, sys\n"
        "before = {name.split('.')[0] for name in sys.modules}\n"
        "import vidpred.data, vidpred.metrics, vidpred.tasks, vidpred.visual\n"
        "print(*{name.split('.')[0] for name in sys.modules} - before)\n"
    ).split()
    assert "vidpred" in added
    assert not HEAVY & set(added)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=120, cwd=ROOT)
    return folder


def test_sdist_holds_the_tests_and_what_they_read(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as file:
        shipped = {name.partition("/")[2] for name in file.getnames()}
    read = {".md", ".npz", ".py", ".yaml"}
    for folder in ("benchmarks", "docs", "examples", "tests", "vidpred"):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in read]
        assert {path.relative_to(ROOT).as_posix() for path in files} <= shipped, folder


def test_wheel_holds_every_module_and_the_type_marker(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"vidpred-{vidpred.__version__}-py3-none-any.whl"
    modules = {path.relative_to(ROOT).as_posix() for path in MODULES}
    expected = modules | {"vidpred/published.yaml", "vidpred/py.typed"}
    shipped = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert shipped == expected
