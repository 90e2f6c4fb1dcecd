"""How a worker is kept apart from the machine that grades: what each level needs, and whether it can be had here.

jail: bubblewrap; see `jail`. uid: for containers that allow no namespaces (Gradescope's): the worker runs as a user
of its own, who can read neither references nor course files, with the kernel's limits and system call filter, without
network. It sees the container's other files and processes, and only the size of each file that it writes is limited,
not their number. none: for practice; an answer can do whatever you can.

What no level stops: a child can count what the ones before it did (the next process id, the next inode), and slow the
machine down for whoever runs beside it. Neither reaches a reference, an input or a grade.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from attnkit.grading import jail, seccomp, shown
from attnkit.grading.cgroup import Groups, NoGroups
from attnkit.grading.errors import GradingError
from attnkit.grading.uids import Uid


@dataclass(frozen=True)
class Level:
    """One level of isolation on this machine: whether it works, and what holds back or should be known."""

    name: jail.Isolation
    works: bool
    why: str


def levels() -> list[Level]:
    """Every level, strongest first, tried on this machine."""
    no_jail, no_uid = why_no("jail"), why_no("uid")
    return [
        Level("jail", not no_jail, no_jail or ("" if os.getuid() else jail_note())),
        Level("uid", not no_uid, no_uid or "no network; files that any user may read can be read"),
        Level("none", True, "practice only: an answer can do whatever you can"),
    ]


def jail_note() -> str:
    """What root should know about its jail here; "" when there is nothing."""
    refused = user_refused()
    return "" if refused is None else f"processes are limited by time only: the jail has no user of its own ({refused})"


def why_no(isolation: jail.Isolation, private: Iterable[Path] = ()) -> str | None:
    """None when `isolation` works here, else the reason."""
    if isolation == "jail":
        return jail.why_no_jail()
    return why_no_uid(private) if isolation == "uid" else None


# Trying takes a few hundredths of a second, and every zygote asks.
user_refused = functools.cache(jail.why_no_user)


def why_no_uid(private: Iterable[Path] = ()) -> str | None:
    """None when workers can run as another user, who can read neither attnkit nor the `private` paths."""
    if sys.platform != "linux":
        return f"a user for each worker needs Linux; this is {sys.platform}"
    if os.getuid() != 0:
        return "only root can run workers as another user"
    if platform.machine() not in seccomp.ARCHITECTURES:
        return f"there is no system call filter for {platform.machine()}, so a worker would have the network"
    uid = Uid()
    try:
        return _unusable(uid.number) or _open_paths(uid.number, [*_secrets(), *private])
    finally:
        uid.release()


def _secrets() -> list[Path]:
    return shown.hidden_folders(shown.library_folders())


def _unusable(uid: int) -> str | None:
    """Whether a user can run Python with NumPy and torch at all."""
    missing = "print(*(name for name in ('numpy', 'torch') if importlib.util.find_spec(name) is None))"
    run = _as_user(uid, f"import importlib.util; {missing}", [])
    if run.returncode == 0 and not run.stdout.strip():
        return None
    said = run.stderr.strip().splitlines()[-1:] or [run.stdout.strip()]
    return f"another user cannot run {sys.executable} and its libraries: {said[0]}"


_READER = """
import os, sys
for top in sys.argv[1:]:
    for path in [top, *(os.path.join(d, n) for d, _, names in os.walk(top) for n in names)]:
        if os.path.isfile(path) and os.access(path, os.R_OK):
            sys.exit(print(path))
"""


def _open_paths(uid: int, paths: list[Path]) -> str | None:
    """Which of `paths` (or a file in them) the user `uid` can read: found by trying, as that user."""
    run = _as_user(uid, _READER, [str(path.resolve()) for path in paths])
    if run.returncode == 0 and not run.stdout:
        return None
    found = run.stdout.strip() or run.stderr.strip()[-200:]
    return f"any user of this machine can read {found}: take that right away (chmod -R go-rwx on its folder)"


def _as_user(uid: int, source: str, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, *jail.PYTHON_FLAGS, "-c", source, *arguments]
    try:
        return subprocess.run(
            jail.launched(f"drop:{uid}", program),
            capture_output=True,
            text=True,
            timeout=60,
            cwd="/",
            env=dict(jail.ENVIRONMENT),
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return subprocess.CompletedProcess(program, 1, "", str(error))


def close_to_others(path: Path) -> None:
    """Take from everybody but its owner every right to `path` and, for a folder, to all that is in it.

    For the set-up of a container in which workers will run as another user.
    """
    for folder, folders, files in os.walk(path) if path.is_dir() else ():
        for name in (*folders, *files):
            _close(Path(folder, name))
    _close(path)


def _close(path: Path) -> None:
    if not path.is_symlink():
        path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o700)


@dataclass
class Ground:
    """Where one zygote stands: its command, its environment, and what must be undone after it."""

    isolation: jail.Isolation
    private: tuple[Path, ...] = ()
    uid: Uid | None = None
    folder: Path | None = None
    groups: Groups | None = None
    environment: dict[str, str] = field(default_factory=lambda: dict(jail.ENVIRONMENT))

    def prepare(self) -> None:
        """Get a user and a scratch folder, where the level needs them. Raises `GradingError` where it cannot be had."""
        if self.isolation == "uid" and (refused := why_no_uid(self.private)):
            raise GradingError(f"Workers cannot run as another user: {refused}.")
        if self.isolation == "uid" or (self.isolation == "jail" and user_refused() is None):
            self.uid = Uid()
        with contextlib.suppress(NoGroups):
            self.groups = Groups()
        if self.isolation != "jail":
            self.folder = Path(tempfile.mkdtemp(prefix="attnkit-grade-"))
            (self.folder / "scratch").mkdir(mode=0o700)
            scratch = str(self.folder / "scratch")
            self.environment |= {"HOME": scratch, "TMPDIR": scratch}
        if self.isolation == "uid" and self.uid is not None and self.folder is not None:
            self.folder.chmod(0o711)
            (self.folder / "grader").mkdir()
            (self.folder / "grader").chmod(0o755)  # whatever the umask is
            for file in jail.worker_files():  # beside the others of attnkit it could not be read
                (self.folder / "grader" / file.name).write_bytes(file.read_bytes())
                (self.folder / "grader" / file.name).chmod(0o644)
            os.chown(self.folder / "scratch", self.uid.number, self.uid.number)

    def command(self, control: int) -> list[str]:
        """The command of a zygote that is controlled through descriptor `control`."""
        folders = [str(folder) for folder in shown.package_folders()]
        group = self.groups.zygote.folder / "cgroup.procs" if self.groups else None
        if self.isolation == "jail":
            inside = str(jail.INSIDE / jail.WORKER.name)
            number = self.uid.number if self.uid else None
            program = jail.command([inside, str(control), str(jail.SCRATCH), "jail", *folders], self.private, number)
            return jail.launched("stay" if number is None else f"map:{number}", program, group)
        assert self.folder is not None
        worker = self.folder / "grader" / jail.WORKER.name if self.uid else jail.WORKER
        arguments = [str(worker), str(control), str(self.folder / "scratch"), self.isolation, *folders]
        how = f"drop:{self.uid.number}" if self.uid else "stay"
        return jail.launched(how, [sys.executable, *jail.PYTHON_FLAGS, *arguments], group)

    def clear(self) -> None:
        """End what is left of the user, remove the folder. Safe to call twice."""
        groups, uid, folder = self.groups, self.uid, self.folder
        self.groups = self.uid = self.folder = None
        if groups is not None:
            groups.close()
        if uid is not None:
            uid.release()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            if folder.exists():  # deeper than Python goes
                subprocess.run(["rm", "-rf", str(folder)], check=False, stderr=subprocess.DEVNULL)
