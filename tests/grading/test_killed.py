"""Killed by SIGKILL at any instruction and run again: the same exports, nothing graded twice, nobody skipped.

The engine is a stand-in, so that a run takes a second; `test_batch` kills the real one.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnkit.grading.ledger import LEDGER
from attnkit.grading.seeds import course_key
from tests.grading.ledgers import exports, first_ledger
from tests.grading.tiny import hand_in, tiny_lab

STUDENTS = 8
KILLS = 50


class Course:
    """A course's folder, killed again and again until a run ends by itself."""

    def __init__(self, place: Path, out: Path, old: bool) -> None:
        self.place, self.out = place, out
        out.mkdir()
        (out / "course.key").write_bytes((place / "course.key").read_bytes())
        (out / "course.key").chmod(0o600)
        if old:  # so that the migration is killed too
            first_ledger(out)
        self.old = old
        self.done: dict[str, tuple[int, str]] = {}

    def run(self, fuse: str = "none:0", delay: float = 0.0, more: int = 0) -> tuple[bool, dict[str, int]]:
        """Whether the run was killed, and how many events of which kind it had if not.

        It kills itself at the event that `fuse` names; or is killed after `delay` seconds, or once `more` are done.
        """
        module = [sys.executable, "-m", "tests.grading.pretend_grade", str(self.place / "in")]
        arguments = ["--lab", str(self.place / "tiny"), "--out", str(self.out), "--isolation", "none", "--workers", "2"]
        inside = not delay and not more
        environment = {**os.environ, "PRETEND_SECONDS": "0.02", **({"FUSE": fuse} if inside else {})}
        process = subprocess.Popen(
            [*module, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if not inside:
            deadline = time.monotonic() + (delay or 60)
            while time.monotonic() < deadline and process.poll() is None:
                if more and self.count() >= len(self.done) + more:
                    break
                time.sleep(0.002)
            process.kill()
        _, said = process.communicate(timeout=120)
        killed = process.returncode == -signal.SIGKILL
        assert killed or process.returncode == 0, said
        return killed, json.loads(said.splitlines()[-1]) if inside and not killed else {}

    def count(self) -> int:
        """How many submissions the ledger has now, while it is being written."""
        try:
            database = sqlite3.connect(f"file:{self.out / LEDGER}?mode=ro", uri=True, timeout=5)
            (found,) = database.execute("SELECT count(*) FROM submission WHERE lab = 'tiny'").fetchone()
            database.close()
        except sqlite3.OperationalError:  # not there yet
            return 0
        return int(found)

    def check(self) -> None:
        """The ledger is whole, and has all that it had, graded when it was graded first."""
        if not (self.out / LEDGER).exists():
            assert not self.done
            return
        database = sqlite3.connect(self.out / LEDGER)
        try:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            (version,) = database.execute("PRAGMA user_version").fetchone()
            assert version in ((1, 2) if self.old else (0, 2))
            if version != 2:
                assert not self.done
                return
            rows = database.execute("SELECT key, rowid, graded_at FROM submission WHERE lab = 'tiny'").fetchall()
            found = {key: (row, at) for key, row, at in rows}
            assert found.items() >= self.done.items(), "what was done is lost, or was graded again"
            answers = database.execute(
                "SELECT count(*) FROM answer JOIN submission USING (key) WHERE lab = 'tiny' GROUP BY key"
            ).fetchall()
            assert answers == [(2,)] * len(rows), "half a submission"
            (events,) = database.execute("SELECT count(*) FROM event WHERE lab = 'tiny'").fetchone()
            assert events == len(rows)
            (before,) = database.execute("SELECT count(*) FROM event WHERE lab = 'attention'").fetchone()
            assert before == (6 if self.old else 0)
            self.done = found
        finally:
            database.close()


@pytest.mark.slow
def test_killed_fifty_times_at_any_instruction_nothing_is_lost_or_done_twice(tmp_path: Path) -> None:
    tiny_lab(tmp_path)
    for number in range(STUDENTS):
        hand_in(tmp_path / "in", f"student{number}", 0.5 * (number % 5), 3.0)
    course_key(tmp_path / "course.key")
    whole = Course(tmp_path, tmp_path / "whole", old=False)
    start = time.monotonic()
    _, events = whole.run()
    seconds = time.monotonic() - start
    wanted = exports(whole.out)
    assert len(wanted) == 2 + 2 * STUDENTS
    draw = random.Random(5)
    kills, courses, killed_in = 0, 0, set[str]()
    stages = set()
    kinds = itertools.cycle(["schema", *(kind for kind, number in events.items() if number)])
    while kills < KILLS:
        course = Course(tmp_path, tmp_path / f"out{courses}", old=courses % 2 == 1)
        courses += 1
        killed = True
        while killed:
            how, kind = draw.random(), "time"
            if how < 0.6:
                kind = next(kinds)
                killed, _ = course.run(fuse=f"{kind}:{draw.randint(1, events[kind])}")
            elif how < 0.75:
                killed, _ = course.run(delay=draw.random() * seconds)
            else:
                killed, _ = course.run(more=draw.randint(1, 3))
            kills += killed
            killed_in |= {kind} if killed else set()
            course.check()
            stages.add(len(course.done))
        if len(course.done) < STUDENTS or exports(course.out) != wanted:
            course.run()
            course.check()
        assert len(course.done) == STUDENTS
        assert exports(course.out) == wanted
    assert killed_in >= {"schema", "store", "ledger", "reports", "receipt", "files", "time"}
    assert stages >= {0, STUDENTS}
    assert len(stages) > 3, f"killed at {stages} submissions only: too early or too late to mean anything"
