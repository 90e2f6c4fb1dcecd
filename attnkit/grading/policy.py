"""Which attempt counts, and what lateness costs. Points stay as graded; a penalty is taken off how a student stands.

A rule is a list of steps, between commas, and what they take off adds up:

    10% per day, at most 50%            for each day begun, of the points of the whole lab; never more than half
    2 points per hour after 1 hour      the first hour is free
    1 point, 1 point after 2 days       a fixed step at the deadline, another later on
    0 after 3 days                      from then on nothing counts, whatever `at most` says

Units are minutes, hours, days (of 24 hours) and weeks: time that passed, whatever the clocks on the wall did meanwhile.
Percentages are of the points possible, as Canvas's own late policy has them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Student
from attnkit.grading.records import Entry, Run

Attempts = Literal["last", "best"]
ATTEMPTS: tuple[Attempts, ...] = ("last", "best")
# Late, and nobody said by how much.
SOME: Literal["some"] = "some"
Lateness = timedelta | Literal["some"]

_SECONDS = {"minute": 60, "hour": 3600, "day": 86400, "week": 7 * 86400}
_DURATION = re.compile(r"(?P<number>\d+(?:\.\d+)?)?\s*(?P<unit>minute|hour|day|week)s?")
_AMOUNT = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|points?|)")
_STEP = re.compile(r"(?P<amount>[^a-z]+(?:points?)?)(?:\s+per\s+(?P<per>.+?))?(?:\s+after\s+(?P<after>.+))?")
_EXAMPLES = '"10% per day, at most 50%", "2 points per hour after 1 hour" or "0 after 3 days"'


@dataclass(frozen=True)
class Amount:
    """Points, or a percentage of the points that the lab gives."""

    number: float
    percent: bool

    def points(self, out_of: float) -> float:
        """In points of a lab that gives `out_of`."""
        return self.number * out_of / 100 if self.percent else self.number


@dataclass(frozen=True)
class Step:
    """What is taken off once `after` is over: once, or for each `per` begun. No amount: everything."""

    amount: Amount | None
    per: timedelta | None = None
    after: timedelta = timedelta(0)

    def times(self, late: Lateness) -> int:
        """How often the step is taken at that lateness; at an unknown one only a fixed step at the deadline."""
        if late == SOME:
            return int(self.per is None and not self.after)
        assert isinstance(late, timedelta)
        if late <= self.after:
            return 0
        return -((self.after - late) // self.per) if self.per else 1


@dataclass(frozen=True)
class Rule:
    """What lateness costs, as parsed from `text`."""

    text: str
    steps: tuple[Step, ...]
    at_most: Amount | None = None

    def penalty(self, late: Lateness, out_of: float) -> float:
        """Points off at that lateness, in a lab that gives `out_of`; never more than that."""
        taken = [(step, step.times(late)) for step in self.steps]
        if any(times for step, times in taken if step.amount is None):
            return out_of
        off = math.fsum(times * step.amount.points(out_of) for step, times in taken if step.amount)
        return min(off, out_of, self.at_most.points(out_of) if self.at_most else out_of)


def read_rule(text: str) -> Rule:
    """The rule that `text` says. Raises `GradingError` with examples."""
    steps: list[Step] = []
    at_most: Amount | None = None
    for part in (part.strip().lower() for part in text.split(",")):
        if part.startswith("at most "):
            if at_most is not None:
                raise _unread(text, "it says `at most` twice")
            at_most = _amount(part.removeprefix("at most "), text)
        else:
            steps.append(_step(part, text))
    if not steps:
        raise _unread(text, "it says what is the most, but not what is taken off")
    return Rule(text, tuple(steps), at_most)


def _step(part: str, text: str) -> Step:
    match = _STEP.fullmatch(part)
    if not match:
        raise _unread(text, f"{part!r} is not understood")
    per = _duration(match["per"], text) if match["per"] else None
    after = _duration(match["after"], text) if match["after"] else timedelta(0)
    if re.fullmatch(r"0+(\.0+)?\s*(%|points?|)", match["amount"].strip()):
        if per:
            raise _unread(text, f"{part!r} takes nothing off")
        return Step(None, None, after)
    return Step(_amount(match["amount"], text), per, after)


def _amount(words: str, text: str) -> Amount:
    match = _AMOUNT.fullmatch(words.strip())
    if not match or not match["unit"]:
        raise _unread(text, f"{words.strip()!r} should be a percentage or points")
    amount = Amount(float(match["number"]), match["unit"] == "%")
    if amount.percent and amount.number > 100:
        raise _unread(text, f"{words.strip()!r} is more than everything")
    return amount


def _duration(words: str, text: str) -> timedelta:
    found = _time_span(words)
    if not found:
        raise _unread(text, f"{words.strip()!r} should be a time such as 1 hour, 3 days or 2 weeks")
    return found


def _time_span(words: str) -> timedelta | None:
    match = _DURATION.fullmatch(words.strip().lower())
    seconds = float(match["number"] or 1) * _SECONDS[match["unit"]] if match else 0.0
    # a hundred years are enough; calendars end at the year 9999
    return timedelta(seconds=seconds) if 0 < seconds < 3.2e9 else None


def _unread(text: str, why: str) -> GradingError:
    return GradingError(f"--late: was {text!r}: {why}. It should be like {_EXAMPLES}.")


def read_time(text: str, name: str) -> datetime:
    """An ISO 8601 time with its offset, in UTC. Raises `GradingError` naming `name`."""
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        time = datetime.min
    if time.tzinfo is None:
        raise GradingError(
            f"{name}: was {text!r}; it should be a time with its offset from UTC, like 2026-11-20T23:59:00+01:00."
        )
    return time.astimezone(UTC)


@dataclass(frozen=True)
class Policy:
    """Which attempt counts, until when work is in time, and what lateness costs."""

    attempts: Attempts = "last"
    deadline: datetime | None = None
    rule: Rule | None = None

    @classmethod
    def of(cls, run: Run) -> Policy:
        """The policy of a run, from the instructor's own words. Raises `GradingError` naming the option."""
        attempts = next((name for name in ATTEMPTS if name == run.attempts), None)
        if attempts is None:
            raise GradingError(f"--attempts: was {run.attempts!r}; it should be last or best.")
        deadline = read_time(run.deadline, "--deadline") if run.deadline else None
        return cls(attempts, deadline, read_rule(run.late) if run.late else None)

    def until(self, student: Student) -> datetime | None:
        """When `student`'s work is due, their extension included."""
        if self.deadline is None or not student.extension:
            return self.deadline
        if more := _time_span(student.extension):
            return self.deadline + more
        until = read_time(student.extension, f"--roster: the extension of {student.id} (or a time such as 2 days)")
        return max(self.deadline, until)

    def lateness(self, entry: Entry, student: Student) -> Lateness:
        """How late a file came; zero when in time."""
        until = self.until(student)
        if entry.handed_in and until is not None:
            return max(timedelta(0), read_time(entry.handed_in, "handed_in") - until)
        # who has an extension may be late by the course's clock and in time by their own
        return SOME if entry.late and not entry.handed_in and not student.extension else timedelta(0)

    def penalty(self, late: Lateness, out_of: float) -> float:
        """Points off at that lateness, in a lab that gives `out_of`."""
        return self.rule.penalty(late, out_of) if self.rule else 0.0

    def told(self, late: Lateness, penalty: float) -> str:
        """Lateness and what it costs, in words; "" when in time."""
        if late == timedelta(0):
            return ""
        how = "late, it is not known by how much" if isinstance(late, str) else f"{_in_words(late)} late"
        rule = f" ({self.rule.text})" if self.rule else ""
        return f"{how}: {f'{penalty:g}' if penalty else 'no'} {'point' if penalty == 1 else 'points'} off{rule}"

    def words(self) -> str:
        """The policy as a sentence for reports."""
        parts = [f"The {self.attempts} attempt counts."]
        if self.deadline:
            parts.append(f"Due {self.deadline.isoformat()}.")
        if self.rule:
            parts.append(f"Late: {self.rule.text}.")
        return " ".join(parts)


def check_extensions(policy: Policy, students: Iterable[Student]) -> None:
    """Raise `GradingError` for the first extension that cannot be read."""
    for student in students:
        policy.until(student)


def _in_words(late: timedelta) -> str:
    """Two units are precise enough: 1 day 3 hours."""
    seconds = max(60, math.ceil(late.total_seconds()))
    parts = []
    for unit in ("week", "day", "hour", "minute"):
        number, seconds = divmod(seconds, _SECONDS[unit])
        if number:
            parts.append(f"{number} {unit}{'' if number == 1 else 's'}")
    return " ".join(parts[:2])
