"""Grading on a Dask cluster gives the grades of one machine, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import pytest

from attnkit.grading import schedule
from attnkit.grading.batch import Batch, Results
from attnkit.grading.errors import GradingError
from attnkit.grading.job import Job
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.receipt import body_of
from attnkit.grading.reports import write_reports
from attnkit.grading.schedule import Dask
from tests.grading.ledgers import answer, exports
from tests.grading.tiny import QUESTIONS, hand_in, tiny_batch, tiny_lab

STUDENTS = 12


@contextmanager
def cluster(workers: int, **environment: str) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and worker processes on loopback; the address and the workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    everybody = {**os.environ, **environment}
    start = [sys.executable, "-m", "tests.grading.pretend_dask"]
    processes = [subprocess.Popen([*start, "scheduler", address], env=everybody, **quiet)]
    processes += [subprocess.Popen([*start, "worker", address], env=everybody, **quiet) for _ in range(workers)]
    try:
        yield address, processes[1:]
    finally:
        for process in processes:
            process.kill()
        for process in processes:
            process.wait()


def graded_there(batch: Batch, address: str, told: object = None) -> Results:
    """The batch, graded by the cluster."""
    with Dask(address, str(batch.spec.folder), batch.isolation) as crew:
        return batch.once(crew, told or (lambda *_: None))


def class_of(place: Path) -> Batch:
    """A class of `STUDENTS`, one of them with a file that cannot be read; without a jail, for the engine is none."""
    for number in range(STUDENTS - 1):
        hand_in(place / "in", f"student{number:02}", 0.5 * (number % 5), 3.0)
    (place / "in" / "unread.ipynb").write_text("no notebook")
    return tiny_batch(place, isolation="none")


@pytest.mark.slow
def test_one_of_two_workers_killed_midway_costs_nothing(tmp_path: Path, pretend: list[tuple[str, str]]) -> None:
    batch = class_of(tmp_path)
    here = batch.run()
    write_reports(here.found, batch.out)
    assert len(pretend) == 2 * (STUDENTS - 1)
    there = Batch(**{**vars(batch), "out": tmp_path / "there"})
    there.out.mkdir()
    (there.out / "course.key").write_bytes((batch.out / "course.key").read_bytes())
    (there.out / "course.key").chmod(0o600)
    pretend.clear()
    log = tmp_path / "log"
    with cluster(2, PRETEND_SECONDS="0.1", PRETEND_LOG=str(log)) as (address, workers):

        def told(standing: object, done: int, of: int) -> None:
            if done == 3:
                workers[0].send_signal(signal.SIGKILL)

        results = graded_there(there, address, told)
        assert workers[0].wait(60) == -signal.SIGKILL
        again = graded_there(there, address)
    assert pretend == [], "it was graded there, not here"
    assert (results.graded, results.skipped, again.graded, again.skipped) == (STUDENTS, 0, 0, STUDENTS)
    write_reports(results.found, there.out)
    assert exports(there.out) == exports(batch.out)
    with Ledger(there.out / LEDGER) as ledger:
        assert len(ledger.rows("SELECT key FROM submission")) == STUDENTS
        assert [event.kind for event in ledger.history()] == ["graded"] * STUDENTS
    pids = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(pids) == 2, "both workers graded"


@pytest.mark.slow
def test_a_worker_with_other_questions_or_another_engine_is_refused(tmp_path: Path) -> None:
    batch = class_of(tmp_path)
    with cluster(1, PRETEND_ENGINE="another") as (address, _):
        with pytest.raises(GradingError, match=r"the worker tcp://.* cannot grade this: it has another attnkit"):
            graded_there(batch, address)
        other = tiny_lab(tmp_path / "elsewhere", QUESTIONS + "\n# another\n")
        moved = Batch(**{**vars(batch), "spec": other})
        with (
            pytest.raises(GradingError, match=r"cannot grade this: its questions.py is another one"),
            Dask(address, str(batch.spec.folder), "none") as crew,
        ):
            moved.once(crew)
    assert not Ledger(batch.out / LEDGER).rows("SELECT key FROM submission")


def test_without_a_cluster_it_says_what_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = class_of(tmp_path)
    monkeypatch.setattr(schedule, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://"):
        with pytest.raises(GradingError, match="--scheduler: no Dask cluster with a worker answers at"):
            graded_there(batch, address)


def test_a_worker_does_what_a_thread_does_and_tells_errors_apart(
    tmp_path: Path, pretend: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs on a worker, called here."""
    batch = class_of(tmp_path)
    sent: list[dict[str, object]] = []

    class Here:
        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None: ...

        def grade(self, spec: object, tasks: list[object]) -> Iterator[object]:
            for task in tasks:
                job: Job = task.job
                plain = asdict(job)
                sent.append(plain)
                told = schedule.grade_here(str(batch.spec.folder), plain, task.read(), [])
                yield task, schedule._record(told["record"]), ""

    results = batch.once(Here())
    alone = Batch(**{**vars(batch), "out": tmp_path / "alone"})
    alone.out.mkdir()
    (alone.out / "course.key").write_bytes((batch.out / "course.key").read_bytes())
    (alone.out / "course.key").chmod(0o600)
    bodies = [[body_of(row.record) for row in run.rows if row.record] for run in (alone.run(), results)]
    assert bodies[0] == bodies[1]
    job = Job("k", "tiny", "1", 1, "a.ipynb", "0", "jail", {"one": "ab"}, carried={"two": answer(1.0)}, made={"v": 1})
    assert schedule._job(asdict(job)) == job, "answers that are taken over travel whole"
    key = (batch.out / "course.key").read_text().strip()
    assert key not in repr(sent), "the course key stays here"
    lab = str(batch.spec.folder)
    assert schedule.grade_here(lab, sent[0], b"another file", [])["error"].startswith("Changed: student00.ipynb has")
    assert schedule.grade_here(lab, sent[0], "gone", []) == {"error": "gone"}
    monkeypatch.setattr(schedule, "engine_digest", lambda: "other")
    assert "a worker cannot grade this" in schedule.grade_here(lab, sent[0], b"", [])["stop"]


def test_importing_the_command_does_not_import_dask() -> None:
    code = (
        "import sys, attnkit.grading.commands; print([m for m in ('distributed', 'dask', 'torch') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
