"""A stand-in for the containers that autograders run in: root with Docker's usual rights, and no namespaces to be had.

Not a jail: only what such a container lacks is taken away. attnkit lies in it as its set-up should leave it, readable
to root alone.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from attnkit.grading import shown
from attnkit.grading.isolation import close_to_others

COURSE = Path("/course")
ROOT = Path(__file__).parents[2]
# What Docker leaves to root, as far as it matters here.
RIGHTS = ("SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE", "KILL", "FOWNER")


def run(tmp_path: Path, script: Path, *arguments: str, closed: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a Python script of the tests as such a container's root. Unless `closed`, anybody may read attnkit."""
    copy = tmp_path / "course"
    for name in ("attnkit", "tests"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    if closed:
        close_to_others(copy)
    else:
        subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
    command = ["bwrap", *_system(), "--bind", str(copy), str(COURSE), "--chdir", str(COURSE)]
    command += ["--setenv", "PYTHONPATH", str(COURSE), "--setenv", "PYTHONDONTWRITEBYTECODE", "1", "--cap-drop", "ALL"]
    command += [word for right in RIGHTS for word in ("--cap-add", f"CAP_{right}")]
    script = COURSE / script.relative_to(ROOT)
    command += ["--", sys.executable, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)


def _system() -> list[str]:
    """The system, and Python where any user can reach it."""
    folders = shown.library_folders()
    parents = {parent for path in (*folders, *shown.links(folders)) for parent in path.parents} - {Path("/")}
    shared = ("/tmp", "/var/tmp", "/run/lock", "/dev/shm")
    made = [path for path in sorted(parents) if not any(path.is_relative_to(folder) for folder in folders)]
    # First what holds others: Python may lie below /tmp.
    words = [word for path in shared[:2] for word in ("--perms", "1777", "--tmpfs", path)]
    words += [word for path in made if str(path) not in shared for word in ("--perms", "0755", "--dir", str(path))]
    for path in folders:
        words += ["--ro-bind", str(path), str(path)]
    for link, target in shown.links(folders).items():
        words += ["--symlink", target, str(link)]
    for path in shown.hidden_folders(folders):
        if any(path.is_relative_to(folder) for folder in folders):
            words += ["--perms", "0700", "--tmpfs", str(path)]
    words += ["--ro-bind", "/etc/passwd", "/etc/passwd", "--unshare-pid", "--proc", "/proc", "--dev", "/dev"]
    for path in shared[2:]:
        words += ["--perms", "1777", "--tmpfs", path]
    return [*words, "--die-with-parent"]
