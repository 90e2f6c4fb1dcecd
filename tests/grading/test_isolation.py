"""Levels of isolation: which a machine has and why not, another user in a container, and ends that leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from attnkit.grading import isolation, jail, uids
from attnkit.grading.errors import GradingError
from attnkit.grading.zygote import Zygote
from attnkit.lab.outcome import Answer, Failure
from tests.grading import container
from tests.grading.inside import run
from tests.tools import need

pytestmark = pytest.mark.slow  # jails, or notebooks that run

SCRIPT = Path(__file__).resolve().with_name("as_other_user.py")


@pytest.fixture(scope="module")
def rooted(jailed: None) -> None:
    """Skips where the tests do not run as root: nobody else can become another user."""
    need(os.getuid() == 0, "root, to run workers as another user")


@pytest.fixture(scope="module")
def inside(rooted: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was found in a container whose attnkit only root may read."""
    result = container.run(tmp_path_factory.mktemp("container"), SCRIPT)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.slow
def test_in_a_container_another_user_takes_the_place_of_the_jail(inside: dict[str, Any]) -> None:
    assert inside["jail"] == [False, inside["jail"][1]]
    assert "uid map" in inside["jail"][1]
    assert inside["uid"][0] is True
    assert inside["answers"] == "Answer"
    numbers = json.loads(inside["user"])
    assert len(set(numbers[:6])) == 1
    assert uids.FIRST <= numbers[0] <= uids.LAST
    assert numbers[6] == []


@pytest.mark.slow
def test_another_user_reads_and_changes_nothing_of_the_grader(inside: dict[str, Any]) -> None:
    reads = {name: what for name, what in inside.items() if name.startswith("read: ")}
    assert len(reads) == 5
    assert set(reads.values()) == {"PermissionError"}
    for name in ("kill the grader", "become root", "write to a file of the course"):
        assert inside[name] == "PermissionError"
    for name in ("trace the grader", "write among the libraries"):
        assert inside[name] in ("OSError", "PermissionError")


@pytest.mark.slow
def test_another_user_has_no_network_and_few_processes(inside: dict[str, Any]) -> None:
    assert inside["reach the network"] == inside["reach a local service"] == "PermissionError"
    assert inside["start many processes"] == "BlockingIOError"


@pytest.mark.slow
def test_what_another_user_uses_is_measured_all_the_same(inside: dict[str, Any]) -> None:
    """There /proc can be written to: a process must not become the owner of its own account."""
    assert inside["points: frugal"] == 3
    assert inside["points: greedy"] == inside["points: resets its peak"] == 1


@pytest.mark.slow
def test_nothing_of_another_user_is_left(inside: dict[str, Any]) -> None:
    assert inside["leaves"] == ""
    assert inside["left: files"] == "[]"
    assert inside["left: processes"] == "2", "the zygote and the child that counts"
    assert inside["starts"] == 0, "clearing up does not need a new zygote"
    assert inside["after a stopped zygote"] == "Answer"
    assert inside["left in the end"] == []
    assert inside["killed"] == []


@pytest.mark.slow
def test_another_user_who_could_read_the_references_is_refused(rooted: None, tmp_path: Path) -> None:
    result = container.run(tmp_path, SCRIPT, closed=False)
    assert result.returncode == 0, result.stderr
    works, why = json.loads(result.stdout)["uid"]
    assert not works
    assert "/course/attnkit/" in why
    assert "chmod -R go-rwx" in why


def test_close_to_others_takes_every_right_away(tmp_path: Path) -> None:
    deep = tmp_path / "course" / "deep"
    deep.mkdir(parents=True, mode=0o755)
    (deep / "key").write_text("secret")
    (deep / "link").symlink_to("/etc/hostname")
    (deep / "key").chmod(0o664)
    isolation.close_to_others(tmp_path / "course")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (deep.parent, deep, deep / "key")}
    assert modes == {"course": 0o700, "deep": 0o700, "key": 0o600}


def test_levels_are_told_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation.os, "getuid", lambda: 1000)
    monkeypatch.setattr(isolation.jail, "why_no_jail", lambda: "no bubblewrap")
    found = {level.name: level for level in isolation.levels()}
    assert list(found) == ["jail", "uid", "none"]
    assert (found["jail"].works, found["jail"].why) == (False, "no bubblewrap")
    assert "only root" in found["uid"].why
    assert found["none"].works
    assert "practice" in found["none"].why


def test_another_user_is_refused_with_words_where_it_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "why_no_uid", lambda private=(): "only root can")
    with Zygote("uid", jail.Limits()) as zygote, pytest.raises(GradingError, match="another user: only root can"):
        zygote.child()


def test_a_number_belongs_to_one_grader_at_a_time(rooted: None) -> None:
    first, second = uids.Uid(), uids.Uid()
    assert first.number != second.number
    first.release()
    second.release()


def test_what_a_killed_grader_left_is_ended_before_its_number_is_used(rooted: None) -> None:
    first = uids.Uid()
    left = subprocess.Popen(["sleep", "1000"], user=first.number, group=first.number, extra_groups=[], cwd="/")
    assert uids.processes_of(first.number) == [left.pid]
    first.release()
    assert left.wait(timeout=5) == -signal.SIGKILL
    with pytest.raises(ValueError, match="from 61000"):
        uids.sweep(0)


GRADER = (
    "import sys\nfrom attnkit.grading import jail\nfrom attnkit.grading.zygote import Zygote\n"
    "from tests.grading.inside import run\n"
    "with Zygote(sys.argv[1], jail.Limits()) as zygote:\n"
    "    zygote.child()\n    print(zygote.process, flush=True)\n"
    "    run(zygote, sys.argv[2])\n"
)
ANSWERS = {
    "runs": "import time\ntime.sleep(1000)",
    "stops the zygote": "import signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\ntime.sleep(1000)",
    "has left the session": "import time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(1000)",
}


def descendants(process: int) -> set[int]:
    found = {process}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            above = [int(entry.name)]
            while above[-1] > 1 and above[-1] not in found:
                try:
                    above.append(int(Path(f"/proc/{above[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
                except (OSError, IndexError):
                    break
            if above[-1] in found:
                found.update(above)
    return found - {process}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "answer"), [("jail", name) for name in ANSWERS] + [("none", "runs"), ("none", "stops the zygote")]
)
def test_a_killed_grader_leaves_no_process(jailed: None, tmp_path: Path, level: str, answer: str) -> None:
    command = [sys.executable, "-c", GRADER, level, ANSWERS[answer]]
    # Its empty scratch folder is left, as a killed program's temporary files are.
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    grader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert grader.stdout is not None
    first = int(grader.stdout.readline())
    deadline = time.monotonic() + 20
    # The first child was only to see that it works; the second runs the answer.
    while Path(f"/proc/{first}").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    running = descendants(grader.pid)
    assert running
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    deadline = time.monotonic() + 10
    while (left := {pid for pid in running if Path(f"/proc/{pid}").exists()}) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not left


def test_a_stopped_zygote_is_replaced(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnkit.grading.zygote.CLEAR_SECONDS", 1.0)
    zygote.child()
    starts = zygote.starts
    reply = run(zygote, "import signal\nos.kill(os.getppid(), signal.SIGSTOP)\nreturn x")
    assert isinstance(reply, Answer)
    assert isinstance(run(zygote, "return x"), Answer)
    assert zygote.starts == starts + 1


def test_a_zygote_that_stops_reading_costs_a_new_one(zygote: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its control socket is full: no order gets through."""
    monkeypatch.setattr("attnkit.grading.zygote.CLEAR_SECONDS", 1.0)
    zygote.child()
    starts, process, control = zygote.starts, zygote._process, zygote._control
    assert process is not None
    assert control is not None
    run(zygote, "import signal\nos.kill(os.getppid(), signal.SIGSTOP)\nreturn x")
    control.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            control.send(b"x" * 1000)
    assert isinstance(run(zygote, "return x"), Answer)
    assert zygote.starts == starts + 1


def test_a_zygote_that_dies_between_two_orders_is_replaced(zygote: Zygote) -> None:
    zygote.child()
    starts = zygote.starts
    body = (
        "import time\nzygote = os.getppid()\nif os.fork() == 0:\n    time.sleep(0.2)\n    os.kill(zygote, 9)\nreturn x"
    )
    assert isinstance(run(zygote, body), Answer)
    time.sleep(0.4)
    assert isinstance(run(zygote, "return x"), Answer)
    assert zygote.starts == starts + 1


def test_without_isolation_a_process_that_left_the_session_ends_all_the_same() -> None:
    with Zygote("none", jail.Limits()) as zygote:
        body = "import time\np = os.fork()\nif p == 0:\n    os.setsid()\n    time.sleep(1000)\nraise RuntimeError(p)"
        reply = run(zygote, body)
        assert isinstance(reply, Failure)
        process = int(reply.message.split()[-1])
        assert Path(f"/proc/{process}").exists()
        zygote.end_child()
        assert not Path(f"/proc/{process}").exists()
        assert isinstance(run(zygote, "return x"), Answer)
