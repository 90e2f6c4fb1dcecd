"""What must be true of a master's cells, for `attnkit lab verify`: one a question, right solved, else 0 points."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

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
from attnkit.grading.cells import plan, read_cells
from attnkit.lab.bank import LabSpec
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import Question
from attnkit.lab.resources import judge_resources


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


def solution_faults(master: Master, project: Project, spec: LabSpec) -> list[list[str]]:
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
    run_leaning([statement.text for statement in how.attempts[0] if not statement.own], names)
    try:
        run_quietly([statement.text for statement in how.attempts[0] if statement.own], names)
    except Exception as error:
        return f"its cells raise {type(error).__name__}: {error}"
    answer = names.get(question.answer)
    if not callable(answer):
        return f"its cells define no {question.answer}"
    cases = question.cases(np.random.default_rng(0))
    outcome = judge(question, InProcess(answer, question), cases, question.frameworks)
    return judge_resources(question, outcome, InsideMeter(answer, question, 0))


def run_quietly(texts: Iterable[str], names: dict[str, Any]) -> None:
    """Run statements in the namespace `names`, printing nothing. Raises what they raise."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for text in texts:
            exec(compile(text, "solution", "exec", dont_inherit=True), names)


def run_leaning(texts: Iterable[str], names: dict[str, Any]) -> None:
    """Run what an answer may lean on as the grader does: a statement that raises is left out.

    One that does is no fault: a class of a later question, made of the answer's own class, which runs last.
    """
    for text in texts:
        with contextlib.suppress(Exception):
            run_quietly([text], names)
