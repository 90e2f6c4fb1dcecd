"""Inside the jail: what a child does. It loads a student's statements, then follows orders and answers with arrays.

Loaded by `worker.py`, which lends it the other files beside it. Standard library, NumPy and torch only.
"""

from __future__ import annotations
import __future__

import ast
import inspect
import json
import os
import random
import sys
import types
import warnings
from typing import Any

import numpy as np
import torch

REQUESTS, REPLIES = 3, 4
# The files beside this one, which are on no search path: a student's modules may have their names.
wire: Any
standins: Any
objects: Any
blackbox: Any
blocks: Any
_as_array = np.array


def lend(modules: dict[str, types.ModuleType]) -> None:
    """Take `wire`, `standins`, `objects`, `blackbox` and `blocks`."""
    globals().update(modules)


class Answering:
    """Loads a student's statements and calls the answer with the arrays that come."""

    def __init__(self) -> None:
        self.function: Any = None
        self.objects: Any = None
        self.loop: Any = None
        self.answer = ""
        self.lines: dict[tuple[str, int], str] = {}
        self.parser = wire.Parser()
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        random.seed(0)
        np.random.seed(0)
        # After a fork torch makes its pool of threads anew when it is first asked for, and two threads that ask at once
        # may find none ("Invalid thread pool"): so it is asked for here.
        torch.set_num_threads(1)
        torch.default_generator.manual_seed(0)  # torch.manual_seed would take 1 ms more, to note it for devices
        sys.meta_path.insert(0, standins.Finder())
        self.main = types.ModuleType("__main__")
        # A module that nobody names any more loses its globals: this one is still needed.
        sys.modules["_attnkit_worker"] = sys.modules["__main__"]
        sys.modules["__main__"] = self.main

    def serve(self) -> None:
        """Answer requests until the pipe closes."""
        while (frame := self.receive()) is not None:
            act = self.load if frame.header["op"] == "load" else self.do
            self.send(frame.header["id"], *act(frame))

    def receive(self):
        """The next frame that comes, or None when the pipe has closed."""
        while data := os.read(REQUESTS, 1 << 16):
            if (frame := self.parser.feed(data)) is not None:
                return frame
        return None

    def send(self, number: int, header: dict, arrays: list) -> None:
        """Send one reply; one that does not fit the format is told instead of sent."""
        try:
            message = wire.pack({"id": number, **header}, arrays)
        except wire.Malformed as error:
            message = wire.pack({"id": number, **failed("malformed", f"Your function returned {error}.")})
        write(message)

    def load(self, frame) -> tuple[dict, list]:
        """Run the statements one by one. One that raises is left out: what matters is whether the answer exists."""
        self.answer = frame.header["answer"]
        given = json.loads(frame.arrays[0].tobytes())
        blocks.block(given["forbidden"])
        sys.meta_path.insert(0, standins.Written(given["modules"], self.lines))
        namespace = self.main.__dict__
        inert = standins.Inert()
        namespace.update(get_ipython=lambda: inert, display=inert)
        flags, first_error = 0, None
        for cell, line, text, own in given["statements"]:
            for number, source in enumerate(text.split("\n"), line):
                self.lines[f"<cell {cell}>", number] = source.strip()
            try:
                flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
                code = compile("\n" * (line - 1) + text, f"<cell {cell}>", "exec", flags, dont_inherit=True)
                for name in __future__.all_feature_names:
                    flags |= code.co_flags & getattr(__future__, name).compiler_flag
                self.run(code, namespace)
            except BaseException as error:
                if own and first_error is None:
                    first_error = describe(error, self.lines)
        self.function = namespace.get(self.answer)
        if callable(self.function):
            return {"value": {"tuple": []}}, []
        return first_error or failed("missing", f"There is no function called {self.answer}."), []

    def run(self, code: types.CodeType, namespace: dict) -> None:
        """Run one statement; one with an `await` at its top runs in an event loop, as Jupyter does it."""
        result = eval(code, namespace)  # noqa: S307  (a student's code, and this is where it runs)
        if code.co_flags & inspect.CO_COROUTINE:
            import asyncio  # few need it, and it takes a while

            self.loop = self.loop or asyncio.new_event_loop()
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(result)

    def do(self, frame) -> tuple[dict, list]:
        """Follow one order: call the answer, or build, load, call or differentiate an object that it makes."""
        header = frame.header
        if header["do"] == "trial":
            return self.hold(header)
        try:
            if header["fresh"]:  # a new case: nothing lives on from the one before
                self.objects = objects.Objects(self.function, header["framework"] == "torch")
            value, changed = self.objects.perform(read_order(header, frame.arrays))
            arrays: list = []
            return {"value": to_spec(value, arrays), "changed": changed}, arrays
        except BaseException as error:
            return describe(error, self.lines), []

    def hold(self, header: dict) -> tuple[dict, list]:
        """Hand the answer, a test, a function that asks for what the implementation gives; reply with its verdict."""
        box = blackbox.BlackBox(Asking(self, header["id"]), header["framework"] == "torch")
        held = objects.Objects(self.function, header["framework"] == "torch")
        held.implementation = box.function()
        try:
            value, _ = held.perform(objects.Order("trial"))
            message, where = describe(held.caught, self.lines)["failure"][1:] if held.caught else ("", "")
            arrays: list = []
            return {"value": to_spec(value, arrays), "changed": [], "said": [message, where]}, arrays
        except BaseException as error:
            return describe(error, self.lines), []
        finally:
            box.close()


class Asking:
    """What a test's questions go through: each is one frame, and its answer the next that comes."""

    def __init__(self, answering: Answering, number: int) -> None:
        self.answering, self.number, self.count = answering, number, 0

    def __call__(self, args: tuple, kwargs: dict):
        """The implementation's result, or ValueError with what it says."""
        self.count += 1
        arrays: list = []
        header = {
            "id": self.number,
            "ask": self.count,
            "args": [asked_spec(value, arrays) for value in args],
            "kwargs": {name: asked_spec(value, arrays) for name, value in kwargs.items()},
        }
        try:
            message = wire.pack(header, arrays)
        except wire.Malformed as error:
            self.count -= 1
            raise ValueError(f"the implementation was handed {error}") from None
        write(message)
        frame = self.answering.receive()
        if frame is None or "value" not in frame.header:
            raise ValueError("the test is over" if frame is None else frame.header["error"])
        return read_value(frame.header["value"], frame.arrays)


def write(message: bytes) -> None:
    """Send all of a message."""
    while message:
        message = message[os.write(REPLIES, message) :]


def asked_spec(value, arrays: list) -> dict:
    """A plain value of a question: an array, a number, a text, None or a tuple of these."""
    if value is None:
        return {"none": 0}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, tuple):
        return {"tuple": [asked_spec(one, arrays) for one in value]}
    arrays.append(_as_array(value))
    return {"array" if isinstance(value, np.ndarray) else "number": len(arrays) - 1}


def read_value(spec, arrays: list):
    """A value of a request, with its arrays in their places."""
    ((kind, inner),) = spec.items()
    if kind == "array":
        return arrays[inner]
    if kind == "number":
        return arrays[inner].item()
    if kind == "tuple":
        return tuple(read_value(one, arrays) for one in inner)
    if kind == "held":
        return objects.Ref(inner)
    return inner if kind == "text" else None


def read_order(header: dict, arrays: list):
    """The order of a request, with its arrays in their places."""

    def value(spec):
        return read_value(spec, arrays)

    return objects.Order(
        header["do"],
        header["on"],
        tuple(header["keep"]) if isinstance(header["keep"], list) else header["keep"],
        header["name"],
        tuple(value(spec) for spec in header["args"]),
        {name: value(spec) for name, spec in header["kwargs"].items()},
        {name: arrays[place] for name, place in header["weights"].items()},
        tuple(header["wrt"]),
        tuple(header["of"]),
        value(header["cotangent"]),
    )


def to_spec(value, arrays: list, depth: int = 1) -> dict:
    """The answer as arrays on the wire, or `wire.Malformed` with what it was."""
    if isinstance(value, standins.Inert):
        raise wire.Malformed("something of a package that is not there when your answer is graded (attnkit, a plot)")
    if depth and isinstance(value, tuple):
        return {"tuple": [to_spec(one, arrays, depth - 1) for one in value]}
    number = isinstance(value, bool | int | float)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).resolve_conj().resolve_neg().numpy()
    elif not number and not isinstance(value, np.ndarray | np.generic):
        raise wire.Malformed(f"{'nothing (None)' if value is None else 'a ' + type(value).__name__}, not an array")
    value = _as_array(value)
    wire.dtype_code(value.dtype)
    arrays.append(value)
    return {"number" if number else "array": len(arrays) - 1}


def failed(kind: str, message: str, where: str = "") -> dict:
    """A reply that there is no answer."""
    return {"failure": [kind, message[:600], where[:300]]}


def describe(error: BaseException, lines: dict[tuple[str, int], str]) -> dict:
    """Why there is no answer, and the student's own line in which it happened."""
    if isinstance(error, objects.Told):
        return failed("malformed", str(error))
    if isinstance(error, wire.Malformed):
        return failed("malformed", f"Your function returned {error}.")
    try:
        message = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    except BaseException:
        message = "an exception that cannot be shown"
    where, step = "", error.__traceback__
    while step is not None:
        code, number = step.tb_frame.f_code, step.tb_lineno
        if text := lines.get((code.co_filename, number)):
            where = f"line {number} of {code.co_name.replace('<module>', 'the cell')}: {text}"
        step = step.tb_next
    return failed("not-implemented" if isinstance(error, NotImplementedError) else "raised", message, where)
