"""Inside the jail: system calls that a child may not make.

The children of a zygote share a process list, a user and an IPC namespace. Files and processes are removed between
two of them, but keys in a keyring, System V memory and message queues would stay, and a child could lower the
zygote's own limits, which the next one inherits. Sockets other than local ones are refused too: some families
(AF_VSOCK, which reaches a virtual machine's host) know no network namespace. `install` puts this filter on.

`install_alone` puts a second one on a child whose use of memory and time is measured: no process but itself, no
other program, and no way to make what it had at birth look smaller. Linux on 64-bit x86 and ARM. Standard library
only; loaded by `worker.py`.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
from collections.abc import Iterable

# Linux system call numbers: (x86-64, arm64); None where the architecture has no such call.
Numbers = tuple[int | None, int | None]
REFUSED: dict[str, Numbers] = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    # Files that no file system holds would be counted against no limit.
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "unshare": (272, 97),
    "setns": (308, 268),
}
# Allowed on oneself (a first argument of 0), refused on any other process.
REFUSED_ON_OTHERS: dict[str, Numbers] = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
SOCKET: Numbers = (41, 198)
CLONE: Numbers = (56, 220)
CLONE3: Numbers = (435, 435)  # its flags lie in memory, where no filter can look: "no such call" makes libc use clone
# Refused to a child that must do its work alone; clone is allowed to start threads.
REFUSED_ALONE: dict[str, Numbers] = {
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
}
MADVISE: Numbers = (28, 233)
MUNMAP: Numbers = (11, 215)
MREMAP: Numbers = (25, 216)
MMAP: Numbers = (9, 222)
PRCTL: Numbers = (157, 167)
# The kernel's names for the two: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

AF_UNIX = 1
CLONE_THREAD = 0x00010000
NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{NS,CGROUP,UTS,IPC,USER,PID,NET} and CLONE_NEWTIME
MAP_FIXED = 0x10
MAP_HUGETLB = 0x40000  # pages that no resident set counts
# PR_SET_DUMPABLE gives a process its own files in /proc, and through one of them a peak can be reset; PR_SET_MM.
OWN_ACCOUNT = (4, 35)
# MADV_DONTNEED, FREE, REMOVE, COLD, PAGEOUT, DONTNEED_LOCKED: a resident page more or less, at will.
DROPPING_ADVICE = (4, 8, 9, 20, 21, 24)

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_STORE, _FETCH, _FETCH_X, _SHIFT_LEFT, _SHIFT_RIGHT, _OR_X, _ADD, _ADD_X = (
    0x02,
    0x60,
    0x61,
    0x64,
    0x74,
    0x4C,
    0x04,
    0x0C,
)
_ALLOW, _ERROR = 0x7FFF0000, 0x00050000
EPERM, ENOSYS = 1, 38
_REFUSE = _ERROR | EPERM
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in struct seccomp_data
_X32 = 0x40000000  # the same calls by other numbers

Step = tuple[int, int, int, int]


def _argument(index: int, high: bool = False) -> Step:
    """Load one half of a call's argument (both architectures are little-endian)."""
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * high)


def _refuse_if(code: int, value: int, otherwise: bool = False) -> list[Step]:
    """Refuse when the test `code value` is true of what is loaded (or, `otherwise`, when it is not); else go on."""
    return [(code, 1, 0, value) if otherwise else (code, 0, 1, value), (_RETURN, 0, 0, _REFUSE)]


class _Program:
    """A filter under construction, for one architecture."""

    def __init__(self, machine: str) -> None:
        architecture, self._column = ARCHITECTURES[machine]
        self._steps: list[Step] = [
            (_LOAD, 0, 0, _ARCHITECTURE),
            *_refuse_if(_EQUAL, architecture, otherwise=True),
            (_LOAD, 0, 0, _NUMBER),
            *_refuse_if(_AT_LEAST, _X32),
        ]

    def on(self, numbers: Numbers, body: Iterable[Step]) -> None:
        """Decide about a call by `body`; where that does not refuse, the call is allowed."""
        number = numbers[self._column]
        if number is not None:
            steps = [*body, (_RETURN, 0, 0, _ALLOW)]
            self._steps += [(_EQUAL, 0, len(steps), number), *steps]

    def code(self) -> bytes:
        """As the kernel takes it: 8 bytes a step (code, jump if true, if false, value)."""
        return b"".join(struct.pack("=HBBI", *step) for step in [*self._steps, (_RETURN, 0, 0, _ALLOW)])


def program(machine: str, local_sockets: bool = True) -> bytes:
    """The filter that every child of a zygote is under, for `machine`.

    Without `local_sockets` no socket at all can be made (only pairs): for children who see the machine's own file
    system and its services.
    """
    filter_ = _Program(machine)
    for numbers in REFUSED.values():
        filter_.on(numbers, [(_RETURN, 0, 0, _REFUSE)])
    for numbers in REFUSED_ON_OTHERS.values():
        filter_.on(numbers, [_argument(0), *_refuse_if(_EQUAL, 0, otherwise=True)])
    local = [_argument(0), *_refuse_if(_EQUAL, AF_UNIX, otherwise=True)]
    filter_.on(SOCKET, local if local_sockets else [(_RETURN, 0, 0, _REFUSE)])
    filter_.on(CLONE, [_argument(0), *_refuse_if(_ANY_BIT, NEW_NAMESPACES)])
    filter_.on(CLONE3, [(_RETURN, 0, 0, _ERROR | ENOSYS)])
    return filter_.code()


def alone_program(machine: str, floor: int) -> bytes:
    """The filter for a measured child. It may not unmap, move or replace anything above the address `floor`."""
    filter_ = _Program(machine)
    for numbers in REFUSED_ALONE.values():
        filter_.on(numbers, [(_RETURN, 0, 0, _REFUSE)])
    filter_.on(CLONE, [_argument(0), *_refuse_if(_ANY_BIT, CLONE_THREAD, otherwise=True)])
    filter_.on(CLONE3, [(_RETURN, 0, 0, _ERROR | ENOSYS)])
    advice = [step for one in DROPPING_ADVICE for step in _refuse_if(_EQUAL, one)]
    filter_.on(MADVISE, [_argument(2), *advice])
    reaches = [*_end_of_range(), *_refuse_if(_AT_LEAST, floor >> 16)]
    filter_.on(MUNMAP, reaches)
    filter_.on(MREMAP, reaches)
    flags = [_argument(3), *_refuse_if(_ANY_BIT, MAP_HUGETLB), (_ANY_BIT, 1, 0, MAP_FIXED), (_RETURN, 0, 0, _ALLOW)]
    filter_.on(MMAP, [*flags, *reaches])
    filter_.on(PRCTL, [_argument(0), *(step for one in OWN_ACCOUNT for step in _refuse_if(_EQUAL, one))])
    return filter_.code()


def _end_of_range() -> list[Step]:
    """Load where the range (first argument: address; second: length) ends, in units of 64 KiB, rounded up.

    A filter computes with 32 bits. In these units every address of a process fits; what does not, the kernel refuses.
    """

    def units(index: int) -> list[Step]:
        high = [_argument(index, high=True), (_SHIFT_LEFT, 0, 0, 16), (_STORE, 0, 0, 0)]
        return [*high, _argument(index), (_SHIFT_RIGHT, 0, 0, 16), (_FETCH_X, 0, 0, 0), (_OR_X, 0, 0, 0)]

    return [*units(1), (_STORE, 0, 0, 1), *units(0), (_FETCH_X, 0, 0, 1), (_ADD_X, 0, 0, 0), (_ADD, 0, 0, 1)]


def install(local_sockets: bool = True) -> bool:
    """Put this process, and all that it will fork, under the filter; False on an architecture that has none.

    Needs no-new-privileges to be set. Raises `OSError` where the kernel refuses.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return False
    _install(program(machine, local_sockets))
    return True


def install_alone() -> bool:
    """From now on this process does all of its work itself; False on an architecture that has no filter."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return False
    _install(alone_program(machine, _fence()))
    return True


def _install(code: bytes) -> None:
    buffer = ctypes.create_string_buffer(code, len(code))
    pointer = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.create_string_buffer(pointer, len(pointer)), 0, 0):  # PR_SET_SECCOMP, a filter
        raise OSError(ctypes.get_errno(), "the system call filter cannot be installed")


# Between new mappings and the libraries: the filter rounds to 64 KiB.
_GUARD = 1 << 18
_RESERVED = 0x4022  # MAP_PRIVATE, ANONYMOUS, NORESERVE
_FIXED_NOREPLACE = 0x100000
_POPULATE_READ = 22


def _fence() -> int:
    """The lowest address of the libraries, with no room left between them: whatever is mapped later comes below it.

    All of their pages are made resident: what a child is born with then neither shrinks nor grows.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    ranges: list[tuple[int, int]] = []
    with open("/proc/self/maps", encoding="utf-8") as lines:
        for line in lines:
            if line.endswith("[stack]\n"):
                break
            start, end = (int(one, 16) for one in line.split(" ", 1)[0].split("-"))
            ranges.append((start, end))
            if "/" in line:
                libc.madvise(start, end - start, _POPULATE_READ)
    # The program and its heap lie low, the libraries high, with the largest gap between.
    floor = max((after - before, after) for (_, before), (after, _) in itertools.pairwise(ranges))[1]
    libc.mmap(floor - _GUARD, _GUARD, 0, _RESERVED | _FIXED_NOREPLACE, -1, 0)
    for size in (1 << bits for bits in range(36, 11, -1)):
        while (place := libc.mmap(None, size, 0, _RESERVED, -1, 0)) and floor <= place < 1 << 63:
            pass  # room beside the libraries: now taken
        if place and place < floor:
            libc.munmap(place, size)
    return floor
