"""Control groups (Linux cgroup v2): memory and processes of a worker limited and counted as a whole, by the kernel.

They are used where the grader may make groups, which is up to the machine: in a container that was given its own part
of the tree, or below `systemd-run --user --scope -p Delegate=yes attnkit grade ...`. The variable ATTNKIT_CGROUP names
a folder to use instead of the grader's own group. Elsewhere the limits of each single process hold (`jail.Limits`).

Format of the files: the kernel's Documentation/admin-guide/cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")
VARIABLE = "ATTNKIT_CGROUP"
CONTROLLERS = ("memory", "pids")
_LEAVE_SECONDS = 5.0
_preparing = threading.Lock()
_numbers = itertools.count(1)


class NoGroups(Exception):
    """The grader can make no groups here; the text says why."""


def find() -> Path:
    """The folder in which groups can be made, ready for it. Raises `NoGroups`."""
    folder = _folder()
    try:
        offered = (folder / "cgroup.controllers").read_text("ascii").split()
    except OSError as error:
        raise NoGroups(f"{folder} is no group of cgroup v2 ({error.strerror})") from None
    if missing := [name for name in CONTROLLERS if name not in offered]:
        raise NoGroups(f"{folder} cannot limit {' and '.join(missing)}: it was given {' '.join(offered) or 'nothing'}")
    if not all(os.access(folder / name, os.W_OK) for name in ("", "cgroup.procs", "cgroup.subtree_control")):
        raise NoGroups(f"{folder} is not the grader's to change")
    with _preparing:
        _prepare(folder)
    return folder


def _folder() -> Path:
    if named := os.environ.get(VARIABLE):
        return Path(named)
    if not (MOUNT / "cgroup.controllers").is_file():
        raise NoGroups(f"this machine has no cgroup v2 at {MOUNT}")
    for line in OWN.read_text("utf-8").splitlines():
        if line.startswith("0::/"):
            return MOUNT / line.removeprefix("0::/")
    raise NoGroups("the grader is in no group")


def _prepare(folder: Path) -> None:
    """Let groups in `folder` have the controllers. A group with processes cannot: ours move to one further in."""
    if set(CONTROLLERS) <= set((folder / "cgroup.subtree_control").read_text("ascii").split()):
        return
    inside = {int(line) for line in (folder / "cgroup.procs").read_text("ascii").split()}
    if not inside <= {os.getpid()}:
        raise NoGroups(f"other programs run in {folder}: the grader needs a group of its own")
    try:
        if inside:
            make(folder / f"attnkit-grader-{os.getpid()}")
            write(folder / f"attnkit-grader-{os.getpid()}" / "cgroup.procs", str(os.getpid()))
        write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))
    except OSError as error:
        raise NoGroups(f"{folder} gives no controllers to groups in it: {error.strerror}") from None


@dataclass
class Group:
    """A group of processes, and groups in it."""

    folder: Path

    def limit(self, memory: int, processes: int) -> None:
        """What all of its processes may use together: bytes of memory, none of it swapped, and their number."""
        write(self.folder / "memory.max", str(memory))
        write(self.folder / "pids.max", str(processes))
        # Swap may be off, and whether one death means all is a newer file: both only sharpen the limit.
        for name, text in (("memory.swap.max", "0"), ("memory.oom.group", "1")):
            with contextlib.suppress(OSError):
                write(self.folder / name, text)

    def take(self, process: int) -> None:
        """Move a process into the group, with what it starts from now on."""
        write(self.folder / "cgroup.procs", str(process))

    def peak(self) -> int | None:
        """The most bytes that its processes have held at once, with their files in memory; None before Linux 5.19."""
        try:
            return int((self.folder / "memory.peak").read_text("ascii"))
        except FileNotFoundError:
            return None

    def close(self) -> None:
        """Kill what is left in it and remove it. One that the kernel holds on to is left behind, empty."""
        with contextlib.suppress(OSError):
            write(self.folder / "cgroup.kill", "1")
        deadline = time.monotonic() + _LEAVE_SECONDS
        while self.folder.exists() and time.monotonic() < deadline:
            try:
                remove(self.folder)
            except OSError:
                time.sleep(0.002)


class Groups:
    """The groups of one zygote: `zygote`, for itself, and one for each child. `NoGroups` where there can be none."""

    def __init__(self) -> None:
        self.top = Group(find() / f"attnkit-{os.getpid()}-{next(_numbers)}")
        try:
            make(self.top.folder)
            write(self.top.folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in CONTROLLERS))
            self.zygote = self._make("zygote")
        except OSError as error:
            self.top.close()
            raise NoGroups(f"no group can be made in {self.top.folder.parent}: {error.strerror}") from None
        self.child: Group | None = None

    def _make(self, name: str) -> Group:
        make(self.top.folder / name)
        return Group(self.top.folder / name)

    def enter(self, process: int, memory: int, processes: int) -> None:
        """Put a child that has just been born into a fresh group with these limits."""
        self.leave()
        self.child = self._make(f"child-{next(_numbers)}")
        self.child.limit(memory, processes)
        self.child.take(process)

    def leave(self) -> None:
        """Remove the child's group and whatever runs in it."""
        child, self.child = self.child, None
        if child is not None:
            child.close()

    def close(self) -> None:
        """Remove them all."""
        self.leave()
        self.zygote.close()
        self.top.close()


def make(folder: Path) -> None:
    """Make a group; the kernel puts its files in."""
    folder.mkdir()


def remove(folder: Path) -> None:
    """Remove a group; the kernel refuses while it holds a process."""
    folder.rmdir()


def write(file: Path, text: str) -> None:
    """Write to one of a group's files, in one call and without making it."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)
