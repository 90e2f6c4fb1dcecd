"""What a case asks for, step by step: the orders for the student's side, the arguments' names, the lines to show.

A case without steps is one call of the answer. A step's objects have names in the script and numbers in the orders;
the numbers are chosen here, so that a worker never has a say in which object is meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from attnkit.lab.objects import Order, Ref
from attnkit.lab.outcome import Answer, Failure, Reply
from attnkit.lab.question import Case, Question, QuestionError
from attnkit.lab.steps import IT, Build, Call, Get, Gradient, Held, Load, Step, Trial, compares, kept, takes_apart


class Asked(NamedTuple):
    """One order with the names of its arguments, whether what comes back is compared, and the trial that it is."""

    order: Order
    names: list[str]
    compared: bool
    trial: Trial | None = None


def asked(question: Question, case: Case) -> list[Asked]:
    """The orders that `case` comes to."""
    if not case.steps:
        names = [*question.argument_names()[: len(case.args)], *case.kwargs]
        return [Asked(Order("call", args=tuple(case.args), kwargs=case.kwargs), names, True)]
    numbers: dict[str, int] = {}
    found = []
    for step in case.steps:
        names = _names(question, step)
        order = _order(step, names, numbers)
        places = tuple(numbers.setdefault(made, len(numbers)) if made else -1 for made in kept(step))
        order = order._replace(keep=places if takes_apart(step) else places[0])
        found.append(Asked(order, names, compares(step), step if isinstance(step, Trial) else None))
    return found


def perform(question: Question, case: Case, do: Callable[[Asked, bool], Reply]) -> Reply:
    """The reply to a whole case: `do(step, first)` for each step, until one fails."""
    entries: list[Any] = []
    changed: list[str] = []
    said: list[tuple[str, str]] = []
    for number, one in enumerate(asked(question, case), 1):
        reply = do(one, number == 1)
        if isinstance(reply, Failure):
            return Failure(reply.kind, reply.message, reply.where, number) if case.steps else reply
        changed += reply.changed
        said += reply.said
        if one.compared:
            entries.append(reply.value)
    return Answer(tuple(entries) if case.steps else entries[0], tuple(dict.fromkeys(changed)), tuple(said))


def _order(step: Step, names: list[str], numbers: dict[str, int]) -> Order:
    def ready(value: Any) -> Any:
        if isinstance(value, Held):
            return Ref(numbers[value.name])
        return tuple(map(ready, value)) if isinstance(value, tuple | list) else value

    on = numbers.get(getattr(step, "on", ""), -1)
    if isinstance(step, Load):
        return Order("load", on, weights=step.weights)
    if isinstance(step, Get):
        return Order("get", on, name=step.attribute)
    if isinstance(step, Trial):
        return Order("trial")
    args, kwargs = tuple(map(ready, step.args)), {name: ready(value) for name, value in step.kwargs.items()}
    if isinstance(step, Build):
        return Order("call", args=args, kwargs=kwargs)
    if isinstance(step, Call):
        return Order("call", on, name=step.method, args=args, kwargs=kwargs)
    wrt = tuple(_place(step, names, name) for name in step.arguments)
    return Order("gradient", on, -1, step.method, args, kwargs, {}, wrt, step.weights, step.cotangent)


def _place(step: Gradient, names: list[str], name: str) -> int | str:
    """Where the argument called `name` stands: a place among `args`, or its keyword."""
    place: int | str = name if name in step.kwargs else names.index(name) if name in names else ""
    value = step.kwargs.get(name) if place == name else step.args[place] if isinstance(place, int) else None
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        raise QuestionError(f"Gradient: arguments named {name!r}; it should be one of {names}, and an array of reals")
    return place


def _names(question: Question, step: Step) -> list[str]:
    """What the step's arguments are called: as the reference has it, then the keywords."""
    if isinstance(step, Load | Get | Trial):
        return []
    names = _signature(question.reference, step)
    names += [f"value{place}" for place in range(len(names) + 1, len(step.args) + 1)]
    return [*names[: len(step.args)], *step.kwargs]


def _signature(reference: Any, step: Build | Call | Gradient) -> list[str]:
    is_class = isinstance(reference, type)
    target: Any = reference
    if is_class and not isinstance(step, Build):
        target = getattr(reference, step.method or "__call__", None)
    try:
        kinds = inspect.signature(target).parameters.values()  # what is no callable raises
    except (TypeError, ValueError):  # an object that an earlier step kept may be of a class of its own
        return []
    names = [one.name for one in kinds if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return names[1:] if target is not reference else names


# --- to read ----------------------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """A script as Python: a line a step, and the arrays that the lines name."""

    lines: tuple[str, ...]
    arrays: tuple[tuple[str, Any], ...]


_LONG = 84


class _Names:
    """A name for each array, so that lines stay short: its argument's, numbered where another array has it."""

    def __init__(self) -> None:
        self.arrays: dict[str, Any] = {}

    def of(self, value: Any, wish: str) -> str:
        if isinstance(value, Held):
            return value.name
        if isinstance(value, tuple | list):
            return f"({', '.join(self.of(one, wish) for one in value)}{',' * (len(value) == 1)})"
        if not isinstance(value, np.ndarray):
            return repr(value)
        wish = "".join(one if one.isalnum() else "_" for one in wish)
        for number in range(1, len(self.arrays) + 2):
            name = wish if number == 1 else f"{wish}{number}"
            if name not in self.arrays:
                self.arrays[name] = value
            if self.arrays[name] is value or _equal(self.arrays[name], value):
                return name
        raise AssertionError("one of so many names is free")


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()


def shown(question: Question, steps: Sequence[Step]) -> Shown:
    """`it = Linear(3, 2)`, `it(x)` and so on, for `steps`."""
    names = _Names()
    return Shown(tuple(_line(question, step, names) for step in steps), tuple(names.arrays.items()))


def _line(question: Question, step: Step, names: _Names) -> str:
    if isinstance(step, Load):
        weights = [f"{name!r}: {names.of(value, name)}" for name, value in step.weights.items()]
        line = f"{step.on}.load_state_dict({{{', '.join(weights)}}})"
        if len(line) <= _LONG:
            return line
        return f"{step.on}.load_state_dict({{\n" + "".join(f"    {one},\n" for one in weights) + "})"
    if isinstance(step, Trial):
        return f"{question.answer}(implementation)"
    on = question.answer if isinstance(step, Build) or (step.on == IT and _is_function(question)) else step.on
    if isinstance(step, Get):
        line = f"{on}.{step.attribute}"
    else:
        wishes = _names(question, step)
        given = [names.of(value, wish) for value, wish in zip(step.args, wishes, strict=False)]
        given += [f"{name}={names.of(value, name)}" for name, value in step.kwargs.items()]
        method = "" if isinstance(step, Build) else step.method
        line = f"{on}{'.' * bool(method)}{method}({', '.join(given)})"
    if isinstance(step, Gradient):
        return _gradient_line(step, line, names, _names(question, step))
    if takes_apart(step):
        return f"{', '.join(made or 'out' for made in kept(step))} = {line}"
    (made,) = kept(step)
    return f"{made} = {line}" if made not in ("", "_") else line


def _is_function(question: Question) -> bool:
    return not isinstance(question.reference, type)


def _gradient_line(step: Gradient, line: str, names: _Names, places: list[str]) -> str:
    def value_of(name: str) -> Any:
        return step.kwargs[name] if name in step.kwargs else step.args[places.index(name)]

    inputs = [names.of(value_of(name), name) for name in step.arguments] + [f"{step.on}.{one}" for one in step.weights]
    if step.cotangent is None:
        return f"torch.autograd.grad({line}.sum(), [{', '.join(inputs)}])"
    return f"torch.autograd.grad({line}, [{', '.join(inputs)}], {names.of(step.cotangent, 'cotangent')})"
