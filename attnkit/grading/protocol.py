"""The trusted side of the conversation with one worker child: deadlines on every byte, and replies taken apart.

A worker's reply can become an `Answer` (arrays) or a `Failure`, and nothing else: whatever is wrong with it is
`Failure("malformed", ...)`, silence past the deadline is "timeout", a closed pipe is "died".
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from attnkit.grading import wire
from attnkit.lab.objects import Order, Ref
from attnkit.lab.outcome import Answer, Failure, FailureKind, Reply

MAX_OUTPUT = 64 * 1024
MAX_TEXT = 600
MAX_PRINTED = 2000
_CHUNK = 1 << 16
# What a worker may say of its own answer. "died" and "timeout" are for the parent to tell.
_KINDS: dict[str, FailureKind] = {
    "raised": "raised",
    "not-implemented": "not-implemented",
    "malformed": "malformed",
    "missing": "missing",
}


# Gives the message that answers a question of a child's while its reply is waited for; may raise `wire.Malformed`.
Asked = Callable[[wire.Frame], bytes]

# ECMA-48: a command begins with ESC [ or ESC ]; the latter (titles, links) end with BEL or ESC \\.
_TERMINAL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[@-Z\\^_]")


class Broken(Exception):
    """The conversation is over: no reply can be had from this child any more."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Channel:
    """One child's three pipes: requests in, replies out, and what it prints. Owns and closes the descriptors."""

    def __init__(self, requests: int, replies: int, output: int) -> None:
        self._requests, self._replies, self._output = requests, replies, output
        self._parser = wire.Parser()
        self._broken: Failure | None = None
        self.printed = bytearray()
        self.cut = False  # whether more was printed than is kept
        for descriptor in (requests, replies, output):
            os.set_blocking(descriptor, False)

    def ask(
        self, header: dict[str, Any], arrays: list[np.ndarray], seconds: float, asked: Asked | None = None
    ) -> wire.Frame:
        """Send a request and wait for its reply, both within `seconds`. Raises `Broken`, then and for ever after.

        Where `asked` is given, the child may ask questions before it replies: frames with an "ask" in their header.
        Raises `ValueError` for a request that does not fit the wire: that is a question's doing, not the worker's.
        """
        if self._broken is not None:
            raise Broken(self._broken)
        try:
            message = wire.pack(header, arrays)
        except wire.Malformed as error:
            raise ValueError(
                f"arrays: a case comes to {error}; it should be at most {wire.MAX_ARRAYS} arrays of "
                f"{wire.MAX_BYTES >> 20} MiB together, {wire.MAX_HEADER} bytes of names and texts"
            ) from None
        try:
            self._refuse_early_bytes()
            return self._exchange(message, time.monotonic() + seconds, asked)
        except wire.Malformed as error:
            self._broken = Failure("malformed", f"The worker sent {error}.")
        except Broken as error:
            self._broken = error.failure
        raise Broken(self._broken)

    def output(self) -> str:
        """What the child has printed so far (standard output and error), up to a cap; it says when it is cut."""
        while self._output >= 0 and not self.cut and (data := self._read(self._output)):
            self._keep(data)
        return printed_text(bytes(self.printed), self.cut)

    def _keep(self, data: bytes) -> None:
        room = MAX_OUTPUT - len(self.printed)
        self.printed += data[: max(0, room)]
        self.cut = self.cut or len(data) > room

    def close(self) -> None:
        """Close the pipes; a child that still writes gets an error."""
        for name in ("_requests", "_replies", "_output"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                os.close(descriptor)
                setattr(self, name, -1)

    def _refuse_early_bytes(self) -> None:
        """A reply belongs to a request: bytes that are there before it was asked are nobody's answer."""
        if self._parser.pending or self._read(self._replies):
            raise wire.Malformed("a reply that nobody asked for")

    def _exchange(self, message: bytes, deadline: float, asked: Asked | None) -> wire.Frame:
        unsent = memoryview(message)
        with selectors.DefaultSelector() as ready:
            ready.register(self._replies, selectors.EVENT_READ)
            if self._output >= 0:
                ready.register(self._output, selectors.EVENT_READ)
            ready.register(self._requests, selectors.EVENT_WRITE)
            while (left := deadline - time.monotonic()) > 0:
                for key, _ in ready.select(left):
                    if key.fd == self._requests:
                        unsent = unsent[self._write(unsent) :]
                        if not unsent:
                            ready.unregister(self._requests)
                    elif key.fd == self._output:
                        self._drain(ready)
                    elif (frame := self._parser.feed(self._read_or_die())) is not None:
                        if unsent or self._parser.pending:
                            raise wire.Malformed("more or earlier than it was asked")
                        if asked is None or "ask" not in frame.header:
                            return frame
                        unsent = memoryview(asked(frame))
                        ready.register(self._requests, selectors.EVENT_WRITE)
        raise Broken(Failure("timeout"))

    def _write(self, data: memoryview) -> int:
        try:
            return os.write(self._requests, data[:_CHUNK])
        except BlockingIOError:
            return 0
        except OSError:
            raise Broken(Failure("died")) from None

    def _read(self, descriptor: int) -> bytes:
        try:
            return os.read(descriptor, _CHUNK)
        except OSError:
            return b""

    def _read_or_die(self) -> bytes:
        data = self._read(self._replies)
        if not data:
            raise Broken(Failure("died"))
        return data

    def _drain(self, ready: selectors.BaseSelector) -> None:
        """Keep the first bytes that the child prints; read and drop the rest, so that it never blocks on them."""
        data = self._read(self._output)
        if not data:  # closed: selecting on it again would spin
            ready.unregister(self._output)
            with contextlib.suppress(OSError):
                os.close(self._output)
            self._output = -1
        self._keep(data)


def encode_code(
    statements: Iterable[Sequence[Any]], modules: Mapping[str, str] | None = None, forbidden: Iterable[str] = ()
) -> np.ndarray:
    """What to load, as the one array of a `load` request: too long for a header.

    `statements` are (cell, line, text, own) as in `cells.Statement`; `modules` sources by the name that imports them;
    `forbidden` the full names of what the worker takes away.
    """
    given = {"statements": list(map(list, statements)), "modules": dict(modules or {}), "forbidden": list(forbidden)}
    return np.frombuffer(json.dumps(given).encode(), "u1")


def encode_order(order: Order, arrays: list[np.ndarray]) -> dict[str, Any]:
    """`order` for a request's header; its arrays are appended to `arrays`."""
    weights = {}
    for name, value in order.weights.items():
        weights[name] = len(arrays)
        arrays.append(value)
    return {
        "do": order.do,
        "on": order.on,
        "keep": list(order.keep) if isinstance(order.keep, tuple) else order.keep,
        "name": order.name,
        "args": [encode_value(value, arrays) for value in order.args],
        "kwargs": {name: encode_value(value, arrays) for name, value in order.kwargs.items()},
        "weights": weights,
        "wrt": list(order.wrt),
        "of": list(order.of),
        "cotangent": encode_value(order.cotangent, arrays),
    }


def encode_value(value: Any, arrays: list[np.ndarray]) -> dict[str, Any]:
    """`value` (array, number, bool, string, None, a held object or a tuple of these) as a spec; arrays are appended."""
    if isinstance(value, Ref):
        return {"held": value.key}
    if value is None:
        return {"none": 0}
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, tuple | list):
        return {"tuple": [encode_value(one, arrays) for one in value]}
    arrays.append(np.asarray(value))
    return {"array" if isinstance(value, np.ndarray) else "number": len(arrays) - 1}


def decode_reply(frame: wire.Frame, number: int, names: Sequence[str]) -> Reply:
    """The reply to call `number`. `names` are the arguments' names, of which `changed` may pick some by position."""
    header = frame.header
    if type(header.get("id")) is not int or header["id"] != number:
        return Failure("malformed", "The worker answered another question than the one asked.")
    if "failure" in header:
        return decode_failure(header["failure"])
    try:
        value = _decode_value(header.get("value"), frame.arrays, depth=1)
    except wire.Malformed as error:
        return Failure("malformed", f"The worker sent {error}.")
    changed = header.get("changed", [])
    if not isinstance(changed, list) or any(type(i) is not int or not 0 <= i < len(names) for i in changed):
        return Failure("malformed", "The worker sent a list of changed arguments that cannot be.")
    return Answer(value, tuple(names[i] for i in sorted(set(changed))), _decode_said(header.get("said")))


def _decode_said(said: Any) -> tuple[tuple[str, str], ...]:
    """What a test says of an implementation that it catches, and the line: text only."""
    if not isinstance(said, list) or len(said) != 2 or not all(isinstance(text, str) for text in said):
        return ()
    return ((plain(said[0]), plain(said[1])),)


def decode_failure(failure: Any) -> Failure:
    """A worker's account of why there is no answer, cut to plain short text."""
    if not isinstance(failure, list) or len(failure) != 3 or not all(isinstance(text, str) for text in failure):
        return Failure("malformed", "The worker sent a failure in no known form.")
    kind, message, where = failure
    if kind not in _KINDS:
        return Failure("malformed", "The worker sent a failure of no known kind.")
    return Failure(_KINDS[kind], plain(message), plain(where))


def plain(text: str, limit: int = MAX_TEXT) -> str:
    """`text` without control characters or memory addresses (they differ from run to run), cut to `limit`."""
    text = re.sub(r"0x[0-9a-fA-F]{6,}", "0x…", text[: 4 * limit])
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def printed_text(data: bytes, cut: bool = False, limit: int = MAX_PRINTED) -> str:
    """What a student's code printed, as a terminal would show it in black and white, cut to `limit` characters.

    Colours and other terminal commands are left out; a carriage return writes over its line, as progress bars do.
    """
    text = _TERMINAL.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n").expandtabs(8)
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    text = plain("\n".join(lines), MAX_OUTPUT)
    if not cut and len(text) <= limit:
        return text
    return text[:limit].rstrip() + "\n(the rest of what it printed is cut)"


def _decode_value(spec: Any, arrays: list[np.ndarray], depth: int) -> Any:
    if not isinstance(spec, dict) or len(spec) != 1:
        raise wire.Malformed("a value in no known form")
    ((kind, inner),) = spec.items()
    if kind == "tuple" and depth and isinstance(inner, list) and len(inner) <= wire.MAX_ARRAYS:
        return tuple(_decode_value(one, arrays, depth - 1) for one in inner)
    if kind not in ("array", "number") or type(inner) is not int or not 0 <= inner < len(arrays):
        raise wire.Malformed("a value in no known form")
    array = arrays[inner]
    if kind == "array":
        return array
    if array.ndim:
        raise wire.Malformed("a number that is an array")
    return float(array)
