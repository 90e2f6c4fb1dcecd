"""Inside the jail: system calls that a child may not make, because through them it would reach the next child.

The children of a zygote share a process list, a user and an IPC namespace. Files and processes are removed between
two of them, but keys in a keyring, System V memory and message queues would stay, and a child could lower the
zygote's own limits, which the next one inherits. A seccomp filter (Linux, 64-bit x86 and ARM) refuses these calls
with "operation not permitted". Standard library only; loaded by `worker.py`.
"""

from __future__ import annotations

import ctypes
import os
import struct

# Linux system call numbers: (x86-64, arm64).
REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "semget": (64, 190),
    "msgget": (68, 186),
    "mq_open": (240, 180),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
}
# Allowed on oneself (a first argument of 0), refused on any other process.
REFUSED_ON_OTHERS = {
    "prlimit64": (302, 261),
    "sched_setaffinity": (203, 122),
    "sched_setscheduler": (144, 119),
    "sched_setparam": (142, 118),
    "sched_setattr": (314, 274),
}
# The kernel's names for the two: AUDIT_ARCH_X86_64, AUDIT_ARCH_AARCH64.
ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # with EPERM
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_X32 = 0x40000000  # the same calls by other numbers


def program(machine: str) -> bytes:
    """The filter for `machine` as the kernel takes it: 8 bytes a step (code, jump if true, if false, value)."""
    architecture, column = ARCHITECTURES[machine]
    others = [numbers[column] for numbers in REFUSED_ON_OTHERS.values()]
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _REFUSE),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, _REFUSE),
    ]
    for numbers in REFUSED.values():
        steps += [(_EQUAL, 0, 1, numbers[column]), (_RETURN, 0, 0, _REFUSE)]
    for number in others:
        steps += [
            (_EQUAL, 0, 4, number),
            (_LOAD, 0, 0, _FIRST_ARGUMENT),
            (_EQUAL, 1, 0, 0),
            (_RETURN, 0, 0, _REFUSE),
            (_RETURN, 0, 0, _ALLOW),
        ]
    steps.append((_RETURN, 0, 0, _ALLOW))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def install() -> None:
    """Put this process, and all that it will fork, under the filter. Raises `OSError` where the kernel refuses.

    Needs no-new-privileges to be set. Elsewhere than on the two architectures nothing is installed.
    """
    machine = os.uname().machine
    if machine not in ARCHITECTURES:
        return
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    pointer = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(22, 2, ctypes.create_string_buffer(pointer, len(pointer)), 0, 0):  # PR_SET_SECCOMP, a filter
        raise OSError(ctypes.get_errno(), "the system call filter cannot be installed")
