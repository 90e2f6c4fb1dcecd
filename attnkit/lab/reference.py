"""Running a script against trusted code: the reference, or the wrong answer of a mistake.

Both are NumPy classes (or functions, where a script builds nothing) with the student's constructor and methods. A class
takes weights by `load(weights)`, a mapping of some or all of its weights. It may give gradients itself, by
`gradients(cotangent, *args, **kwargs)` that maps names of arguments and weights to arrays for a plain call of the
object; otherwise they are found here by central differences.

Central differences in float64: (f(x + h) - f(x - h)) / 2h with h = 6e-6 * max(1, |x|), the cube root of the machine
epsilon, which balances rounding and curvature. For functions whose third derivative is of the size of the function
itself the error is about 1e-10 of f's size; it is far below float32's own 1e-7. Two calls for each number, so keep a
script's arrays to a few hundred numbers. At a kink (relu at 0, a maximum shared by two) there is no gradient to find:
that is seen by the two one-sided differences, and told as an error of the question's author.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from attnkit.lab.outcome import Answer, Failure, Framework, Reply
from attnkit.lab.question import Case, Question, QuestionError
from attnkit.lab.script import asked
from attnkit.lab.steps import IT, Build, Call, Get, Gradient, Held, Load, Step, Trial, compares, kept, takes_apart
from attnkit.lab.trials import Refused, held

_STEP = float(np.finfo(np.float64).eps ** (1 / 3))
# How far the one-sided differences may lie apart, in units of the gradient, before it is a kink: smooth functions
# differ by h times their curvature, 1e-5 or so.
_KINK = 1e-2
_MAX_NUMBERS = 4096


def run_trusted(answer: Any, question: Question, case: Case, real: type | None = np.float64) -> Any:
    """What `answer`, a trusted class or function, gives to `case` with its reals as dtype `real`; None: as they are.

    Gradients are taken in float64, whatever `real` is. A trial's entry is the verdict of the answer, which is a test.
    Raises what the answer raises, and `QuestionError` for a script that has no answer: a comparing step that gives
    None, a kink.
    """
    with np.errstate(all="ignore"):
        if not case.steps:
            args, kwargs = copies(case, real)
            return answer(*args, **kwargs)
        return _Run(answer, real).through(case.steps, [one.names for one in asked(question, case)])


def copies(case: Case, real: type | None) -> tuple[list[Any], dict[str, Any]]:
    """Fresh copies of the arguments of a case without steps; real arrays become dtype `real` when it is given."""
    return [_as(one, real, {}) for one in case.args], _each(case.kwargs, real, {})


def as_call(answer: Any, question: Question) -> Callable[[Case, Framework], Reply]:
    """`judge`'s way to call trusted code, to see that a reference passes and a mistake is caught."""

    def call(case: Case, framework: Framework) -> Reply:
        try:
            return Answer(_entries(run_trusted(answer, question, case, None)))
        except Refused as error:
            return Failure("malformed", str(error))
        except Exception as error:
            return Failure("raised", f"{type(error).__name__}: {error}")

    return call


def _entries(value: Any) -> Any:
    """A trusted result as a student's would arrive: numbers as floats."""
    if isinstance(value, tuple):
        return tuple(map(_entries, value))
    return float(value) if isinstance(value, int) else value


class _Run:
    """One run of a script; objects by name, and the weights that each was last given."""

    def __init__(self, answer: Any, real: type | None) -> None:
        self.answer, self.real = answer, real
        self.held: dict[str, Any] = {}
        self.weights: dict[str, dict[str, np.ndarray]] = {}

    def through(self, steps: Sequence[Step], names: Sequence[list[str]]) -> tuple[Any, ...]:
        """The entries of the answer."""
        entries = []
        for number, (step, called) in enumerate(zip(steps, names, strict=True), 1):
            result = self._do(step, called)
            places = kept(step)
            if takes_apart(step) and not (isinstance(result, tuple) and len(result) == len(places)):
                raise QuestionError(f"steps: step {number} should give a tuple of {len(places)}, as its keep has it")
            parts = result if takes_apart(step) else (result,)
            self.held.update({made: part for made, part in zip(places, parts, strict=True) if made})
            if compares(step):
                left = tuple(part for made, part in zip(places, parts, strict=True) if not made)
                if any(part is None for part in left):
                    raise QuestionError(f"steps: step {number} gives None to compare; it should have keep=")
                entries.append(left if len(left) > 1 else left[0])
        return tuple(entries)

    def _do(self, step: Step, names: list[str]) -> Any:
        if isinstance(step, Build):
            self.weights.pop(step.name, None)
            return self.answer(*self._args(step), **self._kwargs(step))
        if isinstance(step, Trial):
            return held(self.answer, step)
        on = self._on(step.on)
        if isinstance(step, Load):
            given = {name: _as(value, self.real, {}) for name, value in step.weights.items()}
            self.weights.setdefault(step.on, {}).update(given)
            return on.load(given)
        if isinstance(step, Get):
            return getattr(on, step.attribute)
        if isinstance(step, Gradient):
            return self._gradient(step, names)
        return _target(on, step.method)(*self._args(step), **self._kwargs(step))

    def _on(self, name: str) -> Any:
        # a script that builds nothing is about the answer itself
        return self.held.get(name, self.answer if name == IT else None)

    def _args(self, step: Build | Call | Gradient, real: type | None = None) -> list[Any]:
        return [_as(value, real or self.real, self.held) for value in step.args]

    def _kwargs(self, step: Build | Call | Gradient, real: type | None = None) -> dict[str, Any]:
        return _each(step.kwargs, real or self.real, self.held)

    def _gradient(self, step: Gradient, names: list[str]) -> tuple[np.ndarray, ...]:
        on = self._on(step.on)
        asked_for = (*step.arguments, *step.weights)
        own = getattr(on, "gradients", None)
        if own is not None and not step.method:
            given = own(step.cotangent, *self._args(step, np.float64), **self._kwargs(step, np.float64))
            found = tuple(np.asarray(given[name], np.float64) for name in asked_for)
        else:
            found = tuple(self._differences(step, names, name) for name in asked_for)
        # The call happens: an object that remembers has seen it.
        _target(on, step.method)(*self._args(step), **self._kwargs(step))
        return found

    def _differences(self, step: Gradient, names: list[str], name: str) -> np.ndarray:
        """d sum(cotangent * output) / d the argument or weight called `name`."""
        weights = {one: value.astype(np.float64) for one, value in self.weights.get(step.on, {}).items()}
        args, kwargs = dict(enumerate(self._args(step, np.float64))), self._kwargs(step, np.float64)
        inputs: dict[Any, Any] = weights
        where: Any = name
        if name in step.arguments:
            inputs, where = (kwargs, name) if name in kwargs else (args, names.index(name))

        def value() -> float:
            # A copy each time: a call may change the object, or what it was handed.
            on = copy.deepcopy(self._on(step.on)) if step.on in self.held else self.answer
            if weights:
                on.load(weights)
            output = _target(on, step.method)(*copy.deepcopy(list(args.values())), **copy.deepcopy(kwargs))
            return _weighted(output, step.cotangent)

        return _central(value, inputs, where, name)


def _central(value: Callable[[], float], inputs: dict[Any, Any], where: Any, name: str) -> np.ndarray:
    """The gradient of `value()` with respect to the array `inputs[where]`."""
    start = inputs[where]
    if start.size > _MAX_NUMBERS:
        raise QuestionError(f"Gradient: {name} has {start.size} numbers; differences want at most {_MAX_NUMBERS}")
    middle, found = value(), np.zeros(start.shape)
    for place in np.ndindex(start.shape):
        step = _STEP * max(1.0, abs(float(start[place])))
        ends = []
        for shift in (step, -step):
            inputs[where] = start.copy()
            inputs[where][place] += shift
            ends.append(value())
        above, below = (ends[0] - middle) / step, (middle - ends[1]) / step
        found[place] = (ends[0] - ends[1]) / (2 * step)
        if not abs(above - below) <= _KINK * max(1.0, abs(float(found[place]))):
            raise QuestionError(
                f"Gradient: {name}{list(place)} lies where there is no gradient (from above it is {above:.3g}, from "
                f"below {below:.3g}); choose other numbers, or give the reference a method gradients()"
            )
    inputs[where] = start
    return found


def _weighted(output: Any, cotangent: Any) -> float:
    """sum(cotangent * output), over the values of a tuple that have a cotangent."""
    if not isinstance(output, tuple):
        output, cotangent = (output,), (np.ones(np.shape(output)) if cotangent is None else cotangent,)
    if not isinstance(cotangent, tuple) or len(cotangent) != len(output):
        raise QuestionError(f"Gradient: the output is a tuple of {len(output)}; so should be cotangent")
    total = 0.0
    for out, want in zip(output, cotangent, strict=True):
        if want is not None:
            if np.shape(out) != np.shape(want):
                raise QuestionError(f"Gradient: cotangent has shape {np.shape(want)}; the output has {np.shape(out)}")
            total += float(np.sum(np.asarray(out, np.float64) * want))
    return total


def _target(on: Any, method: str) -> Callable[..., Any]:
    return getattr(on, method) if method else on


def _as(value: Any, real: type | None, held: Mapping[str, Any]) -> Any:
    """A fresh copy; real arrays of dtype `real`."""
    if isinstance(value, Held):
        return held[value.name]
    if isinstance(value, tuple | list):
        return tuple(_as(one, real, held) for one in value)
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(real) if real is not None and value.dtype.kind == "f" else value.copy()


def _each(kwargs: Mapping[str, Any], real: type | None, held: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _as(value, real, held) for name, value in kwargs.items()}
