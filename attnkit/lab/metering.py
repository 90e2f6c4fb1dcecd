"""Measuring what an answer uses right here, in the student's own process: for practice.

The grader measures from outside, by the same cases and the same limits (`attnkit.grading.usage`). In here a sly answer
could cheat, itself only. Memory is the growth of the process's peak over the call, which Linux alone can tell.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.lab.calling import InProcess
from attnkit.lab.objects import Objects
from attnkit.lab.outcome import Framework, Reply
from attnkit.lab.question import Case, Question, Resource
from attnkit.lab.resources import Usage, wrong
from attnkit.lab.script import Asked, asked

REPEATS = 5
# What handing the inputs over adds by itself, of a time; and what the libraries' pages and the kernel's threads add.
_TIME_NOISE, _MEMORY_NOISE = 0.15, 8.0 * 2**20
_RESET_PEAK = "5"  # proc(5): /proc/pid/clear_refs
# Where glibc's own limits end up once large blocks have come and gone.
_USUAL = {"M_MMAP_THRESHOLD": 32 * 2**20, "M_TRIM_THRESHOLD": 64 * 2**20}
_EAGER = {"M_MMAP_THRESHOLD": 2**16, "M_TRIM_THRESHOLD": 2**16}
_NUMBER = {"M_MMAP_THRESHOLD": -3, "M_TRIM_THRESHOLD": -1}


class _Timed(InProcess):
    """Calls the answer; `seconds` is the processor time of the last step that is compared."""

    def __init__(self, function: Callable[..., Any], question: Question) -> None:
        super().__init__(function, question)
        self.seconds = 0.0
        self._left = 0

    def __call__(self, case: Case, framework: Framework) -> Reply:
        self._left = 1 + max(place for place, one in enumerate(asked(self.question, case)) if one.compared)
        return super().__call__(case, framework)

    def _do(self, objects: Objects, asked: Asked) -> Reply:
        self._left -= 1
        before = time.process_time()
        reply = super()._do(objects, asked)
        if not self._left:
            self.seconds = time.process_time() - before
        return reply


class InsideMeter:
    """`judge_resources`' way to measure `function` in this process, on the inputs that `seed` stands for."""

    def __init__(self, function: Callable[..., Any], question: Question, seed: int) -> None:
        self.function, self.question, self.seed = function, question, seed

    def __call__(self, resource: Resource, framework: Framework) -> list[Usage] | str:
        """What the answer uses at each length, up to one where it fails; a text where it cannot be measured."""
        if resource.measure == "memory" and not _tells_peak():
            return f"The part {resource.part!r} is measured when your answer is graded: only Linux can measure it."
        call = _Timed(self.function, self.question)
        rng = np.random.default_rng(self.seed)
        call(resource.case(min(resource.lengths), rng), framework)  # loads what the answer calls
        found: list[Usage] = []
        for length in resource.lengths:
            found.append(self._at(call, resource, length, framework, rng))
            if found[-1].why:
                break
        return found

    def _at(
        self, call: _Timed, resource: Resource, length: int, framework: Framework, rng: np.random.Generator
    ) -> Usage:
        if resource.measure == "memory":
            case = resource.case(length, rng)
            with _eager_release():
                before = _reset_peak()
                reply = call(case, framework)
                value = max(0.0, _status("VmHWM") - before)
            return Usage(length, value, *wrong(self.question, case, reply), noise=_MEMORY_NOISE)
        idle = _Timed(_Idle if isinstance(self.question.reference, type) else _idle, self.question)
        values, floors = [], []
        for _ in range(REPEATS):
            case = resource.case(length, rng)
            reply = call(case, framework)
            values.append(call.seconds)
            why, detail = wrong(self.question, case, reply)
            if why:
                return Usage(length, 0.0, why, detail)
            idle(case, framework)
            floors.append(idle.seconds)
        noise = max(_TIME_NOISE * min(floors), _clock_step())
        return Usage(length, max(0.0, min(values) - min(floors)), noise=noise)


def _clock_step() -> float:
    """By how much the clock of processor time advances at once, in seconds.

    Most clocks tell microseconds; that of Windows, and Linux's while a timer of processor time is set, goes in steps of
    several milliseconds. What is shorter is not told from nothing.
    """
    told = [time.process_time()]
    while len(told) < 5:
        now = time.process_time()
        if now > told[-1]:
            told.append(now)
    # The first step began before anybody looked; one may be short, where something else had the processor meanwhile.
    return max(later - earlier for earlier, later in itertools.pairwise(told[1:]))


def _idle(*args: object, **kwargs: object) -> float:
    """Takes the same inputs as an answer and does nothing with them."""
    return 0.0


class _Idle:
    """The same for a class."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., float]:
        if name.startswith("__") or name == "state_dict":
            raise AttributeError(name)
        return _idle

    __call__ = staticmethod(_idle)


def _tells_peak() -> bool:
    try:
        return sys.platform == "linux" and _reset_peak() > 0
    except OSError:
        return False


def _reset_peak() -> float:
    """Make the peak of this process what it holds now, and return that, in bytes."""
    Path("/proc/self/clear_refs").write_text(_RESET_PEAK, "ascii")
    return _status("VmHWM")


def _status(name: str) -> float:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text("utf-8", "replace"), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status tells no {name}")
    return 1024.0 * int(found[1])


@contextlib.contextmanager
def _eager_release() -> Iterator[None]:
    """Larger blocks go back to the system as they are freed: a peak is then the answer's, not the C library's."""
    gc.collect()
    libc = ctypes.CDLL(None)
    tunable = all(hasattr(libc, name) for name in ("mallopt", "malloc_trim"))  # glibc has them
    for name, value in _EAGER.items() if tunable else ():
        libc.mallopt(_NUMBER[name], value)
    if tunable:
        libc.malloc_trim(0)
    try:
        yield
    finally:
        for name, value in _USUAL.items() if tunable else ():
            libc.mallopt(_NUMBER[name], value)
