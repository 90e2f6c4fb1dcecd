"""`attnkit lab verify`: is a lab ready for a class? Its questions, its solutions, its stubs, its notebook.

Faults stop a lab from being handed out; warnings do not. Our own labs are held to what is a warning for others.
"""

from __future__ import annotations

import itertools
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import attnkit
from attnkit.authoring import verify_questions as of_questions
from attnkit.authoring.labs import Master
from attnkit.authoring.project import Project
from attnkit.authoring.travelling import public_questions, travels
from attnkit.authoring.verify_mutants import RATE, Killed, kill_rates
from attnkit.authoring.verify_notebook import Runs, notebook_faults, strict_faults
from attnkit.authoring.verify_solutions import marker_faults, solution_faults
from attnkit.lab.bank import LabSpec, lab_names, load_lab
from attnkit.lab.question import Question, QuestionError
from attnkit.lab.trials import trial_faults
from attnkit.lab.variants import PRACTICE

DRAWS = 20


@dataclass
class Asked:
    """One question: how many cases, mistakes and mutants it has, how many are caught, and what is wrong with it."""

    name: str
    points: float
    kind: str
    cases: int = 0
    mistakes: int = 0
    caught: int = 0
    mutants: Killed | None = None
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass
class Verification:
    """A lab with everything that was found."""

    lab: str
    points: float
    questions: list[Asked]
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    seconds: float = 0.0
    solved_in: float = 0.0  # seconds that the solved notebook ran; 0 when it was not run

    @property
    def passed(self) -> bool:
        """Whether the lab can be handed out."""
        return not self.faults and not any(question.faults for question in self.questions)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain values, ready for JSON."""
        told = {"passed": self.passed, **asdict(self)}
        for one, plain in zip(self.questions, told["questions"], strict=True):
            if one.mutants is not None:
                plain["mutants"]["rate"] = round(one.mutants.rate, 4)
        return told


def verify(
    master: Master, project: Project, quick: bool = False, jobs: int = 1, runs: Runs | None = None
) -> Verification:
    """Look at everything that can be found wrong with a lab before a class does. Takes some seconds a question.

    `quick` leaves out what takes longest: mutants of the solutions are then not tried, and the notebook is neither
    built nor run. `jobs` processes work at a time. `runs` are runs of the notebook that others want, too. Raises
    `LabError`, `LabNotFound` or `QuestionError` where the lab cannot even be read.
    """
    start = time.perf_counter()
    found = _verified(master, project, quick, jobs, runs or Runs(master, project))
    found.seconds = round(time.perf_counter() - start, 1)
    return found


def verify_all(masters: Sequence[tuple[Master, Project]], quick: bool, jobs: int) -> Iterator[Verification]:
    """`verify` each of several labs, as many at a time as there are `jobs`; they come in the order asked for."""
    if len(masters) == 1 or jobs == 1:
        yield from (verify(master, project, quick, jobs) for master, project in masters)
        return
    # Fresh processes: a kernel wants a thread of its own, and torch no fork.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(verify, *zip(*masters, strict=True), itertools.repeat(quick))


def _verified(master: Master, project: Project, quick: bool, jobs: int, runs: Runs) -> Verification:
    spec = load_lab(master.path.parent)
    practice = spec.for_student(PRACTICE)
    ours = spec.name in lab_names()
    found = Verification(spec.name, spec.max_points, [])
    for question in practice.questions.values():
        found.questions.append(_asked(question, spec, ours))
    found.faults += marker_faults(master, spec)
    if found.faults:
        return found  # nothing can be said of solutions and stubs that are not found
    for asked, faults in zip(found.questions, solution_faults(master, project, practice), strict=True):
        asked.faults += faults
    if not quick:
        with ThreadPoolExecutor(1) as other:  # which waits for a process: mutants need no kernel, nor it them
            rates = other.submit(kill_rates, master, max(1, jobs - 1))
            if jobs == 1:
                rates.result()
            found.faults += notebook_faults(runs, practice)
            found.solved_in = round(runs.solved_in, 1)
            (found.faults if ours else found.warnings).extend(strict_faults(runs))
            _add_mutants(found, rates.result(), ours)
    found.faults += privacy_faults(master, spec, ours)
    return found


def _asked(question: Question, spec: LabSpec, ours: bool) -> Asked:
    """What there is to say of one question by itself."""
    start = time.perf_counter()
    kind = "words" if question.manual else "class" if isinstance(question.reference, type) else "function"
    more = [word for word, yes in (("private", question.private), ("variant", question.draw is not None)) if yes]
    asked = Asked(question.name, question.points, ", ".join([kind, *more]), mistakes=len(question.mistakes))
    asked.faults += of_questions.name_faults(question)
    if root := _book_root():
        asked.faults += of_questions.read_faults(question, of_questions.book_pages(root))
    if not question.manual:
        _judge_question(asked, question, spec)
        few = of_questions.few_mistakes(question)
        (asked.faults if ours else asked.warnings).extend(few)
    asked.seconds = round(time.perf_counter() - start, 1)
    return asked


def _judge_question(asked: Asked, question: Question, spec: LabSpec) -> None:
    try:
        asked.cases = len(list(question.cases(np.random.default_rng(0))))
        asked.faults += of_questions.case_faults(question)
        asked.faults += of_questions.reference_faults(question)
        asked.faults += trial_faults(question)
        wrong = of_questions.mistake_faults(question)
        asked.caught = asked.mistakes - len(wrong)
        asked.faults += [*wrong, *of_questions.alike_faults(question)]
        if question.draw is not None:
            asked.faults += variant_faults(spec, question.name)
    except Exception as error:  # the author's own code: whatever it raises is a fault of the question
        asked.faults.append(f"{type(error).__name__}: {error}")


def _add_mutants(found: Verification, rates: Mapping[str, Killed], ours: bool) -> None:
    """What became of the mutants of each solution; too many alive are a fault of ours, for others a warning."""
    for asked in found.questions:
        asked.mutants = rates.get(asked.name)
        if asked.mutants is not None:
            asked.seconds = round(asked.seconds + asked.mutants.seconds, 1)
            (asked.faults if ours else asked.warnings).extend(mutant_faults(asked.mutants))


def mutant_faults(mutants: Killed) -> list[str]:
    """Whether too many mutants of a solution get full marks, or none could be tried."""
    if mutants.problem:
        return [f"no mutants were tried: {mutants.problem}"]
    if mutants.rate >= RATE:
        return []
    return [
        f"{mutants.killed} of {mutants.counted} mutants of its solution lose points; {RATE:.0%} should: "
        "add cases that tell the others from it"
    ]


def variant_faults(spec: LabSpec, name: str, draws: int = DRAWS) -> list[str]:
    """The question works for each of `draws` students, and they do not all get the same."""
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for number in range(draws):
        student = f"student {number}"
        try:
            question = spec.for_student(student).questions[name]
            seen.add(repr(dict(question.variant)))
            # Both frameworks were tried with one variant already.
            question = replace(question, frameworks=question.frameworks[-1:])
            faults = of_questions.reference_faults(question, (0,)) + of_questions.mistake_faults(question, (0,))
        except QuestionError as error:
            return [str(error)]
        for fault in faults:
            found.setdefault(fault, []).append(repr(dict(question.variant)))
    same = [f"{draws} students all draw the same variant: {seen.pop()}"] if len(seen) == 1 else []
    return same + [f"{fault} (for {len(whose)} of {draws} students, {whose[0]})" for fault, whose in found.items()]


def privacy_faults(master: Master, spec: LabSpec, ours: bool) -> list[str]:
    """Private questions are in no file that a student gets, and what travels can be loaded."""
    private = [question.name for question in spec.questions.values() if question.private]
    if ours and private:
        return [
            f"{private[0]} is private, but the questions of this lab ship with attnkit: keep it in a folder of its own"
        ]
    if not travels(master.path.parent):
        return []
    try:
        source = public_questions(master.path.parent)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / master.questions_path.name
            file.write_text(source, "utf-8")
            loaded = load_lab(file)
            for question in loaded.for_student(PRACTICE).questions.values():
                list(question.cases(np.random.default_rng(0)))
    except Exception as error:
        return [f"the questions that students get cannot be loaded: {type(error).__name__}: {error}"]
    wanted = [name for name in spec.questions if name not in private]
    return [] if list(loaded.questions) == wanted else [f"students would get {list(loaded.questions)}, not {wanted}"]


def _book_root() -> Path | None:
    """The clone whose book can be looked into; None for an installed attnkit."""
    root = Path(attnkit.__file__).resolve().parents[1]
    return root if (root / "book" / "references.bib").is_file() else None
