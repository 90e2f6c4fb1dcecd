"""What a batch leaves on disk, all of it read from the ledger: grades.csv, problems.csv, feedback/*.html.

The same results always give the same bytes: no times, no machine, no order that depends on who finished first.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from pathlib import Path

from attnkit.grading.batch import Results, Row
from attnkit.grading.feedback import feedback_page
from attnkit.lab.bank import LabSpec


def write_reports(results: Results, spec: LabSpec, out: Path) -> None:
    """Write the tables and a page a student below `out`; pages of students who are gone are removed."""
    _write(out / "grades.csv", grades_csv(results, spec))
    _write(out / "problems.csv", problems_csv(results))
    folder = out / "feedback"
    folder.mkdir(exist_ok=True)
    pages = {page_name(row.student.id): feedback_page(row, spec, results.isolation) for row in results.rows}
    for name, page in pages.items():
        _write(folder / name, page)
    for stale in folder.glob("*.html"):
        if stale.name not in pages:
            stale.unlink()


def grades_csv(results: Results, spec: LabSpec) -> str:
    """One line a student: id, name, points of each question, total, out of, isolation, status, attempt, file."""
    head = ["student_id", "name", *spec.questions, "total", "out_of", "isolation", "status", "attempt", "file"]
    return _table(head, [_line(row, spec, results.isolation) for row in results.rows])


def _line(row: Row, spec: LabSpec, isolation: str) -> list[str]:
    record = row.record
    earned = {answer.question: answer.points for answer in record.answers} if record else {}
    return [
        *(_text(row.student.id), _text(row.student.name)),
        *(f"{earned.get(name, 0.0):g}" for name in spec.questions),
        *(f"{sum(earned.values()):g}", f"{spec.max_points:g}", isolation, row.status),
        *((str(record.attempt), _text(record.source)) if record else ("", "")),
    ]


def problems_csv(results: Results) -> str:
    """One line a problem: file, student, kind, what it is."""
    lines = [[_text(p.where), _text(p.student), p.kind, _text(p.message)] for p in results.problems]
    return _table(["file", "student_id", "kind", "message"], lines)


def page_name(student: str) -> str:
    """A file name for a student's page: the id where it is plain, else made plain and told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", student)[:60]
    if plain != student or not plain:
        plain = f"{plain}-{hashlib.sha256(student.encode()).hexdigest()[:8]}"
    return f"{plain}.html"


def _table(head: list[str], lines: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *lines])
    return text.getvalue()


def _text(value: str) -> str:
    """A spreadsheet runs a cell that starts like a formula; names come from file names, so from anybody."""
    return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _write(path: Path, text: str) -> None:
    """Whole or not at all, however the process ends."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(text, "utf-8")
    os.replace(temporary, path)
