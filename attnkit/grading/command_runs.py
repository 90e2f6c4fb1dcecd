"""What `attnkit grade` does: a class once, a folder as files arrive, or one file again as its receipt says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from attnkit.grading import seeds
from attnkit.grading.batch import KEY, Batch, Results
from attnkit.grading.console import Screen, as_document
from attnkit.grading.crew import Crew
from attnkit.grading.digest import questions_file
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import read_roster
from attnkit.grading.isolation import levels, why_no_uid
from attnkit.grading.jail import Isolation, Limits, why_no_jail
from attnkit.grading.links import find_links
from attnkit.grading.receipt import read_receipt, write_receipts
from attnkit.grading.records import Run
from attnkit.grading.repeat import checked_signature, repeat
from attnkit.grading.reports import write_reports
from attnkit.grading.schedule import Dask
from attnkit.grading.times import read_times
from attnkit.grading.watch import SECONDS, Watcher, watch
from attnkit.lab.bank import LabSpec, lab_names, load_lab

LOCK = ".lock"


@dataclass(frozen=True)
class Wanted:
    """The command line's options."""

    folder: Path
    lab: str
    out: Path
    roster: Path | None
    attempts: str
    deadline: str
    late: str
    times: Path | None
    regrade: tuple[str, ...]
    isolation: str
    workers: int
    scheduler: str
    seconds: float
    max_mb: int


def grade_class(wanted: Wanted, screen: Screen) -> None:
    """Grade what is there and write the exports. Raises `GradingError`."""
    batch = _batch(wanted)
    _greet(batch, screen)
    with _alone(wanted.out):
        with _crew(batch, wanted) as crew:
            results = _graded(batch, crew, screen)
        _export(batch, results)
    screen.summary(results, wanted.out)
    if wanted.regrade and not results.graded:
        screen.say(f"--regrade {', '.join(wanted.regrade)}: nothing changed since it was graded.")
    screen.document(as_document(results))


def grade_watching(wanted: Wanted, screen: Screen) -> None:
    """Grade what arrives until it is interrupted, with workers that stay warm. Raises `GradingError`."""
    if not wanted.folder.is_dir():
        raise GradingError(f"DIR: was {wanted.folder}; with --watch it should be a folder.")
    batch = _batch(wanted)
    _greet(batch, screen)
    results: list[Results] = []
    # What stops a service should end it as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with _alone(wanted.out), _crew(batch, wanted) as crew:

        def grade(moving: list[Path]) -> None:
            results[:] = [_graded(batch, crew, screen, moving)]
            _export(batch, results[0])
            screen.summary(results[0], wanted.out)
            screen.say(f"Watching {wanted.folder}; Ctrl-C ends.")

        try:
            watch(Watcher(wanted.folder, (wanted.out, *batch.private_files)), grade, SECONDS)
        finally:
            for last in results:
                screen.document(as_document(last))


def grade_again(wanted: Wanted, receipt_file: Path, screen: Screen) -> bool:
    """Grade one file as its receipt says; whether the result is the same. Raises `GradingError`."""
    receipt = read_receipt(receipt_file)
    spec, isolation = load_lab(wanted.lab), _isolation(wanted.isolation)
    signed, words = checked_signature(receipt, wanted.out / KEY)
    screen.say(words)
    different = [] if signed in (True, None) else ["the signature"]
    different += repeat(receipt, wanted.folder, spec, isolation, private=(wanted.out, spec.folder))
    student, lab = receipt.body["student"], receipt.body["lab"]
    for line in different:
        screen.say(f"  {line}")
    verdict = "not the same" if different else "the same, bit for bit"
    screen.say(f"{lab}, {student}, attempt {receipt.body['attempt']}: {verdict}. Isolation: {isolation}.")
    document = {"lab": lab, "student_id": student, "same": not different, "signed": signed, "differences": different}
    screen.document(document)
    return not different


def _batch(wanted: Wanted) -> Batch:
    """The batch that the options describe, before anything is graded."""
    files = tuple(file for file in (wanted.roster, wanted.times) if file)
    isolation = _isolation(wanted.isolation, wanted.scheduler, (wanted.folder, wanted.out, *files))
    roster = read_roster(wanted.roster) if wanted.roster else None
    return Batch(
        source=wanted.folder,
        spec=load_lab(wanted.lab),
        out=wanted.out,
        roster=roster,
        private_files=files,
        isolation=isolation,
        workers=wanted.workers or len(os.sched_getaffinity(0)),
        limits=Limits(wanted.seconds, wanted.seconds),
        max_bytes=wanted.max_mb * 2**20,
        run_as=Run(isolation, wanted.attempts, wanted.deadline, wanted.late),
        times=read_times(wanted.times, roster) if wanted.times else None,
        regrade=wanted.regrade,
    )


def _isolation(isolation: str, scheduler: str = "", private: tuple[Path, ...] = ()) -> Isolation:
    if isolation not in ("jail", "uid", "none"):
        raise GradingError(
            f"--isolation: was {isolation!r}; it should be jail, uid (for containers that allow no jail) or none."
        )
    if sys.platform != "linux":
        raise GradingError(f"grading needs Linux (on Windows: WSL); this is {sys.platform}.")
    # With a scheduler it is the workers that need it, and they are asked.
    if isolation == "jail" and not scheduler and (reason := why_no_jail()):
        raise GradingError(
            f"no jail: {reason}. Student code would run unprotected, and could read your files and forge grades. "
            "To do that all the same, for practice, say --isolation none; every result will say so."
            + "".join(" --isolation uid works here." for level in levels() if level.name == "uid" and level.works)
        )
    if isolation == "uid" and not scheduler and (reason := why_no_uid(private)):
        raise GradingError(f"--isolation uid: {reason}.")
    return "jail" if isolation == "jail" else "uid" if isolation == "uid" else "none"


def _crew(batch: Batch, wanted: Wanted) -> Crew:
    if not wanted.scheduler:
        return batch.crew()
    # A path must be one on the workers too, wherever they were started.
    name = wanted.lab if wanted.lab in lab_names() else str(questions_file(batch.spec))
    return Dask(wanted.scheduler, name, batch.isolation, private=batch.private)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the lock of `out`: two runs at once would grade the same files. It ends with the process, even if killed."""
    import fcntl  # not on Windows, which is told so in words

    out.mkdir(parents=True, exist_ok=True)
    with (out / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise GradingError(f"--out: another `attnkit grade` is at work in {out}; wait for it, or end it.") from None
        except OSError:  # a file system without locks
            pass
        yield


def _greet(batch: Batch, screen: Screen) -> None:
    spec: LabSpec = batch.spec
    screen.say(
        f"{spec.title}: {len(spec.questions)} questions, {spec.max_points:g} points. Isolation: {batch.isolation}."
    )


def _graded(batch: Batch, crew: Crew, screen: Screen, skip: Sequence[Path] = ()) -> Results:
    with screen:
        return batch.once(crew, screen.told, skip)


def _export(batch: Batch, results: Results) -> None:
    write_reports(results.found, batch.out, find_links())
    write_receipts(results.found, batch.out, seeds.course_key(batch.out / KEY))
