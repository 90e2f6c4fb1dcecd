"""What `attnkit grade` says: a line a student while it runs, a summary at the end; or one JSON document."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from attnkit.grading.batch import Results
from attnkit.grading.standing import Class, Mark, Standing


class Screen:
    """Says how the grading goes. With `as_json` all of it goes to stderr, so that stdout is the document's alone."""

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self.console = Console(stderr=as_json, highlight=False, soft_wrap=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._progress = Progress(*columns, console=self.console, transient=True)
        self._task: TaskID | None = None
        self._shown: set[str] = set()

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def say(self, text: str | Text) -> None:
        """A line."""
        self.console.print(Text(text) if isinstance(text, str) else text)

    def told(self, standing: Standing, done: int, of: int) -> None:
        """A file is graded: its line, and how much there is left."""
        if self._task is None or done == 1:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task("grading", total=of)
        self._progress.update(self._task, completed=done, total=of)
        key = standing.record.key if standing.record else ""
        if not key or key not in self._shown:  # while watching, a line once is enough
            self.say(summary_line(standing))
        self._shown.add(key)

    def summary(self, results: Results, out: Path) -> None:
        """The problems, the counts and where the files are."""
        found = results.found
        if found.problems:
            self.say(f"\nProblems ({len(found.problems)})")
        for problem in found.problems:
            who = f"{problem.student}: " if problem.student else ""
            self.say(f"  {problem.kind:<18} {who}{problem.where or '-'}: {problem.message}")
        graded, mean = _counts(found)
        again = f" ({results.skipped} of the files before)" if results.skipped else ""
        self.say(
            f"\n{len(found.standings)} students: {graded} graded{again}, {len(found.standings) - graded} not. "
            f"Mean {mean:.2f} of {found.max_points:g}. Isolation: {found.isolation}."
        )
        self.say(f"{out / 'grades.csv'}, {out / 'problems.csv'}, {out / 'feedback'}/, {out / 'receipts'}/")

    def document(self, value: dict[str, Any]) -> None:
        """The one JSON document, when that was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
            sys.stdout.flush()


def summary_line(standing: Standing) -> Text:
    """One line a student: who, points by question, total, isolation."""
    line = Text(f"{_short(standing.student.name, 28):<28} ")
    record = standing.record
    out_of = sum(mark.max_points for mark in standing.marks)
    isolation = f"  [{record.isolation}]" if record else ""
    if record is None or record.status != "graded":
        line.append(f"{0:>5g} of {out_of:g}  not graded: {record.message if record else standing.status}", "yellow")
        return line.append(isolation, style="dim")
    style = "green" if standing.total == out_of else "red" if not standing.total else "yellow"
    line.append(f"{standing.total:>5g} of {out_of:g}  ", style=style)
    told = [f"{mark.question} {mark.points:g}/{mark.max_points:g}{_why(mark)}" for mark in standing.marks]
    return line.append("  ".join(told)).append(isolation, style="dim")


def as_document(results: Results) -> dict[str, Any]:
    """The results for programs: the class, a row a student, the problems, the counts."""
    found = results.found
    graded, mean = _counts(found)
    return {
        "lab": found.lab,
        "title": found.title,
        "isolation": found.isolation,
        "rules": found.rules,
        "out_of": found.max_points,
        "rows": [_row(standing) for standing in found.standings],
        "problems": [
            {"file": p.where, "student_id": p.student, "kind": p.kind, "message": p.message} for p in found.problems
        ],
        "counts": {
            **{"students": len(found.standings), "graded": graded, "not_graded": len(found.standings) - graded},
            **{"files_graded_now": results.graded, "files_graded_before": results.skipped, "mean": round(mean, 6)},
        },
    }


def _row(standing: Standing) -> dict[str, Any]:
    record = standing.record
    return {
        "student_id": standing.student.id,
        "name": standing.student.name,
        "status": standing.status,
        "total": standing.total,
        "earned": standing.earned,
        "penalty": standing.penalty,
        "late": standing.late,
        "attempt": record.attempt if record else None,
        "attempts": len(standing.attempts),
        "file": record.source if record else None,
        "isolation": record.isolation if record else None,
        "questions": {mark.question: _mark(mark) for mark in standing.marks},
        "flags": [list(flag) for flag in standing.flags],
    }


def _mark(mark: Mark) -> dict[str, Any]:
    return {
        **{"points": mark.points, "out_of": mark.max_points, "status": mark.status, "waiting": mark.waiting},
        "override": None if mark.override is None else vars(mark.override),
        "carried": bool(mark.graded and mark.graded.carried),
    }


def _counts(found: Class) -> tuple[int, float]:
    """How many students have a graded file, and the mean of these."""
    totals = [one.total for one in found.standings if one.record and one.record.status == "graded"]
    return len(totals), sum(totals) / len(totals) if totals else 0.0


def _why(mark: Mark) -> str:
    carried = ", as before" if mark.graded and mark.graded.carried else ""
    status = "" if mark.status in ("full", "partial") else mark.status
    return f" ({(status + carried).removeprefix(', ')})" if status or carried else ""


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
