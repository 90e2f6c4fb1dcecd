"""Measures what an answer uses, from outside its process: memory and processor time by the kernel's own account.

The answer runs `alone` (see `seccomp`): it can start no process that would do the work elsewhere, write to no file that
would hold data uncounted, and drop nothing that it was born with to hide what it adds. Every length has a fresh child.
From each value that of an idle answer is taken, one of ours that gets the same inputs and returns 0: what remains is
the answer's own, from its first statement on, so memory set aside when the notebook is loaded counts. The results are
compared with the reference's at those lengths, and no two calls get the same inputs.
"""

from __future__ import annotations

import json
import platform
import sys
import weakref
from typing import Any

import numpy as np

from attnkit.grading import seccomp, seeds
from attnkit.grading.account import processor_seconds
from attnkit.grading.asking import Worker
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure, Framework, Reply
from attnkit.lab.question import Case, Question, Resource
from attnkit.lab.reading.cells import Plan, Statement
from attnkit.lab.resources import Usage, wrong
from attnkit.lab.script import Asked, asked

WARM_UP, REPEATS = 1, 5
# How far the time of taking in the same inputs differs between two processes. So hand little to a step that is timed.
_TIME_NOISE = 0.15

# As an object it does nothing, under every name.
_IDLE = """
class Idle:
    def __getattr__(self, name):
        if name.startswith("__") or name == "state_dict":
            raise AttributeError(name)
        return self
    def __call__(self, *args, **kwargs):
        return 0.0
class ANSWER(Idle):
    def __init__(self, *args, **kwargs):
        pass
"""
_FUNCTION = "def ANSWER(*args, **kwargs):\n    return 0.0\n"


class Measured(Worker):
    """A student's answer in a child that is alone. `seconds` is the processor time of the last call's last step.

    Of a script that is the last step that is compared: what it builds and feeds before is not timed.
    """

    alone = True

    def __init__(self, zygote: Zygote, how: Plan, question: Question) -> None:
        super().__init__(zygote, how, question)
        self.seconds = 0.0
        self._timed: Asked | None = None
        self._left = 0

    def __call__(self, case: Case, framework: Framework) -> Reply:
        orders = asked(self.question, case)
        self._left = 1 + max(place for place, one in enumerate(orders) if one.compared)
        self.seconds = 0.0
        return super().__call__(case, framework)

    def _step(self, asked: Asked, first: bool) -> Reply:
        self._left -= 1
        if self._left or self._channel is None:
            return super()._step(asked, first)
        try:
            before = processor_seconds(self.zygote.process)
            reply = super()._step(asked, first)
            if isinstance(reply, Answer):
                self.seconds = processor_seconds(self.zygote.process) - before
            return reply
        except OSError:  # it has ended, whatever it said before
            return Failure("died")


class OutsideMeter:
    """Measures one student's answer to one question. `readings` are the numbers, for the instructor."""

    def __init__(self, zygote: Zygote, how: Plan, question: Question, seed: str) -> None:
        self.zygote, self.how, self.question, self.seed = zygote, how, question, seed
        self.readings: list[dict[str, Any]] = []

    def __call__(self, resource: Resource, framework: Framework) -> list[Usage] | str:
        """What the answer uses at each length, up to one where it fails; a text where nothing can be measured."""
        if sys.platform != "linux":
            return f"{resource.measure.capitalize()} is measured where Linux grades; this is {sys.platform}."
        if platform.machine() not in seccomp.ARCHITECTURES:
            return f"Nothing is measured on {platform.machine()}: an answer could work where nobody looks."
        place = self.question.resources.index(resource)
        found: list[Usage] = []
        for length in resource.lengths:
            rng = seeds.generator(self.seed).spawn(place + 1)[place]
            found.append(self._at(resource, length, framework, rng))
            if found[-1].why:
                break
        by = self.zygote.account if resource.measure == "memory" else "processor clock"
        values = {str(one.length): one.value for one in found}
        self.readings.append({"part": resource.part, "measure": resource.measure, "by": by, "values": values})
        return found

    def _at(self, resource: Resource, length: int, framework: Framework, rng: np.random.Generator) -> Usage:
        value, why, detail = self._measure(self.how, resource, length, framework, rng, checked=True)
        if why:
            return Usage(length, 0.0, why, detail)
        idle = self._idle(resource, length, framework)
        noise = _TIME_NOISE * idle if resource.measure == "time" else 0.0
        return Usage(length, max(0.0, value - idle), noise=noise)

    def _measure(
        self, how: Plan, resource: Resource, length: int, framework: Framework, rng: np.random.Generator, checked: bool
    ) -> tuple[float, str, str]:
        """The value at one length, in a child of its own; and what is wrong with the answer there, if it is checked."""
        worker = Measured(self.zygote, how, self.question)
        values = []
        try:
            for _ in range(WARM_UP + REPEATS if resource.measure == "time" else 1):
                case = resource.case(length, rng)
                reply = worker(case, framework)
                # Before anything else: a child that has died leaves no number.
                values.append(worker.seconds if resource.measure == "time" else self._peak(reply))
                why, detail = wrong(self.question, case, reply) if checked else ("", "")
                if why:
                    return 0.0, why, detail
        finally:
            worker.close()
        return min(values[WARM_UP:] or values), "", ""

    def _peak(self, reply: Reply) -> float:
        try:
            return float(self.zygote.peak())
        except OSError:
            if isinstance(reply, Failure):
                return 0.0
            raise

    def _idle(self, resource: Resource, length: int, framework: Framework) -> float:
        """The value for an answer that does nothing; measured once a zygote, since its children are born alike."""
        known = _idle_values.setdefault(self.zygote, {})
        drawn = json.dumps(self.question.variant, sort_keys=True, default=str)
        place = self.question.resources.index(resource)
        key = (self.zygote.starts, self.question.name, drawn, place, length, framework)
        if key not in known:
            is_class = isinstance(self.question.reference, type)
            source = (_IDLE if is_class else _IDLE + _FUNCTION).replace("ANSWER", self.question.answer)
            how = Plan(attempts=((Statement(1, 1, source, True),),))
            rng = np.random.default_rng(length)
            known[key] = self._measure(how, resource, length, framework, rng, checked=False)[0]
        return known[key]


_idle_values: weakref.WeakKeyDictionary[Zygote, dict[tuple[Any, ...], float]] = weakref.WeakKeyDictionary()
