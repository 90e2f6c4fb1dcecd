"""`attnkit lab verify`: is a lab ready for a class? Its questions, its solutions, its stubs, its notebook.

Faults stop a lab from being handed out; warnings do not. Our own labs are held to what is a warning for others.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import attnkit
from attnkit.authoring import verify_questions as of_questions
from attnkit.authoring.labs import (
    Master,
    completed_notebook,
    manual_question_of,
    prepared,
    question_of,
    student_source,
)
from attnkit.authoring.notebook import read_myst
from attnkit.authoring.project import Project
from attnkit.authoring.travelling import public_questions, travels
from attnkit.authoring.verify_notebook import notebook_faults
from attnkit.grading.cells import plan, read_cells
from attnkit.lab.bank import LabSpec, lab_names, load_lab
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import Question, QuestionError
from attnkit.lab.resources import judge_resources
from attnkit.lab.variants import PRACTICE

DRAWS = 20


@dataclass
class Asked:
    """One question: how many cases and mistakes it has, how many of these are caught, and what is wrong with it."""

    name: str
    points: float
    kind: str
    cases: int = 0
    mistakes: int = 0
    caught: int = 0
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

    @property
    def passed(self) -> bool:
        """Whether the lab can be handed out."""
        return not self.faults and not any(question.faults for question in self.questions)

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain values, ready for JSON."""
        return {"passed": self.passed, **asdict(self)}


def verify(master: Master, project: Project, quick: bool = False) -> Verification:
    """Look at everything that can be found wrong with a lab before a class does. Takes some seconds a question.

    `quick` leaves out what needs a kernel: the notebook is then neither built nor run. Raises `LabError`, `LabNotFound`
    or `QuestionError` where the lab cannot even be read.
    """
    spec = load_lab(master.path.parent)
    practice = spec.for_student(PRACTICE)
    ours = spec.name in lab_names()
    found = Verification(spec.name, spec.max_points, [])
    for question in practice.questions.values():
        found.questions.append(_asked(question, spec, ours))
    found.faults += marker_faults(master, spec)
    if found.faults:
        return found  # nothing can be said of solutions and stubs that are not found
    for asked, faults in zip(found.questions, _solution_faults(master, project, practice), strict=True):
        asked.faults += faults
    if not quick:
        found.faults += notebook_faults(master, project, practice)
    found.faults += _privacy_faults(master, spec, ours)
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
        wrong = of_questions.mistake_faults(question)
        asked.caught = asked.mistakes - len(wrong)
        asked.faults += [*wrong, *of_questions.alike_faults(question)]
        if question.draw is not None:
            asked.faults += variant_faults(spec, question.name)
    except Exception as error:  # the author's own code: whatever it raises is a fault of the question
        asked.faults.append(f"{type(error).__name__}: {error}")


def variant_faults(spec: LabSpec, name: str, draws: int = DRAWS) -> list[str]:
    """The question works for each of `draws` students, and they do not all get the same."""
    seen: set[str] = set()
    found: dict[str, list[str]] = {}
    for number in range(draws):
        student = f"student {number}"
        try:
            question = spec.for_student(student).questions[name]
            seen.add(repr(dict(question.variant)))
            faults = of_questions.reference_faults(question, (0,)) + of_questions.mistake_faults(question, (0,))
        except QuestionError as error:
            return [str(error)]
        for fault in faults:
            found.setdefault(fault, []).append(repr(dict(question.variant)))
    same = [f"{draws} students all draw the same variant: {seen.pop()}"] if len(seen) == 1 else []
    return same + [f"{fault} (for {len(whose)} of {draws} students, {whose[0]})" for fault, whose in found.items()]


def marker_faults(master: Master, spec: LabSpec) -> list[str]:
    """Each question has one cell of the master that names it, of the right kind; no cell names another."""
    nb = read_myst(master.path)
    found = []
    for kind, name_of, manual in (("code", question_of, False), ("markdown", manual_question_of, True)):
        named = [name for cell in nb.cells if cell.cell_type == kind and (name := name_of(cell.source))]
        line = "<!-- question: {} -->" if manual else "# question: {}"
        for name, question in spec.questions.items():
            if question.manual is manual and (count := named.count(name)) != 1:
                found.append(f"{count} {kind} cells hold the line `{line.format(name)}`; it should be one")
        for name in named:
            if name not in spec.questions or spec.questions[name].manual is not manual:
                other = "answered in words" if not manual and name in spec.questions else "asked in questions.py"
                found.append(
                    f"a {kind} cell holds `{line.format(name)}`; {name} is {'' if 'words' in other else 'not '}{other}"
                )
    return found


def _solution_faults(master: Master, project: Project, spec: LabSpec) -> list[list[str]]:
    """For each question: the master's own answer gets full marks, and the stub that a student finds gets none."""
    nb = completed_notebook(master, project, checks=False)
    stubs = _student_sources(master, project)
    solved = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    return [[] if question.manual else _graded_faults(question, solved, stubs) for question in spec.questions.values()]


def _student_sources(master: Master, project: Project) -> list[str]:
    """The code of the notebook with stubs, as a student first has it, without running anything."""
    nb = prepared(master, project, checks=False)
    return [student_source(cell.source) for cell in nb.cells if cell.cell_type == "code"]


def _graded_faults(question: Question, solved: Sequence[str], stubs: Sequence[str]) -> list[str]:
    found = []
    outcome = _outcome(question, solved)
    if isinstance(outcome, str) or not outcome.passed:
        told = outcome if isinstance(outcome, str) else outcome.as_text().split("\n\n")[-1]
        found.append(f"the master's own answer does not get full marks: {told}")
    if not plan(read_cells(stubs), question.name).blank:
        outcome = _outcome(question, stubs)
        if not isinstance(outcome, str) and outcome.points:
            found.append(f"the stub gets {outcome.points:g} points")
    return found


def _outcome(question: Question, sources: Sequence[str]) -> Outcome | str:
    """How the answer in a notebook's cells does, found there as the grader finds it; a text when there is none."""
    how = plan(read_cells(sources), question.name)
    if how.blank or how.error:
        return how.error or "there is none"
    names: dict[str, Any] = {"__name__": "__main__"}
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            for statement in how.attempts[0]:
                exec(compile(statement.text, f"cell {statement.cell}", "exec"), names)
    except Exception as error:
        return f"its cells raise {type(error).__name__}: {error}"
    answer = names.get(question.answer)
    if not callable(answer):
        return f"its cells define no {question.answer}"
    cases = question.cases(np.random.default_rng(0))
    outcome = judge(question, InProcess(answer, question), cases, question.frameworks)
    return judge_resources(question, outcome, InsideMeter(answer, question, 0))


def _privacy_faults(master: Master, spec: LabSpec, ours: bool) -> list[str]:
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
