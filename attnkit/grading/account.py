"""What the kernel says that a process has used; anybody may ask, and the process has no say in it. Linux only."""

from __future__ import annotations

import re
import time
from pathlib import Path

from attnkit.grading.errors import GradingError

_PEAK = re.compile(rb"^(VmHWM|VmSwap):\s+(\d+) kB$", re.MULTILINE)


def processor_seconds(process: int) -> float:
    """The processor time that a process and its threads have used. Raises `OSError` when there is none."""
    _known(process)
    return time.clock_gettime((~process << 3) | 2)  # CPUCLOCK_SCHED of another process: <linux/posix-timers.h>


def peak_bytes(process: int) -> int:
    """The most memory that a process has held so far, by its own pages. Raises `OSError` when there is none."""
    _known(process)
    found = {name: int(size) for name, size in _PEAK.findall(Path(f"/proc/{process}/status").read_bytes())}
    if b"VmHWM" not in found:
        raise ProcessLookupError(f"process {process} has ended")
    return 1024 * sum(found.values())


def _known(process: int) -> None:
    """0 would be the grader itself."""
    if process <= 0:
        raise GradingError("The kernel does not tell which process a worker is, so what it uses cannot be measured.")
