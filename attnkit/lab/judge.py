"""The one home of judging: cases in, an outcome out. The notebook's check and the autograder both call `judge`.

It never runs student code itself: `call` does, in this process (the notebook) or in a jailed one (the grader).
Nothing here loads torch, since the grader's trusted process does without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from attnkit.lab.compare import same
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
from attnkit.lab.steps import comparing, on_trial
from attnkit.lab.trials import Refused, short
from attnkit.lab.verdict import MAX_TEXT, Call, Judged, judged, replies, wanted

__all__ = ["MAX_TEXT", "PRACTICE_SEED", "Answer", "Call", "Failure", "Outcome", "Reply", "judge"]

# The notebook always draws the same cases, so that a check says the same thing twice; the grader draws others.
PRACTICE_SEED = 0
_RAISED = object()  # what a mistake "returns" where it raises


def judge(
    question: Question,
    call: Call,
    cases: Iterable[Case],
    frameworks: Sequence[Framework] = ("torch", "numpy"),
    order: np.random.Generator | None = None,
) -> Outcome:
    """Judge an answer to `question`, called through `call(case, framework)`, on `cases`.

    The whole question is judged with torch inputs and, if that is not full marks, again with NumPy inputs;
    the better total counts, and between equal totals the one that explains more. Of `frameworks` only those are tried
    that the question allows, or all that it allows when none of them is. `order` draws the order of trials, which are
    otherwise held as the cases have them.
    """
    asked = [(case, wanted(question, case)) for case in cases]
    mistakes = _Mistakes(question)
    drawn = None if order is None else int(order.integers(2**63))  # one order: another would be another chance
    if frameworks:
        frameworks = [one for one in frameworks if one in question.frameworks] or question.frameworks
    best: tuple[tuple[Any, ...], Outcome] | None = None
    for framework in frameworks:
        answers = replies([case for case, _ in asked], call, framework, drawn)
        results = [judged(question, case, want, reply) for (case, want), reply in zip(asked, answers, strict=True)]
        outcome = _outcome(question, results, framework, mistakes)
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


def _outcome(question: Question, results: list[Judged], framework: Framework, mistakes: _Mistakes) -> Outcome:
    # A part that has no case is measured, or it would pass for nothing; a case of no part would count for nothing.
    measured = {resource.part for resource in question.resources} - {j.case.part for j in results}
    parts = {
        part: all(j.passed for j in results if j.case.part == part) for part in question.parts if part not in measured
    }
    if {j.case.part for j in results} != set(parts):
        raise ValueError(f"cases: had the parts {sorted({j.case.part for j in results})}; should be {sorted(parts)}")
    earned = sum(question.parts[part] for part, passed in parts.items() if passed) if parts[ORDINARY] else 0.0
    failed = [j for j in results if not j.passed]
    smallest = _counterexample(failed, parts)
    mistake = _recognise(mistakes, results, parts) if failed else None
    return Outcome(
        question=question.name,
        framework=framework,
        points=earned,
        max_points=question.points,
        parts=parts,
        worth=dict(question.parts),
        results=tuple(CaseResult(j.case.part, j.case.note, j.passed, j.why) for j in results),
        failure=smallest.reply if smallest and isinstance(smallest.reply, Failure) else None,
        mistake=mistake,
        invariant=_broken(question, smallest) if smallest and mistake is None else None,
        counterexample=_as_text(question, smallest) if smallest else None,
        notes=_notes(results),
        read=question.read,
    )


def _counterexample(failed: list[Judged], parts: dict[str, bool]) -> Judged | None:
    """The smallest failed case of the first part that failed; an answer says more than an exception."""
    first = next((part for part, passed in parts.items() if not passed), None)
    candidates = [j for j in failed if j.case.part == first]
    return min(candidates, key=lambda j: (isinstance(j.reply, Failure), j.size), default=None)


def _as_text(question: Question, judged: Judged) -> Counterexample:
    case, got, want = judged.case, judged.reply.value if isinstance(judged.reply, Answer) else None, judged.want
    if not case.steps:
        inputs, script = show_inputs(question.argument_names(), case), tuple[str, ...]()
    else:
        # Before its first step a script has no failure of its own: the whole of it is shown.
        step = judged.step or len(case.steps)
        first = step - 1 if on_trial(case.steps) else 0  # trials have nothing to do with each other
        lines = shown(question, case.steps[first:step])
        inputs, script = show_arrays(lines.arrays), lines.lines
    if case.judged_by is not None:
        score = f"{case.judged_by.name} is {judged.score}" if judged.score else show_answer(got, got)[0]
        texts = score, f"at least {case.judged_by.at_least:.4g}"
    elif on_trial(case.steps):
        texts = _verdicts(judged)
    else:
        if case.steps:
            entry = {place + 1: number for number, place in enumerate(comparing(case.steps))}.get(step)
            got = got[entry] if isinstance(got, tuple) and entry is not None and entry < len(got) else None
            want = want[entry] if entry is not None else ()
            if judged.value is not None and isinstance(got, tuple) and isinstance(want, tuple):
                got, want = got[judged.value], want[judged.value]
        texts = show_answer(got, want)
    return Counterexample(case.note, inputs, *texts, why=judged.why, script=script)


def _verdicts(judged: Judged) -> tuple[str, str]:
    """What a test did with an implementation, and what it should have done."""
    if not isinstance(judged.reply, Answer):
        return "", ""
    message, where = judged.reply.said[judged.step - 1] if judged.step <= len(judged.reply.said) else ("", "")
    if isinstance(judged.want, tuple) and judged.want[judged.step - 1]:
        return "it returns", "an AssertionError"
    lines = [short(message) or "an AssertionError", *([f"at {short(where)}"] if where else [])]
    return "\n".join(lines), "it returns"


class _Mistakes:
    """What each mistake of a question gives to each case, found once: one may train a model."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self._found: dict[tuple[str, int], tuple[Case, Any]] = {}

    def give(self, mistake: Mistake, case: Case) -> Any:
        """The mistake's answer to the case, `_RAISED`, or as what it was `Refused`."""
        key = mistake.name, id(case)
        if key not in self._found:
            self._found[key] = case, self._called(mistake, case)
        return self._found[key][1]

    def _called(self, mistake: Mistake, case: Case) -> Any:
        try:
            return run_trusted(mistake.wrong, self.question, case, None)
        except Refused as error:
            return error
        except Exception:  # a mistake that raises is one that a student's answer raises for, too
            return _RAISED


def _recognise(mistakes: _Mistakes, results: list[Judged], parts: dict[str, bool]) -> Recognised | None:
    """The mistake that gives the student's answers, on every case or at least in the first part that failed."""
    if not any(isinstance(j.reply, Answer) or _refused(j) for j in results if not j.passed):
        return None
    named = mistakes.question.mistakes
    for mistake in named:
        if _explains(mistakes, mistake, results):
            return Recognised(mistake.name, mistake.hint, mistake.read)
    first = next(part for part, passed in parts.items() if not passed)
    inside = [j for j in results if j.case.part == first]
    found = [mistake for mistake in named if _explains(mistakes, mistake, inside)]
    # Two mistakes that explain the same answers would make the hint a guess.
    if len(found) != 1:
        return None
    return Recognised(found[0].name, found[0].hint, found[0].read, certain=False)


def _explains(mistakes: _Mistakes, mistake: Mistake, results: list[Judged]) -> bool:
    """Whether `mistake` gives the student's answers on all of `results`, and at least one of them is wrong."""
    telling = False
    for j in results:
        output = mistakes.give(mistake, j.case)
        if isinstance(j.reply, Failure):
            if not _fails_alike(output, j):
                return False
            telling = telling or _refused(j)
            continue
        if (
            output is _RAISED
            or isinstance(output, Refused)
            or not same(j.reply.value, output, mistakes.question.tolerance)
        ):
            return False
        telling = telling or not j.passed
    return telling


def _fails_alike(output: Any, judged: Judged) -> bool:
    """Whether a mistake fails in the way in which the answer did; of what is refused the numbers may differ."""
    assert isinstance(judged.reply, Failure)
    if not _refused(judged):
        return output is _RAISED and judged.reply.kind == "raised"
    return isinstance(output, Refused) and _without_numbers(str(output)) == _without_numbers(judged.reply.message)


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def _refused(judged: Judged) -> bool:
    """Whether a test asked for more than it may."""
    return on_trial(judged.case.steps) and isinstance(judged.reply, Failure) and judged.reply.kind == "malformed"


def _broken(question: Question, judged: Judged) -> Recognised | None:
    """What is wrong with an answer that no mistake gives: it misses its threshold, or breaks an invariant."""
    threshold = judged.case.judged_by
    if threshold is None:
        return _broken_invariant(question, judged)
    if not judged.score:
        return None
    return Recognised(f"{threshold.name} is below {threshold.at_least:.4g}", threshold.hint, threshold.read)


def _broken_invariant(question: Question, judged: Judged) -> Recognised | None:
    """The first invariant that the answer breaks; scripts and wrong shapes are told as they are."""
    if not isinstance(judged.reply, Answer) or judged.case.steps:
        return None
    got = _alike(judged.reply.value, judged.want)
    if got is None:
        return None
    args, kwargs = copies(judged.case, np.float64)
    for invariant in question.invariants:
        with np.errstate(all="ignore"):
            if not invariant.holds(got, *args, **kwargs):
                return Recognised(invariant.name, invariant.hint, invariant.read)
    return None


def _alike(got: Any, want: Any) -> Any:
    """`got` in double precision where it has the form of `want`, an array or a tuple of arrays; None elsewhere."""
    if not isinstance(want, tuple) and not isinstance(got, tuple):
        numbers = np.asarray(got)
        return numbers.astype(np.float64) if numbers.shape == np.shape(want) and numbers.dtype.kind in "fiub" else None
    if not isinstance(want, tuple) or not isinstance(got, tuple) or len(got) != len(want):
        return None
    parts = tuple(map(_alike, got, want))
    return None if any(part is None for part in parts) else parts


def _notes(results: list[Judged]) -> tuple[str, ...]:
    changed = sorted({name for j in results if isinstance(j.reply, Answer) for name in j.reply.changed})
    if not changed:
        return ()
    return (
        f"Your function changes its input ({', '.join(changed)}): whoever called it finds other numbers there "
        "afterwards. Compute into a new array instead of writing into the one you were given.",
    )
