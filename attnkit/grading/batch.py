"""A whole class: take in, grade what the ledger does not have yet, export what it has."""

from __future__ import annotations

import hashlib
import importlib.metadata
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from attnkit.grading import ENGINE_VERSION, seeds
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Roster, Student
from attnkit.grading.intake import MAX_NOTEBOOK, Found, Intake, Problem, take_in
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.ledger import Ledger, Record, key_of
from attnkit.grading.notebook import NotANotebook, code_sources
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec

LEDGER, KEY = "ledger.db", "course.key"
_ROOT = Path(__file__).resolve().parents[1]
# The code that a grade depends on, beside the questions: when one of these changes, submissions are graded again.
_DECIDES = [
    *(f"lab/{name}.py" for name in ("compare", "feedback", "judge", "outcome", "question")),
    *(
        f"grading/{name}.py"
        for name in ("cells", "engine", "notebook", "protocol", "seccomp", "seeds", "standins", "wire", "worker")
    ),
]


@dataclass(frozen=True)
class Row:
    """A student in the results: the record, or None when nothing was handed in."""

    student: Student
    record: Record | None
    status: str


@dataclass
class Results:
    """What a batch gives: a row a student in the order of their ids, and the problems."""

    rows: list[Row]
    problems: list[Problem]
    isolation: Isolation
    graded: int = 0
    skipped: int = 0


@dataclass(frozen=True)
class Batch:
    """What to grade and how. `workers` submissions run at once, each in its own jail."""

    source: Path
    spec: LabSpec
    out: Path
    roster: Roster | None = None
    roster_file: Path | None = None
    isolation: Isolation = "jail"
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    max_bytes: int = MAX_NOTEBOOK

    def run(self, told: Callable[[Row, int, int], None] = lambda row, done, of: None) -> Results:
        """Grade the class; `told(row, done, of)` after each student. Raises `GradingError` when it cannot start."""
        self.out.mkdir(parents=True, exist_ok=True)
        key = seeds.course_key(self.out / KEY)
        skip = (self.out, *((self.roster_file,) if self.roster_file else ()))
        intake = take_in(self.source, self.roster, skip, self.max_bytes, _why_not_a_notebook)
        ledger = Ledger(self.out / LEDGER)
        try:
            return self._grade(intake, ledger, key, told)
        finally:
            ledger.close()

    def _grade(self, intake: Intake, ledger: Ledger, key: bytes, told: Callable[[Row, int, int], None]) -> Results:
        keys = {found: self._key(found, key) for found in intake.submissions}
        todo = [found for found in intake.submissions if not ledger.has(keys[found])]
        errors: list[Problem] = []
        rows = {found: self._row(found, ledger.read(keys[found])) for found in intake.submissions if found not in todo}
        total, done = len(intake.submissions), 0
        for row in rows.values():
            told(row, done := done + 1, total)
        for found, error in self._graded(todo, keys, ledger, key):
            if error:
                errors.append(Problem(found.where, found.student.id, "grader error", error))
            rows[found] = self._row(found, ledger.read(keys[found]))
            told(rows[found], done := done + 1, total)
        absent = [Row(student, None, "nothing handed in") for student in intake.missing]
        ordered = sorted([*rows.values(), *absent], key=lambda row: (row.student.id, row.student.name))
        return Results(ordered, sorted([*intake.problems, *errors]), self.isolation, len(todo), total - len(todo))

    def _row(self, found: Found, record: Record | None) -> Row:
        if record is None:
            return Row(found.student, None, "not graded: an error of the grader, see the problems")
        return Row(
            found.student, record, record.status if found.student.listed else f"{record.status}, not in the roster"
        )

    def _key(self, found: Found, key: bytes) -> str:
        digest = hashlib.sha256(b"" if found.why_not else found.read()).hexdigest()
        return key_of(
            [
                *(ENGINE_VERSION, _engine_digest(), _questions_digest(self.spec), hashlib.sha256(key).hexdigest()),
                *(self.spec.name, found.student.id, found.claim.attempt, found.why_not, digest, found.where),
                *(self.isolation, self.limits.seconds, self.limits.load_seconds, self.limits.memory),
            ]
        )

    def _graded(
        self, todo: list[Found], keys: dict[Found, str], ledger: Ledger, key: bytes
    ) -> Iterator[tuple[Found, str]]:
        """Grade `todo` in `workers` threads, each with a zygote of its own; yields (submission, error) as they end."""
        waiting: queue.SimpleQueue[Found] = queue.SimpleQueue()
        ended: queue.SimpleQueue[tuple[Found | None, BaseException | None]] = queue.SimpleQueue()
        for found in todo:
            waiting.put(found)

        def work() -> None:
            # The thread that starts bubblewrap must live as long as it: so a thread owns its zygote.
            with Zygote(self.isolation, self.limits, private=(self.source, self.out)) as zygote:
                try:
                    while True:
                        found = waiting.get_nowait()
                        try:
                            ledger.write(self._record(found, keys[found], zygote, key))
                            ended.put((found, None))
                        except GradingError:
                            raise
                        except Exception as error:  # one submission must never end the batch
                            zygote.stop()
                            ended.put((found, error))
                except queue.Empty:
                    pass
                except BaseException as error:  # told to the thread that waits
                    ended.put((None, error))

        for _ in range(min(self.workers, len(todo))):
            threading.Thread(target=work, daemon=True).start()
        for _ in todo:
            finished, error = ended.get()
            if finished is None:
                assert error is not None
                raise error
            yield finished, f"{type(error).__name__}: {error}" if error else ""

    def _record(self, found: Found, key: str, zygote: Zygote, secret: bytes) -> Record:
        data = b"" if found.why_not else found.read()
        answers: list[Graded] = []
        message = found.why_not
        cells = [] if message else read_submission(data)
        for question in self.spec.questions.values():
            seed = seeds.seed(secret, self.spec.name, question.name, found.student.id, found.claim.attempt)
            if message:
                answers.append(Graded(question.name, 0.0, question.points, "unreadable", "", seed))
            else:
                answers.append(grade_question(zygote, question, cells, seed))
        return Record(
            key=key,
            lab=self.spec.name,
            student=found.student.id,
            attempt=found.claim.attempt,
            source=found.where,
            sha256=hashlib.sha256(data).hexdigest(),
            isolation=self.isolation,
            status="unreadable" if message else "graded",
            message=message,
            answers=tuple(answers),
        )


def _why_not_a_notebook(data: bytes) -> str:
    try:
        return "" if code_sources(data) else "the notebook has no code cells"
    except NotANotebook as error:
        return str(error)


def _questions_digest(spec: LabSpec) -> str:
    file = spec.folder / "questions.py"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _engine_digest() -> str:
    digest = hashlib.sha256()
    for name in _DECIDES:
        digest.update((_ROOT / name).read_bytes())
    for package in ("numpy", "torch"):
        digest.update(importlib.metadata.version(package).encode())
    return digest.hexdigest()
