"""Judging an answer by how well it does, where no two right answers are the same: a trained model, a sample.

    Case((x, y), judged_by=Threshold("the share of right answers", accuracy, 0.9, "Train until the loss is small."))

The metric is the question's own code and runs where judging is done, never where the student's code runs. It sees only
what has been found to be arrays and numbers, in double precision, and what the case was called with.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from attnkit.lab.errors import QuestionError


@dataclass(frozen=True)
class Threshold:
    """The case passes when `metric(got, *args, **kwargs)` is at least `at_least`, whatever the reference gives.

    `got` is what the answer returned, real numbers as float64, and `args` and `kwargs` are the case's, so too. For a
    script `got` is the tuple of its entries and there are no arguments: what else the metric needs it takes from where
    the case is made. `name` completes the sentence "... is 0.42; it should be at least 0.9"; `hint` and `read` are told
    to whom no mistake explains it. `most` is how many numbers an answer may hold: a metric that broadcasts should not
    be handed a million. Raises `QuestionError`.
    """

    name: str
    metric: Callable[..., float]
    at_least: float
    hint: str
    read: str = ""
    most: int = 65_536

    def __post_init__(self) -> None:
        if not self.name or not self.hint:
            raise QuestionError("Threshold: name and hint should say what is measured, and what to do about it")
        if not callable(self.metric):
            raise QuestionError(f"Threshold {self.name!r}: metric was {self.metric!r}; it should be a function")
        if type(self.at_least) not in (int, float) or not math.isfinite(self.at_least):
            raise QuestionError(f"Threshold {self.name!r}: at_least was {self.at_least!r}; it should be a number")


class Scored(NamedTuple):
    """How an answer did by a threshold: the score in words, "" for none, and why it fails, "" when it passes."""

    score: str
    why: str


def scored(threshold: Threshold, got: Any, args: list[Any], kwargs: dict[str, Any]) -> Scored:
    """Measure `got`; whatever is odd about it is told and never raised."""
    count = _numbers(got)
    if count > threshold.most:
        return Scored("", f"your answer holds {count} numbers; at most {threshold.most} make sense here")
    try:
        with np.errstate(all="ignore"):
            score = float(threshold.metric(_double(got), *args, **kwargs))
    except Exception as error:  # the metric takes answers of the right kind and shape, and this is none
        said = " ".join(str(error).split())[:200] or type(error).__name__
        return Scored("", f"{threshold.name} cannot be measured on your answer, {_form(got)}: {said}")
    if score >= threshold.at_least:
        return Scored(_number(score), "")
    reached = _number(score)
    # A score just below would read as the one that is asked for.
    reached = repr(score) if reached == _number(threshold.at_least) else reached
    return Scored(reached, f"{threshold.name} is {reached}; it should be at least {_number(threshold.at_least)}")


def _number(value: float) -> str:
    return f"{value:.4g}"


def _numbers(value: Any) -> int:
    return sum(map(_numbers, value)) if isinstance(value, tuple) else int(np.size(value))


def _double(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_double, value))
    if isinstance(value, np.ndarray):
        return value.astype(np.float64) if value.dtype.kind == "f" else value.copy()
    return value


def _form(value: Any) -> str:
    """What was returned, by its form alone."""
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return f"an array of shape {value.shape}" if isinstance(value, np.ndarray) and value.ndim else "one number"
