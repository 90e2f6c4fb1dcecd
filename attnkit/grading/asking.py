"""What `judge` calls when it grades: a student's answer in a child of the zygote, asked one step at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from attnkit.grading.cells import Plan, Statement
from attnkit.grading.protocol import Broken, Channel, decode_reply, encode_code, encode_order
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure, Framework, Reply, Value
from attnkit.lab.question import Case, Question
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
        reply = self._ask(self._channel, header, arrays, self._deadline - time.monotonic(), asked.names)
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
            channel = self.zygote.child(self.alone)
            code = encode_code(self.attempts[0], self.modules, self.question.forbidden)
            header = {"op": "load", "answer": self.question.answer}
            reply = self._ask(channel, header, [code], self.zygote.limits.load_seconds, [])
            self.loaded = self.loaded or channel.output()
            self._room = MAX_REPLIES
            if isinstance(reply, Answer):
                self._channel, self._failure = channel, None
                self._deadline = time.monotonic() + self.zygote.limits.seconds
                return
            self._failure = reply
            self.printed = self.printed or channel.output()
            if len(self.attempts) == 1:
                return
            self.attempts = self.attempts[1:]

    def _ask(
        self, channel: Channel, header: dict[str, Any], arrays: list[np.ndarray], seconds: float, names: list[str]
    ) -> Reply:
        self._number += 1
        try:
            return decode_reply(channel.ask({"id": self._number, **header}, arrays, seconds), self._number, names)
        except Broken as broken:
            return broken.failure

    def _note_output(self) -> None:
        if self._channel is not None and not self.printed:
            self.printed = self._channel.output()


def _bytes(value: Value) -> int:
    return sum(map(_bytes, value)) if isinstance(value, tuple) else int(np.asarray(value).nbytes)
