"""The class as a CSV file for people: a line a student with the points of each question, and what happened to them."""

from __future__ import annotations

from attnkit.grading.exports.csvfile import rounded, safe_text, written
from attnkit.grading.standing import Class, Mark, Standing

DECIMALS = 4
_BEFORE = ("student_id", "name")
_AFTER = ("total", "out_of", "isolation", "status", "attempt", "file")
_MORE = ("earned", "penalty", "late", "attempts", "waiting", "overridden", "flags")


def grades_csv(found: Class) -> str:
    """One line a student: id, name, points of each question, total (after lateness), out of, how it came about.

    `waiting` names the questions that a person still has to mark, `overridden` says what a person changed and why,
    `flags` what a person should look at. Points have at most four decimals.
    """
    head = [*_BEFORE, *(safe_text(question.name) for question in found.questions), *_AFTER, *_MORE]
    return written(head, [_line(standing, found) for standing in found.standings])


def _line(standing: Standing, found: Class) -> list[str]:
    record, student = standing.record, standing.student
    marks = {mark.question: mark for mark in standing.marks}
    earned = [_points(marks[one.name].points if one.name in marks else 0.0) for one in found.questions]
    isolation = record.isolation if record else found.isolation
    about = [str(record.attempt), safe_text(record.source)] if record else ["", ""]
    waiting = " ".join(mark.question for mark in standing.marks if mark.waiting)
    overridden = "; ".join(_override(mark) for mark in standing.marks if mark.override is not None)
    flags = "; ".join(f"{question}: {kind}: {' '.join(text.split())}" for question, kind, text in standing.flags)
    return [
        *(safe_text(student.id), safe_text(student.name), *earned, _points(standing.total)),
        *(_points(found.max_points), isolation, standing.status, *about),
        *(_points(standing.earned), _points(standing.penalty), safe_text(standing.late), str(len(standing.attempts))),
        *(waiting, safe_text(overridden), safe_text(flags)),
    ]


def _override(mark: Mark) -> str:
    given = mark.override
    assert given is not None
    before = mark.graded if mark.status != "marked" else None
    change = f"{_points(before.points)} -> {_points(given.points)}" if before else _points(given.points)
    reason = " ".join(given.reason.split())
    return f"{mark.question}: {change} by {given.author}" + (f" ({reason})" if reason else "")


def _points(value: float | int) -> str:
    return rounded(value, DECIMALS)


def problems_csv(found: Class) -> str:
    """One line a problem: file, student, kind, what it is."""
    lines = [[safe_text(p.where), safe_text(p.student), p.kind, safe_text(p.message)] for p in found.problems]
    return written(["file", "student_id", "kind", "message"], lines)
