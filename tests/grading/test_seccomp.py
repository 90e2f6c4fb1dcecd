"""The system call filters, run step by step as the kernel would, for both architectures on any machine."""

from __future__ import annotations

import struct

import pytest

from attnkit.grading import seccomp

MACHINES = list(seccomp.ARCHITECTURES)
WORD = 0xFFFFFFFF
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x00050001, 0x00050026
FLOOR = 0x7F12_3457_0000


def decide(code: bytes, machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What a filter returns for one call: a classic BPF machine, after the kernel's net/core/filter.c."""
    audit = seccomp.ARCHITECTURES[machine][0] if architecture is None else architecture
    values = [argument & (1 << 64) - 1 for argument in (*arguments, *[0] * (6 - len(arguments)))]
    data = struct.pack("<IIQ6Q", number, audit, 0, *values)
    steps = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
    assert len(steps) <= 4096
    a = x = place = 0
    memory = [0] * 16
    while True:
        what, true, false, value = steps[place]
        place += 1
        if what == 0x20:
            a = struct.unpack_from("<I", data, value)[0]
        elif what == 0x02:
            memory[value] = a
        elif what == 0x60:
            a = memory[value]
        elif what == 0x61:
            x = memory[value]
        elif what in (0x64, 0x74, 0x04, 0x0C, 0x4C):
            a = {0x64: a << value, 0x74: a >> value, 0x04: a + value, 0x0C: a + x, 0x4C: a | x}[what] & WORD
        elif what in (0x15, 0x35, 0x45):
            holds = {0x15: a == value, 0x35: a >= value, 0x45: bool(a & value)}[what]
            place += true if holds else false
        else:
            assert what == 0x06, f"no such step: {what:#x}"
            return value


def call(machine: str, numbers: seccomp.Numbers) -> int:
    number = numbers[seccomp.ARCHITECTURES[machine][1]]
    assert number is not None
    return number


@pytest.mark.parametrize("machine", MACHINES)
def test_every_step_jumps_forward_and_stays_inside(machine: str) -> None:
    for code in (seccomp.program(machine), seccomp.alone_program(machine, FLOOR)):
        steps = [struct.unpack_from("=HBBI", code, place) for place in range(0, len(code), 8)]
        for place, (what, true, false, _) in enumerate(steps):
            if what & 7 == 5:
                assert place + 1 + max(true, false) < len(steps)
        assert steps[-1][0] == 6


@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_on_the_list_is_refused_and_nothing_else(machine: str) -> None:
    code = seccomp.program(machine)
    refused = {call(machine, numbers) for numbers in seccomp.REFUSED.values()}
    special = {call(machine, one) for one in (*seccomp.REFUSED_ON_OTHERS.values(), seccomp.SOCKET, seccomp.CLONE)}
    special.add(call(machine, seccomp.CLONE3))
    assert len(refused) == len(seccomp.REFUSED)
    for number in range(600):
        if number not in special:
            assert decide(code, machine, number) == (EPERM if number in refused else ALLOW), number


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_is_refused_whole(machine: str) -> None:
    code = seccomp.program(machine)
    assert decide(code, machine, 39, architecture=0x40000003) == EPERM, "32-bit x86"
    assert decide(code, machine, 0x40000000 + 39) == EPERM, "x32"


@pytest.mark.parametrize("machine", MACHINES)
def test_limits_and_priorities_are_each_process_s_own(machine: str) -> None:
    code = seccomp.program(machine)
    for numbers in seccomp.REFUSED_ON_OTHERS.values():
        assert decide(code, machine, call(machine, numbers), 0) == ALLOW
        assert decide(code, machine, call(machine, numbers), 2) == EPERM
        assert decide(code, machine, call(machine, numbers), -1) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("family", "local", "pairs_only"), [(1, ALLOW, EPERM), *((n, EPERM, EPERM) for n in (2, 10, 16, 38, 40))]
)
def test_of_sockets_only_local_ones(machine: str, family: int, local: int, pairs_only: int) -> None:
    number = call(machine, seccomp.SOCKET)
    assert decide(seccomp.program(machine), machine, number, family) == local
    assert decide(seccomp.program(machine, local_sockets=False), machine, number, family) == pairs_only


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    "flag", [0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000, 0x80]
)
def test_no_new_namespace(machine: str, flag: int) -> None:
    code = seccomp.program(machine)
    assert decide(code, machine, call(machine, seccomp.CLONE), flag | 17) == EPERM
    assert decide(code, machine, call(machine, seccomp.CLONE), 0x003D0F00) == ALLOW, "a thread"
    assert decide(code, machine, call(machine, seccomp.CLONE), 0x01200011) == ALLOW, "a process"
    assert decide(code, machine, call(machine, seccomp.CLONE3)) == ENOSYS


@pytest.mark.parametrize("machine", MACHINES)
def test_alone_means_threads_only(machine: str) -> None:
    code = seccomp.alone_program(machine, FLOOR)
    clone = call(machine, seccomp.CLONE)
    assert decide(code, machine, clone, 0x003D0F00) == ALLOW
    assert decide(code, machine, clone, 0x01200011) == EPERM
    assert decide(code, machine, clone, 0x00004111) == EPERM, "as vfork does"
    assert decide(code, machine, call(machine, seccomp.CLONE3)) == ENOSYS
    for numbers in seccomp.REFUSED_ALONE.values():
        if numbers[seccomp.ARCHITECTURES[machine][1]] is not None:
            assert decide(code, machine, call(machine, numbers)) == EPERM


@pytest.mark.parametrize("machine", MACHINES)
def test_alone_no_page_is_dropped_to_be_counted_no_more(machine: str) -> None:
    code = seccomp.alone_program(machine, FLOOR)
    madvise = call(machine, seccomp.MADVISE)
    for advice in range(30):
        expected = EPERM if advice in seccomp.DROPPING_ADVICE else ALLOW
        assert decide(code, machine, madvise, FLOOR, 4096, advice) == expected, advice


RANGES = {
    "far below": (0x7F00_0000_0000, 1 << 30, ALLOW),
    "its own, with the guard between": (FLOOR - (1 << 18) - (1 << 20), 1 << 20, ALLOW),
    "the heap": (0x5555_0000_0000, 4096, ALLOW),
    "the first library": (FLOOR, 4096, EPERM),
    "a library far above": (FLOOR + (1 << 33) + 4096, 4096, EPERM),
    "from below into the libraries": (FLOOR - (1 << 20), 1 << 21, EPERM),
    "everything": (0, 1 << 47, EPERM),
}


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", RANGES)
def test_alone_the_libraries_stay_mapped(machine: str, name: str) -> None:
    start, length, expected = RANGES[name]
    code = seccomp.alone_program(machine, FLOOR)
    assert decide(code, machine, call(machine, seccomp.MUNMAP), start, length) == expected
    assert decide(code, machine, call(machine, seccomp.MREMAP), start, length, 4096, 1) == expected
    mmap = call(machine, seccomp.MMAP)
    assert decide(code, machine, mmap, start, length, 3, 0x22 | seccomp.MAP_FIXED, -1, 0) == expected
    assert decide(code, machine, mmap, start, length, 3, 0x22, -1, 0) == ALLOW, "a wish only"


@pytest.mark.parametrize("machine", MACHINES)
def test_alone_the_account_is_not_its_own_to_change(machine: str) -> None:
    code = seccomp.alone_program(machine, FLOOR)
    prctl = call(machine, seccomp.PRCTL)
    assert [what for what in range(70) if decide(code, machine, prctl, what) == EPERM] == [4, 35]
    assert decide(code, machine, call(machine, seccomp.MMAP), 0, 1 << 21, 3, 0x40022, -1, 0) == EPERM, "huge pages"


def test_elsewhere_there_is_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    class Machine:
        machine = "riscv64"

    monkeypatch.setattr(seccomp.os, "uname", Machine)
    assert seccomp.install() is False
    assert seccomp.install_alone() is False
