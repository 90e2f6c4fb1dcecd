"""A tiny lab and a stand-in for the engine: tests of the batch that are not about grading need neither jail nor torch.

A submission says itself what it gets: a notebook with the cell `one = 1.5` has 1.5 points for the question `one`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from attnkit.grading.batch import Batch
from attnkit.grading.cells import Cell
from attnkit.grading.engine import Graded
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.question import Question
from tests.grading.conftest import notebook_bytes

QUESTIONS = '''"""A tiny lab."""

from attnkit.lab.question import Case, question


@question(points=2, answer="one")
class One:
    """Twice x."""

    def cases(self, rng):
        yield Case((1.0,))

    def reference(self, x):
        return 2 * x


@question(points=3, answer="two")
class Two:
    """Thrice x."""

    def cases(self, rng):
        yield Case((1.0,))

    def reference(self, x):
        return 3 * x
'''


def tiny_lab(folder: Path, source: str = QUESTIONS) -> LabSpec:
    """The lab, written to `folder`/tiny."""
    place = folder / "tiny"
    place.mkdir(parents=True, exist_ok=True)
    (place / "questions.py").write_text(source, "utf-8")
    return load_lab(place)


def submission(one: float = 2.0, two: float = 3.0, *more: str) -> bytes:
    """A notebook that gets these points."""
    return notebook_bytes(f"one = {one}", f"two = {two}", *more)


def hand_in(folder: Path, name: str, one: float = 2.0, two: float = 3.0) -> Path:
    """A submission in the file `folder`/`name`.ipynb."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.ipynb"
    path.write_bytes(submission(one, two))
    return path


def pretended(zygote: Zygote, question: Question, cells: Sequence[Cell], seed: str) -> Graded:
    """What stands in for the engine: the points that the notebook asks for."""
    text = "\n".join(cell.source for cell in cells)
    match = re.search(rf"^{question.name} = ([\d.]+)", text, re.MULTILINE)
    points = min(float(match[1]), question.points) if match else 0.0
    status = "full" if points == question.points else "partial" if points else "wrong"
    # Depends on the seed and the question, as an outcome does.
    outcome = {"drawn": hashlib.sha256(f"{seed}{question.doc}".encode()).hexdigest()[:8]}
    parts = (("ordinary", question.points, points == question.points),)
    return Graded(question.name, points, question.points, status, "numpy", seed, parts, (("note", "é"),), outcome)


def tiny_batch(place: Path, **options: object) -> Batch:
    """A batch of `place`/in into `place`/out, of the tiny lab below `place`."""
    spec = tiny_lab(place) if not (place / "tiny").exists() else load_lab(place / "tiny")
    return Batch(place / "in", spec, place / "out", **options)
