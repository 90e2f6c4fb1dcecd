"""Ledgers and records that tests of several files share."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from attnkit.grading.engine import Graded
from attnkit.grading.identity import Student
from attnkit.grading.intake import Problem
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.records import Asked, Entry, Record, Run

SCHEMA_1 = Path(__file__).parent / "data" / "ledger_schema_1.sql"
ASKED = (Asked("softmax", 3.0, "Softmax over the last axis."), Asked("essay", 2.0, "Why?", manual=True))


def first_ledger(out: Path) -> Path:
    """A ledger in `out` as schema 1 wrote it."""
    out.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(out / LEDGER)
    database.executescript(SCHEMA_1.read_text("utf-8"))
    database.close()
    return out / LEDGER


def answer(points: float, question: str = "softmax", max_points: float = 3.0) -> Graded:
    """One answer; every column of it holds something."""
    status = "full" if points == max_points else "partial"
    parts = (("ordinary", max_points, points == max_points),)
    return Graded(
        *(question, points, max_points, status, "torch", "ab", parts, (("note", "é"),), {"a": [1]}),
        flags=(("shortcut", "calls torch.softmax"),),
        variant={"axis": -1},
        seconds=0.25,
        measured=({"length": 128, "value": 1.5},),
        carried="key",
    )


def record(key: str, student: str, points: float = 3.0, attempt: int = 1, lab: str = "tiny") -> Record:
    """A graded file of `student` with points for `softmax` and a text waiting for a person."""
    waits = Graded("essay", 0.0, 2.0, "waiting", "", "cd")
    answers = (answer(points), waits)
    return Record(key, lab, student, attempt, f"{student}.ipynb", f"sha-{key}", "jail", "graded", "", answers, {"v": 1})


def small_class(out: Path, run: Run | None = None, *records: Record) -> Ledger:
    """An open ledger in `out` whose last run has Ann and Bo, each with `records` of theirs, and Cy who has none."""
    students = [Student("1", "Ann Ames", email="ann@example.org"), Student("2", "Bo Bee"), Student("3", "Cy Cole")]
    given = records or (record("a", "1", 3.0), record("b", "2", 1.0))
    entries = [Entry(one.student, one.key) for one in given]
    problems = [Problem("", "3", "nothing handed in", "Cy Cole is in the roster")]
    ledger = Ledger(out / LEDGER)
    ledger.begin("tiny", "A tiny lab", ASKED, students, entries, problems, run or Run("jail"))
    for one in given:
        ledger.write(one)
    return ledger


def exports(out: Path) -> dict[str, bytes]:
    """The bytes of every exported file, but for the class report, which says how long the machine took."""
    kinds = (".csv", ".html", ".json")
    files = [path for path in out.rglob("*") if path.is_file() and path.suffix in kinds and path.name != "report.html"]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}
