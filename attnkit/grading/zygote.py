"""The trusted side's handle on a zygote: start it, have it fork a child for a question, have it clear up after.

A zygote that does not clear up in time, or that a child has killed, is killed with everything in its jail, and the
next question starts a new one. One child at a time; several zygotes make several questions run at once.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from attnkit.grading import jail
from attnkit.grading.account import peak_bytes
from attnkit.grading.errors import GradingError
from attnkit.grading.isolation import Ground
from attnkit.grading.protocol import Channel

START_SECONDS = 120.0
CLEAR_SECONDS = 5.0
_LEAVE_SECONDS = 2.0
_CREDENTIALS = struct.Struct("3i")  # struct ucred: process, user, group


class Zygote:
    """A torch-loaded process that forks children. Use as a context manager, from one thread.

    A worker dies with the *thread* that started it, so the thread that grades is the one that starts. `process` is
    the id, on this machine, of the child in question (0 where the kernel does not tell).
    """

    def __init__(self, isolation: jail.Isolation, limits: jail.Limits, private: tuple[Path, ...] = ()) -> None:
        self.isolation, self.limits, self.private = isolation, limits, private
        self.starts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._channel: Channel | None = None
        self._ground: Ground | None = None
        self.process = 0

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def child(self, alone: bool = False, limits: jail.Limits | None = None) -> Channel:
        """A fresh child to talk to. The one before it, if any, is ended and everything that it left behind removed.

        `limits` are its own, the zygote's if it has none. One that is `alone`, to be measured, can start threads but no
        process and no program, and write to no file.
        """
        self.end_child()
        for _ in range(3):
            if self._process is None:
                self._start()
            with contextlib.suppress(OSError):
                return self._fork(alone, limits or self.limits)
            self.stop()
        raise GradingError("The worker process ends as soon as it is started; nothing can be graded.")

    @property
    def account(self) -> str:
        """Whose account of memory `peak` gives: the control group's or the process's own."""
        return "cgroup" if self._group_peak() is not None else "peak resident set"

    def peak(self) -> int:
        """The most memory, in bytes, that the child has held so far. Raises `OSError` when it has ended.

        Without a control group that is right only for a child that is `alone`.
        """
        counted = self._group_peak()
        return peak_bytes(self.process) if counted is None else counted

    def _group_peak(self) -> int | None:
        groups = self._ground.groups if self._ground else None
        return groups.child.peak() if groups is not None and groups.child is not None else None

    def end_child(self) -> None:
        """Kill the child and all it started. Costs a new zygote where that does not work in time."""
        if self._channel is None:
            return
        self._channel.close()
        self._channel, self.process = None, 0
        try:
            self._order({"op": "end"}, (), CLEAR_SECONDS)
        except OSError:
            self.stop()
        if self._ground is not None and self._ground.groups is not None:
            self._ground.groups.leave()

    def stop(self) -> None:
        """Kill the zygote and, where it has a jail or a user of its own, every process that is left there."""
        if self._channel is not None:
            self._channel.close()
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            if self.isolation == "none":  # nothing else would end what the child has started
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(_LEAVE_SECONDS)
            self._process.kill()
            self._process.wait()
            if self._process.stderr is not None:
                self._process.stderr.close()
        if self._ground is not None:
            self._ground.clear()
        self._channel = self._control = self._process = self._ground = None
        self.process = 0

    def _start(self) -> None:
        self._ground = Ground(self.isolation, self.private)
        self._ground.prepare()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if sys.platform == "linux":  # every packet then comes with the sender's process id, from the kernel
            self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        with theirs:
            self._process = subprocess.Popen(
                self._ground.command(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=self._ground.environment,
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

    def _fork(self, alone: bool, limits: jail.Limits) -> Channel:
        requests_read, requests = os.pipe()
        replies, replies_write = os.pipe()
        output, output_write = os.pipe()
        theirs = (requests_read, replies_write, output_write)
        limits = dataclasses.replace(limits, file_bytes=0) if alone else limits
        try:
            order = {"op": "fork", "limits": limits.rlimits(), "alone": alone}
            self.process = self._order(order, theirs, START_SECONDS)
            self._enter_group()
        except OSError:
            for descriptor in (requests, replies, output):
                os.close(descriptor)
            raise
        finally:
            for descriptor in theirs:
                os.close(descriptor)
        self._channel = Channel(requests, replies, output)
        return self._channel

    def _enter_group(self) -> None:
        """Put the new child into a control group, where there are any; one that refuses it is used no more."""
        ground = self._ground
        if ground is None or ground.groups is None:
            return
        try:
            ground.groups.enter(self.process, self.limits.memory, self.limits.processes)
        except ProcessLookupError:
            pass  # it has ended already, and will be found out by its silence
        except OSError:
            ground.groups.close()
            ground.groups = None

    def _order(self, order: dict[str, Any], descriptors: tuple[int, ...], seconds: float) -> int:
        """Send an order and wait until it is done; the id of the process that says so."""
        assert self._control is not None
        self._control.settimeout(seconds)
        socket.send_fds(self._control, [json.dumps(order).encode()], descriptors)
        return self._receive(seconds)

    def _receive(self, seconds: float) -> int:
        assert self._control is not None
        self._control.settimeout(seconds)
        said, extra, _, _ = self._control.recvmsg(4096, socket.CMSG_SPACE(_CREDENTIALS.size))
        if said != b'{"ok": true}':
            raise ConnectionError("the zygote is gone")
        for level, kind, data in extra:
            if level == socket.SOL_SOCKET and sys.platform == "linux" and kind == socket.SCM_CREDENTIALS:
                return int(_CREDENTIALS.unpack(data[: _CREDENTIALS.size])[0])
        return 0
