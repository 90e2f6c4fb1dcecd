"""Whose row is whose: students of the ledger against the rows of a gradebook file.

All that is known of a student is looked for, and it must point to one row: nobody is matched by name, since two people
may share one, and nobody is dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath

from attnkit.grading.identity import claim_of
from attnkit.grading.standing import Standing

# What identifies somebody, by kind: {"canvas": "123", "id": "s0123", "email": "a@b.org"}
Known = Mapping[str, str]


@dataclass
class Filled:
    """What became of an export. `data` is the file; the lists are for a person, a line each.

    `written` counts the students whose points went in. `unmatched` are students whose points found no place (or
    several), `left` those who get no points, with the reason; `strangers` are rows that nobody here belongs to.
    """

    data: bytes = b""
    written: int = 0
    unmatched: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def known_of(standing: Standing) -> dict[str, str]:
    """What identifies a student: the roster's columns, and the number in the name that the file came under."""
    student = standing.student
    known = {"id": student.id, "login": student.login, "email": student.email}
    known |= {"canvas": student.canvas, "moodle": student.moodle}
    records = [standing.record] if standing.record else []
    for record in [*records, *standing.attempts]:
        claim = claim_of(PurePath(record.source).parts or (record.source,))
        if claim.scheme in ("canvas", "moodle") and claim.number:
            known[claim.scheme] = known[claim.scheme] or claim.number
    if known["id"] in (known["canvas"], known["moodle"]):
        known["id"] = ""  # a number of that system only: elsewhere it may be somebody else's
    return {kind: value for kind, value in known.items() if value}


def who(standing: Standing) -> str:
    """A student in a list: name and id."""
    student = standing.student
    return student.name if student.name == student.id else f"{student.name} ({student.id})"


class Rows:
    """The rows of a gradebook by what identifies them."""

    def __init__(self) -> None:
        self._by: dict[tuple[str, str], set[int]] = {}
        self.names: dict[int, str] = {}

    def add(self, row: int, name: str, marks: Known) -> None:
        """A row of the file: its number, whom it names, and what identifies them."""
        self.names[row] = name
        for kind, value in marks.items():
            if value:
                self._by.setdefault((kind, _folded(value)), set()).add(row)

    def match(self, standings: Sequence[Standing], ways: Iterable[tuple[str, str]]) -> dict[str, int | str]:
        """Each student's row, or in words why there is none, by student id.

        `ways` are (what we know, the row's column) pairs. A row that two students could have is neither's.
        """
        pairs = tuple(ways)
        found = {standing.student.id: self._candidates(known_of(standing), pairs) for standing in standings}
        claims: dict[int, list[str]] = {}
        for standing in standings:
            for row in found[standing.student.id]:
                claims.setdefault(row, []).append(who(standing))
        return {one.student.id: self._verdict(one, found[one.student.id], claims) for one in standings}

    def free(self, matched: Mapping[str, int | str]) -> list[str]:
        """Whom no student here belongs to."""
        return [name for row, name in sorted(self.names.items()) if row not in matched.values()]

    def _candidates(self, known: Known, ways: tuple[tuple[str, str], ...]) -> set[int]:
        sets = [self._by.get((theirs, _folded(known[ours])), set()) for ours, theirs in ways if ours in known]
        return set().union(*sets)

    def _verdict(self, standing: Standing, rows: set[int], claims: Mapping[int, list[str]]) -> int | str:
        if not rows:
            told = ", ".join(f"{kind} {value}" for kind, value in known_of(standing).items())
            return f"no row has {told}"
        if len(rows) > 1:
            return f"could be any of {', '.join(sorted(self.names[row] for row in rows))}"
        (row,) = rows
        if len(claims[row]) > 1:
            return f"the row of {self.names[row]} could be that of {' or '.join(claims[row])}"
        return row


def numbered(text: str) -> str:
    """The number at the end of `Participant 123`, in whatever language; "" without one."""
    found = re.search(r"(\d+)\s*$", text)
    return found[1] if found else ""


def _folded(value: str) -> str:
    return value.strip().casefold()
