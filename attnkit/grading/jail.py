"""The jail: a bubblewrap command line that shows a worker its interpreter, its libraries and nothing else.

No network, read-only everything but a small scratch space, own process list, no capabilities, an unprivileged user.
Where the grader runs as root the jail's user is one that exists for this zygote only (`uids`, `launch`): for root
itself the kernel would enforce no limit on processes.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from attnkit.grading.errors import GradingError
from attnkit.grading.shown import hidden_folders, library_folders, links
from attnkit.grading.uids import Uid

# jail: bubblewrap; uid: another user of this machine; none: nothing (practice). `isolation.levels` says which work.
Isolation = Literal["jail", "uid", "none"]

NOBODY = "65534"
INSIDE = Path("/grader")
SCRATCH = Path("/scratch")
SCRATCH_BYTES = 64 * 2**20
SHM_BYTES = 16 * 2**20
DEVICES = ("null", "zero", "full", "random", "urandom")
# Namespaces of the jail's own; the user namespace is bubblewrap's or, for root, `launch`'s.
NAMESPACES = ("--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try")
_HERE = Path(__file__).resolve().parent
WORKER = _HERE / "worker.py"
LAUNCH = _HERE / "launch.py"


@dataclass(frozen=True)
class Limits:
    """What one child may use. `seconds` is wall time by the trusted side's clock, for one question in one framework.

    That is for a question that says nothing of its time; one that asks for twice the usual gets twice as much.
    """

    seconds: float = 10.0
    load_seconds: float = 10.0
    memory: int = 2 * 2**30
    file_bytes: int = 16 * 2**20
    processes: int = 64

    def scaled(self, share: float) -> Limits:
        """The same with `share` times as much time."""
        return dataclasses.replace(self, seconds=self.seconds * share, load_seconds=self.load_seconds * share)

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel enforces, by the name of the RLIMIT.

        "AS" counts from what the child has at birth. It bounds what DATA does not see, memory that is shared; twice
        as wide, since address space that is only reserved counts as well.
        """
        return {
            "DATA": self.memory,
            "AS": 2 * self.memory,
            "CPU": int(self.seconds + self.load_seconds) + 2,
            "FSIZE": self.file_bytes,
            "NPROC": self.processes,
            "NOFILE": 256,
            "CORE": 0,
        }


# Both give the same run every time: the environment is ours alone (so -I's -E is not needed), and str hashes are fixed.
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
PYTHON_FLAGS = ["-s", "-P", "-B"]


def worker_files() -> tuple[Path, ...]:
    """All of attnkit that a worker sees."""
    beside = (_HERE / f"{name}.py" for name in ("answering", "wire", "standins", "seccomp", "blocks"))
    return (WORKER, *beside, *(_HERE.parent / "lab" / f"{name}.py" for name in ("objects", "blackbox")))


def command(python_arguments: list[str], private: Iterable[Path] = (), uid: int | None = None) -> list[str]:
    """The bubblewrap command that runs Python with `python_arguments`; `private` files and folders are hidden as well.

    With `uid` it is for `launched("map:uid", ...)`: Python then starts as the jail's own root, able to become NOBODY
    and nothing else; `worker.py` does that first.
    """
    shown = library_folders()
    bound: list[str] = []
    for path in shown:
        bound += ["--ro-bind", str(path), str(path)]
    for link, target in links(shown).items():
        bound += ["--symlink", target, str(link)]
    bound += _hidden(shown, private)
    for file in worker_files():
        bound += ["--ro-bind", str(file), str(INSIDE / file.name)]
    if not any(path.is_relative_to("/tmp") for path in shown):
        bound += ["--symlink", str(SCRATCH), "/tmp"]
    arguments = [shutil.which("bwrap") or "bwrap", *_parents([*shown, *links(shown), INSIDE / "x"]), *bound]
    # /proc read-only: some of its files obey whoever is root outside, capabilities or not
    arguments += ["--proc", "/proc", "--remount-ro", "/proc", *_devices()]
    arguments += ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", str(SCRATCH)]
    arguments += ["--remount-ro", "/", "--chdir", str(SCRATCH), *NAMESPACES, "--cap-drop", "ALL"]
    if uid is None:
        arguments += ["--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY]
    else:
        arguments += [word for name in ("SETUID", "SETPCAP") for word in ("--cap-add", f"CAP_{name}")]
    arguments += ["--die-with-parent", "--new-session", "--hostname", "jail", "--clearenv"]
    for name, value in {**ENVIRONMENT, "HOME": str(SCRATCH), "TMPDIR": str(SCRATCH)}.items():
        arguments += ["--setenv", name, value]
    # The environment's own name of the interpreter: through it Python finds the environment's packages.
    return [*arguments, "--", sys.executable, *PYTHON_FLAGS, *python_arguments]


def _parents(paths: Iterable[Path]) -> list[str]:
    """The folders above `paths`, made beforehand: bubblewrap's own would be open to its root alone."""
    above = {parent for path in paths for parent in path.parents if parent != Path("/")}
    inside = [path for path in sorted(above) if not any(path.is_relative_to(one) for one in paths)]
    return [word for path in inside for word in ("--perms", "0755", "--dir", str(path))]


def _hidden(shown: list[Path], private: Iterable[Path]) -> list[str]:
    """Empty folders and files in place of what lies in a shown folder and must not be seen."""
    arguments: list[str] = []
    for path in dict.fromkeys((*hidden_folders(shown), *(path.resolve() for path in private))):
        if any(one.is_relative_to(path) for one in shown):
            if path in private and path not in shown:
                continue  # the libraries lie in the course's folder: of it only they are shown
            raise GradingError(f"{path} is to be hidden from workers, but Python's libraries are in it.")
        if any(path.is_relative_to(one) for one in shown):
            arguments += (
                ["--tmpfs", str(path), "--remount-ro", str(path)]
                if path.is_dir()
                else ["--ro-bind", "/dev/null", str(path)]
            )
    return arguments


def _devices() -> list[str]:
    """Only the devices that hold nothing, and /dev/shm for semaphores. No terminal, no disk, no accelerator."""
    arguments = ["--perms", "0755", "--tmpfs", "/dev"]
    for name in DEVICES:
        arguments += ["--dev-bind", f"/dev/{name}", f"/dev/{name}"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        arguments += ["--symlink", f"/proc/self/fd/{number}", f"/dev/{name}"]
    arguments += ["--symlink", "/proc/self/fd", "/dev/fd"]
    arguments += ["--perms", "1777", "--size", str(SHM_BYTES), "--tmpfs", "/dev/shm"]
    return [*arguments, "--remount-ro", "/dev"]


def launched(how: str, program: Sequence[str], group: Path | None = None) -> list[str]:
    """The command that runs `program` by way of `launch.py`, which first enters `group` and becomes what `how` says."""
    into = "-" if group is None else str(group)
    return [sys.executable, "-I", "-S", str(LAUNCH), str(os.getpid()), into, how, *program]


def why_no_jail() -> str | None:
    """None when a jail works here, else the reason, found by building one and running Python inside."""
    if sys.platform != "linux":
        return f"bubblewrap needs Linux; this is {sys.platform}"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian and Ubuntu: apt install bubblewrap)"
    said = _try(None)
    return f"bubblewrap cannot build a jail here: {said}{_advice(said)}" if said else None


def why_no_user() -> str | None:
    """None when the grader is root and a jail can have a user of its own, else the reason."""
    if sys.platform != "linux" or os.getuid() != 0:
        return "only root can give a jail a user of its own"
    uid = Uid()
    try:
        return _try(uid.number)
    finally:
        uid.release()


_DROP = "import os\nos.getuid() or os.setresuid(65534, 65534, 65534)\n"


def _try(uid: int | None) -> str | None:
    """What a jail says that does not work, or None."""
    # As another user, the libraries must be readable to it.
    probe = (
        f"{_DROP}import importlib.util as i\nprint(*(n for n in ('numpy', 'torch') if not i.find_spec(n)), 'inside')"
    )
    wanted = command(["-c", probe], uid=uid)
    try:
        run = subprocess.run(
            wanted if uid is None else launched(f"map:{uid}", wanted),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if run.returncode == 0 and run.stdout.strip() == "inside":
        return None
    return (run.stderr.strip() or run.stdout.strip())[-300:] or f"exit status {run.returncode}"


def _advice(said: str) -> str:
    """What an administrator can do about it, where the system says."""
    if "nknown option" in said:
        return " (bubblewrap 0.8 or newer is needed)"
    for name, bad, do in (
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "give bwrap an AppArmor profile that allows userns"),
        ("kernel/unprivileged_userns_clone", "0", "set kernel.unprivileged_userns_clone=1"),
        ("user/max_user_namespaces", "0", "set user.max_user_namespaces above 0"),
    ):
        file = Path("/proc/sys", name)
        if file.exists() and file.read_text("ascii").strip() == bad:
            return f" (user namespaces are restricted on this machine: {do})"
    return ""
