"""The one home of judging: cases in, an outcome out. The notebook's check and the autograder both call `judge`.

It never runs student code itself: `call` does, in this process (the notebook) or in a jailed one (the grader).
Nothing here loads torch, since the grader's trusted process does without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attnkit.lab.compare import difference, same, script_difference
from attnkit.lab.feedback import show_answer, show_arrays, show_inputs
from attnkit.lab.outcome import (
    Answer,
    CaseResult,
    Counterexample,
    Failure,
    Framework,
    Outcome,
    Recognised,
    Reply,
)
from attnkit.lab.question import ORDINARY, Case, Mistake, Question
from attnkit.lab.reference import copies, run_trusted
from attnkit.lab.script import shown
from attnkit.lab.steps import comparing, size

__all__ = ["Answer", "Call", "Failure", "Outcome", "Reply", "judge"]

Call = Callable[[Case, Framework], Reply]

# After one of these the answer is not called again: it would cost the same time once more.
_FINAL = ("timeout", "died", "missing")
MAX_TEXT = 400  # characters of a message or a line of code that feedback repeats
_RAISED = object()  # what a mistake "returns" where it raises


@dataclass(frozen=True, eq=False)
class _Judged:
    """A case with what was wanted and what came back; `why` is "" when it passed."""

    case: Case
    want: Any
    reply: Reply
    why: str
    step: int = 0  # of a script: the step that failed or differs, from 1
    value: int | None = None  # and which of the values that it gives

    @property
    def passed(self) -> bool:
        return self.why == ""

    @property
    def size(self) -> int:
        inputs = sum(np.size(value) for value in (*self.case.args, *self.case.kwargs.values()))
        return int(inputs) + size(self.case.steps)


def judge(
    question: Question,
    call: Call,
    cases: Iterable[Case],
    frameworks: Sequence[Framework] = ("torch", "numpy"),
) -> Outcome:
    """Judge an answer to `question`, called through `call(case, framework)`, on `cases`.

    The whole question is judged with torch inputs and, if that is not full marks, again with NumPy inputs;
    the better total counts, and between equal totals the one that explains more. Of `frameworks` only those are tried
    that the question allows, or all that it allows when none of them is.
    """
    wanted = [(case, run_trusted(question.reference, question, case)) for case in cases]
    if frameworks:
        frameworks = [one for one in frameworks if one in question.frameworks] or question.frameworks
    best: tuple[tuple[Any, ...], Outcome] | None = None
    for framework in frameworks:
        outcome = _judge_with(question, call, wanted, framework)
        rank = _rank(outcome)
        if best is None or rank > best[0]:
            best = (rank, outcome)
        if outcome.passed or (outcome.failure and outcome.failure.kind == "missing"):
            break
    if best is None:
        raise ValueError("frameworks: was empty; it should name torch, numpy or both")
    return best[1]


def _rank(outcome: Outcome) -> tuple[Any, ...]:
    """Better outcomes rank higher: points, then cases passed, then how much the feedback can say."""
    passed = sum(result.passed for result in outcome.results)
    return (outcome.points, passed, outcome.mistake is not None, outcome.failure is None)


def _judge_with(question: Question, call: Call, wanted: list[tuple[Case, Any]], framework: Framework) -> Outcome:
    judged: list[_Judged] = []
    final: Failure | None = None
    for case, want in wanted:
        reply = final or call(case, framework)
        if isinstance(reply, Failure):
            reply = Failure(reply.kind, _clean(reply.message), _clean(reply.where), reply.step)
            final = reply if reply.kind in _FINAL else None
            judged.append(_Judged(case, want, reply, _failure_line(reply), reply.step))
        elif case.steps:
            judged.append(_judge_script(question, case, want, reply))
        else:
            judged.append(_Judged(case, want, reply, difference(reply.value, want, question.tolerance)))
    return _outcome(question, judged, framework)


def _judge_script(question: Question, case: Case, want: Any, answer: Answer) -> _Judged:
    differs = script_difference(case, answer.value, want, question.tolerance)
    if differs is None:
        return _Judged(case, want, answer, "")
    line = shown(question, case.steps[: differs.step]).lines[-1]
    why = f"after step {differs.step}, `{line}`: {differs.why}"
    return _Judged(case, want, answer, why, differs.step, differs.value)


def _clean(text: str) -> str:
    """Text that comes from a student's process, as one short printable line: it is shown in terminals and pages."""
    return "".join(one if one.isprintable() else " " for one in text[:MAX_TEXT])


def _failure_line(failure: Failure) -> str:
    if failure.kind == "not-implemented":
        return "not written yet"
    return f"{failure.kind}: {failure.message}" if failure.message else failure.kind


def _outcome(question: Question, judged: list[_Judged], framework: Framework) -> Outcome:
    # A part that has no case is measured, or it would pass for nothing; a case of no part would count for nothing.
    measured = {resource.part for resource in question.resources} - {j.case.part for j in judged}
    parts = {
        part: all(j.passed for j in judged if j.case.part == part) for part in question.parts if part not in measured
    }
    if {j.case.part for j in judged} != set(parts):
        raise ValueError(f"cases: had the parts {sorted({j.case.part for j in judged})}; should be {sorted(parts)}")
    earned = sum(question.parts[part] for part, passed in parts.items() if passed) if parts[ORDINARY] else 0.0
    failed = [j for j in judged if not j.passed]
    smallest = _counterexample(failed, parts)
    mistake = _recognise(question, judged, parts) if failed else None
    return Outcome(
        question=question.name,
        framework=framework,
        points=earned,
        max_points=question.points,
        parts=parts,
        worth=dict(question.parts),
        results=tuple(CaseResult(j.case.part, j.case.note, j.passed, j.why) for j in judged),
        failure=smallest.reply if smallest and isinstance(smallest.reply, Failure) else None,
        mistake=mistake,
        invariant=_broken_invariant(question, smallest) if smallest and mistake is None else None,
        counterexample=_as_text(question, smallest) if smallest else None,
        notes=_notes(judged),
        read=question.read,
    )


def _counterexample(failed: list[_Judged], parts: dict[str, bool]) -> _Judged | None:
    """The smallest failed case of the first part that failed; an answer says more than an exception."""
    first = next((part for part, passed in parts.items() if not passed), None)
    candidates = [j for j in failed if j.case.part == first]
    return min(candidates, key=lambda j: (isinstance(j.reply, Failure), j.size), default=None)


def _as_text(question: Question, judged: _Judged) -> Counterexample:
    case, got, want = judged.case, judged.reply.value if isinstance(judged.reply, Answer) else None, judged.want
    if not case.steps:
        inputs, script = show_inputs(question.argument_names(), case), tuple[str, ...]()
    else:
        # Before its first step a script has no failure of its own: the whole of it is shown.
        step = judged.step or len(case.steps)
        lines = shown(question, case.steps[:step])
        inputs, script = show_arrays(lines.arrays), lines.lines
        entry = {place + 1: number for number, place in enumerate(comparing(case.steps))}.get(step)
        got = got[entry] if isinstance(got, tuple) and entry is not None and entry < len(got) else None
        want = want[entry] if entry is not None else ()
        if judged.value is not None and isinstance(got, tuple) and isinstance(want, tuple):
            got, want = got[judged.value], want[judged.value]
    texts = show_answer(got, want)
    return Counterexample(case.note, inputs, *texts, why=judged.why, script=script)


def _recognise(question: Question, judged: list[_Judged], parts: dict[str, bool]) -> Recognised | None:
    """The mistake that gives the student's answers, on every case or at least in the first part that failed."""
    if not any(isinstance(j.reply, Answer) for j in judged if not j.passed):
        return None
    for mistake in question.mistakes:
        if _explains(question, mistake, judged):
            return Recognised(mistake.name, mistake.hint, mistake.read)
    first = next(part for part, passed in parts.items() if not passed)
    inside = [j for j in judged if j.case.part == first]
    found = [mistake for mistake in question.mistakes if _explains(question, mistake, inside)]
    # Two mistakes that explain the same answers would make the hint a guess.
    if len(found) != 1:
        return None
    return Recognised(found[0].name, found[0].hint, found[0].read, certain=False)


def _explains(question: Question, mistake: Mistake, judged: list[_Judged]) -> bool:
    """Whether `mistake` gives the student's answers on all of `judged`, and at least one of them is wrong."""
    telling = False
    for j in judged:
        output = _call_mistake(question, mistake, j.case)
        if isinstance(j.reply, Failure):
            if output is not _RAISED or j.reply.kind != "raised":
                return False
            continue
        if output is _RAISED or not same(j.reply.value, output, question.tolerance):
            return False
        telling = telling or not j.passed
    return telling


def _call_mistake(question: Question, mistake: Mistake, case: Case) -> Any:
    try:
        return run_trusted(mistake.wrong, question, case, None)
    except Exception:  # a mistake that raises is one that a student's answer raises for, too
        return _RAISED


def _broken_invariant(question: Question, judged: _Judged) -> Recognised | None:
    """The first invariant that the answer breaks; tuples, scripts and wrong shapes are told as they are."""
    if not isinstance(judged.reply, Answer) or isinstance(judged.reply.value, tuple):
        return None
    got = np.asarray(judged.reply.value)
    if got.shape != np.shape(judged.want) or got.dtype.kind not in "fiub":
        return None
    args, kwargs = copies(judged.case, np.float64)
    for invariant in question.invariants:
        with np.errstate(all="ignore"):
            if not invariant.holds(got.astype(np.float64), *args, **kwargs):
                return Recognised(invariant.name, invariant.hint, invariant.read)
    return None


def _notes(judged: list[_Judged]) -> tuple[str, ...]:
    changed = sorted({name for j in judged if isinstance(j.reply, Answer) for name in j.reply.changed})
    if not changed:
        return ()
    return (
        f"Your function changes its input ({', '.join(changed)}): whoever called it finds other numbers there "
        "afterwards. Compute into a new array instead of writing into the one you were given.",
    )
