"""An open ledger file: transactions, rows, and the history, which only ever grows."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from attnkit.grading.errors import GradingError
from attnkit.grading.records import Event
from attnkit.grading.schema import open_database

_EVENT = [field.name for field in fields(Event)]


class Store:
    """What the ledger's tables have in common. May be used from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.RLock()
        try:
            self._database = open_database(path)
        except sqlite3.DatabaseError as error:
            raise GradingError(
                f"The ledger {path} cannot be used ({error}). Move it away to start a new one."
            ) from None

    def close(self) -> None:
        """Close the file, folding the write-ahead log into it."""
        self._database.close()

    # The history

    def history(self, student: str | None = None, lab: str | None = None) -> list[Event]:
        """Everything that happened, oldest first; of one student or one lab when these are given."""
        wanted = [(name, value) for name, value in (("student", student), ("lab", lab)) if value is not None]
        where = " AND ".join(f"{name} = ?" for name, _ in wanted) or "1"
        return self.events(where, *(value for _, value in wanted))

    def note(self, event: Event) -> None:
        """Add a line to the history."""
        with self.transaction():
            self.add(event)

    def events(self, where: str, *values: str) -> list[Event]:
        """The lines of the history that `where` selects, oldest first."""
        rows = self.rows(f"SELECT {', '.join(_EVENT)} FROM event WHERE {where} ORDER BY number", *values)
        return [Event(**dict(zip(_EVENT, [*plain, json.loads(data)], strict=True))) for *plain, data in rows]

    def add(self, event: Event) -> None:
        """Add a line to the history, in the transaction that is open."""
        row = [*(getattr(event, name) for name in _EVENT[:-1]), to_json(event.data)]
        self._database.execute(f"INSERT INTO event ({', '.join(_EVENT)}) VALUES ({marks(row)})", row)

    # SQL, for what is built on this

    def execute(self, statement: str, values: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Run a statement in the transaction that is open."""
        return self._database.execute(statement, values)

    def insert_many(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Insert rows, in the transaction that is open."""
        self._database.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks(columns)})", rows)

    def rows(self, statement: str, *values: str) -> list[tuple[Any, ...]]:
        """What a query finds."""
        with self._lock:
            return self._database.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing of what is written inside; also within another, which then decides."""
        with self._lock:
            if self._database.in_transaction:  # only within `together`, of the same thread: the lock is held
                yield
                return
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise


def now() -> str:
    """The time as the ledger writes it: ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def marks(row: Sequence[Any]) -> str:
    """As many question marks as `row` is long."""
    return ", ".join("?" * len(row))


def to_json(value: Any) -> str:
    """JSON that is the same text for equal values."""
    return json.dumps(value, sort_keys=True)
