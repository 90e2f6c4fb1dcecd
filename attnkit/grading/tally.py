"""What a class did, counted: totals, questions, mistakes, failures, time. Plain data, from a `Class`."""

from __future__ import annotations

import builtins
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnkit.grading.standing import Asked, Class, Mark, Standing

# Below this many students a correlation says more about chance than about the question.
ENOUGH = 20
_UNTRIED = {"blank": "not written", "not-implemented": "not written", "unreadable": "Python cannot read it"}
_KINDS = {
    "timeout": "did not end in time",
    "died": "the process ended",
    "malformed": "returned nothing that can be judged",
    "missing": "no such function",
}
_EXCEPTIONS = {name for name in vars(builtins) if name.endswith("Error")}
_EXCEPTIONS |= {"AxisError", "EinopsError", "Exception", "LinAlgError", "OutOfMemoryError", "StopIteration"}


@dataclass(frozen=True)
class QuestionTally:
    """How a question went. Counts are of students; `mean` is of the points of those who are marked.

    `discrimination` is the correlation of the question's points with the points of all other questions (corrected
    item-total correlation), None where the class is too small or all have the same.
    """

    name: str
    doc: str
    points: float
    manual: bool
    students: int
    mean: float
    full: int
    partial: int
    none: int
    waiting: int
    untried: int
    discrimination: float | None

    @property
    def difficulty(self) -> float:
        """The mean as a part of the points: 1 is easy."""
        return self.mean / self.points if self.points else 0.0


@dataclass(frozen=True)
class MistakeTally:
    """A named mistake or a broken invariant and who showed it. Certain: it explains the answer on every case."""

    question: str
    name: str
    kind: str  # mistake or invariant
    hint: str
    read: str
    certain: int
    uncertain: int
    students: tuple[str, ...]

    @property
    def count(self) -> int:
        """How many students."""
        return len(self.students)


@dataclass(frozen=True)
class FailureTally:
    """Answers that gave no result to judge, by question and kind; `raised` names the exception's type."""

    question: str
    kind: str
    students: tuple[str, ...]


@dataclass(frozen=True)
class UsageTally:
    """What answers to a question took at one length: bytes of memory or seconds of processor time."""

    question: str
    part: str
    measure: str
    length: int
    students: int
    median: float
    largest: float


@dataclass(frozen=True)
class Tally:
    """A class in numbers. Seconds and usage are of the machine that graded."""

    students: int
    handed_in: int
    graded: int
    mean: float
    median: float
    deviation: float
    distribution: tuple[tuple[str, int], ...]
    questions: tuple[QuestionTally, ...]
    mistakes: tuple[MistakeTally, ...]
    failures: tuple[FailureTally, ...]
    usage: tuple[UsageTally, ...]
    seconds: float
    slowest: tuple[tuple[str, str, float], ...]  # question, student, seconds


def tally(found: Class) -> Tally:
    """Count what is in `found`. Totals and questions are of whose file could be read, or whom a person gave points."""
    handed_in = [one for one in found.standings if one.record is not None]
    present = [one for one in found.standings if _counts(one)]
    totals = [one.total for one in present]
    mean = sum(totals) / len(totals) if totals else 0.0
    times = [
        (mark.question, one.student.id, mark.graded.seconds)
        for one in present
        for mark in one.marks
        if mark.graded is not None and mark.graded.seconds > 0 and not mark.graded.carried
    ]
    return Tally(
        students=len(found.standings),
        handed_in=len(handed_in),
        graded=len(present),
        mean=mean,
        median=_median(totals),
        deviation=math.sqrt(sum((x - mean) ** 2 for x in totals) / len(totals)) if totals else 0.0,
        distribution=_distribution(totals, found.max_points),
        questions=tuple(_question(asked, present) for asked in found.questions),
        mistakes=_mistakes(found, present),
        failures=_failures(found, present),
        usage=_usage(present),
        seconds=sum((seconds for _, _, seconds in times), 0.0),
        slowest=tuple(sorted(times, key=lambda one: (-one[2], one[0], one[1]))[:10]),
    )


def _counts(one: Standing) -> bool:
    readable = one.record is not None and one.record.status == "graded"
    return readable or any(mark.override is not None for mark in one.marks)


def _question(asked: Asked, present: Sequence[Standing]) -> QuestionTally:
    pairs = [(mark, one) for one in present for mark in one.marks if mark.question == asked.name]
    marked = [(mark, one) for mark, one in pairs if not mark.waiting]
    points = [mark.points for mark, _ in marked]
    full = sum(x >= asked.points for x in points)
    partial = sum(0 < x < asked.points for x in points)
    return QuestionTally(
        name=asked.name,
        doc=asked.doc,
        points=asked.points,
        manual=asked.manual,
        students=len(pairs),
        mean=sum(points) / len(points) if points else 0.0,
        full=full,
        partial=partial,
        none=len(points) - full - partial,
        waiting=len(pairs) - len(marked),
        untried=sum(mark.status in _UNTRIED and mark.override is None for mark, _ in pairs),
        discrimination=_correlation(points, [one.earned - mark.points for mark, one in marked]),
    )


def _distribution(totals: Sequence[float], most: float) -> tuple[tuple[str, int], ...]:
    """Students by total: a bin a point where there are few, else ten; the last bin holds the full total as well."""
    if most <= 0:
        return ()
    bins = int(most) if float(most).is_integer() and most <= 20 else 10
    width = most / bins
    places = [min(max(int(total / width + 1e-9), 0), bins) for total in totals]
    counts = Counter(places)
    if width == 1:
        return tuple((_span(i, i + 1, i == bins), counts[i]) for i in range(bins + 1))
    counts[bins - 1] += counts.pop(bins, 0)
    return tuple((f"{i * width:g} to {(i + 1) * width:g}", counts[i]) for i in range(bins))


def _span(low: int, high: int, last: bool) -> str:
    return f"{low}" if last else f"{low} to below {high}"


def _mistakes(found: Class, present: Sequence[Standing]) -> tuple[MistakeTally, ...]:
    """The commonest first."""
    seen: dict[tuple[str, str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for one in present:
        for mark in one.marks:
            for kind in ("mistake", "invariant"):
                item = mark.graded.outcome.get(kind) if mark.graded is not None else None
                if isinstance(item, Mapping) and item.get("name"):
                    place = (mark.question, kind, str(item["name"]))
                    seen.setdefault(place, []).append((one.student.id, item))
    tallies = []
    for (question, kind, name), items in seen.items():
        certain = sum(bool(item.get("certain", True)) for _, item in items)
        hint, read = (str(items[0][1].get(key) or "") for key in ("hint", "read"))
        who = tuple(student for student, _ in items)
        tallies.append(MistakeTally(question, name, kind, hint, read, certain, len(items) - certain, who))
    order = {asked.name: i for i, asked in enumerate(found.questions)}
    return tuple(sorted(tallies, key=lambda one: (-one.count, order.get(one.question, 99), one.name)))


def _failures(found: Class, present: Sequence[Standing]) -> tuple[FailureTally, ...]:
    seen: dict[tuple[str, str], list[str]] = {}
    for one in present:
        for mark in one.marks:
            if kind := _failure(mark):
                seen.setdefault((mark.question, kind), []).append(one.student.id)
    order = {asked.name: i for i, asked in enumerate(found.questions)}
    found_all = [FailureTally(question, kind, tuple(who)) for (question, kind), who in seen.items()]
    return tuple(sorted(found_all, key=lambda one: (order.get(one.question, 99), -len(one.students), one.kind)))


def _failure(mark: Mark) -> str:
    """Why there is no result, in words; "" when there is one. An exception's text is the student's: only its type."""
    graded = mark.graded
    if graded is None:
        return ""
    if graded.status in _UNTRIED:
        return _UNTRIED[graded.status]
    failure = graded.outcome.get("failure")
    if not isinstance(failure, Mapping):
        return ""
    kind = str(failure.get("kind", ""))
    if kind == "raised":
        name, _, _ = str(failure.get("message", "")).partition(":")
        # Only names that Python and the libraries have: a class of the student's own could be called by an input.
        return f"raised {name}" if name in _EXCEPTIONS else "raised an exception of its own"
    return _KINDS.get(kind, kind)


def _usage(present: Sequence[Standing]) -> tuple[UsageTally, ...]:
    seen: dict[tuple[str, str, str, int], list[float]] = {}
    readings = [
        (mark.question, reading)
        for one in present
        for mark in one.marks
        for reading in (mark.graded.measured if mark.graded is not None else ())
    ]
    for question, reading in readings:
        for length, value in (reading.get("values") or {}).items():
            place = (question, str(reading["part"]), str(reading["measure"]), int(length))
            seen.setdefault(place, []).append(float(value))
    return tuple(
        UsageTally(*place, len(values), _median(values), max(values)) for place, values in sorted(seen.items())
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    if not ordered:
        return 0.0
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    if len(xs) < ENOUGH:
        return None
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    spread_x = math.sqrt(sum((x - mean_x) ** 2 for x in xs))
    spread_y = math.sqrt(sum((y - mean_y) ** 2 for y in ys))
    if spread_x < 1e-9 or spread_y < 1e-9:
        return None
    return sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / (spread_x * spread_y)
