"""Notebooks under test: the labs' and the chapters' twins, and a kernel like Colab's."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import nbformat
import pytest

from attnkit.authoring.labs import Master, filled_in, reference_answers
from tests.tools import need

ROOT = Path(__file__).resolve().parents[2]
TWINS = sorted((ROOT / "book").rglob("*.ipynb"))

# What Colab has and we do not (googlecolab/backend-info, August 2026); torch is shared with the tests' environment.
COLAB = {
    "ipywidgets": "7.7.1",
    "ipython": "7.34.0",
    "ipykernel": "6.17.1",
    "traitlets": "5.7.1",
    "numpy": "2.1.3",
    "matplotlib": "3.10.0",
}
# What these old releases need and newer ones do not.
COLAB_HELPERS = ["decorator", "pickleshare", "backcall", "ipython_genutils"]


def read(path: Path):
    """The notebook at `path`."""
    return nbformat.read(path, as_version=4)


def completed(master: Master):
    """The student's notebook with every question answered as in the master; outputs are the stored ones."""
    return filled_in(read(master.student_path), reference_answers(master))


def nbval(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run nbval on `path` from its own folder, so that no setting of this repository plays in."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1"}
    environment.pop("MPLBACKEND", None)  # the kernel chooses its own
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "--nbval-current-env"]
    return subprocess.run(
        [*command, f"--rootdir={path.parent}", *options, path.name],
        cwd=path.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


def _pip(python: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), *arguments], capture_output=True, text=True
    )


@pytest.fixture(scope="session")
def colab_python(tmp_path_factory) -> Path:
    """The interpreter of an environment with Colab's notebook stack, which shares torch with this one.

    Its own packages come first on the path; this environment's come after them. `make colab-env` creates it ahead
    of time in .cache/colab-venv; otherwise it is made here, which needs the package index.
    """
    ready = ROOT / ".cache" / "colab-venv"
    folder = ready if _has_pins(ready) else tmp_path_factory.mktemp("colab") / "venv"
    if folder != ready:
        problem = make_colab_environment(folder)
        need(not problem, f"an environment like Colab's: run `make colab-env` with a network. {problem}")
    return folder / "bin" / "python"


def _has_pins(folder: Path) -> bool:
    site = next(iter(folder.glob("lib/python*/site-packages")), folder)
    return all((site / f"{name}-{version}.dist-info").is_dir() for name, version in COLAB.items())


def make_colab_environment(folder: Path) -> str:
    """Create the environment in `folder`; return what went wrong, or ""."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    python = folder / "bin" / "python"
    wanted = [*(f"{name}=={version}" for name, version in COLAB.items()), *COLAB_HELPERS]
    installed = _pip(python, "install", "--quiet", "--no-deps", *wanted)
    if installed.returncode:
        return installed.stderr.strip()[-300:]
    site = next(folder.glob("lib/python*/site-packages"))
    # A .pth file adds to the end of the path: what is not here is taken from the tests' environment.
    (site / "shared.pth").write_text(f"{ROOT}\n{sysconfig.get_paths()['purelib']}\n", "utf-8")
    return ""


if __name__ == "__main__":
    place = ROOT / ".cache" / "colab-venv"
    sys.exit(None if _has_pins(place) else make_colab_environment(place) or None)
