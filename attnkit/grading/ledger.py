"""The ledger: every result in one SQLite file, one transaction a submission. Whatever is exported is read from here.

A submission's key is a hash of all that its grade depends on, so a rerun skips what is done and regrades what changed.
Killed at any moment, the file holds whole submissions only; the next run grades the rest.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE submission (
    key TEXT PRIMARY KEY,       -- hash of all that the grade depends on
    lab TEXT NOT NULL,
    student TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    source TEXT NOT NULL,       -- where the file was found, below the folder that was graded
    sha256 TEXT NOT NULL,       -- of the file's bytes
    isolation TEXT NOT NULL,    -- jail or none
    status TEXT NOT NULL,       -- graded or unreadable
    message TEXT NOT NULL
);
CREATE TABLE answer (
    key TEXT NOT NULL REFERENCES submission (key),
    position INTEGER NOT NULL,
    question TEXT NOT NULL,
    points REAL NOT NULL,
    max_points REAL NOT NULL,
    status TEXT NOT NULL,
    framework TEXT NOT NULL,    -- the kind of arrays that gave the better total
    seed TEXT NOT NULL,         -- of the inputs: with it the grade can be repeated
    parts TEXT NOT NULL,        -- JSON: name, worth, passed
    told TEXT NOT NULL,         -- JSON: what the student may read
    outcome TEXT NOT NULL,      -- JSON: everything, for the instructor
    PRIMARY KEY (key, question)
);
"""


@dataclass(frozen=True)
class Record:
    """A graded submission."""

    key: str
    lab: str
    student: str
    attempt: int
    source: str
    sha256: str
    isolation: str
    status: str
    message: str
    answers: tuple[Graded, ...] = ()

    @property
    def points(self) -> float:
        """Points of all questions together."""
        return sum(answer.points for answer in self.answers)


def key_of(parts: Iterable[str | int | float]) -> str:
    """The key of a submission: a hash of what its grade depends on."""
    return hashlib.sha256(json.dumps(list(parts)).encode()).hexdigest()


class Ledger:
    """An open ledger. May be used from several threads; each write is one transaction."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        try:
            self._open(path)
        except sqlite3.DatabaseError as error:
            raise GradingError(
                f"The ledger {path} cannot be used ({error}). Move it away to start a new one."
            ) from None

    def _open(self, path: Path) -> None:
        self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("BEGIN IMMEDIATE")
        version = self._database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                self._database.execute(statement)
            self._database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._database.execute("COMMIT")
        if version not in (0, SCHEMA_VERSION):
            raise GradingError(f"The ledger {path} has schema {version}; this attnkit writes {SCHEMA_VERSION}.")

    def close(self) -> None:
        """Close the file, folding the write-ahead log into it."""
        self._database.close()

    def has(self, key: str) -> bool:
        """Whether the submission of that key is done."""
        with self._lock:
            return self._database.execute("SELECT 1 FROM submission WHERE key = ?", (key,)).fetchone() is not None

    def write(self, record: Record) -> None:
        """Store a submission, all or nothing. The first of two equal keys stays."""
        row = [getattr(record, field.name) for field in fields(Record) if field.name != "answers"]
        answers = [
            (record.key, position, a.question, a.points, a.max_points, a.status, a.framework, a.seed, *_as_json(a))
            for position, a in enumerate(record.answers)
        ]
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                new = self._database.execute(
                    f"INSERT OR IGNORE INTO submission VALUES ({', '.join('?' * len(row))})", row
                ).rowcount
                if new:
                    self._database.executemany(f"INSERT INTO answer VALUES ({', '.join('?' * 11)})", answers)
                self._database.execute("COMMIT")
            except BaseException:
                self._database.execute("ROLLBACK")
                raise

    def read(self, key: str) -> Record | None:
        """The submission of that key."""
        columns = [field.name for field in fields(Record) if field.name != "answers"]
        with self._lock:
            row = self._database.execute(
                f"SELECT {', '.join(columns)} FROM submission WHERE key = ?", (key,)
            ).fetchone()
            answers = self._database.execute(
                "SELECT question, points, max_points, status, framework, seed, parts, told, outcome "
                "FROM answer WHERE key = ? ORDER BY position",
                (key,),
            ).fetchall()
        if row is None:
            return None
        return Record(**dict(zip(columns, row, strict=True)), answers=tuple(_answer(one) for one in answers))


def _as_json(answer: Graded) -> list[str]:
    return [json.dumps(part, sort_keys=True) for part in (answer.parts, answer.told, answer.outcome)]


def _answer(row: tuple[Any, ...]) -> Graded:
    *plain, parts, told, outcome = row
    named = dict(zip(("question", "points", "max_points", "status", "framework", "seed"), plain, strict=True))
    return Graded(
        **named,
        parts=tuple(tuple(part) for part in json.loads(parts)),
        told=tuple(tuple(pair) for pair in json.loads(told)),
        outcome=json.loads(outcome),
    )
