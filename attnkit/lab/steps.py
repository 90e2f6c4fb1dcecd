"""The steps of a script: how a question asks for a class (a module, a cache, a mask) instead of one function call.

    Case(steps=(Build((3, 2)), Load({"weight": w, "bias": b}), Call((x,)), Gradient((x,), arguments=("x",))))

A script is plain data. It runs against the trusted reference, against each mistake, and against the student's class, in
the notebook and in the jail, one step at a time. What its comparing steps give (`Call` and `Get` without `keep`,
`Gradient` and `Trial`) is the answer to the case: one entry each. Arrays are NumPy's, real numbers float32, as in a
`Case`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The object that a script is about, unless a step says otherwise; in a script that builds nothing, the function itself.
IT = "it"


@dataclass(frozen=True)
class Held:
    """As an argument: the object that an earlier step called `name`."""

    name: str


@dataclass(frozen=True, eq=False)
class Build:
    """Make an object of the student's class and call it `name`."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    name: str = IT


@dataclass(frozen=True, eq=False)
class Load:
    """Give the object `on` these weights, by the names that its `state_dict()` has for them.

    They must be all parameters of the object; buffers that are not named keep their values. An object that is no
    torch module is handed them by its method `load(weights)`, or else as attributes of these names.
    """

    weights: Mapping[str, np.ndarray]
    on: str = IT


@dataclass(frozen=True, eq=False)
class Call:
    """Call the object `on` (or its `method`) and compare what it returns.

    With `keep` the result, which may be anything, None included, is kept under that name instead;
    `keep="_"` is for what nobody asks for again. Where a tuple is returned, `keep` may be a tuple of names, of which
    "" stands for a value to compare: `keep=("", "cache")`.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    method: str = ""
    on: str = IT
    keep: str | tuple[str, ...] = ""


@dataclass(frozen=True, eq=False)
class Get:
    """Compare the object's `attribute` (an array or a number), or `keep` it as an object."""

    attribute: str
    on: str = IT
    keep: str = ""


@dataclass(frozen=True, eq=False)
class Gradient:
    """Call as `Call` does, and compare the gradients of sum(cotangent * output), a tuple of arrays.

    They are with respect to `arguments`, named as the reference names them, then `weights`, named as in `Load`.
    `cotangent` has the output's shape; None stands for ones, and for an output that is a tuple there is one each,
    of which None leaves that value out. What the output does not depend on, or is frozen, has a gradient of zeros.
    """

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    cotangent: Any = None
    method: str = ""
    on: str = IT


@dataclass(frozen=True, eq=False)
class Trial:
    """Hand the student's test, a function of one argument, an implementation, and compare what it finds.

    `subject` is what is tested: a function in NumPy, right or `broken`, that stays with the judge. The test gets a
    black box that takes arrays or tensors, numbers, texts and tuples of these, and gives back the same kind. A test
    that raises AssertionError has caught it: the entry is 1.0. One that returns, whatever it returns, has let it pass:
    0.0. `most` is the largest count of numbers that the test may hand over in one call. A script with trials holds
    nothing else, and the grader holds the trials of all cases in an order that nobody can know.
    """

    subject: Callable[..., Any]
    broken: bool
    most: int | None = None


Step = Build | Load | Call | Get | Gradient | Trial


def compares(step: Step) -> bool:
    """Whether the step gives an entry of the answer."""
    return isinstance(step, Gradient | Trial) or (isinstance(step, Call | Get) and (not step.keep or "" in kept(step)))


def comparing(steps: Sequence[Step]) -> list[int]:
    """The places in `steps` of those that give the answer's entries, in order."""
    return [place for place, step in enumerate(steps) if compares(step)]


def on_trial(steps: Sequence[Step]) -> bool:
    """Whether the script is made of trials: it asks for a test."""
    return any(isinstance(step, Trial) for step in steps)


def kept(step: Step) -> tuple[str, ...]:
    """The names under which the parts of the step's result are kept: one for the whole of it; "" is not kept."""
    if isinstance(step, Build):
        return (step.name,)
    keep = step.keep if isinstance(step, Call | Get) else ""
    return keep if isinstance(keep, tuple) else (keep,)


def takes_apart(step: Step) -> bool:
    """Whether the step's result is a tuple whose values go different ways."""
    return isinstance(step, Call) and isinstance(step.keep, tuple)


def values(step: Step) -> Iterator[Any]:
    """Everything that goes into the step: arrays, numbers, `Held`; tuples are opened."""
    pending: list[Any] = [*step.weights.values()] if isinstance(step, Load) else []
    if isinstance(step, Build | Call | Gradient):
        pending += [*step.args, *step.kwargs.values()]
    while pending:
        one = pending.pop(0)
        if isinstance(one, tuple | list):
            pending[:0] = one
        else:
            yield one


def size(steps: Sequence[Step]) -> int:
    """How many numbers go in, by which the smallest counter-example is chosen."""
    return sum(int(np.size(value)) for step in steps for value in values(step) if not isinstance(value, Held))


def complaint(steps: Sequence[Step]) -> str:
    """What is wrong with a script, in words for its author; "" when nothing is."""
    if on_trial(steps):
        return _trials(steps)
    made = set() if any(isinstance(step, Build) for step in steps) else {IT}
    loaded: dict[str, set[str]] = {}
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Step):
            return f"step {number} was {step!r}; it should be a Build, Load, Call, Get, Gradient or Trial"
        if wrong := _misnamed(step, made) or _mistaken(step, loaded):
            return f"step {number}, {type(step).__name__}: {wrong}"
        if isinstance(step, Load):
            loaded.setdefault(step.on, set()).update(step.weights)
        made |= {*kept(step)} - {""}
    return (
        "" if comparing(steps) else "no step compares anything; one should be a Call or Get without keep, or a Gradient"
    )


def _trials(steps: Sequence[Step]) -> str:
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Trial):
            return f"step {number} was {type(step).__name__}; a script with trials holds nothing else"
        if not callable(step.subject) or isinstance(step.subject, type):
            return f"step {number}, Trial: subject was {step.subject!r}; it should be a function"
        if type(step.broken) is not bool:
            return f"step {number}, Trial: broken was {step.broken!r}; it should be True or False"
        if step.most is not None and (type(step.most) is not int or step.most < 1):
            return f"step {number}, Trial: most was {step.most!r}; it should be a whole number of 1 or more, or None"
    return ""


def _misnamed(step: Step, made: set[str]) -> str:
    """A name that no earlier step made, or that is none."""
    asked = [value.name for value in values(step) if isinstance(value, Held)]
    if not isinstance(step, Build | Trial):
        asked.append(step.on)
    if unknown := [name for name in asked if name not in made]:
        return f"there is no object called {unknown[0]!r} by then; there is {', '.join(sorted(made)) or 'none'}"
    names = [*kept(step), getattr(step, "method", ""), getattr(step, "attribute", "")]
    if odd := [name for name in names if name and not name.isidentifier()]:
        return f"{odd[0]!r} is no name in Python"
    return ""


def _mistaken(step: Step, loaded: Mapping[str, set[str]]) -> str:
    if isinstance(step, Load):
        odd = [name for name, value in step.weights.items() if not isinstance(value, np.ndarray)]
        return f"the weight {odd[0]!r} is no NumPy array" if odd else "" if step.weights else "there are no weights"
    if isinstance(step, Gradient):
        if not step.arguments and not step.weights:
            return "names neither arguments nor weights"
        if missing := set(step.weights) - loaded.get(step.on, set()):
            return f"the weights {sorted(missing)} were not loaded before; a gradient is taken at known weights"
    return ""
