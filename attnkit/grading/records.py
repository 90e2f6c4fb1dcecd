"""What the ledger keeps, as plain data: what was graded, who is in the class, what was decided by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from attnkit.grading.engine import Graded


@dataclass(frozen=True)
class Record:
    """A graded submission: one file of one student.

    `made` says what graded it: digests of the questions and of the engine, versions, limits ({} where a ledger of
    schema 1 did not say). `graded_at` is when, ISO 8601 in UTC; two records that differ in it only are equal.
    """

    key: str
    lab: str
    student: str
    attempt: int
    source: str
    sha256: str
    isolation: str
    status: str
    message: str
    answers: tuple[Graded, ...]
    made: Mapping[str, Any] = field(default_factory=dict)
    graded_at: str = field(default="", compare=False)

    @property
    def points(self) -> float:
        """The points of all questions together, as graded."""
        return sum(answer.points for answer in self.answers)


@dataclass(frozen=True)
class Entry:
    """A file of the last run: whose, which record is its, and when it was handed in ("" when nobody said).

    `handed_in` is ISO 8601 with an offset; `late` is what the file's name says (Canvas's `_LATE_`).
    """

    student: str
    key: str
    handed_in: str = ""
    late: bool = False


@dataclass(frozen=True)
class Run:
    """How the last run of a lab graded: isolation, which attempt counts, and what lateness costs.

    `deadline` and `late` are as the instructor wrote them ("" when not said).
    """

    isolation: str
    attempts: str = "last"
    deadline: str = ""
    late: str = ""


@dataclass(frozen=True)
class Override:
    """Points that a person gave in place of the grader's (or where only a person can: a question answered in words).

    `seen` is the sha256 of the student's file that counted then, "" when there was none.
    """

    points: float
    reason: str
    author: str
    at: str  # ISO 8601, UTC
    seen: str = ""


@dataclass(frozen=True)
class Event:
    """A line of the history, which only ever grows.

    `kind` is graded, regraded, override, manual mark, withdrawn or policy; `at` is ISO 8601 in UTC ("" where a
    ledger of schema 1 did not say). `question` is "" for what concerns a whole submission or the whole class.
    """

    at: str
    kind: str
    lab: str
    student: str = ""
    question: str = ""
    author: str = ""
    reason: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    """A question as reports name it, without its cases and reference. `doc` is what it asks, in a line.

    `rubric` says how a question that is answered in words (`manual`) is marked.
    """

    name: str
    points: float
    doc: str
    manual: bool = False
    rubric: str = ""
