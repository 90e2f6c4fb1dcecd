"""How a student stands: the attempt that counts, what a person changed, what lateness costs. Every export shows this.

The ledger keeps what was graded and what was decided; a standing is computed from it and never stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Student
from attnkit.grading.intake import Problem
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.policy import Policy
from attnkit.grading.records import Asked, Entry, Override, Record

__all__ = ["Asked", "Class", "Mark", "Override", "Standing", "class_of", "read_class", "standing_of"]

_PLAIN = Policy()


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
    `attempts` are all that were graded, in the order in which they were handed in.
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
        return sum((mark.points for mark in self.marks), 0.0)

    @property
    def total(self) -> float:
        """The points that count."""
        return max(0.0, self.earned - self.penalty)

    @property
    def flags(self) -> tuple[tuple[str, str, str], ...]:
        """What a person should look at, as (question, kind, text)."""
        return tuple((mark.question, *flag) for mark in self.marks if mark.graded for flag in mark.graded.flags)


@dataclass(frozen=True)
class Class:
    """Everything that reports and exports are made of, read from a ledger alone.

    `rules` says in words which attempt counts and what lateness costs.
    """

    lab: str
    title: str
    questions: tuple[Asked, ...]
    standings: tuple[Standing, ...]  # in the order of the students' ids
    problems: tuple[Problem, ...]
    isolation: str
    rules: str = ""

    @property
    def max_points(self) -> float:
        """The points of all questions together."""
        return sum((question.points for question in self.questions), 0.0)


def read_class(out: Path, lab: str = "") -> Class:
    """The class whose ledger lies in the folder `out`: its last run, or the last run of `lab`.

    Needs neither the lab nor what was handed in. Raises `GradingError` when there is no ledger, or not of that lab.
    """
    path = out / LEDGER
    if not path.is_file():
        raise GradingError(f"--out: there is no ledger at {path}; `attnkit grade` writes one.")
    with Ledger(path) as ledger:
        return class_of(ledger, lab)


def class_of(ledger: Ledger, lab: str = "") -> Class:
    """`read_class` of an open ledger."""
    lab = lab or ledger.last_lab() or ""
    title, questions = ledger.asked(lab)
    run = ledger.run(lab)
    assert run is not None  # written in one transaction with the lab
    policy = Policy.of(run)
    problems = tuple(ledger.problems(lab))
    stuck = {problem.student for problem in problems if problem.kind == "grader error"}
    overrides = ledger.overrides(lab)
    entries: dict[str, list[Entry]] = {}
    for entry in ledger.entries(lab):
        entries.setdefault(entry.student, []).append(entry)
    standings = []
    for student in ledger.students(lab):
        own = {asked: over for (who, asked), over in overrides.items() if who == student.id}
        handed_in = [(entry, ledger.read(entry.key)) for entry in entries.get(student.id, [])]
        standing = standing_of(student, questions, handed_in, own, policy)
        if standing.record is None and handed_in:
            standing = replace(standing, status=_STUCK if student.id in stuck else "not graded yet")
        standings.append(standing)
    return Class(lab, title, questions, tuple(standings), problems, run.isolation, policy.words())


_STUCK = "not graded: an error of the grader, see the problems"


def standing_of(
    student: Student,
    questions: Sequence[Asked],
    handed_in: Sequence[tuple[Entry, Record | None]],
    overrides: Mapping[str, Override] = MappingProxyType({}),
    policy: Policy = _PLAIN,
) -> Standing:
    """How `student` stands by the attempt that counts: the last one or, of equals, the later of the best."""
    graded = [(entry, record) for entry, record in handed_in if record is not None]
    if not graded:
        return Standing(student, "nothing handed in", marks=_marks(questions, None, overrides))
    attempts = tuple(record for _, record in graded)
    each = [_attempt(student, questions, entry, record, overrides, policy) for entry, record in graded]
    counts = max(enumerate(each), key=lambda one: (one[1].total, one[0]))[1] if policy.attempts == "best" else each[-1]
    return replace(counts, attempts=attempts)


def _attempt(
    student: Student,
    questions: Sequence[Asked],
    entry: Entry,
    record: Record,
    overrides: Mapping[str, Override],
    policy: Policy,
) -> Standing:
    status = record.status if student.listed else f"{record.status}, not in the roster"
    standing = Standing(student, status, record, _marks(questions, record, overrides))
    lateness = policy.lateness(entry, student)
    out_of = sum(question.points for question in questions)
    penalty = min(standing.earned, policy.penalty(lateness, out_of))
    return replace(standing, penalty=penalty, late=policy.told(lateness, penalty))


def _marks(questions: Sequence[Asked], record: Record | None, overrides: Mapping[str, Override]) -> tuple[Mark, ...]:
    answers = {answer.question: answer for answer in record.answers} if record else {}
    return tuple(_mark(asked, answers.get(asked.name), overrides.get(asked.name)) for asked in questions)


# There is nothing to mark.
_UNMARKED = ("blank", "unreadable")


def _mark(asked: Asked, graded: Graded | None, override: Override | None) -> Mark:
    if override is not None:
        # The lab may since have changed what the question is worth.
        points = min(override.points, asked.points)
        status = "marked" if asked.manual else "overridden"
        return Mark(asked.name, points, asked.points, status, graded, override)
    if graded is None:
        return Mark(asked.name, 0.0, asked.points, "nothing handed in")
    waiting = asked.manual and graded.status not in _UNMARKED
    return Mark(asked.name, graded.points, asked.points, graded.status, graded, None, waiting)
