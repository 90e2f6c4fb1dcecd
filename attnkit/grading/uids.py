"""Users that exist for one zygote only, for a grader that runs as root.

The numbers 61000 to 61183 are given to nobody by the common systems (systemd's "Users, Groups, UIDs and GIDs" lists
60706 to 61183 as unused). One that has a name here or that runs a process all the same is left alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

from attnkit.grading.errors import GradingError

FIRST, LAST = 61000, 61183
_SWEEP_SECONDS = 10.0


class Uid:
    """A user number that no other grader on this machine holds. `release` it when its processes may be ended."""

    def __init__(self) -> None:
        for number in range(FIRST, LAST + 1):
            lock = _lock(number)
            if lock is None:
                continue
            if not _named(number):
                # What is left of a grader that was killed.
                sweep(number)
                self.number, self._lock = number, lock
                return
            lock.close()
        raise GradingError(f"All user numbers from {FIRST} to {LAST} are taken by other graders on this machine.")

    def release(self) -> None:
        """End every process of this user, and let others have the number."""
        try:
            sweep(self.number)
        finally:
            self._lock.close()


def _lock(number: int) -> socket.socket | None:
    """A name that the kernel gives to one process at a time, and takes back when that process ends."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f"\0attnkit-uid-{number}")
    except OSError:
        lock.close()
        return None
    return lock


def _named(number: int) -> bool:
    import pwd  # not on every system is there one, and the command's help should work on all

    try:
        pwd.getpwuid(number)
    except KeyError:
        return False
    return True


def processes_of(number: int) -> list[int]:
    """The ids of the processes whose real user is `number`; not those that have ended."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                status = (entry / "status").read_text("utf-8", "replace")
                fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
                if int(fields["Uid"].split()[0]) == number and fields["State"][:1] not in "ZX":
                    found.append(int(entry.name))
    return found


def sweep(number: int) -> None:
    """Kill every process of user `number` (one of ours). Raises `GradingError` if they outlast a deadline."""
    if not FIRST <= number <= LAST:
        raise ValueError(f"number: was {number}; it should be from {FIRST} to {LAST}")
    deadline = time.monotonic() + _SWEEP_SECONDS
    while left := processes_of(number):
        # Stopped first, or new ones may be born while the old ones die.
        for sent in (signal.SIGSTOP, signal.SIGKILL):
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, sent)
        if time.monotonic() > deadline:
            raise GradingError(f"Processes of user {number} cannot be ended: {left[:5]}.")
        time.sleep(0.002)
