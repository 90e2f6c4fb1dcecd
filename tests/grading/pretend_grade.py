"""`attnkit grade` with a stand-in for the engine, as a process: python -m tests.grading.pretend_grade ARGUMENTS.

PRETEND_SECONDS is how long a question takes. With FUSE=MODULE:N the process kills itself, by SIGKILL, at the N-th line
that is run of that module of the grader; with FUSE=files:N at the N-th access to a file. The last line that it writes
to stderr says, as JSON, how many there were of each.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

MODULES = ("batch", "crew", "ledger", "policy", "receipt", "reports", "schema", "seeds", "standing", "store")
FILES = "files"


def light_the_fuse() -> None:
    """Count events from here on, and end at the one that FUSE names."""
    where, _, number = os.environ["FUSE"].partition(":")
    counts = dict.fromkeys((*MODULES, FILES), 0)
    lock = threading.Lock()
    watched = {os.path.join("attnkit", "grading", f"{name}.py"): name for name in MODULES}

    def event(name: str) -> None:
        with lock:
            counts[name] += 1
            if name == where and counts[name] == int(number):
                os.kill(os.getpid(), signal.SIGKILL)

    def lines(frame: FrameType, what: str, _: Any) -> Callable[..., Any] | None:
        place = os.sep.join(frame.f_code.co_filename.split(os.sep)[-3:])
        if place not in watched:
            return None
        event(watched[place])
        return lines

    def audit(name: str, _: Any) -> None:
        if name in ("open", "os.rename", "os.remove", "os.link", "os.mkdir", "sqlite3.connect"):
            event(FILES)

    sys.addaudithook(audit)
    threading.settrace(lines)
    sys.settrace(lines)
    atexit.register(lambda: sys.stderr.write(f"\n{json.dumps(counts)}\n"))


def main() -> None:
    """The command, with the stand-in."""
    import typer

    from attnkit.grading import batch, command_runs, job
    from attnkit.grading.commands import grade
    from tests.grading.tiny import pretended

    seconds = float(os.environ.get("PRETEND_SECONDS", "0"))

    def slowly(*arguments: Any) -> Any:
        time.sleep(seconds)
        return pretended(*arguments)

    job.grade_question = slowly
    batch.engine_digest = lambda: "a stand-in"  # not of what it stands in for
    command_runs.SECONDS = 0.05
    if "FUSE" in os.environ:
        light_the_fuse()
    typer.run(grade)


if __name__ == "__main__":
    main()
