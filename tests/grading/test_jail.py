"""The jail, tried from inside: what a child can reach, and what is left of it afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from attnkit.grading import jail, seccomp
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure
from tests.grading.inside import run, said


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/x",
            "/usr/x",
            "/usr/bin/x",
            "/dev/x",
            "/dev/sda",
            "/grader/worker.py",
            "/grader/x",
            "/etc/passwd",
            "/home/x",
        ),
        *("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/self/oom_score_adj", "{venv}/x", "{clone}/x"),
    ],
)
def test_nothing_outside_the_scratch_space_can_be_written(zygote: Zygote, path: str) -> None:
    path = path.format(venv=os.environ.get("VIRTUAL_ENV", jail.sys.prefix), clone=Path(__file__).parents[2])
    reply = run(zygote, f"open({path!r}, 'a').close()")
    assert isinstance(reply, Failure)
    assert reply.message.split(":")[0] in {"OSError", "PermissionError", "FileNotFoundError"}
    assert not Path("/x").exists()


def test_the_scratch_space_works_and_is_small(zygote: Zygote) -> None:
    assert isinstance(
        run(zygote, "open('/scratch/a', 'w').write('b' * 1000)\nopen('c', 'w').close()\nreturn x"), Answer
    )
    body = "for i in range(20):\n    open(f'/scratch/{i}', 'wb').write(bytes(10**7))"
    reply = run(zygote, body)
    assert isinstance(reply, Failure)
    assert "No space" in reply.message


INSIDE = ("answering", "blackbox", "blocks", "objects", "seccomp", "standins", "wire", "worker")


def test_no_reference_no_key_no_lab_no_clone_inside(jailed: None) -> None:
    """Every file that exists in there, searched through by name."""
    look = (
        "import os, json\n"
        "names = {'questions.py', 'judge.py', 'course.key', 'ledger.db', 'naive.py', 'attention.md'}\n"
        "found = [f'{d}/{n}' for d, _, ns in os.walk('/') if not d.startswith('/proc') for n in ns if n in names]\n"
        "clone = os.environ['CLONE']\n"
        "print(json.dumps([found, sorted(os.listdir('/grader')), os.listdir(clone) if os.path.exists(clone) else []]))"
    )
    clone = str(Path(__file__).parents[2])
    inside = jail.command(["-c", look])
    inside[inside.index("--") : inside.index("--")] = ["--setenv", "CLONE", clone]
    found, grader, in_clone = json.loads(subprocess.run(inside, capture_output=True, text=True, check=True).stdout)
    assert [path for path in found if "networkx" not in path and "numpy" not in path] == []
    assert grader == sorted(f"{name}.py" for name in INSIDE)
    assert set(in_clone) <= {".venv"}


def test_attnkit_is_a_stand_in_that_computes_nothing(zygote: Zygote) -> None:
    body = (
        "import attnkit\nfrom attnkit.lab import Lab\nfrom attnkit import attention\nimport matplotlib.pyplot as plt\n"
        "attnkit.about()\nlab = Lab('attention')\nlab.check(f)\nwith plt.figure() as g:\n    pass\n"
        "return attention(x, x, x)"
    )
    reply = run(zygote, body)
    assert isinstance(reply, Failure)
    assert "not there when your answer is graded" in reply.message


def test_no_network(zygote: Zygote) -> None:
    assert said(zygote, "sorted(os.listdir('/proc/self/net'))[:0]") == "[]"
    assert said(zygote, "open('/proc/net/dev').read().count(':')") == "1", "only the loopback"
    for address in (("192.0.2.1", 80), ("127.0.0.1", 22), ("1.1.1.1", 53)):
        reply = run(zygote, f"import socket\nsocket.create_connection({address}, timeout=1)")
        assert isinstance(reply, Failure)
        assert reply.kind == "raised"


def test_no_other_process_environment_or_right(zygote: Zygote) -> None:
    os.environ["ATTNKIT_TEST_SECRET"] = "hunter2"
    try:
        assert said(zygote, "sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[:2]") == "[1, 2]"
        assert said(zygote, "len([p for p in os.listdir('/proc') if p.isdigit()])") == "3"
        assert said(zygote, "'hunter2' in str(os.environ)") == "False"
        assert said(zygote, "(os.getuid(), os.getgid())") == "(65534, 65534)"
        status = "[l.split()[1] for l in open('/proc/self/status') if l.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))]"
        assert said(zygote, status) == "['0000000000000000', '0000000000000000', '1']"
    finally:
        del os.environ["ATTNKIT_TEST_SECRET"]


@pytest.mark.parametrize(
    "body",
    [
        "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
        "open(f'/proc/{os.getppid()}/environ').read()",
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.ptrace(16, os.getppid(), 0, 0) < 0:\n"
        "    raise OSError(ctypes.get_errno(), 'ptrace')\nreturn x",
        "os.setuid(0)",
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.unshare(0x10000000) < 0:\n"
        "    raise OSError(ctypes.get_errno(), 'unshare')\nreturn x",
        "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif c.mount(b'a', b'/scratch', b'tmpfs', 0, None) < 0:\n"
        "    raise OSError(ctypes.get_errno(), 'mount')\nreturn x",
    ],
    ids=["zygote's memory", "zygote's environment", "ptrace", "setuid", "user namespace", "mount"],
)
def test_the_zygote_and_the_kernel_stay_out_of_reach(zygote: Zygote, body: str) -> None:
    reply = run(zygote, body)
    assert isinstance(reply, Failure)
    assert reply.message.startswith(("PermissionError", "OSError")), reply


KEEPS = {
    "System V memory": "c.shmget(77, 4096, 0o1666)",
    "message queue": "c.msgget(77, 0o1666)",
    "semaphore": "c.semget(77, 1, 0o1666)",
    "POSIX queue": "c.syscall({mq_open}, b'q', 0o102, 0o666, None)",
    "keyring": "c.syscall({add_key}, b'user', b'note', b'hello', 5, -4)",
    "memory without a file": "c.syscall({memfd_create}, b'note', 0)",
    "the zygote's pages": "c.syscall({process_madvise}, -1, None, 0, 0, 0)",
    "the zygote's files": "c.syscall({pidfd_getfd}, -1, 0, 0)",
    "the virtual machine's host": "c.socket(40, 1, 0)",
    "the kernel's messages": "c.socket(16, 3, 0)",
    "the zygote's priority": "c.setpriority(0, os.getppid(), 19)",
    "the zygote's limits": "c.prlimit(os.getppid(), 2, (ctypes.c_long * 2)(1, 1), None)",
    "the zygote's cores": "c.sched_setaffinity(os.getppid(), 8, (ctypes.c_long * 1)(1))",
}


@pytest.mark.parametrize("how", KEEPS)
def test_what_would_outlive_a_child_is_refused(zygote: Zygote, how: str) -> None:
    """What is no file and no process: the kernel keeps it for whoever comes next in the same jail."""
    machine = os.uname().machine
    if machine not in seccomp.ARCHITECTURES:
        pytest.skip(f"no filter for {machine}")
    column = seccomp.ARCHITECTURES[machine][1]
    call = KEEPS[how].format(**{name: numbers[column] for name, numbers in seccomp.REFUSED.items()})
    reply = run(
        zygote,
        f"import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nif {call} < 0:\n"
        "    raise OSError(ctypes.get_errno(), 'refused')\nreturn x",
    )
    assert isinstance(reply, Failure)
    assert reply.message.startswith("PermissionError: [Errno 1]"), reply


def test_what_an_honest_answer_does_is_not_refused(zygote: Zygote) -> None:
    body = (
        "import resource, threading, subprocess, multiprocessing, torch\nresource.getrlimit(resource.RLIMIT_CPU)\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\nt = threading.Thread(target=print)\nt.start()\nt.join()\n"
        "torch.set_num_threads(2)\n(torch.ones(300, 300) @ torch.ones(300, 300)).sum()\n"
        "subprocess.run(['true'], check=True)\nmultiprocessing.Lock()\nreturn x"
    )
    assert isinstance(run(zygote, body), Answer)


def test_nothing_of_a_child_is_left_for_the_next(zygote: Zygote) -> None:
    body = (
        "import time\nopen('note', 'w').write('hello')\nos.makedirs('a/b/c')\nos.chmod('a/b', 0)\nos.chmod('a', 0)\n"
        "os.symlink('/', 'up')\n"
        "open('/dev/shm/note', 'w').close()\n"
        "for _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(100)\nreturn x"
    )
    assert isinstance(run(zygote, body), Answer)
    starts = zygote.starts
    assert said(zygote, "os.listdir('/scratch') + os.listdir('/dev/shm')") == "[]"
    assert said(zygote, "len([p for p in os.listdir('/proc') if p.isdigit()])") == "3"
    assert zygote.starts == starts, "clearing up does not need a new zygote"


def test_a_dead_zygote_is_replaced(zygote: Zygote) -> None:
    starts = zygote.starts
    reply = run(zygote, "import signal, time\nos.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(10)")
    assert isinstance(reply, Failure)
    assert reply.kind == "died"
    assert isinstance(run(zygote, "return x"), Answer)
    assert zygote.starts == starts + 1


def test_everything_in_the_jail_ends_with_it(jailed: None) -> None:
    with Zygote("jail", jail.Limits()) as zygote:
        run(zygote, "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(12345)\nreturn x")
        process = zygote._process
        assert process is not None
        inside = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
        assert inside
    deadline = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in inside) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in inside)


def test_limits_on_memory_and_open_files(zygote: Zygote) -> None:
    reply = run(zygote, "hold = [bytearray(1 << 28) for _ in range(40)]\nreturn x")
    assert isinstance(reply, Failure)
    assert reply.message == "MemoryError"
    assert isinstance(run(zygote, "hold = [open('/dev/null') for _ in range(1000)]"), Failure)


def test_shared_memory_is_limited_too(zygote: Zygote) -> None:
    """RLIMIT_DATA does not see it: that is what RLIMIT_AS is for."""
    body = "import mmap\nhold = [mmap.mmap(-1, 1 << 28) for _ in range(40)]\nreturn x"
    reply = run(zygote, body)
    assert isinstance(reply, Failure)
    assert "Cannot allocate memory" in reply.message


def test_processes_and_threads_are_limited(zygote: Zygote) -> None:
    """For root as well: the jail's user is another."""
    body = "import time\nfor n in range(200):\n    if os.fork() == 0:\n        time.sleep(60)\nreturn x"
    reply = run(zygote, body)
    assert isinstance(reply, Failure)
    assert "temporarily unavailable" in reply.message
    body = "import threading, time\nfor n in range(200):\n    threading.Thread(target=time.sleep, args=(60,)).start()"
    assert isinstance(run(zygote, body), Failure)
    assert isinstance(run(zygote, "return x"), Answer)


def test_root_s_jail_has_a_user_of_its_own(zygote: Zygote) -> None:
    zygote.child()
    status = Path(f"/proc/{zygote.process}/status").read_text()
    user = int(status.split("Uid:")[1].split()[0])
    assert user != 0
    if os.getuid() == 0:
        assert user == zygote._ground.uid.number
    else:
        assert user == os.getuid()


def test_a_zygote_shares_no_memory_that_its_children_could_write(zygote: Zygote) -> None:
    mappings = said(
        zygote, "[l.split()[1] for l in open('/proc/self/maps') if l.split()[1][3] == 's' and 'w' in l.split()[1]]"
    )
    assert mappings == "[]"


def test_a_folder_itself_tells_the_next_child_nothing(zygote: Zygote) -> None:
    """Its mode, its times and its attributes are as before, or were never another's to change."""
    told = "[(oct(os.stat(d).st_mode), os.listxattr(d)) for d in ('/scratch', '/dev/shm')]"
    before = said(zygote, told)
    body = (
        "for d in ('/scratch', '/dev/shm'):\n    for act in (lambda: os.setxattr(d, 'user.note', b'hello'), "
        "lambda: os.utime(d, (77, 77)), lambda: os.chmod(d, 0o755)):\n        try:\n            act()\n"
        "        except OSError:\n            pass\nreturn x"
    )
    assert isinstance(run(zygote, body), Answer)
    assert said(zygote, told) == before
    assert said(zygote, "77 in [os.stat(d).st_mtime for d in ('/scratch', '/dev/shm')]") == "False"


DEEP = "for _ in range(60):\n    os.mkdir('d' * 200)\n    os.chdir('d' * 200)\nopen('note', 'w').close()\nreturn x"


def test_folders_too_deep_for_a_path_are_gone_with_the_zygote(zygote: Zygote) -> None:
    assert isinstance(run(zygote, DEEP), Answer)
    assert said(zygote, "os.listdir('/scratch')") == "[]"


def test_without_a_jail_nothing_is_left_in_the_end() -> None:
    with Zygote("none", jail.Limits()) as zygote:
        assert isinstance(run(zygote, DEEP), Answer)
        ground = zygote._ground
        assert ground is not None
        folder = ground.folder
        assert folder is not None
        assert folder.exists()
    assert not folder.exists()


def test_devices_are_those_that_hold_nothing(zygote: Zygote) -> None:
    assert said(zygote, "sorted(os.listdir('/dev'))") == str(
        sorted([*jail.DEVICES, "fd", "shm", "stderr", "stdin", "stdout"])
    )


def test_memory_is_taken_from_the_jail_first(zygote: Zygote) -> None:
    assert said(zygote, "open('/proc/self/oom_score_adj').read().strip()") == "'1000'"


def test_an_honest_answer_may_import_what_was_not_loaded(zygote: Zygote) -> None:
    assert isinstance(
        run(zygote, "import decimal, sqlite3, zoneinfo, asyncio\nasyncio.run(asyncio.sleep(0))\nreturn x"), Answer
    )


def test_runs_are_alike(zygote: Zygote) -> None:
    drawn = "random.random(), np.random.rand(), float(torch.rand(1)), hash('a') % 999"
    body = f"import random, torch\nreturn np.array([{drawn}])"
    first, second = (run(zygote, "import numpy as np\n" + body) for _ in range(2))
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert np.array_equal(first.value, second.value)


def test_a_machine_without_a_jail_is_told_apart_by_trying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    refusing = tmp_path / "bwrap"
    refusing.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
    refusing.chmod(0o755)
    monkeypatch.setattr(jail.shutil, "which", lambda name: str(refusing))
    assert "uid map: Permission denied" in (jail.why_no_jail() or "")
    monkeypatch.setattr(jail.shutil, "which", lambda name: None)
    assert "not installed" in (jail.why_no_jail() or "")


def test_without_a_jail_a_child_and_its_children_still_end() -> None:
    with Zygote("none", jail.Limits()) as zygote:
        reply = run(zygote, "import time\nif os.fork() == 0:\n    time.sleep(100)\nreturn x + os.getpid()")
        assert isinstance(reply, Answer)
        assert isinstance(reply.value, np.ndarray)
        child = int(reply.value[0])
        zygote.end_child()
        assert not Path(f"/proc/{child}").exists()
        assert isinstance(run(zygote, "return x"), Answer)
