"""What `judge` calls when it grades: a student's answer in a child of the zygote, asked one step at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnkit.grading.protocol import Broken, Channel, decode_reply, encode_code, encode_order
from attnkit.grading.trying import Examined
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure, Framework, Reply, Value
from attnkit.lab.question import SECONDS, Case, Question
from attnkit.lab.reading.cells import Plan, Statement
from attnkit.lab.script import Asked, perform

# All that one child's replies may hold together: they are kept until the question is judged.
MAX_REPLIES = 96 * 2**20


class Worker:
    """A student's answer in a fresh child for each framework.

    `printed` is what the first child that printed anything wrote, the calls included. `loaded` is what was printed
    before the first call: it cannot quote any input. Where the child is `alone` see `Zygote.child`.
    """

    alone = False

    def __init__(self, zygote: Zygote, how: Plan, question: Question) -> None:
        self.zygote, self.question = zygote, question
        self.limits = zygote.limits.scaled(question.seconds / SECONDS)
        # Fewer statements each time: the rest of the notebook may be what ends the worker.
        self.attempts: Sequence[Sequence[Statement]] = how.attempts
        self.modules = dict(how.modules)
        self.printed = self.loaded = ""
        self._framework: Framework | None = None
        self._channel: Channel | None = None
        self._failure: Failure | None = None
        self._number = 0
        self._deadline = 0.0
        self._room = MAX_REPLIES

    def __call__(self, case: Case, framework: Framework) -> Reply:
        """The whole case, with fresh objects; always a reply, whatever the child does."""
        if self._framework != framework and not (self._failure and self._channel is None):
            self._framework, self._failure = framework, None
            self._load()
        return perform(self.question, case, self._step)

    def close(self) -> None:
        """End the child."""
        self._note_output()
        self.zygote.end_child()
        self._channel = None

    def _step(self, asked: Asked, first: bool) -> Reply:
        if self._failure is not None or self._channel is None:
            return self._failure or Failure("died")
        arrays: list[np.ndarray] = []
        header = {"op": "do", "fresh": first, "framework": self._framework, **encode_order(asked.order, arrays)}
        examined = None if asked.trial is None else Examined(asked.trial, self._number + 1)
        left = self._deadline - time.monotonic()
        reply = self._ask(self._channel, header, arrays, left, asked.names, examined)
        if examined is not None:
            reply = _verdict(examined, reply)
        if isinstance(reply, Failure):
            return reply
        if not asked.compared:
            return Answer((), reply.changed)
        self._room -= _bytes(reply.value)
        return reply if self._room >= 0 else Failure("malformed", "Your answers are far too large.")

    def _load(self) -> None:
        """Run the student's statements in a fresh child. `_channel` stays None when the answer cannot be had at all."""
        while True:
            self.close()
            channel = self.zygote.child(self.alone, self.limits)
            code = encode_code(self.attempts[0], self.modules, self.question.forbidden)
            header = {"op": "load", "answer": self.question.answer}
            reply = self._ask(channel, header, [code], self.limits.load_seconds, [])
            self.loaded = self.loaded or channel.output()
            self._room = MAX_REPLIES
            if isinstance(reply, Answer):
                self._channel, self._failure = channel, None
                self._deadline = time.monotonic() + self.limits.seconds
                return
            self._failure = reply
            self.printed = self.printed or channel.output()
            if len(self.attempts) == 1:
                return
            self.attempts = self.attempts[1:]

    def _ask(
        self,
        channel: Channel,
        header: dict[str, Any],
        arrays: list[np.ndarray],
        seconds: float,
        names: list[str],
        examined: Examined | None = None,
    ) -> Reply:
        self._number += 1
        try:
            frame = channel.ask({"id": self._number, **header}, arrays, seconds, examined)
            return decode_reply(frame, self._number, names)
        except Broken as broken:
            return broken.failure

    def _note_output(self) -> None:
        if self._channel is not None and not self.printed:
            self.printed = self._channel.output()


def _verdict(examined: Examined, reply: Reply) -> Reply:
    """The reply of a test: its verdict, or that it asked for what it may not, whatever it said then."""
    if isinstance(reply, Failure) and reply.kind in ("timeout", "died"):
        return reply
    if examined.trying.refused:
        return Failure("malformed", examined.trying.refused)
    if isinstance(reply, Answer) and not (type(reply.value) is float and reply.value in (0.0, 1.0)):
        return Failure("malformed", "The worker sent a verdict that cannot be.")
    return reply


def _bytes(value: Value) -> int:
    return sum(map(_bytes, value)) if isinstance(value, tuple) else int(np.asarray(value).nbytes)
