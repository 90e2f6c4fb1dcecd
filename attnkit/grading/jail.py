"""The jail: a bubblewrap command line that shows a worker its interpreter, its libraries and nothing else.

No network, read-only everything but a small scratch space, own process list, no capabilities, an unprivileged user.
attnkit itself is hidden even where it is installed among those libraries: its references are the answers.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Isolation = Literal["jail", "none"]

NOBODY = "65534"
INSIDE = Path("/grader")
SCRATCH = Path("/scratch")
SCRATCH_BYTES = 64 * 2**20
SHM_BYTES = 16 * 2**20
_HERE = Path(__file__).resolve().parent
WORKER = _HERE / "worker.py"
# All of attnkit that is inside.
SHOWN = (WORKER, _HERE / "wire.py", _HERE / "standins.py", _HERE / "seccomp.py")


@dataclass(frozen=True)
class Limits:
    """What one child may use. `seconds` is wall time by the trusted side's clock, for one question in one framework."""

    seconds: float = 10.0
    load_seconds: float = 10.0
    memory: int = 2 * 2**30
    file_bytes: int = 16 * 2**20
    processes: int = 64

    def rlimits(self) -> dict[str, int]:
        """The limits that the kernel enforces, by the name of the RLIMIT."""
        return {
            "DATA": self.memory,
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


def library_folders() -> list[Path]:
    """Folders that a worker must see: the interpreter, the environment, and wherever NumPy and torch lie."""
    folders = [Path(sys.base_prefix), Path(sys.prefix), *package_folders()]
    if (real := Path(sys.executable).resolve().parent.parent) not in (Path("/"), Path("/usr")):
        folders.append(real)
    found: list[Path] = []
    for folder in sorted({folder.resolve() for folder in folders}, key=lambda path: len(path.parts)):
        if not any(folder.is_relative_to(other) for other in (*found, Path("/usr"))):
            found.append(folder)
    return found


def package_folders() -> list[Path]:
    """The site-packages folders that NumPy and torch are imported from."""
    folders = []
    for name in ("numpy", "torch", "einops"):
        spec = importlib.util.find_spec(name)
        if spec and spec.origin:
            folders.append(Path(spec.origin).resolve().parents[1])
    return sorted(set(folders))


def hidden_folders() -> list[Path]:
    """Folders that no worker may see, even inside a folder that it does: every attnkit, and a clone's sources."""
    package = _HERE.parent
    clone = [package.parent / name for name in ("labs", "book", "tests")]
    installed = [folder / "attnkit" for folder in package_folders()]
    return [package, *installed, *(clone if (package.parent / "pyproject.toml").is_file() else [])]


def command(python_arguments: list[str], private: Iterable[Path] = ()) -> list[str]:
    """The bubblewrap command that runs Python with `python_arguments`; `private` folders are hidden as well."""
    bwrap = shutil.which("bwrap") or "bwrap"
    shown = library_folders()
    arguments = [bwrap, "--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib32", "lib64", "libx32", "sbin"):
        path = Path("/", name)
        if path.is_symlink():
            arguments += ["--symlink", os.readlink(path), str(path)]
        elif path.is_dir():
            arguments += ["--ro-bind", str(path), str(path)]
    for folder in shown:
        arguments += ["--ro-bind", str(folder), str(folder)]
    visible = [Path("/usr"), *shown]
    for folder in dict.fromkeys((*hidden_folders(), *(path.resolve() for path in private))):
        if folder not in visible and folder.is_dir() and any(folder.is_relative_to(other) for other in visible):
            arguments += ["--tmpfs", str(folder), "--remount-ro", str(folder)]
    for file in SHOWN:
        arguments += ["--ro-bind", str(file), str(INSIDE / file.name)]
    # /proc read-only: some of its files obey whoever is root outside, capabilities or not
    arguments += ["--proc", "/proc", "--remount-ro", "/proc", "--dev", "/dev"]
    arguments += ["--size", str(SHM_BYTES), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]
    arguments += ["--size", str(SCRATCH_BYTES), "--tmpfs", str(SCRATCH)]
    if not any(folder.is_relative_to("/tmp") for folder in shown):
        arguments += ["--symlink", str(SCRATCH), "/tmp"]
    arguments += ["--remount-ro", "/", "--chdir", str(SCRATCH)]
    arguments += ["--unshare-all", "--unshare-user", "--disable-userns", "--uid", NOBODY, "--gid", NOBODY]
    arguments += ["--cap-drop", "ALL", "--die-with-parent", "--new-session", "--hostname", "jail", "--clearenv"]
    for name, value in {**ENVIRONMENT, "HOME": str(SCRATCH), "TMPDIR": str(SCRATCH)}.items():
        arguments += ["--setenv", name, value]
    # The environment's own name of the interpreter: through it Python finds the environment's packages.
    return [*arguments, "--", sys.executable, *PYTHON_FLAGS, *python_arguments]


def why_no_jail() -> str | None:
    """None when a jail works here, else the reason, found by building one and running Python inside."""
    if sys.platform != "linux":
        return f"bubblewrap needs Linux; this is {sys.platform}"
    if shutil.which("bwrap") is None:
        return "bubblewrap is not installed (Debian and Ubuntu: apt install bubblewrap)"
    try:
        run = subprocess.run(
            command(["-c", "print('inside')"]), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"bubblewrap does not run: {error}"
    if run.returncode == 0 and run.stdout.strip() == "inside":
        return None
    return f"bubblewrap cannot build a jail here: {run.stderr.strip()[-300:] or f'exit status {run.returncode}'}"
