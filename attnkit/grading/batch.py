"""A whole class: take in, grade what the ledger does not have yet, and say how everybody stands."""

from __future__ import annotations

import getpass
import hashlib
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from attnkit.grading import seeds
from attnkit.grading.crew import Crew, Task, Threads
from attnkit.grading.digest import engine_digest, questions_digest, versions
from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Roster, Student
from attnkit.grading.intake import MAX_NOTEBOOK, Found, Intake, Problem, take_in
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.job import Job
from attnkit.grading.ledger import LEDGER, Ledger, key_of, now
from attnkit.grading.policy import Policy, check_extensions
from attnkit.grading.records import Asked, Entry, Event, Record, Run
from attnkit.grading.standing import Class, Standing, class_of, standing_of
from attnkit.grading.times import Times, about_times, handed_in
from attnkit.lab.bank import LabSpec
from attnkit.lab.reading.notebook import NotANotebook, code_sources
from attnkit.lab.variants import named_student, same_student

__all__ = ["KEY", "LEDGER", "Batch", "Results"]

KEY = seeds.KEY
Told = Callable[[Standing, int, int], None]


@dataclass
class Results:
    """What a run gives: the class as it stands, how many files were graded, and how many had been before."""

    found: Class
    graded: int = 0
    skipped: int = 0

    @property
    def rows(self) -> tuple[Standing, ...]:
        """A standing a student, in the order of their ids."""
        return self.found.standings

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What the instructor should know, sorted."""
        return self.found.problems


@dataclass(frozen=True)
class Batch:
    """What to grade and how. `workers` submissions run at once, each in its own jail.

    `run_as` is which attempt counts and what lateness costs. `times` says when work was handed in. `regrade` names
    the questions that are graded again where the questions or the engine changed; the others are taken over then.
    """

    source: Path
    spec: LabSpec
    out: Path
    roster: Roster | None = None
    private_files: tuple[Path, ...] = ()
    isolation: Isolation = "jail"
    workers: int = 1
    limits: Limits = field(default_factory=Limits)
    max_bytes: int = MAX_NOTEBOOK
    run_as: Run = field(default_factory=lambda: Run("jail"))
    times: Times | None = None
    regrade: tuple[str, ...] = ()
    author: str = ""

    def run(self, told: Told = lambda standing, done, of: None) -> Results:
        """Grade the class; `told(standing, done, of)` after each file. Raises `GradingError` when it cannot start."""
        with self.crew() as crew:
            return self.once(crew, told)

    def crew(self) -> Crew:
        """Who grades: threads of this machine."""
        return Threads(self.workers, self.isolation, self.limits, self.private)

    @property
    def private(self) -> tuple[Path, ...]:
        """What no worker may see, wherever it lies."""
        return (self.source, self.out, self.spec.folder, *self.private_files)

    def once(self, crew: Crew, told: Told = lambda standing, done, of: None, skip: Sequence[Path] = ()) -> Results:
        """`run` with a crew that stays for the next time, leaving out the files in `skip`."""
        policy = self._checked()
        self.out.mkdir(parents=True, exist_ok=True)
        secret = seeds.course_key(self.out / KEY)
        left_out = (self.out, *self.private_files, *skip)
        every = policy.attempts == "best"
        intake = take_in(self.source, self.roster, left_out, self.max_bytes, _why_not_a_notebook, every)
        plan = _Plan(self, intake, secret)
        with Ledger(self.out / LEDGER) as ledger:
            try:
                return self._grade(plan, ledger, policy, crew, told)
            except sqlite3.Error as error:
                raise GradingError(
                    f"The ledger in {self.out} cannot be written ({error}); what it has is kept."
                ) from None

    def _checked(self) -> Policy:
        if unknown := [name for name in self.regrade if name not in self.spec.questions]:
            known = ", ".join(self.spec.questions)
            raise GradingError(f"--regrade: was {', '.join(unknown)}; {self.spec.name} has these questions: {known}.")
        policy = Policy.of(self.run_as)
        check_extensions(policy, self.roster.students if self.roster else ())
        return policy

    def _grade(self, plan: _Plan, ledger: Ledger, policy: Policy, crew: Crew, told: Told) -> Results:
        found = plan.intake.submissions
        problems = [*plan.intake.problems, *plan.problems, *about_times(found, self.times, policy)]
        asked = [Asked(one.name, one.points, one.doc, one.manual, one.rubric) for one in self.spec.questions.values()]
        run = replace(self.run_as, isolation=self.isolation)
        ledger.begin(self.spec.name, self.spec.title, asked, plan.students(), plan.entries(), problems, run)
        students = {one.id: one for one in plan.students()}
        todo = [job for job in plan.jobs if not ledger.has(job.key)]
        left = {job.key for job in todo}
        done = 0
        for job in plan.jobs:
            if job.key not in left:
                done += 1
                told(_alone(students[job.student], asked, ledger.read(job.key)), done, len(found))
        tasks = [Task(self._regraded(job, ledger), plan.reader(job)) for job in todo]
        for task, record, error in crew.grade(self.spec, tasks):
            if record is None:
                stuck = Problem(task.job.source, task.job.student, "grader error", error)
                ledger.add_problems(self.spec.name, [stuck])
            else:
                ledger.write(record, self._event(task.job, record, ledger))
            done += 1
            told(_alone(students[task.job.student], asked, record), done, len(found))
        return Results(class_of(ledger, self.spec.name), len(todo), len(found) - len(todo))

    def _regraded(self, job: Job, ledger: Ledger) -> Job:
        """The job with the answers that are taken over from the newest record of the same file."""
        before = ledger.newest(job.lab, job.student, job.sha256, self.isolation) if self.regrade else None
        if before is None or job.why_not:
            return job
        if (before.attempt, before.made.get("variant", "")) != (job.attempt, job.variant):
            return job  # it was graded with other inputs, or with another student's numbers
        carried = {
            answer.question: replace(answer, carried=answer.carried or before.key)
            for answer in before.answers
            if answer.question not in self.regrade and self._fits(answer)
        }
        return replace(job, carried=carried, made={**job.made, "before": before.key})

    def _fits(self, answer: Graded) -> bool:
        """Whether the question is still worth the same, by parts: else what it gave then means nothing now."""
        question = self.spec.questions.get(answer.question)
        if question is None or answer.max_points != question.points:
            return False
        return not answer.parts or {name: worth for name, worth, _ in answer.parts} == dict(question.parts)

    def _event(self, job: Job, record: Record, ledger: Ledger) -> Event | None:
        before = ledger.read(job.made.get("before", ""))
        if before is None:
            return None
        was = {answer.question: answer.points for answer in before.answers}
        again = [answer for answer in record.answers if not answer.carried]
        points = {answer.question: [was.get(answer.question, 0.0), answer.points] for answer in again}
        data = {"from": before.key, "key": record.key, "points": points, "carried": sorted(job.carried)}
        questions = ", ".join(points)
        return Event(now(), "regraded", job.lab, job.student, questions, self.author or _login(), "--regrade", data)


class _Plan:
    """The jobs of a run, made of what was found."""

    def __init__(self, batch: Batch, intake: Intake, secret: bytes) -> None:
        self.batch, self.intake, self.secret = batch, intake, secret
        self.problems = _about_key(batch.out / KEY)
        self.made: dict[str, Any] = {
            "questions": questions_digest(batch.spec),
            "engine": engine_digest(),
            "versions": versions(),
            "limits": asdict(batch.limits),
        }
        self.jobs = [self._job(found) for found in intake.submissions]
        self._found = dict(zip((job.key for job in self.jobs), intake.submissions, strict=True))

    def students(self) -> list[Student]:
        """Everybody who handed in or is in the roster."""
        return list(
            {one.id: one for one in (*self.intake.missing, *(f.student for f in self.intake.submissions))}.values()
        )

    def entries(self) -> list[Entry]:
        """What each job's file is to the class."""
        when = handed_in(self.intake.submissions, self.batch.times or {})
        pairs = zip(self.jobs, self.intake.submissions, strict=True)
        return [Entry(job.student, job.key, when[found], found.claim.late) for job, found in pairs]

    def reader(self, job: Job) -> Callable[[], bytes]:
        """How to read the job's file."""
        found = self._found[job.key]
        return bytes if found.why_not else found.read

    def _job(self, found: Found) -> Job:
        batch = self.batch
        data = b"" if found.why_not else found.read()
        variant = self._variant(found, data) if batch.spec.has_variants and not found.why_not else ""
        who, attempt, sha256 = found.student.id, found.claim.attempt, hashlib.sha256(data).hexdigest()
        parts = [self.made["engine"], self.made["questions"], hashlib.sha256(self.secret).hexdigest(), variant]
        parts += [batch.spec.name, who, attempt, found.why_not, sha256, found.where, batch.isolation]
        limits = self.made["limits"]
        return Job(
            key=key_of([*parts, *(limits[name] for name in sorted(limits))]),
            lab=batch.spec.name,
            student=who,
            attempt=attempt,
            source=found.where,
            sha256=sha256,
            isolation=batch.isolation,
            seeds=self._seeds(who, attempt),
            why_not=found.why_not,
            variant=variant,
            limits=batch.limits,
            made={**self.made, "variant": variant} if variant else self.made,
        )

    def _seeds(self, student: str, attempt: int) -> Mapping[str, str]:
        lab = self.batch.spec
        return {name: seeds.seed(self.secret, lab.name, name, student, attempt) for name in lab.questions}

    def _variant(self, found: Found, data: bytes) -> str:
        """Whose numbers the questions get: the student's by the roster or, without one, as the notebook says."""
        student, named = found.student, named_student(code_sources(data))
        own = [one for one in (student.id, student.login, student.email, student.moodle, student.canvas) if one]
        if named is None or any(same_student(named, one) for one in own[:1]):
            return student.id
        if self.batch.roster is None:
            message = (
                f"graded with the numbers of {named!r}, as the notebook says; a roster would tell whether it is theirs"
            )
            self.problems.append(Problem(found.where, student.id, "named in notebook", message))
            return named
        if any(same_student(named, one) for one in own):
            return named  # another of the names by which the roster knows them
        message = f"its numbers are those of {named!r}; graded with those of {student.id!r}"
        self.problems.append(Problem(found.where, student.id, "made for another", message))
        return student.id


def _alone(student: Student, asked: Sequence[Asked], record: Record | None) -> Standing:
    """How one file did, for those who watch: without what others and dates do to it."""
    if record is None:
        return Standing(student, "not graded: an error of the grader, see the problems")
    return standing_of(student, asked, [(Entry(student.id, record.key), record)])


def _about_key(path: Path) -> list[Problem]:
    """A key that others can read lets them know every student's inputs."""
    readers = seeds.who_else_reads(path)
    message = f"{readers} can read {path.name}, and so know the inputs; run: chmod 600 {path.name}"
    return [Problem(path.name, "", "course key", message)] if readers else []


def _login() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container may run as a user without a name
        return "unknown"


def _why_not_a_notebook(data: bytes) -> str:
    try:
        return "" if code_sources(data) else "the notebook has no code cells"
    except NotANotebook as error:
        return str(error)
