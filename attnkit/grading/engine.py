"""Grades one submission: its cells, a fresh child for each question and framework, the judge, the feedback.

Two runs give a question's result. The graded run draws secret inputs; of it a student is told only what our own
sources say (points, parts, the named mistake and its hint). The practice run, on the inputs that the notebook's
check uses, supplies the counter-example and the exception's text, which may quote inputs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from attnkit.grading import seeds
from attnkit.grading.asking import Worker
from attnkit.grading.usage import OutsideMeter
from attnkit.grading.zygote import Zygote
from attnkit.lab.feedback import sections
from attnkit.lab.judge import PRACTICE_SEED, judge
from attnkit.lab.outcome import Framework, Outcome
from attnkit.lab.question import Question
from attnkit.lab.reading.cells import Cell, Plan, plan, read_cells
from attnkit.lab.reading.notebook import NotANotebook, code_sources
from attnkit.lab.resources import judge_resources
from attnkit.lab.shortcuts import find_shortcuts, not_available


@dataclass(frozen=True)
class Graded:
    """One question's result, all of it plain data. `told` is what the student may read, as (kind, text) pairs.

    `flags` are for a person to look at, as (kind, text) pairs; they change no points. `variant` holds the parameters
    of this student's question. `seconds` is how long grading it took: of the machine, so never exported. `carried` is
    the key of the record that it was taken over from, when only another question was graded again ("" otherwise).
    `measured` are the readings of `usage`: of the machine as well, since no two runs read the same.
    """

    question: str
    points: float
    max_points: float
    status: str
    framework: str
    seed: str
    parts: tuple[tuple[str, float, bool], ...] = ()
    told: tuple[tuple[str, str], ...] = ()
    outcome: Mapping[str, Any] = field(default_factory=dict)
    flags: tuple[tuple[str, str], ...] = ()
    variant: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    carried: str = ""
    measured: tuple[Mapping[str, Any], ...] = ()


def read_submission(data: bytes) -> list[Cell]:
    """The code cells of a notebook file. Raises `NotANotebook`."""
    cells = read_cells(code_sources(data))
    if not cells:
        raise NotANotebook("the notebook has no code cells")
    return cells


def grade_question(zygote: Zygote, question: Question, cells: list[Cell], seed: str) -> Graded:
    """Judge one question of a submission on the inputs that `seed` stands for."""
    how = plan(cells, question.name)
    if how.blank or how.error:
        kind, text = (
            ("blank", "Not written yet.") if how.blank else ("unreadable", f"Python cannot read it: {how.error}.")
        )
        told = (("note", text), *(("note", note) for note in how.notes))
        return Graded(question.name, 0.0, question.points, kind, "", seed, _no_parts(question), told)
    shortcuts = find_shortcuts(how.attempts[0], question.answer, question.forbidden, how.modules)
    order = seeds.generator(seed).spawn(len(question.resources) + 1)[-1]  # the others are for measuring
    outcome, worker = _judged(zygote, how, question, seeds.generator(seed), ("torch", "numpy"), order)
    public, printed = None, worker.loaded  # of the graded run nothing that the calls printed: it may quote inputs
    if not outcome.passed and not _hopeless(outcome):
        practice = np.random.default_rng(PRACTICE_SEED)
        public, worker = _judged(zygote, how, question, practice, (outcome.framework,))
        printed = worker.printed
    meter = OutsideMeter(zygote, how, question, seed)
    outcome = judge_resources(question, outcome, meter)
    return Graded(
        question.name,
        outcome.points,
        outcome.max_points,
        _status(outcome),
        outcome.framework,
        seed,
        tuple((part, outcome.worth[part], passed) for part, passed in outcome.parts.items()),
        (*not_available(shortcuts), *_told(outcome, public, printed, how)),
        _plain_outcome(outcome),
        flags=tuple((one.kind, one.flag()) for one in shortcuts),
        measured=tuple(meter.readings),
    )


def _judged(
    zygote: Zygote,
    how: Plan,
    question: Question,
    rng: np.random.Generator,
    frameworks: tuple[Framework, ...],
    order: np.random.Generator | None = None,
) -> tuple[Outcome, Worker]:
    worker = Worker(zygote, how, question)
    try:
        outcome = judge(question, worker, question.cases(rng), frameworks, order)
    finally:
        worker.close()
    return outcome, worker


def _hopeless(outcome: Outcome) -> bool:
    """A second run would only cost the same time again."""
    return any(result.why.startswith(("timeout", "died")) for result in outcome.results)


def _status(outcome: Outcome) -> str:
    if outcome.passed:
        return "full"
    if outcome.points:
        return "partial"
    return outcome.failure.kind if outcome.failure else "wrong"


def _no_parts(question: Question) -> tuple[tuple[str, float, bool], ...]:
    return tuple((part, worth, False) for part, worth in question.parts.items())


def _told(outcome: Outcome, public: Outcome | None, printed: str, how: Plan) -> list[tuple[str, str]]:
    """The words for the student. Nothing here may quote a secret input, or what the answer made of one."""
    told: list[tuple[str, str]] = []
    if outcome.failure and outcome.failure.kind == "not-implemented" and not outcome.points:
        told.append(("note", "Not written yet."))
    elif not outcome.passed:
        told.append(("failed", _failed_cases(outcome)))
        if _hopeless(outcome):
            told.append(("failed", _ENDED["timeout" if _any(outcome, "timeout") else "died"]))
        if public is not None:
            told += [pair for pair in sections(public) if pair[0] == "example"] if not public.passed else []
            if public.passed:
                told.append(("note", "It passes the practice cases of the notebook; these are other inputs."))
    # Hints and names come from our own sources, whichever inputs the mistake was recognised on. Without a name, the
    # explanation is that of the example which the student sees.
    explained = public if public and not public.passed and outcome.mistake is None else outcome
    told += [pair for pair in sections(explained) if pair[0] in ("mistake", "read")]
    told += [pair for pair in sections(outcome) if pair[0] in ("resource", "table")]
    told += [("note", note) for note in (*outcome.notes, *how.notes)]
    if printed:
        told.append(("printed", printed))
    return told


_ENDED = {
    "timeout": "It did not finish in time. Is there a loop that never ends?",
    "died": "The process that ran it ended before it answered.",
}


def _any(outcome: Outcome, kind: str) -> bool:
    return any(result.why.startswith(kind) for result in outcome.results)


def _failed_cases(outcome: Outcome) -> str:
    """Which kinds of case fail, by the words of the question's author."""
    notes = list(dict.fromkeys(result.note for result in outcome.results if not result.passed))
    passed = sum(result.passed for result in outcome.results)
    more = f" and {len(notes) - 3} more" if len(notes) > 3 else ""
    return f"{passed} of {len(outcome.results)} cases pass. It fails on {'; '.join(notes[:3])}{more}."


def _plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """For the ledger: the whole outcome, readable by the instructor only."""
    return json.loads(json.dumps(outcome.as_dict(), default=str))
