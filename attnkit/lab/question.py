"""A graded question: its cases, its trusted reference and the mistakes that it can name.

The notebook's check and the autograder judge by the same object, through `attnkit.lab.judge`.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from attnkit.lab.drawn import filled_in, vetted
from attnkit.lab.errors import QuestionError
from attnkit.lab.outcome import Framework
from attnkit.lab.steps import Step, complaint
from attnkit.lab.threshold import Threshold

__all__ = [
    "ORDINARY", "Case", "Invariant", "Mistake", "Question", "QuestionError", "Resource", "Threshold", "Tolerance",
    "question",
]  # fmt: skip

# The part of a question that must pass before any point is given.
ORDINARY = "ordinary"
# How long an answer may take for all of its cases, unless its question says otherwise; and the most that one may say.
SECONDS, MOST_SECONDS = 10.0, 120.0


@dataclass(frozen=True)
class Case:
    """One call of the student's answer, or a script of `steps`: what goes in, and which part of the points hangs on it.

    `args` and `kwargs` hold NumPy arrays, numbers, booleans, strings or None. Real numbers are float32:
    it is torch's own default, and what an answer creates by itself then mixes with it in both frameworks.
    `part` groups cases: a part's share of the points is given when all of its cases pass.
    `note` completes the sentence "Your answer fails on ...". With `steps` (see `attnkit.lab.steps`) there are no
    `args`: objects are built, loaded and called, and the answer is a tuple. Where right answers differ, `judged_by`
    says how well one must do. Raises `QuestionError` for a script that no object could follow.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    part: str = ORDINARY
    note: str = "an ordinary input"
    steps: tuple[Step, ...] = ()
    judged_by: Threshold | None = None

    def __post_init__(self) -> None:
        if self.judged_by is not None and not isinstance(self.judged_by, Threshold):
            raise QuestionError(f"Case: judged_by was {self.judged_by!r}; it should be a Threshold")
        if not self.steps:
            return
        if self.args or self.kwargs:
            raise QuestionError("Case: had args and steps; with steps the arguments belong to each step")
        if wrong := complaint(self.steps):
            raise QuestionError(f"Case: steps: {wrong}")


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

    The answer is called on `case(length, rng)` for each of `lengths` (ascending), in a fresh process each, and measured
    from outside it; its results there are compared with the reference's, which must therefore cope with these lengths.
    `measure` is "memory" (the peak, in bytes) or "time" (processor time in seconds, the least of several calls), both
    above those of an answer that takes the same inputs and returns 0. Of a script only the last step that is compared
    is timed; hand it little, since the time that taking inputs in costs cannot be told from a little work.
    `at_most(length)` is the largest value allowed, in those units; `growth` the largest exponent p of a fit
    value ~ length**p. One of the two must be given; memory wants `at_most`, since a buffer set aside beforehand hides
    growth but not size. Be generous: 2 MiB and half a millisecond are not told from nothing, and let the wrong way
    need ten times what the right one does. `hint` and `read` are told when it fails. Raises `QuestionError`.
    """

    part: str
    measure: Literal["memory", "time"]
    lengths: tuple[int, ...]
    case: Callable[[int, np.random.Generator], Case]
    hint: str
    at_most: Callable[[int], float] | None = None
    growth: float | None = None
    read: str = ""

    def __post_init__(self) -> None:
        if self.measure not in ("memory", "time"):
            raise QuestionError(
                f'Resource {self.part!r}: measure was {self.measure!r}; it should be "memory" or "time"'
            )
        ascending = all(one < other for one, other in itertools.pairwise(self.lengths))
        if not self.lengths or not ascending or self.lengths[0] < 1:
            raise QuestionError(
                f"Resource {self.part!r}: lengths were {self.lengths}; they should ascend from 1 or more"
            )
        if self.at_most is None and self.growth is None:
            raise QuestionError(f"Resource {self.part!r}: has neither at_most nor growth, so nothing could fail")
        if self.growth is not None and len(self.lengths) < 2:
            raise QuestionError(f"Resource {self.part!r}: growth needs two lengths or more; there was {self.lengths}")


@dataclass(frozen=True)
class Question:
    """A question as the judge sees it. Made by the `question` decorator from a class (see DESIGN).

    `parts` maps the name of each part to the points that it is worth; they add up to `points`.
    `doc` is the first line of the class's docstring, `task` the whole of it; `read` the place in the book for
    answers that no mistake and no invariant explains. `forbidden` are the full names of calls that would bypass the
    task (`torch.nn.functional.softmax`). A `manual` question is answered in words and marked by a person: `rubric`
    says how. A `private` question has no check in the student's notebook and is in no file that a student gets.
    `variant` holds the parameters of one student's variant, `draw` makes them (None: everybody gets the same).
    `frameworks` are those whose arrays an answer may take: a torch module wants ("torch",). The answer to a question
    whose `reference` is a class is a class, and its cases are scripts. `seconds` is how long the grader lets an answer
    work on all of its cases, and as long on loading its cells; where a course allows more or less than the usual 10
    seconds, in proportion.
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
    private: bool = False
    task: str = ""
    variant: Mapping[str, Any] = field(default_factory=dict)
    draw: Callable[[np.random.Generator], Mapping[str, Any]] | None = None
    remake: Callable[[Mapping[str, Any]], Question] | None = None
    frameworks: tuple[Framework, ...] = ("torch", "numpy")
    seconds: float = SECONDS

    def drawn(self, rng: np.random.Generator) -> Question:
        """The question with the parameters that `rng` draws; itself where every student gets the same.

        Raises `QuestionError` when the parameters cannot be kept as JSON or the docstring names one that is not there.
        """
        if self.draw is None or self.remake is None:
            return self
        return self.remake(vetted(self.name, self.draw(rng)))

    def argument_names(self) -> list[str]:
        """The names of the answer's arguments, as the reference has them."""
        return list(_parameters(self.reference))


@functools.lru_cache(maxsize=1000)
def _parameters(function: Callable[..., Any]) -> tuple[str, ...]:
    """Asked for each call of an answer, and slow to find out."""
    return tuple(inspect.signature(function).parameters)


def question(*, points: float | int, answer: str) -> Callable[[type], Question]:
    """Class decorator: a graded question worth `points`; students write the function or class called `answer`.

    The class has the methods `cases(self, rng)` and `reference(self, ...)`, the docstring that says what is asked,
    and may have `tolerance`, `mistakes`, `invariants`, `parts` (points by part), `frameworks`, `resources`,
    `forbidden`, `seconds` (up to 120, for all cases; 10 by itself) and `read`. Where the answer is a class,
    `reference` is one, with the same methods and `load(weights)`; where it is a test, so is the reference, and the
    cases hold `Trial`s. A method `variant(self, rng)` returns a mapping: each student gets a question of their own, in
    which `self` has these attributes and the docstring's `{name}` their values; mistakes that need them are a property.
    A question answered in words has `manual = True` and a `rubric` in place of cases and reference; it is a text
    cell's, not a function's. One with `private = True` is not checked in the student's notebook.
    """

    def make(cls: type, variant: Mapping[str, Any] | None = None) -> Question:
        body = cls()
        vars(body).update(variant or {})
        draw = getattr(type(body), "variant", None) and body.variant
        undrawn = draw is not None and variant is None
        parts = dict(getattr(body, "parts", {ORDINARY: points}))
        mistakes = tuple(_given(body, "mistakes", undrawn))
        manual = bool(getattr(body, "manual", False))
        _check(cls.__name__, points, answer, parts, mistakes)
        resources = tuple(_given(body, "resources", undrawn))
        if strange := [one.part for one in resources if one.part not in parts]:
            raise QuestionError(f"{cls.__name__}: a resource has the part {strange[0]!r}; parts were {sorted(parts)}")
        task = filled_in(cls.__name__, inspect.getdoc(cls) or "", variant, undrawn)
        return Question(
            name=answer,
            points=float(points),
            answer=answer,
            doc=task.split("\n")[0],
            cases=_no_cases if manual else body.cases,
            reference=_no_reference if manual else body.reference,
            parts={name: float(worth) for name, worth in parts.items()},
            tolerance=getattr(body, "tolerance", Tolerance()),
            mistakes=mistakes,
            invariants=tuple(_given(body, "invariants", undrawn)),
            read=getattr(body, "read", ""),
            resources=resources,
            forbidden=tuple(getattr(body, "forbidden", ())),
            manual=manual,
            rubric=inspect.cleandoc(getattr(body, "rubric", "")),
            private=bool(getattr(body, "private", False)),
            task=task,
            variant=dict(variant or {}),
            draw=draw,
            remake=(lambda drawn: make(cls, drawn)) if draw else None,
            frameworks=_frameworks(cls.__name__, getattr(body, "frameworks", ("torch", "numpy"))),
            seconds=_seconds(cls.__name__, getattr(body, "seconds", SECONDS)),
        )

    return make


def _given(body: object, name: str, undrawn: bool) -> Iterable[Any]:
    """What the class says of `name`, or nothing. A property may need the variant: undrawn, it says nothing yet."""
    if not hasattr(type(body), name):
        return ()
    try:
        return getattr(body, name)
    except AttributeError as error:
        if undrawn:
            return ()
        raise QuestionError(f"{type(body).__name__}: {name} could not be read: {error}") from None


def _frameworks(cls: str, frameworks: tuple[Any, ...]) -> tuple[Framework, ...]:
    if not frameworks or not set(frameworks) <= {"torch", "numpy"}:
        raise QuestionError(f'{cls}: frameworks was {frameworks!r}; it should be a tuple of "torch", "numpy" or both')
    return tuple(frameworks)


def _seconds(cls: str, seconds: Any) -> float:
    if type(seconds) not in (int, float) or not 0 < seconds <= MOST_SECONDS:
        raise QuestionError(f"{cls}: seconds was {seconds!r}; it should be a number above 0, at most {MOST_SECONDS:g}")
    return float(seconds)


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
