"""The ledger: every result in one SQLite file, one transaction a submission. Whatever is exported is read from here.

A submission's key is a hash of all that its grade depends on, so a rerun skips what is done and regrades what changed.
Killed at any moment, the file holds whole submissions only; the next run grades the rest. What a person decides is
added to the history, which only grows: a later grading of the same student never takes it back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from typing import Any

from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Student
from attnkit.grading.intake import Problem
from attnkit.grading.records import Asked, Entry, Event, Override, Record, Run
from attnkit.grading.store import Store, marks, now, to_json

__all__ = ["LEDGER", "Asked", "Entry", "Event", "Ledger", "Override", "Record", "Run", "key_of", "now"]

LEDGER = "ledger.db"
_DECIDED = ("override", "manual mark", "withdrawn")
_RECORD = [field.name for field in fields(Record) if field.name != "answers"]
_ANSWER = [field.name for field in fields(Graded)]
_STUDENT = [field.name for field in fields(Student)]


def key_of(parts: Iterable[Any]) -> str:
    """The key of a submission: a hash of what its grade depends on."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


class Ledger(Store):
    """An open ledger. May be used from several threads; each write is one transaction."""

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def has(self, key: str) -> bool:
        """Whether the submission of that key is done."""
        return bool(self.rows("SELECT 1 FROM submission WHERE key = ?", key))

    def write(self, record: Record, event: Event | None = None) -> None:
        """Store a submission and its line of the history, all or nothing. The first of two equal keys stays."""
        at = record.graded_at or now()
        row = [*(getattr(record, name) for name in _RECORD[:-2]), to_json(record.made), at]
        answers = [(record.key, position, *_cells(answer)) for position, answer in enumerate(record.answers)]
        event = event or Event(at, "graded", record.lab, record.student, data=_summary(record))
        with self.transaction():
            new = self.execute(
                f"INSERT OR IGNORE INTO submission ({', '.join(_RECORD)}) VALUES ({marks(row)})", row
            ).rowcount
            if new:
                columns = ["key", "position", *_ANSWER]
                self.insert_many("answer", columns, answers)
                self.add(event)

    def read(self, key: str) -> Record | None:
        """The submission of that key."""
        with self._lock:
            rows = self.rows(f"SELECT {', '.join(_RECORD)} FROM submission WHERE key = ?", key)
            answers = self.rows(f"SELECT {', '.join(_ANSWER)} FROM answer WHERE key = ? ORDER BY position", key)
        if not rows:
            return None
        *plain, made, graded_at = rows[0]
        return Record(
            **dict(zip(_RECORD[:-2], plain, strict=True)),
            answers=tuple(_answer(one) for one in answers),
            made=json.loads(made),
            graded_at=graded_at,
        )

    def newest(self, lab: str, student: str, sha256: str, isolation: str) -> Record | None:
        """The record of that file of that student which was written last, whatever graded it."""
        rows = self.rows(
            "SELECT key FROM submission WHERE lab = ? AND student = ? AND sha256 = ? AND isolation = ?"
            " AND status = 'graded' ORDER BY rowid DESC LIMIT 1",
            *(lab, student, sha256, isolation),
        )
        return self.read(rows[0][0]) if rows else None

    # The last run

    def begin(
        self,
        lab: str,
        title: str,
        questions: Sequence[Asked],
        students: Sequence[Student],
        entries: Sequence[Entry],
        problems: Sequence[Problem],
        run: Run,
    ) -> None:
        """Store what a run of `lab` is about to grade, in place of what the run before had."""
        asked = to_json([asdict(question) for question in questions])
        seen: dict[str, int] = {}
        lines = []
        for entry in entries:
            position = seen[entry.student] = seen.get(entry.student, -1) + 1
            lines.append((lab, entry.student, position, entry.key, entry.handed_in, entry.late))
        with self.transaction():
            before = self.run(lab)
            if before and before != run:
                self.add(Event(now(), "policy", lab, data={"from": asdict(before), "to": asdict(run)}))
            for table in ("student", "entry", "problem"):
                self.execute(f"DELETE FROM {table} WHERE lab = ?", (lab,))
            self.execute("INSERT OR REPLACE INTO lab VALUES (?, ?, ?)", (lab, title, asked))
            people = [(lab, *(getattr(one, name) for name in _STUDENT)) for one in students]
            self.insert_many("student", ["lab", *_STUDENT], people)
            self.insert_many("entry", ["lab", "student", "position", "key", "handed_in", "late"], lines)
            self._add_problems(lab, problems)
            self.execute(
                "INSERT OR REPLACE INTO run SELECT ?, 1 + coalesce(max(number), 0), ?, ?, ?, ? FROM run",
                (lab, run.isolation, run.attempts, run.deadline, run.late),
            )

    def add_problems(self, lab: str, problems: Sequence[Problem]) -> None:
        """Add what came up while the run graded."""
        with self.transaction():
            self._add_problems(lab, problems)

    def last_lab(self) -> str | None:
        """The lab that was run last; None in a new ledger."""
        rows = self.rows("SELECT lab FROM run ORDER BY number DESC LIMIT 1")
        return rows[0][0] if rows else None

    def asked(self, lab: str) -> tuple[str, tuple[Asked, ...]]:
        """The lab's title and its questions. Raises `GradingError` naming the labs that there are."""
        rows = self.rows("SELECT title, questions FROM lab WHERE name = ?", lab)
        if not rows:
            known = ", ".join(sorted(name for (name,) in self.rows("SELECT name FROM lab"))) or "none"
            raise GradingError(f"lab: was {lab!r}; the ledger has these: {known}.")
        return rows[0][0], tuple(Asked(**{**one, "manual": bool(one["manual"])}) for one in json.loads(rows[0][1]))

    def students(self, lab: str) -> list[Student]:
        """Everybody in the lab's last run, whether they handed in or not, by id."""
        rows = self.rows(f"SELECT {', '.join(_STUDENT)} FROM student WHERE lab = ? ORDER BY id", lab)
        return [Student(**{**dict(zip(_STUDENT, row, strict=True)), "listed": bool(row[2])}) for row in rows]

    def entries(self, lab: str) -> list[Entry]:
        """The files of the lab's last run, by student and in the order in which they were handed in."""
        rows = self.rows(
            "SELECT student, key, handed_in, late FROM entry WHERE lab = ? ORDER BY student, position", lab
        )
        return [Entry(student, key, handed_in, bool(late)) for student, key, handed_in, late in rows]

    def problems(self, lab: str) -> list[Problem]:
        """What the lab's last run found, sorted."""
        rows = self.rows("SELECT place, student, kind, message FROM problem WHERE lab = ?", lab)
        return sorted(Problem(*row) for row in rows)

    def run(self, lab: str) -> Run | None:
        """How the lab's last run graded."""
        rows = self.rows("SELECT isolation, attempts, deadline, late FROM run WHERE lab = ?", lab)
        return Run(*rows[0]) if rows else None

    # What people decided

    def override(self, student: str, lab: str, question: str, points: float | int, reason: str, author: str) -> bool:
        """Give a student these points for a question, whatever the grader says, from now on and after every rerun.

        False, and nothing is written, when the same is in force already. Raises `GradingError` for an unknown student
        or question, points outside 0 to the question's, or an empty reason or author.
        """
        asked = self._checked(student, lab, question, reason, author)
        if not 0 <= points <= asked.points:  # also refuses NaN
            raise GradingError(f"points: were {points:g}; {question} of {lab} gives 0 to {asked.points:g}.")
        with self.transaction():
            given = self.overrides(lab).get((student, question))
            seen = self._newest_file(lab, student)
            if given and (given.points, given.reason, given.author, given.seen) == (points, reason, author, seen):
                return False
            kind = "manual mark" if asked.manual else "override"
            data = {"points": float(points), "seen": seen}
            self.add(Event(now(), kind, lab, student, question, author, reason, data))
        return True

    def withdraw(self, student: str, lab: str, question: str, reason: str, author: str) -> None:
        """Let the grader's points count again. Raises `GradingError` as `override`, and when there is no override."""
        self._checked(student, lab, question, reason, author)
        with self.transaction():
            if (student, question) not in self.overrides(lab):
                raise GradingError(f"question: {question} of {student} has no override to withdraw.")
            self.add(Event(now(), "withdrawn", lab, student, question, author, reason))

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is decided inside counts all together or, when anything fails, not at all."""
        with self.transaction():
            yield

    def overrides(self, lab: str) -> dict[tuple[str, str], Override]:
        """The overrides in force, by (student, question)."""
        found: dict[tuple[str, str], Override] = {}
        for event in self.events("lab = ? AND kind IN (?, ?, ?)", lab, *_DECIDED):
            place = (event.student, event.question)
            found.pop(place, None)
            if event.kind != "withdrawn":
                data = event.data
                found[place] = Override(data["points"], event.reason, event.author, event.at, data["seen"])
        return found

    def _checked(self, student: str, lab: str, question: str, reason: str, author: str) -> Asked:
        questions = {asked.name: asked for asked in self.asked(lab)[1]}
        if question not in questions:
            raise GradingError(f"question: was {question!r}; {lab} has these: {', '.join(questions)}.")
        if not self.rows("SELECT 1 FROM student WHERE lab = ? AND id = ?", lab, student):
            raise GradingError(f"student: was {student!r}; nobody in the last run of {lab} has this id.")
        for name, text in (("reason", reason), ("author", author)):
            # A mark of an answer in words may come without a comment.
            if not text.strip() and not (name == "reason" and questions[question].manual):
                raise GradingError(f"{name}: was empty; the history should say {_WHY[name]}.")
        return questions[question]

    def _newest_file(self, lab: str, student: str) -> str:
        rows = self.rows(
            "SELECT sha256 FROM entry JOIN submission USING (key) WHERE entry.lab = ? AND entry.student = ?"
            " ORDER BY position DESC LIMIT 1",
            *(lab, student),
        )
        return rows[0][0] if rows else ""

    def _add_problems(self, lab: str, problems: Sequence[Problem]) -> None:
        start = self.rows("SELECT count(*) FROM problem WHERE lab = ?", lab)[0][0]
        rows = [(lab, start + i, p.where, p.student, p.kind, p.message) for i, p in enumerate(problems)]
        self.insert_many("problem", ["lab", "position", "place", "student", "kind", "message"], rows)


_WHY = {"reason": "why", "author": "who decided"}


def _summary(record: Record) -> dict[str, Any]:
    return {
        **{"key": record.key, "source": record.source, "attempt": record.attempt},
        **{"status": record.status, "points": record.points},
    }


def _cells(answer: Graded) -> list[Any]:
    """The columns of an answer: plain values as they are, the others as JSON."""
    values = [getattr(answer, name) for name in _ANSWER]
    return [value if isinstance(value, str | float | int) else to_json(value) for value in values]


def _answer(row: Sequence[Any]) -> Graded:
    named = dict(zip(_ANSWER, row, strict=True))
    for name in ("parts", "told", "flags"):
        named[name] = tuple(tuple(one) for one in json.loads(named[name]))
    for name in ("outcome", "variant"):
        named[name] = json.loads(named[name])
    named["measured"] = tuple(json.loads(named["measured"]))
    return Graded(**named)
