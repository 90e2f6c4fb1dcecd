"""Whether an answer is right, asked many times and fast: no hints, an end at the first difference, in any precision."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from attnkit.lab.calling import InProcess
from attnkit.lab.outcome import Framework
from attnkit.lab.question import Case, Question, Tolerance
from attnkit.lab.verdict import judged, replies, wanted

# Cases with what is wanted of each; found once for all answers.
Asked = Sequence[tuple[Case, Any]]
# Where a case or a step keeps its arrays.
_HOLDS_ARRAYS = ("args", "kwargs", "steps", "weights", "cotangent")


def ask(question: Question, seed: int, double: bool = False) -> Asked:
    """The cases that `seed` draws with what the reference gives; the inputs in double precision if that is asked."""
    cases = question.cases(np.random.default_rng(seed))
    return [(case, wanted(question, case)) for case in (map(in_double, cases) if double else cases)]


def difference(question: Question, answer: Any, asked: Asked, frameworks: Sequence[Framework] = ()) -> str:
    """The first case on which the answer is wrong, and why; "" when it is right on all in one of the frameworks."""
    told = ""
    for framework in frameworks or question.frameworks:
        call = InProcess(answer, question)
        results = (judged(question, case, want, *replies([case], call, framework)) for case, want in asked)
        wrong = next((one for one in results if not one.passed), None)
        if wrong is None:
            return ""
        told = told or f"{wrong.case.note}: {wrong.why}"
    return told


def differs(
    question: Question,
    answer: Any,
    drawn: Sequence[Asked],
    tolerance: Tolerance,
    frameworks: Sequence[Framework] = (),
) -> str:
    """Where the answer differs from the reference on what was drawn in double precision; "" nowhere."""
    strict = dataclasses.replace(question, tolerance=tolerance)
    with _double_by_default():
        return next(filter(None, (difference(strict, answer, asked, frameworks) for asked in drawn)), "")


@contextlib.contextmanager
def _double_by_default() -> Iterator[None]:
    """What an answer makes by itself in torch is in double precision, too."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def in_double(value: Any) -> Any:
    """A case, a step or what is in one, its reals in double precision."""
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value
    if isinstance(value, tuple | list):
        return tuple(map(in_double, value))
    if isinstance(value, dict):
        return {name: in_double(one) for name, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [one.name for one in dataclasses.fields(value) if one.name in _HOLDS_ARRAYS]
        return dataclasses.replace(value, **{name: in_double(getattr(value, name)) for name in names})
    return value
