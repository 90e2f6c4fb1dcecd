"""Work that may never end or may fill the memory, each piece in a process of its own that is ended in time."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_CLOCK = 4.0  # how much longer than its processor time a piece may take: the machine has other work
_MEMORY = 2 * 2**30  # more than this process holds


def each_apart(
    items: Sequence[T], work: Callable[[T], dict[str, Any] | None], jobs: int, seconds: float
) -> list[dict[str, Any] | None]:
    """`work(item)` for each item, in a forked process each, `jobs` at a time.

    None where the process ended without an answer: after `seconds` of processor time or four times that on the clock,
    for want of memory, or by what it did. Raises `RuntimeError` with what `work` itself raised. This process must have
    started no thread, and run no gradient: torch would not work in its children.
    """
    found: list[dict[str, Any] | None] = [None] * len(items)
    running: dict[int, tuple[int, int]] = {}  # by the pipe through which the answer comes
    waiting = list(enumerate(items))[::-1]
    while waiting or running:
        while waiting and len(running) < jobs:
            place, item = waiting.pop()
            process, pipe = _forked(work, item, seconds)
            running[pipe] = place, process
        for pipe in select.select(list(running), [], [])[0]:
            place, process = running.pop(pipe)
            found[place] = _told(pipe)
            os.waitpid(process, 0)
    return found


def _told(pipe: int) -> dict[str, Any] | None:
    """What a child says; the pipe is at its end when the child is."""
    with open(pipe, "rb") as file:
        text = file.read()
    told = json.loads(text) if text else None
    if told and "error" in told:
        raise RuntimeError(told["error"])
    return told


def _forked(work: Callable[[T], dict[str, Any] | None], item: T, seconds: float) -> tuple[int, int]:
    """Start `work(item)` in a child with limits on time and memory; its answer comes through the pipe."""
    out, into = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process:
        os.close(into)
        return process, out
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(quiet, descriptor)
        _limit(seconds)
        try:
            told = work(item)
        except MemoryError:
            told = None
        except BaseException as error:  # what the answer raises is caught elsewhere: this is ours, or the question's
            told = {"error": f"{type(error).__name__}: {error}"}
        if told is not None:
            os.write(into, json.dumps(told).encode())
    finally:
        os._exit(0)


def _limit(seconds: float) -> None:
    """End this process after `seconds` of processor time, or four times that; and let it fill no memory."""
    for ends in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(ends, signal.SIG_DFL)
    set_deadline(seconds)
    held = int(Path("/proc/self/statm").read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + _MEMORY, held + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def set_deadline(seconds: float) -> None:
    """From now on: a child may move its own."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, _CLOCK * seconds)
