"""Whatever fails, at every SQL statement and every access to a file in turn: the next run gives the same, all of it."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from attnkit.grading import schema
from attnkit.grading.batch import KEY, Batch
from attnkit.grading.errors import GradingError
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.receipt import FOLDER, write_receipts
from attnkit.grading.records import Run
from attnkit.grading.reports import write_reports
from attnkit.grading.seeds import course_key
from attnkit.grading.standing import read_class
from tests.grading.ledgers import exports, first_ledger
from tests.grading.tiny import hand_in, tiny_batch

pytestmark = pytest.mark.usefixtures("pretend")
FILE_EVENTS = ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "os.chmod", "sqlite3.connect")


class Fault(OSError):
    """What is raised."""


class Countdown:
    """Raises a fault at the `at`-th step, and counts the steps."""

    def __init__(self) -> None:
        self.at, self.steps, self.folder = 0, 0, ""

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Fault(f"step {self.at}")

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Counts what happens to files below the folder, while there is one."""
        if self.folder and name in FILE_EVENTS and self.folder in os.fsdecode(str(arguments[0])):
            self.step()


# A fault may end the run, by itself or in the grader's words; or cost one submission; or nothing.
EXPECTED = (Fault, GradingError, sqlite3.Error)
files, statements = Countdown(), Countdown()
sys.addaudithook(files.audit)  # for good: a hook cannot be taken away, but it does nothing without a folder


class Faulty(sqlite3.Connection):
    """A connection whose statements count; a fault comes before the statement or, odd ones, after it was done."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        after = statements.steps % 2
        if not after:
            statements.step()
        cursor = super().execute(*arguments)
        if after:
            statements.step()
        return cursor

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        statements.step()
        return super().executemany(*arguments)


@contextmanager
def fault(which: Countdown, at: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fault at the `at`-th step of this kind inside."""
    which.at, which.steps = at, 0
    real = sqlite3.connect
    with monkeypatch.context() as patch:
        if which is statements:
            patch.setattr(schema.sqlite3, "connect", lambda *a, **k: real(*a, **{**k, "factory": Faulty}))
        else:
            which.folder = str(folder)
        try:
            yield
        finally:
            which.folder, which.at = "", 0


def whole_run(batch: Batch) -> None:
    """What `attnkit grade` does."""
    results = batch.run()
    write_reports(results.found, batch.out)
    write_receipts(results.found, batch.out, course_key(batch.out / KEY))


def class_of_three(place: Path) -> None:
    """Three students, one of them with two files."""
    for name, one in (("ann", 1.0), ("bo", 2.0), ("cy", 0.0)):
        hand_in(place / "in", name, one)
    hand_in(place / "in" / "ann", "second", 2.0)


def rows_of(out: Path) -> dict[str, int]:
    """The row that each submission has in the ledger, of those that are whole."""
    with Ledger(out / LEDGER) as ledger:
        rows = dict(ledger.rows("SELECT key, rowid FROM submission WHERE lab = 'tiny'"))
        assert all(len(record.answers) == 2 for key in rows if (record := ledger.read(key)))
        kinds = [event.kind for event in ledger.history(lab="tiny")]
        assert kinds.count("graded") + kinds.count("regraded") == len(rows)
    return rows


@pytest.mark.slow
@pytest.mark.parametrize("which", [files, statements], ids=["files", "statements"])
@pytest.mark.parametrize("old", [False, True], ids=["new ledger", "ledger of schema 1"])
def test_a_fault_anywhere_costs_nothing_but_another_run(
    which: Countdown, old: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_of_three(tmp_path)
    key = course_key(tmp_path / KEY)

    def fresh(name: str) -> Batch:
        batch = tiny_batch(tmp_path, run_as=Run("jail", "best"))
        out = tmp_path / name
        if old:
            first_ledger(out)
            (out / KEY).write_text(key.hex() + "\n")
            (out / KEY).chmod(0o600)
        return Batch(**{**vars(batch), "out": out})

    first = fresh("whole")
    with fault(which, 0, first.out, monkeypatch):
        whole_run(first)
    steps = which.steps
    assert steps > 20

    def comparable(out: Path) -> dict[str, bytes]:
        # Without a course key that is the same in all of them, receipts cannot be.
        return {name: data for name, data in exports(out).items() if old or not name.startswith(FOLDER)}

    wanted = comparable(first.out)
    for at in range(1, steps + 1):
        batch = fresh(f"out{at}")
        with fault(which, at, batch.out, monkeypatch), suppress(*EXPECTED):
            whole_run(batch)
        before = rows_of(batch.out) if (batch.out / LEDGER).exists() else {}
        if not old and (batch.out / KEY).exists():
            assert len((batch.out / KEY).read_text()) == 65, "half a key"
        again = batch.run()
        assert again.skipped == len(before), f"step {at}: what was done is graded again"
        write_reports(again.found, batch.out)
        write_receipts(again.found, batch.out, course_key(batch.out / KEY))
        assert rows_of(batch.out).items() >= before.items()
        assert comparable(batch.out) == wanted, f"step {at}"
        assert [row.total for row in read_class(batch.out).standings] == [5.0, 5.0, 3.0]
        leftovers = [path.name for path in batch.out.rglob(".*")]
        assert len(leftovers) <= 1, f"step {at}: {leftovers}"


@pytest.mark.parametrize("which", [files, statements], ids=["files", "statements"])
def test_a_fault_while_a_person_decides_leaves_all_of_it_or_nothing(
    which: Countdown, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class_of_three(tmp_path)
    batch = tiny_batch(tmp_path)
    batch.run()

    def decide(points: float) -> None:
        with Ledger(batch.out / LEDGER) as ledger:
            ledger.override("bo", "tiny", "one", points, "copied", "Dr. Ames")

    with fault(which, 0, batch.out, monkeypatch):
        decide(0.0)
    steps = which.steps
    assert steps > 1
    before = 0.0
    for at in range(1, steps + 1):
        with fault(which, at, batch.out, monkeypatch), suppress(*EXPECTED):
            decide(at / 1000)
        points = read_class(batch.out).standings[1].marks[0].points
        assert points in (before, at / 1000)
        before = points
    with Ledger(batch.out / LEDGER) as ledger:
        overrides = [event.data["points"] for event in ledger.history("bo") if event.kind == "override"]
    assert overrides == sorted(set(overrides))
    assert overrides[-1] == before
