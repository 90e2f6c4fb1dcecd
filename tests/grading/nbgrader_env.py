"""An environment with the real nbgrader, for tests: `python -m tests.grading.nbgrader_env` makes it ahead of time.

It holds nbgrader and what it imports, without JupyterLab and the notebook interface (50 MB, a few seconds); the rest
comes from the tests' own environment.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOCK = ROOT / ".ci" / "nbgrader.txt"
READY = ROOT / ".cache" / "nbgrader-venv"


def pins() -> dict[str, str]:
    """The packages of the lock and their versions."""
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)$", LOCK.read_text("utf-8"), re.MULTILINE))


def has_pins(folder: Path) -> bool:
    """Whether `folder` is an environment with what the lock says."""
    site = next(iter(folder.glob("lib/python*/site-packages")), folder)
    names = {path.name.lower().replace("_", "-") for path in site.glob("*.dist-info")}
    return all(f"{name}-{version}.dist-info" in names for name, version in pins().items())


def make(folder: Path) -> str:
    """Create the environment in `folder`; return what went wrong, or ""."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    wanted = ["install", "--quiet", "--disable-pip-version-check", "--no-deps", "-r", str(LOCK)]
    installed = subprocess.run([*pip, *wanted], capture_output=True, text=True)
    if installed.returncode:
        return installed.stderr.strip()[-300:]
    site = next(folder.glob("lib/python*/site-packages"))
    # A .pth file adds to the end of the path: what is not here is taken from the tests' environment.
    (site / "shared.pth").write_text(f"{ROOT}\n{sysconfig.get_paths()['purelib']}\n", "utf-8")
    return ""


def run(folder: Path, course: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment in `course`, as one does who has activated it."""
    return subprocess.run(
        [str(folder / "bin" / command[0]), *command[1:]],
        cwd=course,
        env=environment_of(folder, course),
        capture_output=True,
        text=True,
        timeout=300,
    )


def environment_of(folder: Path, course: Path) -> dict[str, str]:
    """The environment variables of who has activated the environment, without settings of their own."""
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "HOME": str(course), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


if __name__ == "__main__":
    sys.exit(None if has_pins(READY) else make(READY) or None)
