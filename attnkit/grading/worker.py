"""Runs inside the jail: a zygote that has loaded torch forks one child a question; the child runs a student's code.

Standard library, NumPy, torch and three files beside it only. There is nothing to find here: no question, no
reference, no key, no score. The zygote reads no byte of a student; what a child sends is judged by the trusted side,
which believes only that an array is an array. So nothing below is a defence against the child's own code, apart from
what the zygote does after a child: end every process, empty the scratch space.

    python worker.py CONTROL_FD SCRATCH jail|none [FOLDER_OF_PACKAGES ...]
"""

from __future__ import annotations
import __future__

import contextlib
import ctypes
import gc
import importlib.util
import json
import os
import random
import resource
import shutil
import signal
import socket
import sys
import time
import traceback
import types
import warnings
from typing import Any

REQUESTS, REPLIES = 3, 4


# --- the zygote -------------------------------------------------------------------------------------------------------


def serve(control: socket.socket, scratch: str, jailed: bool) -> None:
    """Fork a child for each `fork` packet (it carries three descriptors); clear up at each `end`."""
    child = 0
    while True:
        packet, descriptors, _, _ = socket.recv_fds(control, 4096, 3)
        if not packet:
            return
        order = json.loads(packet)
        if order["op"] == "fork":
            child = os.fork()
            if child == 0:
                control.close()
                run_child(descriptors, order["limits"], scratch)
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            end_everything(child, jailed)
            empty(scratch)
            if jailed:
                empty("/dev/shm")
        control.send(b'{"ok": true}')


def end_everything(child: int, jailed: bool) -> None:
    """Kill the child and all it started, and wait until none is left.

    In a process namespace of our own, -1 means everything in it. Outside it would mean the whole machine.
    """
    alone = jailed and os.getpid() < 10
    while True:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(-1, signal.SIGKILL) if alone else os.killpg(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, 0 if not alone else os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            if not alone or nobody_left():
                return
        time.sleep(0.0005)


def nobody_left() -> bool:
    """Whether this namespace holds only its first process and the zygote."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} <= {1, os.getpid()}


def empty(folder: str) -> None:
    """Remove what a child left behind in `folder`."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)  # a folder that cannot be listed cannot be emptied
            for inner, folders, _ in os.walk(path):
                for one in folders:
                    if not os.path.islink(os.path.join(inner, one)):
                        os.chmod(os.path.join(inner, one), 0o700)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)


# --- the child --------------------------------------------------------------------------------------------------------


def run_child(descriptors: list[int], limits: dict[str, int], scratch: str) -> None:
    """Become a question's worker and never return."""
    try:
        os.setsid()
        requests, replies, output = (os.dup2(fd, 200 + i) for i, fd in enumerate(descriptors))
        for source, target in ((requests, REQUESTS), (replies, REPLIES), (output, 1), (output, 2)):
            os.dup2(source, target)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.closerange(5, 256)
        for name, value in limits.items():
            kind = getattr(resource, f"RLIMIT_{name}")
            hard = resource.getrlimit(kind)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(kind, (value, value))
        sys.stdout = sys.stderr = os.fdopen(1, "w", 1, encoding="utf-8", errors="replace", closefd=False)
        os.chdir(scratch)
        Answering().serve()
    except Exception:
        # Only a defect of this file gets here; on the output pipe the trusted side can see it.
        traceback.print_exc()
    finally:
        os._exit(0)


class Answering:
    """Loads a student's statements and calls the answer with the arrays that come."""

    def __init__(self) -> None:
        self.function: Any = None
        self.answer = ""
        self.lines: dict[tuple[str, int], str] = {}
        warnings.simplefilter("ignore")
        np.seterr(all="ignore")
        random.seed(0)
        np.random.seed(0)
        torch.manual_seed(0)
        sys.meta_path.insert(0, standins.Finder())
        self.main = types.ModuleType("__main__")
        # A module that nobody names any more loses its globals: this one is still needed.
        sys.modules["_attnkit_worker"] = sys.modules["__main__"]
        sys.modules["__main__"] = self.main

    def serve(self) -> None:
        """Answer requests until the pipe closes."""
        parser = wire.Parser()
        while data := os.read(REQUESTS, 1 << 16):
            frame = parser.feed(data)
            if frame is None:
                continue
            act = self.load if frame.header["op"] == "load" else self.call
            self.send(frame.header["id"], *act(frame))

    def send(self, number: int, header: dict, arrays: list) -> None:
        """Send one reply; one that does not fit the format is told instead of sent."""
        try:
            message = wire.pack({"id": number, **header}, arrays)
        except wire.Malformed as error:
            message = wire.pack({"id": number, **failed("malformed", f"Your function returned {error}.")})
        while message:
            message = message[os.write(REPLIES, message) :]

    def load(self, frame) -> tuple[dict, list]:
        """Run the statements one by one. One that raises is left out: what matters is whether the answer exists."""
        self.answer = frame.header["answer"]
        statements = json.loads(frame.arrays[0].tobytes())
        namespace = self.main.__dict__
        inert = standins.Inert()
        namespace.update(get_ipython=lambda: inert, display=inert)
        flags, first_error = 0, None
        for cell, line, text, own in statements:
            for number, source in enumerate(text.split("\n"), line):
                self.lines[f"<cell {cell}>", number] = source.strip()
            try:
                code = compile("\n" * (line - 1) + text, f"<cell {cell}>", "exec", flags, dont_inherit=True)
                for name in __future__.all_feature_names:
                    flags |= code.co_flags & getattr(__future__, name).compiler_flag
                exec(code, namespace)
            except BaseException as error:
                if own and first_error is None:
                    first_error = describe(error, self.lines)
        self.function = namespace.get(self.answer)
        if callable(self.function):
            return {"value": {"tuple": []}}, []
        return first_error or failed("missing", f"There is no function called {self.answer}."), []

    def call(self, frame) -> tuple[dict, list]:
        """Call the answer with copies of the arrays, as the framework's own kind of array."""
        as_torch = frame.header["framework"] == "torch"
        given: list = []

        def build(spec):
            ((kind, inner),) = spec.items()
            if kind == "array":
                value = frame.arrays[inner].copy()
                given[-1] = (value, frame.arrays[inner])
                return from_numpy(value) if as_torch else value
            if kind == "number":
                return frame.arrays[inner].item()
            if kind == "tuple":
                return tuple(build(one) for one in inner)
            return inner if kind == "text" else None

        def argument(spec):
            given.append(None)
            return build(spec)

        try:
            args = [argument(spec) for spec in frame.header["args"]]
            kwargs = {name: argument(spec) for name, spec in frame.header["kwargs"].items()}
            result = self.function(*args, **kwargs)
            arrays: list = []
            value = to_spec(result, arrays)
            changed = [i for i, pair in enumerate(given) if pair and pair[0].tobytes() != pair[1].tobytes()]
            return {"value": value, "changed": changed}, arrays
        except BaseException as error:
            return describe(error, self.lines), []


def to_spec(value, arrays: list, depth: int = 1) -> dict:
    """The answer as arrays on the wire, or `wire.Malformed` with what it was."""
    if isinstance(value, standins.Inert):
        raise wire.Malformed("something of a package that is not there when your answer is graded (attnkit, a plot)")
    if depth and isinstance(value, tuple):
        return {"tuple": [to_spec(one, arrays, depth - 1) for one in value]}
    number = isinstance(value, bool | int | float)
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype == torch.bfloat16 else value).resolve_conj().resolve_neg().numpy()
    elif not number and not isinstance(value, np.ndarray | np.generic):
        raise wire.Malformed(f"{'nothing (None)' if value is None else 'a ' + type(value).__name__}, not an array")
    value = as_array(value)
    wire.dtype_code(value.dtype)
    arrays.append(value)
    return {"number" if number else "array": len(arrays) - 1}


def failed(kind: str, message: str, where: str = "") -> dict:
    """A reply that there is no answer."""
    return {"failure": [kind, message[:600], where[:300]]}


def describe(error: BaseException, lines: dict[tuple[str, int], str]) -> dict:
    """Why there is no answer, and the student's own line in which it happened."""
    if isinstance(error, wire.Malformed):
        return failed("malformed", f"Your function returned {error}.")
    try:
        message = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    except BaseException:
        message = "an exception that cannot be shown"
    where, step = "", error.__traceback__
    while step is not None:
        code, number = step.tb_frame.f_code, step.tb_lineno
        if text := lines.get((code.co_filename, number)):
            where = f"line {number} of {code.co_name.replace('<module>', 'the cell')}: {text}"
        step = step.tb_next
    return failed("not-implemented" if isinstance(error, NotImplementedError) else "raised", message, where)


# --- start ------------------------------------------------------------------------------------------------------------


def close_doors() -> None:
    """Not to be looked into by a child, and no way to new rights."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(4, 0, 0, 0, 0)  # PR_SET_DUMPABLE
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    beside("seccomp").install()


def beside(name: str) -> types.ModuleType:
    """The module in the file beside this one, which is on no search path."""
    spec = importlib.util.spec_from_file_location(name, os.path.join(os.path.dirname(__file__), f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Load what children need, once, then serve."""
    global np, torch, wire, standins, as_array, from_numpy
    control_fd, scratch, isolation, *folders = sys.argv[1:]
    sys.argv = [""]
    sys.path += folders
    wire, standins = beside("wire"), beside("standins")
    import numpy as np
    import torch
    import torch.nn.functional

    with contextlib.suppress(ImportError):
        import einops  # noqa: F401  (children find it loaded)

    torch.set_num_threads(1)
    as_array, from_numpy = np.array, torch.from_numpy
    torch.softmax(torch.ones(2, 2) @ torch.ones(2, 2), -1).sum().item()
    close_doors()
    gc.collect()
    gc.freeze()
    control = socket.socket(fileno=int(control_fd))
    control.send(b'{"ok": true}')
    serve(control, scratch, isolation == "jail")


if __name__ == "__main__":
    main()
