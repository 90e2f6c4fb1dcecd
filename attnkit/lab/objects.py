"""Where a student's code is called: objects made of their class, held under numbers, loaded, called, differentiated.

The notebook imports this file, and the grader's worker loads it inside the jail, so that both do the same. It is
standard library and NumPy only, takes torch from where it is loaded already, and knows no question.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

_FEW = 4  # weights that a message names before it says how many more there are


class Told(Exception):
    """What is the matter with an answer, in words for its author; no traceback would say it better."""


class Ref(NamedTuple):
    """In an order's arguments: the object held under `key`."""

    key: int


class Order(NamedTuple):
    """One thing to do: `build`, `load`, `call`, `get`, `gradient` or `trial`.

    `on` is the number of the object that it is done with, -1 the answer itself. What comes of it is handed back, or
    held under the number `keep` when that is not -1; of a tuple each value under its own. `name` is a method's or an
    attribute's. `wrt` are the arguments to differentiate by (a place in `args` or a keyword), `of` the weights.
    """

    do: str
    on: int = -1
    keep: int | tuple[int, ...] = -1
    name: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    weights: Mapping[str, np.ndarray] = {}
    wrt: tuple[int | str, ...] = ()
    of: tuple[str, ...] = ()
    cotangent: Any = None


class Given:
    """Fresh copies of one call's arrays, in the framework's own kind, and afterwards which were written into."""

    def __init__(self, as_torch: bool) -> None:
        self.as_torch = as_torch
        self._pairs: list[list[tuple[np.ndarray, np.ndarray]]] = []

    def hand_over(self, value: Any, held: Mapping[int, Any]) -> Any:
        """The next argument, ready to be passed."""
        self._pairs.append([])
        return self._ready(value, held)

    def changed(self) -> list[int]:
        """The places of the arguments that are not what they were."""
        return [
            place
            for place, pairs in enumerate(self._pairs)
            if any(before.tobytes() != after.tobytes() for before, after in pairs)
        ]

    def _ready(self, value: Any, held: Mapping[int, Any]) -> Any:
        if type(value) is Ref:
            return held[value.key]
        if type(value) in (tuple, list):
            return tuple(self._ready(one, held) for one in value)
        if not isinstance(value, np.ndarray):
            return value
        copy = value.copy()
        self._pairs[-1].append((value, copy))
        return tensor(copy) if self.as_torch else copy


class Objects:
    """A student's answer, and the objects that orders have made of it so far.

    For a trial `implementation` is what the answer, a test, is handed; `caught` is then what it raised, or None.
    """

    def __init__(self, answer: Any, as_torch: bool) -> None:
        self.answer = answer
        self.as_torch = as_torch or _is_module(answer)
        self.held: dict[int, Any] = {}
        self.implementation: Any = None
        self.caught: AssertionError | None = None

    def perform(self, order: Order) -> tuple[Any, list[int]]:
        """Do it. Returns what is to be compared, `()` when nothing is, and the arguments that were written into.

        Raises whatever the student's code raises, and `Told`.
        """
        if order.do == "trial":
            return self._verdict(), []
        given = Given(self.as_torch)
        args = [given.hand_over(value, self.held) for value in order.args]
        kwargs = {name: given.hand_over(value, self.held) for name, value in order.kwargs.items()}
        on = self.answer if order.on == -1 else self.held[order.on]
        if order.do == "load":
            load_weights(on, {name: self._weight(value) for name, value in order.weights.items()})
            return (), []
        if order.do == "get":
            result = getattr(on, order.name)
        elif order.do == "gradient":
            result = self._gradient(order, on, args, kwargs)
        else:
            result = (getattr(on, order.name) if order.name else on)(*args, **kwargs)
        if isinstance(order.keep, tuple):
            result = self._taken_apart(order.keep, result)
        elif order.keep != -1:
            self.held[order.keep] = result
            result = ()
        return result, given.changed()

    def _verdict(self) -> float:
        """Whether the answer, a test, catches the implementation."""
        self.caught = None
        try:
            self.answer(self.implementation)
        except AssertionError as error:
            self.caught = error
            return 1.0
        return 0.0

    def _taken_apart(self, places: tuple[int, ...], result: Any) -> Any:
        """Hold the values of a tuple that have a place; give back the others."""
        if not issubclass(type(result), tuple) or len(result) != len(places):
            got = f"a tuple of {len(result)}" if issubclass(type(result), tuple) else _kind(result)
            raise Told(f"Your answer returned {got}; it should return a tuple of {len(places)}.")
        self.held.update({place: value for place, value in zip(places, result, strict=True) if place != -1})
        left = tuple(value for place, value in zip(places, result, strict=True) if place == -1)
        return left[0] if len(left) == 1 else left

    def _weight(self, value: np.ndarray) -> Any:
        return tensor(value.copy()) if self.as_torch else value.copy()

    def _gradient(self, order: Order, on: Any, args: list[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        if not self.as_torch:
            raise Told("A gradient was asked for, which torch computes: your answer should take tensors.")
        import torch

        arguments = [args[one] if isinstance(one, int) else kwargs[one] for one in order.wrt]
        inputs = [*(one.requires_grad_() for one in arguments), *(weight_of(on, name) for name in order.of)]
        with torch.enable_grad():
            output = (getattr(on, order.name) if order.name else on)(*args, **kwargs)
            return gradients(output, order.cotangent, inputs)


def tensor(array: np.ndarray) -> Any:
    """A torch tensor that shares the array's memory."""
    import torch  # loaded already, unless a question asks for torch in a notebook that has not imported it yet

    return torch.from_numpy(array)


def gradients(output: Any, cotangent: Any, inputs: list[Any]) -> tuple[Any, ...]:
    """d sum(cotangent * output) / d input for each of `inputs`; zeros where nothing depends on it."""
    import torch

    outputs = list(output) if issubclass(type(output), tuple) else [output]
    wanted = list(cotangent) if isinstance(cotangent, tuple) else [cotangent]
    whole = len(outputs) == 1 and cotangent is None
    if len(outputs) != len(wanted):
        raise Told(f"Your answer returned {_several(len(outputs))}; it should return {_several(len(wanted))}.")
    pairs = []
    for out, want in zip(outputs, wanted, strict=True):
        if want is None and not whole:
            continue
        if not issubclass(type(out), torch.Tensor):
            raise Told(f"Your answer returned {_kind(out)}; a gradient is taken of a tensor.")
        if want is not None and tuple(out.shape) != want.shape:
            raise Told(f"Your answer has shape {tuple(out.shape)}; it should be {want.shape}.")
        if out.requires_grad:
            pairs.append((out, torch.ones_like(out) if want is None else tensor(want.copy()).to(out)))
    used = [one for one in inputs if one.requires_grad]
    found: dict[int, Any] = {}
    if pairs and used:
        flows = torch.autograd.grad([out for out, _ in pairs], used, [want for _, want in pairs], allow_unused=True)
        found = {id(one): flow for one, flow in zip(used, flows, strict=True) if flow is not None}
    return tuple(found.get(id(one), torch.zeros_like(one)) for one in inputs)


def _several(count: int) -> str:
    return "one value" if count == 1 else f"a tuple of {count}"


def _kind(value: Any) -> str:
    return "nothing (None)" if value is None else f"an object of type {type(value).__name__}"


# --- weights ----------------------------------------------------------------------------------------------------------


def load_weights(thing: Any, weights: Mapping[str, Any]) -> None:
    """Give `thing` its weights: a module by its state_dict, another object by `load`, else by its attributes."""
    if not _is_module(type(thing)):
        if callable(getattr(thing, "load", None)):
            thing.load(dict(weights))
            return
        _compare({name: np.shape(value) for name, value in weights.items()}, _attributes(thing, weights))
        for name, value in weights.items():
            setattr(thing, name, value)
        return
    parameters = dict(thing.named_parameters(remove_duplicate=False))
    own = {**dict(thing.named_buffers()), **parameters}
    needed = {name: one for name, one in own.items() if name in parameters or name in weights}
    _compare(_shapes(weights), _shapes(needed))
    thing.load_state_dict(dict(weights), strict=False)


def weight_of(thing: Any, name: str) -> Any:
    """The module's parameter or buffer called `name`."""
    if not _is_module(type(thing)):
        raise Told("A gradient of a weight was asked for: your class should derive from torch.nn.Module.")
    own = {**dict(thing.named_buffers()), **dict(thing.named_parameters(remove_duplicate=False))}
    if name not in own:
        raise Told(f"Your class has no weight called {name} when its gradient is asked for.")
    return own[name]


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(one.shape) for name, one in weights.items()}


def _attributes(thing: Any, weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shapes of those attributes that weights go to; a class may set them to None until it has weights."""
    found = {name: getattr(thing, name) for name in weights if hasattr(thing, name)}
    return {name: np.shape(weights[name] if value is None else value) for name, value in found.items()}


def _compare(should: Mapping[str, tuple[int, ...]], yours: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `Told` with what is missing, what is too much and what has another shape."""
    if should == yours:
        return
    missing, extra = set(should) - set(yours), set(yours) - set(should)
    other = sorted(name for name in should if name in yours and should[name] != yours[name])
    lines = [
        ("It should have", _list({name: should[name] for name in sorted(missing)})),
        ("Yours has instead" if missing else "Yours has, beyond what it should", _list({n: yours[n] for n in extra})),
        ("Of another shape", _list({f"{name} {yours[name]}, which should be": should[name] for name in other})),
    ]
    found = " ".join(f"{label}: {text}." for label, text in lines if text)
    raise Told(f"The weights of your class are not those that it should have. {found}")


def _list(shapes: Mapping[str, tuple[int, ...]]) -> str:
    names = sorted(shapes)
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(f"{name} {shapes[name]}" for name in names[:_FEW]) + more


def _is_module(cls: Any) -> bool:
    """Whether a class derives from torch.nn.Module, by its type and not by what it says of itself."""
    torch = sys.modules.get("torch")
    return torch is not None and issubclass(type(cls), type) and issubclass(cls, torch.nn.Module)
