"""What grading a class costs, by the command that an instructor types; beside stock nbgrader and otter-grader."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnkit.bench import stock
from attnkit.bench.classes import QUESTIONS, submissions, write_class
from attnkit.bench.report import Row
from attnkit.grading import jail
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import load_lab

STUDENTS = 200
PAIRED = 40  # students of the classes that are graded several times, with and without a jail
STOCK = 10  # submissions that the stock graders get: the time is told a submission
REPEATS = 3
GOAL = 60.0  # seconds for the class
FASTER = 0.556  # two workers' time over one's: 1 / 1.8
ISOLATION = 0.05  # seconds a question
MEMORY = 500.0  # MB of the trusted process
PER_QUESTION = 0.5  # seconds
_POLL = 0.02


@dataclass(frozen=True)
class Run:
    """One `attnkit grade`: seconds from start to end, the most memory that it held itself (MB), and its pace.

    `each` are seconds a submission, from the first that was graded to the last: without what a batch costs once.
    """

    seconds: float
    megabytes: float
    each: float


def suite(students: int = STUDENTS, nbgrader_python: Path | None = None, otter_python: Path | None = None) -> list[Row]:
    """Rows on grading a class of `students`; with a jail where there is one, which the rows say."""
    isolation = "none" if jail.why_no_jail() else "jail"
    some = min(PAIRED, students)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_class(folder / "all", students)
        write_class(folder / "some", some, seed=1)
        one, two = (graded(folder, "all", isolation, workers) for workers in (1, 2))
        alone, kept = _pairs(folder, isolation)
        stocks = [
            _stock("nbgrader", nbgrader_python, one, students, folder),
            _stock("otter-grader", otter_python, one, students, folder),
        ]
    return [*_class_rows(students, isolation, one, two), _isolation_row(some, isolation, alone, kept), *stocks]


def graded(folder: Path, source: str, isolation: str, workers: int) -> Run:
    """Grade the class in `folder`/`source` by the command, in a process of its own and into a new folder."""
    with tempfile.TemporaryDirectory(dir=folder) as out, tempfile.TemporaryFile() as said:
        words = ["grade", str(folder / source), "--lab", "attention", "--out", out]
        words += ["--isolation", isolation, "--workers", str(workers)]
        start = time.perf_counter()
        with subprocess.Popen(
            [sys.executable, "-m", "attnkit.cli", *words],
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        ) as process:
            ends: list[float] = []
            reader = threading.Thread(target=_note_ends, args=(process, f"[{isolation}]", ends))
            reader.start()
            most = 0.0
            while process.poll() is None:
                most = max(most, _peak(process.pid))
                time.sleep(_POLL)
            seconds = time.perf_counter() - start
            reader.join()
            if process.returncode:
                said.seek(0)
                raise RuntimeError(said.read().decode(errors="replace").strip()[-800:])
    return Run(seconds, most, (ends[-1] - ends[0]) / max(len(ends) - 1, 1))


def _note_ends(process: subprocess.Popen[str], mark: str, ends: list[float]) -> None:
    """When each submission was done: the command says a line of each, which ends in the isolation level."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.rstrip().endswith(mark):
            ends.append(time.perf_counter())


def _peak(process: int) -> float:
    """The most memory (MB) that a process has held so far, by the kernel's own count; 0 when it has just ended."""
    try:
        status = Path(f"/proc/{process}/status").read_text("ascii", "replace")
    except OSError:
        return 0.0
    kilobytes = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kilobytes[0]) * 1024 / 1e6 if kilobytes else 0.0


def _pairs(folder: Path, isolation: str) -> tuple[list[float], list[float]]:
    """Seconds a question of the smaller class without and with isolation, one worker, in the order ABBA."""
    alone: list[float] = []
    kept: list[float] = []
    for number in range(REPEATS):
        pair = [("none", alone), (isolation, kept)]
        for level, samples in pair if number % 2 == 0 else reversed(pair):
            samples.append(graded(folder, "some", level, 1).each / len(QUESTIONS))
    return alone, kept


def _class_rows(students: int, isolation: str, one: Run, two: Run) -> list[Row]:
    what = f"{students} submissions of {len(QUESTIONS)} questions in torch"
    note = f"`attnkit grade` from start to end, isolation {isolation}"
    pace = "from the first submission to the last; without imports, the zygote's start and the reports"
    held = "VmHWM of the process that holds questions and scores; the zygotes that hold torch are others"
    each, most = one.each / len(QUESTIONS), max(one.megabytes, two.megabytes)
    return [
        Row(f"grade {what}, 2 workers", [two.seconds], unit="s", goal=GOAL, against_peer=False, note=note),
        Row("the same, 1 worker", [one.seconds], unit="s", against_peer=False, note=note),
        Row("seconds per submission, 2 workers against 1", [two.each], [one.each], "1 worker", "s", FASTER, note=pace),
        Row("seconds per graded question", [each], unit="s", goal=PER_QUESTION, against_peer=False, note=pace),
        Row("trusted process, peak memory", [most], unit="MB", goal=MEMORY, against_peer=False, note=held),
        Row("zygote start", _starts(isolation), unit="s", against_peer=False, note="once a worker and batch"),
    ]


def _isolation_row(students: int, isolation: str, alone: Sequence[float], kept: Sequence[float]) -> Row:
    return Row(
        f"isolation {isolation}, cost per question",
        [b - a for a, b in zip(alone, kept, strict=True)],
        unit="s",
        goal=ISOLATION,
        against_peer=False,
        note=f"{students} submissions with and without it, one worker, {len(kept)} pairs",
    )


def _stock(package: str, python: Path | None, ours: Run, students: int, folder: Path) -> Row:
    """Seconds a submission, ours with one worker beside a stock grader's; told as not measured without one."""
    mine = [ours.seconds / students]
    what = f"seconds per submission, beside stock {package}"
    if python is None:
        missing = "not measured: not installed"
        return Row(what, mine, unit="s", peer_name=missing, against_peer=False)
    measure = stock.nbgrader_seconds if package == "nbgrader" else stock.otter_seconds
    place = folder / package
    place.mkdir()
    answers = submissions(min(STOCK, students))
    seconds = measure(python.absolute(), load_lab("attention"), answers, place)
    named = f"{package} {stock.version(python.absolute(), package)}"
    note = f"one worker each; theirs on {len(answers)} of the submissions, tests made of the public cases"
    return Row(what, mine, seconds, named, unit="s", against_peer=False, note=note)


def _starts(isolation: str) -> list[float]:
    samples = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        with Zygote("jail" if isolation == "jail" else "none", jail.Limits()) as zygote:
            zygote.child()
            samples.append(time.perf_counter() - start)
    return samples
