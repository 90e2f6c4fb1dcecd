"""Points into nbgrader's gradebook and marks out of it, both through nbgrader's own interface (nbgrader/api.py).

For courses that grade with `attnkit grade` and keep their marks in nbgrader, or read what was marked by hand in its
formgrader. nbgrader must be importable; the gradebook is its SQLite file, unmodified.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnkit.grading.errors import GradingError
from attnkit.grading.standing import Class, Mark, Standing, read_class

BY = "attnkit"


@dataclass(frozen=True)
class Written:
    """What became of an export: students written, and the marks of formgrader that stayed as they were."""

    students: int
    kept: tuple[tuple[str, str], ...] = ()  # (student, question)


@dataclass(frozen=True)
class HandMark:
    """A score that a person gave in formgrader, with the comment that stands beside it ("" without one).

    `out_of` are the points that the gradebook gives the question, where they may be others than the lab's; 0: the same.
    """

    student: str
    question: str
    points: float
    comment: str
    out_of: float = 0.0

    def scaled(self, max_points: float) -> float:
        """The score where the question gives `max_points`."""
        return self.points * max_points / self.out_of if self.out_of not in (0.0, max_points) else self.points


def points_into_gradebook(out: Path, gradebook: Path, lab: str = "", assignment: str = "", course: str = "") -> Written:
    """Write the class graded into the folder `out` to nbgrader's `gradebook`, under `assignment` (the lab's name).

    What the gradebook does not have yet is made: students, the assignment and its questions. A score that a person
    gave in formgrader stays, unless there is an override of ours. Late penalties go along. `course` is the
    gradebook's course id, where it has one. Raises `GradingError`.
    """
    graded = read_class(out, lab)
    name = assignment or graded.lab
    kept: list[tuple[str, str]] = []
    written = 0
    with _opened(gradebook, course) as book:
        notebook = _prepared(book, graded, name)
        for standing in graded.standings:
            if standing.record is None and not any(mark.override for mark in standing.marks):
                continue
            written += 1
            kept += [(standing.student.id, question) for question in _write(book, standing, notebook, name)]
        book.db.commit()
    return Written(written, tuple(kept))


def marks_from_gradebook(gradebook: Path, assignment: str, course: str = "") -> list[HandMark]:
    """What persons marked in formgrader: the scores that they gave, in the order of students and questions.

    Extra credit is part of the score. Raises `GradingError` when there is no such gradebook or assignment.
    """
    if not gradebook.is_file():
        raise GradingError(f"--nbgrader: there is no gradebook at {gradebook}; it should be nbgrader's gradebook.db.")
    with _opened(gradebook, course) as book:
        _found(book, assignment)
        found = []
        for submission in book.assignment_submissions(assignment):
            for notebook in submission.notebooks:
                said = {comment.name: comment.manual_comment or "" for comment in notebook.comments}
                for grade in notebook.grades:
                    if grade.manual_score is not None:
                        points = float(grade.manual_score) + float(grade.extra_credit or 0.0)
                        comment = said.get(grade.name) or said.get(f"{grade.name}-answer", "")
                        found.append(HandMark(submission.student.id, grade.name, points, comment, grade.max_score))
    return sorted(found, key=lambda mark: (mark.student, mark.question))


@contextmanager
def _opened(path: Path, course: str) -> Iterator[Any]:
    try:
        from nbgrader.api import Gradebook
    except ModuleNotFoundError as error:
        raise GradingError(
            f"nbgrader's gradebook: this Python has no {error.name}; install nbgrader where attnkit is."
        ) from None
    with Gradebook(f"sqlite:///{path.resolve()}", course or "default_course") as book:
        yield book


def _found(book: Any, assignment: str) -> Any:
    from nbgrader.api import MissingEntry

    try:
        return book.find_assignment(assignment)
    except MissingEntry:
        known = ", ".join(sorted(one.name for one in book.assignments)) or "none"
        raise GradingError(f"assignment: was {assignment!r}; the gradebook has: {known}.") from None


def _prepared(book: Any, graded: Class, assignment: str) -> str:
    """The notebook of `assignment` that holds the lab's questions; made where the gradebook has none."""
    made = book.update_or_create_assignment(assignment)
    names = {question.name for question in graded.questions}
    for notebook in made.notebooks:
        if names <= {cell.name for cell in notebook.grade_cells}:
            return notebook.name
    if made.notebooks:
        has = sorted(cell.name for notebook in made.notebooks for cell in notebook.grade_cells)
        raise GradingError(
            f"assignment: {assignment!r} of the gradebook grades {', '.join(has) or 'nothing'}; "
            f"it should grade {', '.join(sorted(names))}."
        )
    book.add_notebook(graded.lab, assignment)
    for question in graded.questions:
        kind = "markdown" if question.manual else "code"
        book.add_grade_cell(question.name, graded.lab, assignment, max_score=question.points, cell_type=kind)
    return graded.lab


def _write(book: Any, standing: Standing, notebook: str, assignment: str) -> list[str]:
    """Write one student's marks; returns the questions whose mark of formgrader stayed."""
    student = standing.student
    if student.id not in {one.id for one in book.students}:
        first, _, last = student.name.rpartition(" ")
        book.add_student(student.id, first_name=first or None, last_name=last or None)
    book.update_or_create_submission(assignment, student.id)
    kept = []
    for mark in standing.marks:
        grade = book.find_grade(mark.question, notebook, assignment, student.id)
        if grade.manual_score is not None and mark.override is None:
            kept.append(mark.question)
        _set(grade, mark)
    book.find_submission_notebook(notebook, assignment, student.id).late_submission_penalty = standing.penalty
    return kept


def _set(grade: Any, mark: Mark) -> None:
    """`auto_score` is what the engine gave, `manual_score` what a person did, as nbgrader means them."""
    worth = grade.max_score / mark.max_points if mark.max_points else 0.0
    if mark.graded is not None and not mark.waiting and mark.graded.status != "waiting":
        grade.auto_score = mark.graded.points * worth
    if mark.override is not None:
        grade.manual_score = mark.override.points * worth
    grade.needs_manual_grade = mark.waiting and grade.manual_score is None
