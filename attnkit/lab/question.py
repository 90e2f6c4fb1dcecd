"""A graded question: its cases, its trusted reference and the mistakes that it can name.

The notebook's check and the autograder judge by the same object, through `attnkit.lab.judge`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

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
class Resource:
    """What an answer may use, as a function of the length of its input. Passes or fails the part `part`.

    The answer is called on `case(length, rng)` for each of `lengths`, in a fresh process each, and measured from
    outside it. `measure` is "memory" (the peak, in bytes, above an idle process) or "time" (processor time of the
    call, in seconds). `at_most(length)` is the largest value allowed, in those units; `growth` the largest exponent p
    of a fit value ~ length**p. One of the two must be given; memory wants `at_most`, since a buffer set aside
    beforehand hides growth but not size. `hint` and `read` are told when it fails.
    """

    part: str
    measure: Literal["memory", "time"]
    lengths: tuple[int, ...]
    case: Callable[[int, np.random.Generator], Case]
    hint: str
    at_most: Callable[[int], float] | None = None
    growth: float | None = None
    read: str = ""


@dataclass(frozen=True)
class Question:
    """A question as the judge sees it. Made by the `question` decorator from a class (see DESIGN).

    `parts` maps the name of each part to the points that it is worth; they add up to `points`.
    `doc` is the first line of the class's docstring; `read` the place in the book for answers that no
    mistake and no invariant explains. `forbidden` are the full names of calls that would bypass the task
    (`torch.nn.functional.softmax`). A `manual` question is answered in words and marked by a person: `rubric` says
    how. `variant` holds the parameters of one student's variant, `draw` makes them (None: everybody gets the same).
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
    resources: tuple[Resource, ...] = ()
    forbidden: tuple[str, ...] = ()
    manual: bool = False
    rubric: str = ""
    variant: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[np.random.Generator], Mapping[str, Any]] | None = None
    remake: Callable[[Mapping[str, Any]], Question] | None = None

    def drawn(self, rng: np.random.Generator) -> Question:
        """The question with the parameters that `rng` draws; itself where every student gets the same."""
        if self.draw is None or self.remake is None:
            return self
        return self.remake(self.draw(rng))

    def argument_names(self) -> list[str]:
        """The names of the answer's arguments, as the reference has them."""
        return list(inspect.signature(self.reference).parameters)


def question(*, points: float | int, answer: str) -> Callable[[type], Question]:
    """Class decorator: a graded question worth `points`; students write the function or class called `answer`.

    The class has the methods `cases(self, rng)` and `reference(self, ...)`, the docstring that says what is asked,
    and may have `tolerance`, `mistakes`, `invariants`, `parts` (points by part), `resources`, `forbidden` and `read`.
    A method `variant(self, rng)` returns a mapping: each student gets a question of their own, in which `self` has
    these attributes and the docstring's `{name}` their values. A question answered in words has `manual = True` and a
    `rubric` in place of cases and reference; it is a text cell's, not a function's.
    """

    def make(cls: type, variant: Mapping[str, Any] | None = None) -> Question:
        body = cls()
        vars(body).update(variant or {})
        parts = dict(getattr(body, "parts", {ORDINARY: points}))
        mistakes = tuple(getattr(body, "mistakes", ()))
        manual = bool(getattr(body, "manual", False))
        _check(cls.__name__, points, answer, parts, mistakes)
        doc = (inspect.getdoc(cls) or "").split("\n")[0]
        draw = getattr(body, "variant", None)
        return Question(
            name=answer,
            points=float(points),
            answer=answer,
            doc=doc.format(**variant) if variant else doc,
            cases=_no_cases if manual else body.cases,
            reference=_no_reference if manual else body.reference,
            parts={name: float(worth) for name, worth in parts.items()},
            tolerance=getattr(body, "tolerance", Tolerance()),
            mistakes=mistakes,
            invariants=tuple(getattr(body, "invariants", ())),
            read=getattr(body, "read", ""),
            resources=tuple(getattr(body, "resources", ())),
            forbidden=tuple(getattr(body, "forbidden", ())),
            manual=manual,
            rubric=inspect.cleandoc(getattr(body, "rubric", "")),
            variant=dict(variant or {}),
            draw=draw,
            remake=(lambda drawn: make(cls, drawn)) if draw else None,
        )

    return make


def _no_cases(rng: np.random.Generator) -> Iterable[Case]:
    return ()


def _no_reference() -> None:
    raise QuestionError("a question that is answered in words has no reference to call")


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
