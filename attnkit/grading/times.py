"""When work was handed in: from a table of times, since neither a file's name nor its date can be trusted to say."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Claim, Roster
from attnkit.grading.intake import Found, Problem
from attnkit.grading.policy import Policy, read_time

# (student id, attempt); attempt 0 stands for the last one
Times = Mapping[tuple[str, int], str]


def read_times(path: Path, roster: Roster | None = None) -> Times:
    """The times in a CSV file: columns `id`, `handed_in` (ISO 8601 with offset) and perhaps `attempt`.

    `id` is a student's id or, with a roster, whatever it knows them by. Raises `GradingError` naming the line.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GradingError(f"--times: {path} cannot be read as UTF-8 text ({error}).") from None
    head = text.partition("\n")[0]
    times: dict[tuple[str, int], str] = {}
    for number, row in enumerate(csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=head.count)), 2):
        clean = {(name or "").strip().lower(): (value or "").strip() for name, value in row.items() if name}
        if not {"id", "handed_in"} <= clean.keys():
            raise GradingError(f"--times: {path} has the columns {sorted(clean)}; it needs `id` and `handed_in`.")
        attempt = clean.get("attempt", "")
        if attempt and not (attempt.isdecimal() and int(attempt) > 0):
            raise GradingError(f"--times: {path}, line {number}: attempt was {attempt!r}; it should be 1, 2, ...")
        place = (_student(clean["id"], roster), int(attempt or 0))
        if place in times:
            raise GradingError(f"--times: {path}, line {number}: {clean['id']} has a time already.")
        times[place] = read_time(clean["handed_in"], f"--times: {path}, line {number}").isoformat()
    return times


def _student(id_: str, roster: Roster | None) -> str:
    for scheme in ("name", "canvas", "moodle"):
        if roster and (found := roster.find(Claim(scheme, id_, id_))):
            return found.id
    return id_


def handed_in(submissions: Sequence[Found], times: Times) -> dict[Found, str]:
    """When each of `submissions` was handed in, "" where `times` does not say.

    They are in the order in which a student handed them in. A time without an attempt is that of the last one.
    """
    last = {found.student.id: found for found in submissions}
    seen: Counter[str] = Counter()
    when = {}
    for found in submissions:
        student = found.student.id
        seen[student] += 1
        # Canvas counts attempts itself, and exports only the last
        number = found.claim.attempt if found.claim.scheme == "canvas" else seen[student]
        general = times.get((student, 0), "") if last[student] is found else ""
        when[found] = times.get((student, number), general)
    return when


def about_times(submissions: Sequence[Found], times: Times | None, policy: Policy) -> list[Problem]:
    """What is not known of when work was handed in, and times of nobody."""
    problems = []
    when = handed_in(submissions, times or {})
    for found in submissions:
        if found.claim.late and not when[found] and (policy.rule or policy.deadline):
            message = f"its name says late, and nothing says by how much: {_taken(found, policy)}"
            problems.append(Problem(found.where, found.student.id, "late, time unknown", message))
        elif times is not None and policy.deadline and not when[found] and not found.claim.late:
            message = "--times does not say when it was handed in; it counts as in time"
            problems.append(Problem(found.where, found.student.id, "time unknown", message))
    if policy.deadline and times is None and any(found.claim.scheme != "canvas" for found in submissions):
        message = "a deadline without --times: only Canvas's file names say who was late"
        problems.append(Problem("", "", "times unknown", message))
    known = {found.student.id for found in submissions}
    for student in sorted({student for student, _ in times or {}} - known):
        problems.append(Problem("", student, "time of nobody", "--times has a time for them, but nothing is handed in"))
    return problems


def _taken(found: Found, policy: Policy) -> str:
    """What an unknown lateness costs."""
    if found.student.extension:
        return "they have an extension, so nothing is taken off"
    fixed = policy.rule is not None and any(step.times("some") for step in policy.rule.steps)
    return (
        f"only the fixed part of {policy.rule.text!r} is taken off" if policy.rule and fixed else "nothing is taken off"
    )
