"""The measuring itself: the kernel's account of another process, and what of it is put to an answer's."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from attnkit.grading import jail, usage
from attnkit.grading.account import peak_bytes, processor_seconds
from attnkit.grading.cells import Plan, Statement
from attnkit.grading.errors import GradingError
from attnkit.grading.usage import Measured, OutsideMeter
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure
from attnkit.lab.question import Question
from tests.grading.inside import run, said
from tests.grading.measured_questions import MIB, NAIVE, RIGHT_CACHED, RIGHT_FLASH, Cached, Flash

pytestmark = pytest.mark.slow  # jails, or notebooks that run


@pytest.fixture(scope="module")
def patient(jailed: None) -> Iterator[Zygote]:
    """A zygote with the usual limits."""
    with Zygote("jail", jail.Limits()) as zygote:
        yield zygote


def how(source: str) -> Plan:
    return Plan(attempts=((Statement(1, 1, source, True),),))


def meter(zygote: Zygote, question: Question, source: str) -> OutsideMeter:
    return OutsideMeter(zygote, how(source), question, "ab" * 16)


@pytest.fixture
def worker() -> Iterator[subprocess.Popen[str]]:
    """Another process that does what it is told, line by line."""
    source = "import sys\nfor line in sys.stdin:\n    exec(line)\n    print('done', flush=True)\n"
    command = [sys.executable, "-u", "-c", source]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def tell(worker: subprocess.Popen[str], line: str) -> None:
    assert worker.stdin is not None
    assert worker.stdout is not None
    worker.stdin.write(line + "\n")
    worker.stdin.flush()
    assert worker.stdout.readline() == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an account of another process")
def test_the_processor_time_of_another_process(worker: subprocess.Popen[str]) -> None:
    tell(worker, "pass")
    start = processor_seconds(worker.pid)
    tell(worker, "import time; time.sleep(0.2)")
    slept = processor_seconds(worker.pid) - start
    tell(worker, "end = time.process_time() + 0.3; exec('while time.process_time() < end: pass')")
    worked = processor_seconds(worker.pid) - start - slept
    assert slept < 0.15
    assert 0.29 < worked < 0.6
    tell(
        worker,
        "import threading; t = threading.Thread(target=lambda: [hash(i) for i in range(10**6)]); t.start(); t.join()",
    )
    assert processor_seconds(worker.pid) - start - slept - worked > 0.01, "threads count, ended ones too"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an account of another process")
def test_the_peak_of_another_process(worker: subprocess.Popen[str]) -> None:
    tell(worker, "pass")
    before = peak_bytes(worker.pid)
    tell(worker, "hold = b'x' * (64 << 20)")
    tell(worker, "del hold")
    assert 60 * MIB < peak_bytes(worker.pid) - before < 72 * MIB


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives an account of another process")
def test_a_process_that_is_not_there_has_no_account(worker: subprocess.Popen[str]) -> None:
    worker.kill()
    worker.wait()
    with pytest.raises(OSError, match=r"Invalid argument|No such process"):
        processor_seconds(worker.pid)
    with pytest.raises(FileNotFoundError):
        peak_bytes(worker.pid)
    for ask in (processor_seconds, peak_bytes):
        with pytest.raises(GradingError, match="cannot be measured"):
            ask(0)


def test_a_frugal_answer_is_told_from_a_greedy_one_by_the_megabyte(patient: Zygote) -> None:
    frugal = meter(patient, Flash, RIGHT_FLASH["in blocks"])(Flash.resources[0], "torch")
    greedy = meter(patient, Flash, f"import torch\ndef flash(query, key, value):\n{NAIVE}")(Flash.resources[0], "torch")
    assert not isinstance(frugal, str)
    assert not isinstance(greedy, str)
    assert all(0 <= one.value < 8 * MIB for one in frugal)
    for one in greedy:  # the scores and their softmax
        assert one.value == pytest.approx(2 * 4 * one.length**2, rel=0.15, abs=MIB)


def test_what_a_library_loads_when_it_is_first_called_is_not_the_answer_s(patient: Zygote) -> None:
    source = (
        "import torch\ndef flash(query, key, value):\n    x = torch.ones(64, 64)\n"
        "    for f in (torch.linalg.svd, torch.fft.fft, torch.linalg.inv, torch.cumsum):\n        try:\n"
        "            f(x, 0) if f is torch.cumsum else f(x)\n        except RuntimeError:\n            pass\n"
        + RIGHT_FLASH["in blocks"].split("\n", 2)[2].replace("    blocks", "    blocks", 1)
    )
    found = meter(patient, Flash, source)(Flash.resources[0], "torch")
    assert not isinstance(found, str)
    assert [one.why for one in found] == ["", "", ""]
    assert all(one.value < 12 * MIB for one in found), found


def test_the_idle_answer_is_measured_once_a_zygote(patient: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    question = replace(Flash, name="once", answer="flash")
    meter(patient, question, RIGHT_FLASH["in blocks"])(question.resources[0], "torch")
    known = len(usage._idle_values[patient])
    meter(patient, question, RIGHT_FLASH["in blocks"])(question.resources[0], "torch")
    assert len(usage._idle_values[patient]) == known


def test_of_a_script_only_the_last_step_is_timed(patient: Zygote) -> None:
    """Reading the prefix may take its time."""
    slow = RIGHT_CACHED["keeps the rows"].replace(
        "        self.rows = rows\n", "        self.rows = rows\n        [hash(i) for i in range(400_000)]\n", 1
    )
    found = meter(patient, Cached, slow)(Cached.resources[0], "torch")
    assert not isinstance(found, str)
    assert all(one.value < 0.01 for one in found), found


def test_an_answer_that_fails_at_a_length_is_measured_no_further(patient: Zygote) -> None:
    raising = (
        "import torch\ndef flash(query, key, value):\n    if len(query) > 1500:\n        raise ValueError(query[0])\n"
    )
    found = meter(patient, Flash, raising + NAIVE)(Flash.resources[0], "torch")
    assert not isinstance(found, str)
    assert [one.length for one in found] == [1024, 2048]
    assert found[1].why == "it raises an exception"
    ending = "import os, torch\ndef flash(query, key, value):\n    os._exit(0)\n"
    (only,) = meter(patient, Flash, ending)(Flash.resources[0], "torch")
    assert only.why == "its process ends before it answers"


def test_memory_that_is_not_to_be_had_is_told_as_such(jailed: None) -> None:
    with Zygote("jail", jail.Limits(memory=512 * MIB)) as small:
        greedy = "import torch\ndef flash(query, key, value):\n    torch.ones(1 << 28)\n" + NAIVE
        found = meter(small, Flash, greedy)(Flash.resources[0], "torch")
        assert found[0].why == "it runs out of memory"


def test_a_child_that_ends_itself_after_it_answered_is_not_measured_as_nothing(patient: Zygote) -> None:
    source = RIGHT_CACHED["keeps the rows"].replace(
        "    def __call__(self, row):\n",
        "    def __call__(self, row):\n        import os\n        threading.Timer(0.0, lambda: os._exit(0)).start()\n",
    )
    worker = Measured(patient, how(source), Cached)
    for _ in range(3):
        case = Cached.resources[0].case(256, np.random.default_rng(0))
        reply = worker(case, "torch")
        assert isinstance(reply, Failure) or worker.seconds > 0
    worker.close()


def test_elsewhere_than_on_linux_it_says_so(patient: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage.sys, "platform", "darwin")
    told = meter(patient, Flash, RIGHT_FLASH["in blocks"])(Flash.resources[0], "torch")
    assert told == "Memory is measured where Linux grades; this is darwin."


def test_where_no_filter_keeps_it_alone_nothing_is_measured(patient: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage.platform, "machine", lambda: "riscv64")
    told = meter(patient, Flash, RIGHT_FLASH["in blocks"])(Flash.resources[0], "torch")
    assert isinstance(told, str)
    assert "riscv64" in told


REFUSED_ALONE = {
    "a process": "os.fork()",
    "a program": "os.execv('/usr/bin/true', ['true'])",
    "a file": "open('note', 'wb', 0).write(b'x')",
    "a file elsewhere": "open('/dev/shm/note', 'wb', 0).write(b'x')",
    "a longer file": "d = os.open('note', os.O_CREAT | os.O_RDWR)\nos.ftruncate(d, 1 << 20)",
}


@pytest.mark.parametrize("what", REFUSED_ALONE)
def test_alone_there_is_nowhere_else_to_work_or_to_keep_things(patient: Zygote, what: str) -> None:
    reply = run(patient, f"{REFUSED_ALONE[what]}\nreturn x", alone=True)
    assert isinstance(reply, Failure), what
    assert reply.kind == "raised"


def test_alone_an_honest_answer_works_as_ever(patient: Zygote) -> None:
    body = (
        "import threading, torch, decimal, numpy.fft\nt = threading.Thread(target=print)\nt.start()\nt.join()\n"
        "torch.set_num_threads(2)\n(torch.ones(600, 600) @ torch.ones(600, 600)).sum()\n"
        "for _ in range(50):\n    torch.ones(1 << 20).sum()\nreturn x"
    )
    assert isinstance(run(patient, body, alone=True), Answer)
    assert "note" not in said(patient, "os.listdir('.')", alone=True)
