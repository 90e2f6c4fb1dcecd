"""The workers of one machine: threads, each with a zygote of its own that stays warm from one submission to the next.

Threads are enough: a student's code runs in the zygote's children, and what a thread here does is mostly to wait.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from attnkit.grading.errors import GradingError
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.job import Job, grade_job
from attnkit.grading.records import Record
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec

_STOP_SECONDS = 5.0
# How long a thread that a reply has woken waits for the interpreter. Python's own 5 ms are as long as all that one
# question asks of it, so that threads would wait for each other most of the time.
_SWITCH_SECONDS = 2e-4


@dataclass(frozen=True)
class Task:
    """A job and how to read its file."""

    job: Job
    read: Callable[[], bytes] = field(compare=False)


# The record, or why there is none.
Done = tuple[Task, Record | None, str]


@runtime_checkable
class Crew(Protocol):
    """Who grades. `grade` yields each task once, in the order in which they end; an error costs one task only."""

    def __enter__(self) -> Crew: ...

    def __exit__(self, *_: object) -> None: ...

    def grade(self, spec: LabSpec, tasks: Sequence[Task]) -> Iterator[Done]:
        """Grade the tasks; raises `GradingError` when nothing can be graded at all."""
        ...


class Threads:
    """`workers` threads on this machine, started when there is something to grade."""

    def __init__(self, workers: int, isolation: Isolation, limits: Limits, private: tuple[Path, ...] = ()) -> None:
        self.workers, self.isolation, self.limits, self.private = workers, isolation, limits, private
        self._waiting: queue.SimpleQueue[tuple[LabSpec, Task] | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[tuple[Task | None, Record | None, BaseException | None]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Threads:
        self._switch_seconds = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        return self

    def __exit__(self, *_exception: object) -> None:
        sys.setswitchinterval(self._switch_seconds)
        while not self._waiting.empty():  # what was not begun is left for the next run
            self._waiting.get()
        for _ in range(len(self._threads)):
            self._waiting.put(None)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:  # one that is longer at its submission ends with the process
            thread.join(max(0.0, deadline - time.monotonic()))

    def grade(self, spec: LabSpec, tasks: Sequence[Task]) -> Iterator[Done]:
        """Grade the tasks; yields them as they end."""
        for task in tasks:
            self._waiting.put((spec, task))
        while len(self._threads) < min(self.workers, len(tasks)):
            thread = threading.Thread(target=self._work, daemon=True)
            self._threads.append(thread)
            thread.start()
        for _ in tasks:
            ended, record, error = self._ended.get()
            if ended is None:
                assert error is not None
                raise error
            yield ended, record, f"{type(error).__name__}: {error}" if error else ""

    def _work(self) -> None:
        # The thread that starts bubblewrap must live as long as it: so a thread owns its zygote.
        with Zygote(self.isolation, self.limits, self.private) as zygote:
            while (waiting := self._waiting.get()) is not None:
                spec, task = waiting
                try:
                    self._ended.put((task, grade_job(zygote, spec, task.job, task.read()), None))
                except GradingError as error:  # told to the thread that waits: no worker can be started
                    self._ended.put((None, None, error))
                    return
                except Exception as error:  # one submission must never end the batch
                    zygote.stop()
                    self._ended.put((task, None, error))
                except BaseException as error:
                    self._ended.put((None, None, error))
                    return
