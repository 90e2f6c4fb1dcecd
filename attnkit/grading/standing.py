"""How a student stands: the attempt that counts, what a person changed, what lateness costs. Every export shows this.

The ledger keeps what was graded and what was decided; a standing is computed from it and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass

from attnkit.grading.engine import Graded
from attnkit.grading.identity import Student
from attnkit.grading.intake import Problem
from attnkit.grading.ledger import Record


@dataclass(frozen=True)
class Override:
    """Points that a person gave in place of the grader's (or where only a person can: a question answered in words)."""

    points: float
    reason: str
    author: str
    at: str  # ISO 8601, UTC


@dataclass(frozen=True)
class Mark:
    """One question of one student as it counts. `waiting` says that a person still has to mark it."""

    question: str
    points: float
    max_points: float
    status: str
    graded: Graded | None = None
    override: Override | None = None
    waiting: bool = False


@dataclass(frozen=True)
class Standing:
    """A student in the results. `record` is the attempt that counts, None when nothing was handed in.

    `penalty` are the points that lateness takes off `earned`; `late` says why, in words ("" when in time).
    """

    student: Student
    status: str
    record: Record | None = None
    marks: tuple[Mark, ...] = ()
    attempts: tuple[Record, ...] = ()
    penalty: float = 0.0
    late: str = ""

    @property
    def earned(self) -> float:
        """Points of all questions together, before lateness."""
        return sum(mark.points for mark in self.marks)

    @property
    def total(self) -> float:
        """The points that count."""
        return max(0.0, self.earned - self.penalty)

    @property
    def flags(self) -> tuple[tuple[str, str, str], ...]:
        """What a person should look at, as (question, kind, text)."""
        return tuple((mark.question, *flag) for mark in self.marks if mark.graded for flag in mark.graded.flags)


@dataclass(frozen=True)
class Asked:
    """A question as reports name it, without its cases and reference. `doc` is what it asks, in a line."""

    name: str
    points: float
    doc: str
    manual: bool = False


@dataclass(frozen=True)
class Class:
    """Everything that reports and exports are made of, read from a ledger alone."""

    lab: str
    title: str
    questions: tuple[Asked, ...]
    standings: tuple[Standing, ...]  # in the order of the students' ids
    problems: tuple[Problem, ...]
    isolation: str

    @property
    def max_points(self) -> float:
        """The points of all questions together."""
        return sum(question.points for question in self.questions)
