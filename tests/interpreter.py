"""Triton's interpreter without work that tells a test nothing; it takes a third of the time then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest


def hasten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the test is over: `triton.language` is patched once a kernel instead of at every call inside one, and no
    check for integer overflow follows each sum and product. Does nothing where this Triton works otherwise.
    """
    from triton.runtime import interpreter

    function, builder = interpreter.InterpretedFunction, interpreter.interpreter_builder
    patch_and_call, patched = function.__call__, set()

    def call(self, *arguments, **named):
        module = self.fn.__module__
        if module.startswith("triton.") and module not in patched:  # its own functions see other names of the language
            patched.add(module)
            return patch_and_call(self, *arguments, **named)
        return self.rewrite()(*arguments, **named)

    if hasattr(function, "rewrite"):
        monkeypatch.setattr(function, "__call__", call)
    if hasattr(builder.options, "sanitize_overflow"):
        monkeypatch.setattr(builder, "options", dataclasses.replace(builder.options, sanitize_overflow=False))
    launch = interpreter.GridExecutor.__call__
    monkeypatch.setattr(
        interpreter.GridExecutor,
        "__call__",
        lambda self, *arguments, **named: ROOMY(lambda: launch(self, *arguments, **named)),
    )


def _roomy() -> Callable:
    """call() -> its result, with half a megabyte free for the frames of the functions that it calls.

    Python keeps frames in chunks of 16 KB, and asks the system for another whenever a call does not fit and gives it
    back at the return. Under pytest's deep stack that may fall in the midst of a kernel, where it doubles the time. A
    function whose own frame is large gets a chunk of twice its size. Nothing but the room is used of this one.
    """
    names: dict = {}
    unused = " = ".join(f"local_{n}" for n in range(1 << 16))
    exec(f"def roomy(call):\n    if not call:\n        {unused} = None\n    return call()", names)
    return names["roomy"]


ROOMY = _roomy()
