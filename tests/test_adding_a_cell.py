"""The page on adding a cell, followed to the letter: its unit passes the laws, a broken one not."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "adding-a-cell.md").read_text()


def block(title: str) -> str:
    """The code of the page under a title."""
    (code,) = re.findall(rf'```python title="{re.escape(title)}"\n(.*?)```', PAGE, re.DOTALL)
    return code


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python from a folder, which is where it finds the package."""
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, text=True, capture_output=True, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The package with the page's cell in it."""
    shutil.copytree(ROOT / "vidpred", tmp_path / "vidpred")
    (tmp_path / "vidpred/cells/convmgu.py").write_text(block("vidpred/cells/convmgu.py"))
    init = tmp_path / "vidpred/cells/__init__.py"
    line = block("vidpred/cells/__init__.py")
    export = '__all__ = [\n    "ConvMGUCell",\n    "ConvMGUState",\n'
    init.write_text(line + init.read_text().replace("__all__ = [\n", export))
    shutil.copy(ROOT / "tests/test_laws.py", tmp_path)
    return tmp_path


def laws(folder: Path, *selected: str) -> subprocess.CompletedProcess[str]:
    files = "test_laws.py", "vidpred/cells/convmgu.py"
    return python(folder, "-m", "pytest", "-q", "--doctest-modules", *files, "-k", *selected)


@pytest.mark.slow
def test_the_cell_passes_the_laws(copy: Path) -> None:
    run = laws(copy, "ConvMGU or convmgu", "-vv")
    assert run.returncode == 0, run.stdout
    assert re.search(r"[2-9]\d passed", run.stdout), run.stdout
    assert "vidpred.cells.convmgu.ConvMGUCell PASSED" in run.stdout


def test_a_cell_with_a_memory_of_its_own_does_not(copy: Path) -> None:
    path = copy / "vidpred/cells/convmgu.py"
    kept = "        self.last = h\n        return h, ConvMGUState(h)"
    path.write_text(path.read_text().replace("        return h, ConvMGUState(h)", kept))
    run = laws(copy, "ConvMGU and nothing_stays_on_the_module")
    assert run.returncode == 1, run.stdout
    assert "1 failed" in run.stdout


def test_the_cell_is_its_naive_twin(copy: Path) -> None:
    (copy / "naive").mkdir()
    shutil.copy(ROOT / "tests/naive/parts.py", copy / "naive")
    (copy / "naive/convmgu.py").write_text(block("tests/naive/convmgu.py"))
    compared = """
import torch
from naive.convmgu import convmgu
from vidpred.cells import ConvMGUCell, ConvMGUState
for norm in ("group", None):
    cell = ConvMGUCell(3, 4, 3, norm=norm).double()
    x, h = torch.randn(2, 3, 6, 5).double(), torch.randn(2, 4, 6, 5).double()
    (got, _), expected = cell(x, ConvMGUState(h)), convmgu(dict(cell.state_dict()), x, h)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
"""
    run = python(copy, "-c", compared)
    assert run.returncode == 0, run.stderr


def test_the_cell_makes_a_model(copy: Path) -> None:
    run = python(copy, "-c", block("in a program") + "print(predictor.core)")
    assert run.returncode == 0, run.stderr
    assert "4 x ConvMGUCell" in run.stdout
