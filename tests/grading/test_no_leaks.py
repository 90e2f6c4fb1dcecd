"""A real class of talkative answers, graded in the jail: no byte that is given back tells what they were graded on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from attnkit.cli import build_app
from attnkit.grading import seeds
from attnkit.grading.batch import Batch
from attnkit.grading.identity import read_roster
from attnkit.grading.jail import Limits
from attnkit.grading.reports import write_reports
from attnkit.grading.seeds import KEY
from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.judge import PRACTICE_SEED

pytestmark = pytest.mark.slow

QUESTIONS = '''"""A lab with secrets."""
import numpy as np
from attnkit.lab.question import Case, Invariant, Mistake, question

REFERENCE_SECRET = 77000111


def _planted_mistake_code(x):
    return x - REFERENCE_SECRET


@question(points=2, answer="add")
class Add:
    """Adds one."""

    parts = {"ordinary": 1, "large": 1}
    mistakes = [Mistake("you take a number off", _planted_mistake_code, "Add one.", read="softmax#plus")]
    invariants = [Invariant("it grows", lambda answer, x: bool((answer > x).all()), "It should grow.")]

    def cases(self, rng):
        for part in ("ordinary", "large"):
            # Numbers that a page would show as they are, and that nothing else in it is.
            x = rng.integers(200_000, 450_000, size=3) + 0.25
            yield Case((x.astype("float32"),), part=part, note="a " + part)

    def reference(self, x):
        return x + 1 + 0 * REFERENCE_SECRET


@question(points=3, answer="why")
class Why:
    """Why?"""

    manual = True
    rubric = "RUBRIC-FOR-MARKERS-ONLY"
'''
SOURCES = {
    "prints": "print('at load')\ndef add(x):\n    print(x.tolist())\n    return x",
    "raises": "def add(x):\n    raise ValueError(str(x.tolist()))",
    "raises_class": "def add(x):\n    raise type('E' + str(int(x[0])), (Exception,), {})(x.tolist())",
    "returns_text": "def add(x):\n    return str(x.tolist())",
    "halves": "def add(x):\n    return x / 2",
    "mistake": "def add(x):\n    return x - 77000111",
    "writes": "def add(x):\n    x += 1\n    print(x.tolist(), flush=True)\n    return x * 2",
    "remembers": "seen = []\ndef add(x):\n    seen.append(x.tolist())\n    raise KeyError(seen)",
    "right": "def add(x):\n    print(x.tolist())\n    return x + 1",
    "one_part": "calls = []\ndef add(x):\n    calls.append(str(x))\n    assert not calls[1:], calls\n    return x + 1",
}


def numbers(spec: LabSpec, seed: str) -> set[str]:
    """The integers of the inputs that a seed stands for."""
    cases = spec.questions["add"].cases(seeds.generator(seed))
    return {str(int(value)) for case in cases for value in np.ravel(case.args[0])}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, jailed: None) -> Path:
    folder = tmp_path_factory.mktemp("leaks")
    (folder / "secretlab").mkdir()
    (folder / "secretlab" / "questions.py").write_text(QUESTIONS)
    (folder / "in").mkdir()
    for name, source in SOURCES.items():
        cells = [
            {"cell_type": "code", "source": f"# question: add\n{source}", "metadata": {}, "outputs": []},
            {"cell_type": "markdown", "source": f"<!-- question: why -->\nBecause of {name}.", "metadata": {}},
        ]
        notebook = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": cells}
        (folder / "in" / f"{name}.ipynb").write_text(json.dumps(notebook))
    (folder / "roster.csv").write_text("id,name\n" + "".join(f"{name},{name.title()}\n" for name in SOURCES))
    spec = load_lab(folder / "secretlab")
    batch = Batch(
        folder / "in",
        spec,
        folder / "out",
        read_roster(folder / "roster.csv"),
        limits=Limits(seconds=5.0, load_seconds=8.0),
    )
    results = batch.run()
    write_reports(results.found, folder / "out")
    for command in (
        *(["mark", "pages"], ["export", "--to", "csv"], ["export", "--to", "canvas", "--provisional", "--zero"]),
        *(["export", "--to", "moodle", "--provisional"], ["report", "--similar", str(folder / "in")]),
    ):
        head = command[:2] if command[0] == "mark" else command[:1]
        extra = ["--lab", str(folder / "secretlab")] if "--similar" in command else []
        done = CliRunner().invoke(build_app(), [*head, str(folder / "out"), *command[len(head) :], *extra])
        assert done.exit_code == 0, done.output
    return folder


def given_back(folder: Path) -> dict[str, str]:
    """Every file but the ledger and the key, as text."""
    out = folder / "out"
    files = [path for path in out.rglob("*") if path.is_file() and not path.name.startswith(("ledger.db", KEY))]
    return {str(path.relative_to(out)): path.read_text("utf-8") for path in files}


def test_no_hidden_number_is_in_any_byte_that_is_given_back(place: Path) -> None:
    files = given_back(place)
    assert {"grades.csv", "report.html", "canvas.csv", "moodle.csv", "similar.html", "marking/why.html"} <= files.keys()
    assert len([name for name in files if name.startswith("feedback/")]) == len(SOURCES)
    spec = load_lab(place / "secretlab")
    key = seeds.course_key(place / "out" / KEY)
    ledger = (place / "out" / "ledger.db").read_bytes()
    wal = place / "out" / "ledger.db-wal"
    ledger += wal.read_bytes() if wal.exists() else b""
    stored = 0
    for name in SOURCES:
        hidden = numbers(spec, seeds.seed(key, "secretlab", "add", name, 1))
        assert len(hidden) == 6
        stored += sum(number.encode() in ledger for number in hidden)
        # also what answers make of them
        made = {str(int(make(float(one) + 0.25))) for one in hidden for make in (_half, _next, _doubled)}
        for number in hidden | {one for one in made if len(one) == 6}:
            assert [file for file, text in files.items() if number in text] == [], name
    assert stored > 0, "the ledger does quote them: they could have leaked"


def _half(x: float) -> float:
    return x / 2


def _next(x: float) -> float:
    return x + 1


def _doubled(x: float) -> float:
    return 2 * (x + 1)


def test_practice_numbers_are_shown(place: Path) -> None:
    """The search above can find: the practice inputs, which students have, do stand on the pages."""
    spec = load_lab(place / "secretlab")
    cases = spec.questions["add"].cases(np.random.default_rng(PRACTICE_SEED))
    practice = {str(int(value)) for case in cases for value in case.args[0]}
    page = given_back(place)["feedback/halves.html"]
    assert any(number in page for number in practice)


def test_no_key_no_seed_no_reference_is_given_back(place: Path) -> None:
    key = (place / "out" / KEY).read_text().strip()
    seed = seeds.seed(bytes.fromhex(key), "secretlab", "add", "right", 1)
    students = {name: text for name, text in given_back(place).items() if not name.startswith(("marking/", "similar"))}
    for secret in ("REFERENCE_SECRET", "_planted_mistake_code", "RUBRIC-FOR-MARKERS-ONLY"):
        assert [name for name, text in students.items() if secret in text] == []
    everything = given_back(place)
    assert [name for name, text in everything.items() if key in text] == []
    # A receipt is what a grade is repeated from: it may name the seed, and is not for students.
    assert [name for name, text in everything.items() if seed in text and not name.startswith("receipts/")] == []


def test_every_student_hears_of_their_own_mistake(place: Path) -> None:
    pages = given_back(place)
    assert "It looks as if you take a number off. Add one." in " ".join(pages["feedback/mistake.html"].split())
    assert "2 of 5 points so far" in pages["feedback/right.html"]
    assert "Because of right." in pages["feedback/right.html"]
    assert "raised ValueError" in pages["report.html"]
    assert "raised an exception of its own" in pages["report.html"]
