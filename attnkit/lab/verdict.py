"""What became of one case: its reply against the reference, or against its threshold. The one home of that.

Also how all cases of a question are called: those with trials one at a time and, when it is graded, in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from attnkit.lab.compare import difference, script_difference
from attnkit.lab.outcome import Answer, Failure, Framework, Reply
from attnkit.lab.question import Case, Question
from attnkit.lab.reference import copies, run_trusted
from attnkit.lab.script import shown
from attnkit.lab.steps import Trial, on_trial, size
from attnkit.lab.threshold import scored

Call = Callable[[Case, Framework], Reply]

# After one of these the answer is not called again: it would cost the same time once more.
_FINAL = ("timeout", "died", "missing")
MAX_TEXT = 400  # characters of a message or a line of code that feedback repeats


@dataclass(frozen=True, eq=False)
class Judged:
    """A case with what was wanted and what came back; `why` is "" when it passed.

    `score` is the score that a threshold's metric gave, in words; "" when there is none.
    """

    case: Case
    want: Any
    reply: Reply
    why: str
    step: int = 0  # of a script: the step that failed or differs, from 1
    value: int | None = None  # and which of the values that it gives
    score: str = ""

    @property
    def passed(self) -> bool:
        """Whether the case passed."""
        return self.why == ""

    @property
    def size(self) -> int:
        """How many numbers went in."""
        inputs = sum(np.size(value) for value in (*self.case.args, *self.case.kwargs.values()))
        return int(inputs) + size(self.case.steps)


def wanted(question: Question, case: Case) -> Any:
    """What the case should give; None where a threshold judges it, which asks no reference."""
    if case.judged_by is not None:
        return None
    if on_trial(case.steps):
        return tuple(float(step.broken) for step in case.steps if isinstance(step, Trial))
    return run_trusted(question.reference, question, case)


def judged(question: Question, case: Case, want: Any, reply: Reply) -> Judged:
    """Compare the reply to `case` with `want`, which `wanted` gave."""
    if isinstance(reply, Failure):
        step = reply.step
        shown_step = 0 if on_trial(case.steps) else step  # of trials only the one that failed is shown
        reply = Failure(reply.kind, clean(reply.message), clean(reply.where), shown_step)
        return Judged(case, want, reply, _failure_line(reply), step)
    if case.judged_by is not None:
        result = scored(case.judged_by, reply.value, *copies(case, np.float64))
        return Judged(case, want, reply, result.why, score=result.score)
    if not case.steps:
        return Judged(case, want, reply, difference(reply.value, want, question.tolerance))
    differs = script_difference(case, reply.value, want, question.tolerance)
    if differs is None:
        return Judged(case, want, reply, "")
    line = shown(question, case.steps[: differs.step]).lines[-1]
    why = differs.why if on_trial(case.steps) else f"after step {differs.step}, `{line}`: {differs.why}"
    return Judged(case, want, reply, why, differs.step, differs.value)


def clean(text: str) -> str:
    """Text that comes from a student's process, as one short printable line: it is shown in terminals and pages."""
    return "".join(one if one.isprintable() else " " for one in text[:MAX_TEXT])


def _failure_line(failure: Failure) -> str:
    if failure.kind == "not-implemented":
        return "not written yet"
    return f"{failure.kind}: {failure.message}" if failure.message else failure.kind


def replies(cases: Sequence[Case], call: Call, framework: Framework, order: int | None = None) -> list[Reply]:
    """The reply to each case. Trials are held one by one, and in the order that the seed `order` draws if it is given.

    A test that counts would else know which implementations are broken by when they come.
    """
    pieces = [_pieces(case) for case in cases]
    places = [(one, other) for one, parts in enumerate(pieces) for other in range(len(parts))]
    if order is not None and any(on_trial(case.steps) for case in cases):
        places = [places[int(one)] for one in np.random.default_rng(order).permutation(len(places))]
    found: dict[tuple[int, int], Reply] = {}
    final: Failure | None = None
    for one, other in places:
        reply = final or call(pieces[one][other], framework)
        final = reply if isinstance(reply, Failure) and reply.kind in _FINAL else None
        found[one, other] = reply
    return [_whole(case, [found[one, other] for other in range(len(pieces[one]))]) for one, case in enumerate(cases)]


def _pieces(case: Case) -> list[Case]:
    """The case as it is called: each of its trials by itself, anything else as a whole."""
    return [replace(case, steps=(step,)) for step in case.steps] if on_trial(case.steps) else [case]


def _whole(case: Case, parts: list[Reply]) -> Reply:
    """The reply to a case from those to its pieces: the first failure, or the entries of all."""
    if not on_trial(case.steps):
        return parts[0]
    for number, part in enumerate(parts, 1):
        if isinstance(part, Failure):
            return Failure(part.kind, part.message, part.where, number)
    entries: list[Any] = []
    said: list[tuple[str, str]] = []
    for part in parts:
        assert isinstance(part, Answer)
        entries += part.value if isinstance(part.value, tuple) else (part.value,)
        said += part.said or (("", ""),)
    return Answer(tuple(entries), said=tuple(said))
