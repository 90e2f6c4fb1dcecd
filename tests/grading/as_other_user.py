"""Run by test_isolation in a container: what a worker reaches that runs as another user. Prints one JSON object."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from attnkit.grading import isolation, jail, uids
from attnkit.grading.engine import grade_question, read_submission
from attnkit.grading.zygote import Zygote
from tests.grading.conftest import notebook_bytes
from tests.grading.container import COURSE
from tests.grading.inside import run, said
from tests.grading.measured_questions import GREEDY_FLASH, RIGHT_FLASH, Flash

READS = {
    "references": f"{COURSE}/attnkit/lab/judge.py",
    "key": f"{COURSE}/course.key",
    "environment": f"/proc/{os.getpid()}/environ",
    "memory": f"/proc/{os.getpid()}/mem",
    "zygote": "/proc/{zygote}/mem",
}
DOES = {
    "kill the grader": f"os.kill({os.getpid()}, 9)",
    "trace the grader": f"import ctypes\nif ctypes.CDLL(None).ptrace(16, {os.getpid()}, 0, 0) < 0:\n    raise OSError",
    "become root": "os.setuid(0)",
    "write to a file of the course": f"open('{COURSE}/note', 'w')",
    "write among the libraries": f"open('{sys.prefix}/lib/note', 'w')",
    "reach the network": "import socket\nsocket.socket(socket.AF_INET)",
    "reach a local service": "import socket\nsocket.socket(socket.AF_UNIX)",
    "start many processes": "import time\nfor _ in range(200):\n    if os.fork() == 0:\n        time.sleep(60)",
}
LEAVES = (
    "import time\nopen('note', 'w').write('hello')\nos.makedirs('/tmp/kept/deep')\nos.chmod('/tmp/kept/deep', 0)\n"
    "open('/dev/shm/kept', 'w').close()\nopen('/var/tmp/kept', 'w').close()\n"
    "for _ in range(3):\n    if os.fork() == 0:\n        os.setsid()\n        time.sleep(1000)\nreturn x"
)


def main() -> None:
    """Try everything once; every value should be what test_isolation says."""
    Path(COURSE, "course.key").touch(mode=0o600)
    found: dict[str, object] = {level.name: [level.works, level.why] for level in isolation.levels()}
    if not found["uid"][0]:
        print(json.dumps(found))
        return
    there = set(Path("/tmp").iterdir())  # the project itself may lie below it
    with Zygote("uid", jail.Limits(seconds=5.0, load_seconds=5.0)) as zygote:
        found["answers"] = type(run(zygote, "import torch\nreturn torch.from_numpy(x) + 1")).__name__
        found["user"] = said(zygote, "[*os.getresuid(), *os.getresgid(), os.getgroups()]")
        parent = said(zygote, "os.getppid()")
        for name, path in READS.items():
            reply = run(zygote, f"open({path.format(zygote=parent)!r}, 'rb').read(1)")
            found[f"read: {name}"] = getattr(reply, "message", "it could").split(":")[0]
        for name, body in DOES.items():
            found[name] = getattr(run(zygote, body), "message", "it could").split(":")[0]
        for name, source in (
            ("frugal", RIGHT_FLASH["in blocks"]),
            ("greedy", GREEDY_FLASH["naive"]),
            ("resets its peak", GREEDY_FLASH["resets its peak"]),
        ):
            cells = read_submission(notebook_bytes(f"# question: flash\n{source}"))
            found[f"points: {name}"] = grade_question(zygote, Flash, cells, "ab").points
        starts = zygote.starts
        found["leaves"] = getattr(run(zygote, LEAVES), "message", "")
        kept = "[p for p in ('/tmp/kept', '/dev/shm/kept', '/var/tmp/kept', 'note') if os.path.exists(p)]"
        found["left: files"] = said(zygote, kept)
        mine = "[p for p in os.listdir('/proc') if p.isdigit() and os.stat('/proc/' + p).st_uid == os.getuid()]"
        found["left: processes"] = said(zygote, f"len({mine})")
        found["starts"] = zygote.starts - starts
        reply = run(zygote, "import signal, time\nos.kill(os.getppid(), signal.SIGSTOP)\nreturn x")
        found["after a stopped zygote"] = type(run(zygote, "return x")).__name__
        run(zygote, "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(1000)\nreturn x")
        user = int(said(zygote, "os.getuid()"))
    found["left in the end"] = uids.processes_of(user) + sorted(map(str, set(Path("/tmp").iterdir()) - there))
    found["killed"] = killed()
    print(json.dumps(found))


def killed() -> list[int]:
    """The processes that are left a moment after a grader was killed while an answer ran."""
    source = (
        "from attnkit.grading import jail\nfrom attnkit.grading.zygote import Zygote\n"
        "from tests.grading.inside import run\n"
        "with Zygote('uid', jail.Limits()) as zygote:\n"
        "    zygote.child()\n    print(zygote._ground.uid.number, flush=True)\n"
        "    run(zygote, 'import signal, time\\nos.kill(os.getppid(), signal.SIGSTOP)\\ntime.sleep(1000)')\n"
    )
    grader = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.PIPE, text=True)
    assert grader.stdout is not None
    user = int(grader.stdout.readline())
    time.sleep(0.5)  # so that the answer runs; were it not, the test would show less and pass all the same
    grader.send_signal(signal.SIGKILL)
    grader.wait()
    deadline = time.monotonic() + 5
    while (left := uids.processes_of(user)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


if __name__ == "__main__":
    main()
