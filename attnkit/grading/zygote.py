"""The trusted side's handle on a zygote: start it, have it fork a child for a question, have it clear up after.

A zygote that does not clear up in time, or that a child has killed, is killed with everything in its jail, and the
next question starts a new one. One child at a time; several zygotes make several questions run at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from attnkit.grading import jail
from attnkit.grading.errors import GradingError
from attnkit.grading.protocol import Channel

START_SECONDS = 120.0
CLEAR_SECONDS = 5.0


class Zygote:
    """A torch-loaded process that forks children. Use as a context manager, from one thread.

    bubblewrap dies with the *thread* that started it, so the thread that grades is the one that starts.
    """

    def __init__(self, isolation: jail.Isolation, limits: jail.Limits, private: tuple[Path, ...] = ()) -> None:
        self.isolation, self.limits, self.private = isolation, limits, private
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._channel: Channel | None = None
        self._scratch: str | None = None

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def child(self) -> Channel:
        """A fresh child to talk to. The one before it, if any, is ended and everything that it left behind removed."""
        self.end_child()
        for _ in range(3):
            if self._process is None:
                self._start()
            with contextlib.suppress(OSError):
                return self._fork()
            self.stop()
        raise GradingError("The worker process ends as soon as it is started; nothing can be graded.")

    def end_child(self) -> None:
        """Kill the child and all it started. Costs a new zygote where that does not work in time."""
        if self._channel is None:
            return
        self._channel.close()
        self._channel = None
        try:
            self._order({"op": "end"}, (), CLEAR_SECONDS)
        except OSError:
            self.stop()

    def stop(self) -> None:
        """Kill the zygote and, in a jail, every process that is left in there."""
        if self._channel is not None:
            self._channel.close()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
        self._channel = self._control = self._process = self._scratch = None

    def _start(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                self._command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=dict(jail.ENVIRONMENT),
                start_new_session=True,
            )
        self.starts += 1
        try:
            self._receive(START_SECONDS)
        except OSError:
            assert self._process.stderr is not None
            self._process.kill()
            said = self._process.stderr.read().decode(errors="replace").strip()
            self.stop()
            raise GradingError(f"The worker process does not start: {said[-500:] or 'it says nothing'}") from None

    def _command(self, control: int) -> list[str]:
        folders = [str(folder) for folder in jail.package_folders()]
        if self.isolation == "jail":
            inside = str(jail.INSIDE / jail.WORKER.name)
            return jail.command([inside, str(control), str(jail.SCRATCH), "jail", *folders], self.private)
        self._scratch = tempfile.mkdtemp(prefix="attnkit-grade-")
        arguments = [str(jail.WORKER), str(control), self._scratch, "none", *folders]
        return [sys.executable, *jail.PYTHON_FLAGS, *arguments]

    def _fork(self) -> Channel:
        requests_read, requests = os.pipe()
        replies, replies_write = os.pipe()
        output, output_write = os.pipe()
        theirs = (requests_read, replies_write, output_write)
        try:
            self._order({"op": "fork", "limits": self.limits.rlimits()}, theirs, START_SECONDS)
        except OSError:
            for descriptor in (requests, replies, output):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._channel = Channel(requests, replies, output)
        return self._channel

    def _order(self, order: dict[str, Any], descriptors: tuple[int, ...], seconds: float) -> None:
        assert self._control is not None
        self._control.settimeout(seconds)
        socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
        self._receive(seconds)

    def _receive(self, seconds: float) -> None:
        assert self._control is not None
        self._control.settimeout(seconds)
        if self._control.recv(4096) != b'{"ok": true}':
            raise ConnectionError("the zygote is gone")
