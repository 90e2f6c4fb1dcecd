"""Marks that a person wrote into a CSV file, checked line by line before any of them counts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnkit.grading.adapters.gradebook import HandMark
from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import Sheet, decimal, from_safe_text
from attnkit.grading.marking import HEAD, answers, number_text
from attnkit.grading.pages import number, several
from attnkit.grading.standing import Asked, Class

_POINTS = re.compile(r"\d{1,6}([.,]\d{1,6})?")


@dataclass(frozen=True)
class NewMark:
    """A mark read from a file, checked."""

    student: str
    question: str
    points: float
    comment: str


def read_marks(found: Class, sheet: Sheet, key: bytes, question: str = "") -> tuple[list[NewMark], list[str]]:
    """The marks in a file that differ from those in force, and what is wrong with the file, a line each.

    Needs the columns `points`, `code` or `student_id`, and `question` unless it is given. A line without points
    stays waiting; a comment without points is an error.
    """
    head = [name.casefold() for name in sheet.head]
    column = {name: head.index(name) for name in (*HEAD, "student_id") if name in head}
    missing = [name for name in ("points",) if name not in column]
    missing += ["code (or student_id)"] if not column.keys() & {"code", "student_id"} else []
    missing += ["question"] if "question" not in column and not question else []
    if missing:
        return [], [f"line 1: there is no column {' and none called '.join(missing)}; it has {', '.join(sheet.head)}"]
    reader = _Reader(found, sheet, column, key, question)
    return reader.read()


def formgrader_marks(found: Class, given: Sequence[HandMark]) -> tuple[list[NewMark], list[str]]:
    """Scores that a person gave in nbgrader's formgrader, in code or in words: the new ones, and what is wrong."""
    marks = {(one.student.id, mark.question): mark for one in found.standings for mark in one.marks}
    manual = {one.name for one in found.questions if one.manual}
    new: list[NewMark] = []
    wrong: list[str] = []
    for one in given:
        mark = marks.get((one.student, one.question))
        comment = one.comment.strip()
        points = one.points if mark is None else one.scaled(mark.max_points)
        if mark is None:
            wrong.append(f"{one.student}, {one.question}: no such student or question in {found.lab}")
        elif not 0 <= points <= mark.max_points:
            wrong.append(f"{one.student}, {one.question}: {points:g} points; it gives 0 to {number(mark.max_points)}")
        elif mark.override is None or mark.override.points != points or comment not in ("", mark.override.reason):
            reason = comment or ("" if one.question in manual else "Marked in formgrader.")
            new.append(NewMark(one.student, one.question, points, reason))
    return new, wrong


class _Reader:
    """Reads the lines of a marks file one by one and collects what is wrong."""

    def __init__(self, found: Class, sheet: Sheet, column: dict[str, int], key: bytes, question: str) -> None:
        self.sheet, self.column, self.question = sheet, column, question
        self.asked = {one.name: one for one in found.questions}
        self.marks = {(one.student.id, mark.question): mark for one in found.standings for mark in one.marks}
        self.answers = {
            (one.name, answer.code): answer
            for one in found.questions
            if one.manual
            for answer in answers(found, one.name, key)
        }
        self.versions = {(one.standing.student.id, name): one.version for (name, _), one in self.answers.items()}
        self.seen: dict[tuple[str, str], int] = {}

    def read(self) -> tuple[list[NewMark], list[str]]:
        new: list[NewMark] = []
        wrong: list[str] = []
        for row in range(1, len(self.sheet.rows)):
            if not any(cell.value.strip() for cell in self.sheet.rows[row]):
                continue
            try:
                mark = self._line(row)
            except GradingError as error:
                wrong.append(f"line {row + 1}: {error}")
            else:
                new += [mark] if mark else []
        return new, wrong

    def _line(self, row: int) -> NewMark | None:
        text = {name: from_safe_text(self.sheet.value(row, i)) for name, i in self.column.items()}
        name = text.get("question") or self.question
        asked = self.asked.get(name)
        if asked is None or not asked.manual:
            known = ", ".join(one.name for one in self.asked.values() if one.manual)
            raise GradingError(f"question was {name!r}; these are answered in words: {known}")
        if self.question and name != self.question:
            raise GradingError(f"question was {name!r}; --question says {self.question!r}")
        student = self._student(name, text)
        place = (student, name)
        if place in self.seen:
            raise GradingError(f"the same answer as in line {self.seen[place]}")
        self.seen[place] = row + 1
        comment = text.get("comment", "")
        if not text["points"]:
            if comment and comment != self._before(place)[1]:
                raise GradingError("a comment without points; give points as well, or leave both empty")
            return None
        points = _points(text["points"], asked)
        if (number_text(points), comment) == self._before(place):
            return None
        version = text.get("version", "")
        if version and version != self.versions.get(place, version):
            raise GradingError("another answer was handed in since; run attnkit mark pages again")
        return NewMark(student, name, points, comment)

    def _student(self, question: str, text: dict[str, str]) -> str:
        by_code = None
        if code := text.get("code", ""):
            answer = self.answers.get((question, code.lower()))
            if answer is None:
                raise GradingError(f"code was {code!r}; no answer to {question} has it")
            by_code = answer.standing.student.id
        student = text.get("student_id", "") or by_code or ""
        if not student:
            raise GradingError("neither code nor student_id is there")
        if (student, question) not in self.marks:
            raise GradingError(f"student_id was {student!r}; nobody in the class has it")
        if by_code is not None and student != by_code:
            raise GradingError(f"code {code} is not the answer of student_id {student!r}")
        return student

    def _before(self, place: tuple[str, str]) -> tuple[str, str]:
        over = self.marks[place].override
        return ("", "") if over is None else (number_text(over.points), over.reason)


def unread(path: Path, found: Class, key: bytes) -> list[str]:
    """What writing `path` anew would lose: marks in it that were never read, or a file that cannot be read."""
    if not path.exists():
        return []
    try:
        new, wrong = read_marks(found, Sheet(path.read_bytes(), str(path), "FILE"), key)
    except GradingError as error:
        return [str(error)]
    return [f"{several(len(new), 'mark that was', 'marks that were')} not read yet"] * bool(new) + wrong


def _points(text: str, asked: Asked) -> float:
    value = decimal(text) if _POINTS.fullmatch(text) else None
    if value is None or not 0 <= value <= asked.points:
        raise GradingError(f"points were {text!r}; {asked.name} gives 0 to {number(asked.points)}")
    return value
