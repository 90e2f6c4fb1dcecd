"""A graded question: its cases, its trusted reference and the mistakes that it can name.

The notebook's check and the autograder judge by the same object, through `attnkit.lab.judge`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The part of a question that must pass before any point is given.
ORDINARY = "ordinary"


class QuestionError(ValueError):
    """A question is written wrongly; the message names the class, what was found and what it should be."""


@dataclass(frozen=True)
class Case:
    """One call of the student's answer: what goes in, and which part of the points hangs on it.

    `args` and `kwargs` hold NumPy arrays, numbers, booleans, strings or None. Real numbers are float32:
    it is torch's own default, and what an answer creates by itself then mixes with it in both frameworks.
    `part` groups cases: a part's share of the points is given when all of its cases pass.
    `note` completes the sentence "Your answer fails on ...".
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    part: str = ORDINARY
    note: str = "an ordinary input"


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that we have seen before: `wrong` computes it, `hint` says what it breaks and why.

    `name` completes the sentence "It looks as if ..." in a few words; `read` is the place in the book that
    explains, as `page#heading`.
    """

    name: str
    wrong: Callable[..., Any]
    hint: str
    read: str = ""


@dataclass(frozen=True)
class Invariant:
    """What every right answer obeys: `holds(answer, *args, **kwargs)`, with a hint for answers that do not.

    It serves answers that are wrong in a way that no mistake names.
    """

    name: str
    holds: Callable[..., bool]
    hint: str
    read: str = ""


@dataclass(frozen=True)
class Tolerance:
    """An answer passes where |got - want| <= atol + rtol * |want|; infinities and NaN must agree exactly."""

    rtol: float = 1e-6
    atol: float = 1e-8


@dataclass(frozen=True)
class Question:
    """A question as the judge sees it. Made by the `question` decorator from a class (see DESIGN).

    `parts` maps the name of each part to the points that it is worth; they add up to `points`.
    `doc` is the first line of the class's docstring; `read` the place in the book for answers that no
    mistake and no invariant explains.
    """

    name: str
    points: float
    answer: str
    doc: str
    cases: Callable[[np.random.Generator], Iterable[Case]]
    reference: Callable[..., Any]
    parts: Mapping[str, float]
    tolerance: Tolerance
    mistakes: tuple[Mistake, ...]
    invariants: tuple[Invariant, ...] = ()
    read: str = ""

    def argument_names(self) -> list[str]:
        """The names of the answer's arguments, as the reference has them."""
        return list(inspect.signature(self.reference).parameters)


def question(*, points: float | int, answer: str) -> Callable[[type], Question]:
    """Class decorator: a graded question worth `points`, answered by the function that the student calls `answer`.

    The class has the methods `cases(self, rng)` and `reference(self, ...)`, the docstring that says what is asked,
    and may have `tolerance`, `mistakes`, `invariants`, `parts` (points by part) and `read`.
    """

    def make(cls: type) -> Question:
        body = cls()
        parts = dict(getattr(body, "parts", {ORDINARY: points}))
        mistakes = tuple(getattr(body, "mistakes", ()))
        _check(cls.__name__, points, answer, parts, mistakes)
        return Question(
            name=answer,
            points=float(points),
            answer=answer,
            doc=(inspect.getdoc(cls) or "").split("\n")[0],
            cases=body.cases,
            reference=body.reference,
            parts={name: float(worth) for name, worth in parts.items()},
            tolerance=getattr(body, "tolerance", Tolerance()),
            mistakes=mistakes,
            invariants=tuple(getattr(body, "invariants", ())),
            read=getattr(body, "read", ""),
        )

    return make


def _check(
    cls: str, points: float | int, answer: str, parts: Mapping[str, float | int], mistakes: tuple[Mistake, ...]
) -> None:
    if not answer.isidentifier():
        raise QuestionError(f"{cls}: answer was {answer!r}; it should be the name of the function a student defines")
    if ORDINARY not in parts:
        raise QuestionError(f"{cls}: parts were {sorted(parts)}; one of them should be {ORDINARY!r}")
    if abs(sum(parts.values()) - points) > 1e-9 or min(parts.values()) <= 0:
        raise QuestionError(f"{cls}: parts were {dict(parts)}; they should be positive and add up to {points} points")
    names = [mistake.name for mistake in mistakes]
    if len(set(names)) != len(names):
        raise QuestionError(f"{cls}: mistakes should have different names; they were {names}")
