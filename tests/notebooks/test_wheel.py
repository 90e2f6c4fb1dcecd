"""What a student installs: the wheel holds the questions and no master, and the notebook works with it alone."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from attnkit.authoring.labs import solution_lines
from attnkit.authoring.notebook import execute, read_myst
from tests.lab.labs import LABS, MASTERS

from .conftest import ROOT, completed

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this tree, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return next(folder.glob("attnkit-*.whl"))


@pytest.fixture
def installed(wheel: Path, tmp_path: Path) -> Path:
    """A folder with the wheel installed in it."""
    target = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(target)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    return target


def test_it_holds_every_labs_questions_and_no_master_or_notebook(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        texts = [archive.read(name).decode("utf-8", "replace") for name in names]
    for lab in LABS:
        assert f"attnkit/lab/bank/{lab}/questions.py" in names
    assert [name for name in names if name.endswith((".md", ".ipynb")) and "dist-info" not in name] == []
    assert [name for name in names if not name.startswith(("attnkit/", "attnkit-"))] == []
    for line in solution_lines(read_myst(MASTERS["attention"].path)):  # none of these stands in attnkit itself
        assert not any(line in text for text in texts), line


def test_a_completed_lab_scores_full_marks_with_the_wheel_alone(installed: Path, tmp_path: Path, monkeypatch) -> None:
    """In an empty folder, with the wheel in front of everything else on the path."""
    monkeypatch.setenv("PYTHONPATH", str(installed))
    empty = tmp_path / "empty"
    empty.mkdir()
    nb = completed(MASTERS["attention"])
    nb.cells.append(nb.cells[-1].copy())
    nb.cells[-1].source = "import attnkit.lab.bank\nprint(attnkit.__file__, lab._spec.folder, sep='\\n')"
    shown = execute(nb, empty)
    package, questions = shown.cells[-1].outputs[0].text.splitlines()
    assert Path(package).is_relative_to(installed)
    assert Path(questions) == installed / "attnkit" / "lab" / "bank" / "attention"
    progress = next(cell for cell in shown.cells if "lab.progress" in cell.source)
    assert progress.outputs[0].data["text/plain"].startswith("10 of 10 points")


def test_the_bank_of_a_wheel_lists_its_labs(installed: Path, tmp_path: Path) -> None:
    code = "from attnkit.lab.bank import lab_names, load_lab; print(lab_names(), load_lab('attention').max_points)"
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == f"{LABS} 10.0"
