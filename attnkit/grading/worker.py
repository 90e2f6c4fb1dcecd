"""Runs inside the jail: a zygote that has loaded torch forks one child a question; the child runs a student's code.

Standard library, NumPy, torch and the files beside it only. There is nothing to find here: no question, no
reference, no key, no score. The zygote reads no byte of a student; what a child sends is judged by the trusted side,
which believes only that an array is an array. So nothing below is a defence against the child's own code, apart from
what the zygote does after a child: end every process, empty the scratch space.

    python worker.py CONTROL_FD SCRATCH jail|uid|none [FOLDER_OF_PACKAGES ...]
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import importlib.util
import io
import json
import os
import resource
import signal
import socket
import sys
import time
import traceback
import types
from typing import Any

REQUESTS, REPLIES = 3, 4
answering: Any  # the file beside this one; loaded by `main`


# --- the zygote -------------------------------------------------------------------------------------------------------

# Where any user may leave a file: in a jail only the second is there, and scratch is one of its own.
SHARED = ("/tmp", "/dev/shm", "/var/tmp", "/run/lock", "/dev/mqueue")


def serve(control: socket.socket, scratch: str, isolation: str) -> None:
    """Fork a child for each `fork` packet (it carries three descriptors); clear up at each `end`.

    A fork is acknowledged by the child itself, before it runs any code but ours: the kernel adds its process id.
    """
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, 4096, 3)
        if not packet:
            end_everything(isolation)
            return
        order = json.loads(packet)
        if order["op"] == "fork":
            zygote = os.getpid()
            if os.fork() == 0:
                end_with(zygote)
                run_child(control, descriptors, order, scratch)
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        end_everything(isolation)
        clear(scratch, isolation)
        control.send(b'{"ok": true}')


def end_with(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, however it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(0)


def end_everything(isolation: str) -> None:
    """Kill the child and all it started, and wait until none is left: orphans become the zygote's own children.

    In a process namespace of our own -1 means everything in it, and to a user of our own everything that is its.
    For anybody else it would mean the whole session.
    """
    alone = (isolation == "jail" and os.getpid() < 10) or isolation == "uid"
    while True:
        for process in [-1] if alone else descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.0005)


def descendants(process: int) -> list[int]:
    """The processes that `process` started, those started by them, and so on; where /proc tells."""
    found: list[int] = []
    waiting = [process]
    while waiting:
        one = waiting.pop()
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as children:
                    waiting += map(int, children.read().split())
        found.append(one)
    return found[1:]


def clear(scratch: str, isolation: str) -> None:
    """Remove every file that a child left behind, and whatever else it could have told the next one by a folder."""
    if isolation == "uid":
        for folder in SHARED:
            if os.path.isdir(folder):
                empty(folder, kept=scratch)
    for folder in (scratch, "/dev/shm") if isolation == "jail" else (scratch,):
        empty(folder)
        if os.listdir(folder):  # paths too long, too many: the next zygote starts with an empty one
            raise RuntimeError("a child's files cannot be removed")
        # In a jail of root's the folder is not ours, and sticky: nobody could change it.
        with contextlib.suppress(OSError):
            for name in os.listxattr(folder) if sys.platform == "linux" else ():
                os.removexattr(folder, name)
        with contextlib.suppress(OSError):
            os.chmod(folder, 0o700)
            os.utime(folder, (0, 0))


def empty(folder: str, kept: str = "") -> None:
    """Remove what is ours in `folder`, except `kept`.

    A folder within is first moved to the top: folders may lie deeper in each other than any path is long.
    """
    waiting, moved = [folder], 0
    for path in waiting:
        entries: list[os.DirEntry[str]] = []
        with contextlib.suppress(OSError):
            os.chmod(path, 0o700)  # a folder that cannot be listed cannot be emptied
        with contextlib.suppress(OSError):
            entries = list(os.scandir(path))
        for entry in entries:
            with contextlib.suppress(OSError):  # others' files are not ours to remove
                if entry.path == kept or entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                if not entry.is_dir(follow_symlinks=False):
                    os.unlink(entry.path)
                    continue
                os.chmod(entry.path, 0o700)
                target = entry.path
                while path != folder and os.path.lexists(target := os.path.join(folder, f"moved-{moved}")):
                    moved += 1
                os.rename(entry.path, target)
                waiting.append(target)
    for path in waiting[1:]:
        with contextlib.suppress(OSError):
            os.rmdir(path)


# --- the child --------------------------------------------------------------------------------------------------------


def run_child(control: socket.socket, descriptors: list[int], order: dict[str, Any], scratch: str) -> None:
    """Become a question's worker and never return. One that is `alone` does all its work itself, and in memory."""
    try:
        os.setsid()
        own = control.fileno()
        requests, replies, output, own = (os.dup2(fd, 200 + i) for i, fd in enumerate((*descriptors, own)))
        control.detach()
        for source, target in ((requests, REQUESTS), (replies, REPLIES), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(5, own)
        os.closerange(own + 1, 4096)
        if order["alone"]:
            give_back_at_once()
            beside("seccomp").install_alone()
        limit(order["limits"])
        # Written through: what is not yet flushed when the child is ended would be lost.
        out = os.fdopen(1, "wb", 0, closefd=False)
        sys.stdout = sys.stderr = io.TextIOWrapper(out, "utf-8", "replace", write_through=True)
        os.chdir(scratch)
        with socket.socket(fileno=own) as ready:
            ready.send(b'{"ok": true}')
        answering.Answering().serve()
    except Exception:
        # Only a defect of this file gets here; on the output pipe the trusted side can see it.
        traceback.print_exc()
    finally:
        os._exit(0)


def give_back_at_once() -> None:
    """Have the C library return every larger block when it is freed.

    Otherwise what a frugal answer takes hangs on where earlier blocks lay: for the same answer 4 MiB or 270.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-3, 1 << 16)  # M_MMAP_THRESHOLD, from now on fixed
        mallopt(-1, 1 << 16)  # M_TRIM_THRESHOLD


def limit(limits: dict[str, int]) -> None:
    """Set the limits that the kernel keeps, never above one that holds already. AS comes on top of what is there."""
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        if name == "AS":
            if not os.path.exists("/proc/self/statm"):
                continue
            with open("/proc/self/statm", encoding="ascii") as sizes:
                value += int(sizes.read().split()[0]) * resource.getpagesize()
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


# --- start ------------------------------------------------------------------------------------------------------------


def close_doors(isolation: str) -> None:
    """Not to be looked into by a child, no way to new rights, and parent of every orphan."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    beside("seccomp").install(local_sockets=isolation != "uid")


def drop_rights() -> None:
    """In a jail that root has built: become its nobody, and leave every capability behind."""
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in range(64):
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP
    os.setresuid(65534, 65534, 65534)


def beside(name: str) -> types.ModuleType:
    """The module in the file beside this one, which is on no search path; outside a jail it may be the notebook's."""
    here = os.path.dirname(os.path.abspath(__file__))
    files = [os.path.join(folder, f"{name}.py") for folder in (here, os.path.join(os.path.dirname(here), "lab"))]
    spec = importlib.util.spec_from_file_location(name, next(file for file in files if os.path.exists(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Load what children need, once, then serve."""
    global answering
    control_fd, scratch, isolation, *folders = sys.argv[1:]
    if isolation == "jail" and os.getuid() == 0:
        drop_rights()
    sys.argv = [""]
    sys.path += folders
    importlib.import_module("numpy.random")  # NumPy would import it when it is used: 15 ms in each child
    import torch
    import torch.nn.functional

    with contextlib.suppress(ImportError):
        # The first gradient imports this and five hundred modules more: 0.2 seconds in every child that wants one.
        import torch.fx.experimental.symbolic_shapes
    with contextlib.suppress(ImportError):
        importlib.import_module("einops")

    torch.set_num_threads(1)
    torch.softmax(torch.ones(2, 2) @ torch.ones(2, 2), -1).sum().item()
    lent = {name: beside(name) for name in ("wire", "standins", "objects", "blackbox", "blocks")}
    lent["blocks"].prepare()
    answering = beside("answering")
    answering.lend(lent)
    close_doors(isolation)
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=int(control_fd))
    control.send(b'{"ok": true}')
    serve(control, scratch, isolation)


if __name__ == "__main__":
    main()
