"""Stored outputs are what the code gives: nbval on completed labs and on a chapter, and what nbval misses."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook, new_output

from attnkit.authoring.notebook import execute
from attnkit.authoring.strict import blind_spots, problems
from attnkit.viz.gluing import BOOK
from tests.lab.labs import MASTERS

from .conftest import ROOT, TWINS, completed, nbval, read

# Twins store text outputs only, and nbval has no option that leaves the other kinds out of the comparison.
TEXT_ONLY = """
from nbval.plugin import IPyNbFile

setup = IPyNbFile.setup_sanitize_files

def text_only(self):
    self.skip_compare += ("text/html", "image/svg+xml", "application/javascript")
    setup(self)

IPyNbFile.setup_sanitize_files = text_only
"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.mark.slow
def test_nbval_agrees_with_the_stored_outputs_of_a_completed_lab(tmp_path: Path) -> None:
    """On one lab, as proof that nbval and our own comparison agree: `attnkit lab verify` compares those of each lab,
    byte for byte, with a run (tests/lab/test_verified.py), and test_colab.py with another."""
    path = tmp_path / "attention.ipynb"
    nbformat.write(completed(MASTERS["attention"]), path)
    run = nbval(path)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("twin", TWINS, ids=lambda path: path.stem)
def test_a_chapters_twin_has_nothing_that_nbval_would_let_pass(twin: Path) -> None:
    assert blind_spots(read(twin)) == []


@pytest.mark.slow
def test_nbval_agrees_with_the_stored_outputs_of_a_chapter(tmp_path: Path, monkeypatch) -> None:
    """On one twin, a small one, as proof that nbval and our comparison agree.

    Run as the page is: in a kernel of its own, `play` would give controls in place of frames.

    The outputs of all others are compared, byte for byte, with the run of their page (test_twins.py, and
    tests/book/test_executed.py, which shows that it is the same run): no cell runs twice.
    """
    twin = ROOT / "book" / "idea" / "softmax.ipynb"
    path = tmp_path / twin.name
    nbformat.write(read(twin), path)
    (tmp_path / "conftest.py").write_text(TEXT_ONLY, "utf-8")
    monkeypatch.setenv(BOOK, "1")
    run = nbval(path)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr


def test_nbval_lets_be_what_varies_and_nothing_else(tmp_path: Path) -> None:
    """The tag that a cell tagged `varies` has in its twin."""
    varies = {"tags": ["nbval-ignore-output"]}
    stored = [new_output("stream", text="0\n")]
    clock = "import time\nprint(time.perf_counter_ns())"
    tagged = new_code_cell(clock, execution_count=1, outputs=stored, metadata=varies)
    path = tmp_path / "small.ipynb"
    for cell, status in ((tagged, 0), (new_code_cell(clock, execution_count=1, outputs=stored), 1)):
        nbformat.write(new_notebook(cells=[cell], metadata=KERNEL), path)
        assert nbval(path).returncode == status


def test_nbval_notices_a_wrong_answer(tmp_path: Path) -> None:
    """A test that cannot fail would prove nothing: one number changed in a small notebook."""
    right = new_code_cell("print(1 + 1)", execution_count=1, outputs=[new_output("stream", text="2\n")])
    wrong = new_code_cell("print(1 + 2)", execution_count=2, outputs=[new_output("stream", text="2\n")])
    path = tmp_path / "small.ipynb"
    nbformat.write(new_notebook(cells=[right, wrong], metadata=KERNEL), path)
    run = nbval(path)
    assert run.returncode == 1
    assert "1 failed, 1 passed" in run.stdout


def holes():
    """The two notebooks that nbval 0.11 lets pass."""
    magic = new_code_cell("# NBVAL_IGNORE_OUTPUT\n%no_such_magic\nraise ValueError('never seen')", execution_count=1)
    quiet = new_code_cell("x = 1", execution_count=1, metadata={"tags": ["raises-exception"]})
    return {"unknown magic": magic, "does not raise": quiet}


@pytest.mark.parametrize("name", holes())
def test_what_nbval_lets_pass_is_caught_in_a_run_that_stops_and_by_reading(name: str, tmp_path: Path) -> None:
    nb = new_notebook(cells=[holes()[name]], metadata=KERNEL)
    path = tmp_path / "hole.ipynb"
    nbformat.write(nb, path)
    assert nbval(path).returncode == 0, "nbval has closed this hole: our own checks may be simpler now"
    assert len(blind_spots(nb)) == 1
    if name == "unknown magic":  # what comes after it does run here
        with pytest.raises(CellExecutionError, match="never seen"):
            execute(nb, tmp_path)
    else:
        assert problems(execute(nb, tmp_path)) == blind_spots(nb)


def test_a_run_is_searched_for_warnings(tmp_path: Path) -> None:
    cells = [new_code_cell("x = 1"), new_code_cell("import warnings; warnings.warn('old')"), new_code_cell("print(x)")]
    found = problems(execute(new_notebook(cells=cells, metadata=KERNEL), tmp_path))
    assert [problem.index for problem in found] == [1]
    assert "wrote to standard error" in str(found[0])


def test_reading_knows_our_magics_and_leaves_the_modulo_operator_alone() -> None:
    cells = [new_code_cell("if True:\n    %pip install -q x"), new_code_cell("y = 7 % 2"), new_code_cell("!ls")]
    assert [str(problem) for problem in blind_spots(new_notebook(cells=cells))] == [
        "cell 2: uses the unknown magic '!'"
    ]


def test_no_notebook_is_left_out() -> None:
    """Every notebook of the repository is a lab's or a twin's, and so is tested above."""
    known = {master.student_path for master in MASTERS.values()} | set(TWINS)
    here = {
        p
        for folder in ("book", "labs")
        for p in (ROOT / folder).rglob("*.ipynb")
        if ".ipynb_checkpoints" not in p.parts
    }
    assert here == known
