"""A trial over the wire: a test in the jail asks, the implementation answers here and never goes in.

The questions come as frames while the test's own order is still open. Each has the order's number and its own place in
the row; whatever else comes is malformed and ends the conversation with that child.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attnkit.grading import wire
from attnkit.grading.protocol import encode_value, plain
from attnkit.lab.blackbox import DEEP
from attnkit.lab.steps import Trial
from attnkit.lab.trials import Trying

# Beyond the calls that a test may make it hears only that it may not; one that goes on and on is not listened to.
MAX_ASKED = 1000
MAX_NAMES = 32


class Examined:
    """Answers the questions of the test whose order has the number `number`. `trying` holds the trial."""

    def __init__(self, trial: Trial, number: int) -> None:
        self.trying = Trying(trial)
        self.number = number
        self._asked = 0

    def __call__(self, frame: wire.Frame) -> bytes:
        """The message that answers one question. Raises `wire.Malformed` for what is none."""
        self._asked += 1
        if frame.header.get("id") != self.number or type(frame.header.get("ask")) is not int:
            raise wire.Malformed("a question of another test")
        if frame.header["ask"] != self._asked or self._asked > MAX_ASKED:
            raise wire.Malformed("questions out of turn, or without end")
        args, kwargs = _arguments(frame)
        arrays: list[np.ndarray] = []
        head = {"id": self.number, "ask": self._asked}
        try:
            spec = encode_value(self.trying(args, kwargs), arrays)
            return wire.pack({**head, "value": spec}, arrays)
        except ValueError as error:
            return wire.pack({**head, "error": plain(str(error))})
        except wire.Malformed as error:  # of what our own side would send
            return wire.pack({**head, "error": f"the implementation gives back {error}"})


def _arguments(frame: wire.Frame) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = frame.header.get("args"), frame.header.get("kwargs")
    if not isinstance(args, list) or not isinstance(kwargs, dict) or len(args) + len(kwargs) > MAX_NAMES:
        raise wire.Malformed("arguments in no known form, or too many")
    given = tuple(_value(spec, frame.arrays, DEEP) for spec in args)
    return given, {name: _value(spec, frame.arrays, DEEP) for name, spec in kwargs.items()}


def _value(spec: Any, arrays: list[np.ndarray], depth: int) -> Any:
    """One argument: an array, a number, a text, None, or a tuple of these."""
    if not isinstance(spec, dict) or len(spec) != 1:
        raise wire.Malformed("a value in no known form")
    ((kind, inner),) = spec.items()
    if kind == "none":
        return None
    if kind == "text" and isinstance(inner, str):
        return inner
    if kind == "tuple" and depth and isinstance(inner, list) and len(inner) <= wire.MAX_ARRAYS:
        return tuple(_value(one, arrays, depth - 1) for one in inner)
    if kind not in ("array", "number") or type(inner) is not int or not 0 <= inner < len(arrays):
        raise wire.Malformed("a value in no known form")
    if kind == "array":
        return arrays[inner]
    if arrays[inner].ndim:
        raise wire.Malformed("a number that is an array")
    return arrays[inner].item()
