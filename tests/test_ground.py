"""The ground the project stands on: the command line, and the scripts that `make` calls, when something is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BASH = shutil.which("bash")


def run(*command: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env}, cwd=ROOT)


def test_every_command_has_help() -> None:
    overview = run(sys.executable, "-m", "attnkit.cli", "--help")
    assert overview.returncode == 0, overview.stderr
    for command in ("grade", "report", "export", "mark", "lab", "bench", "book", "kernels"):
        assert command in overview.stdout
        assert run(sys.executable, "-m", "attnkit.cli", command, "--help").returncode == 0


@pytest.mark.parametrize(
    ("missing", "command", "words"),
    [
        ("typer", "grade", "pip install 'attnkit[grade]'"),
        ("jupytext", "lab", "pip install 'attnkit[book]'"),
    ],
)
def test_a_missing_extra_is_named(missing: str, command: str, words: str) -> None:
    code = (
        "import sys, importlib.util as util\n"
        f"sys.modules[{missing!r}] = None\n"
        "found = util.find_spec\n"
        f"util.find_spec = lambda name, *a: None if name == {missing!r} else found(name, *a)\n"
        f"sys.argv = ['attnkit', {command!r}]\n"
        "from attnkit.cli import main\nmain()"
    )
    done = run(sys.executable, "-c", code)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def empty_path_with(folder: Path, *tools: str) -> str:
    """A PATH that holds only `tools`."""
    for tool in tools:
        (folder / tool).symlink_to(shutil.which(tool))
    return str(folder)


def test_without_a_usable_python_setup_says_what_to_install(tmp_path: Path) -> None:
    done = run(BASH, ".ci/find-python", PATH=empty_path_with(tmp_path, "cat"), PYTHON="")
    assert done.returncode == 1
    assert "Python 3.11, 3.12 or 3.13" in done.stderr
    assert "apt-get install python3" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")  # what the version check gives on an old Python
    old.chmod(0o755)
    done = run(BASH, ".ci/find-python", PATH=empty_path_with(tmp_path, "cat"), PYTHON=sys.executable)
    assert done.stdout.strip() == sys.executable


def test_a_missing_system_tool_is_named_with_its_package(tmp_path: Path) -> None:
    path = empty_path_with(tmp_path, "cat")
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")  # an ordinary user: nothing may be installed
    (tmp_path / "id").chmod(0o755)
    done = run(BASH, ".ci/need", "bwrap", "chromium", PATH=path)
    assert done.returncode == 1
    assert "Please install: bwrap chromium" in done.stderr
    assert "bubblewrap chromium" in done.stderr


def test_publishing_from_another_address_fails_clearly() -> None:
    done = run(sys.executable, ".ci/check-repository", "https://github.com/somebody/elsewhere")
    assert done.returncode != 0
    assert "[tool.attnkit] repository in pyproject.toml" in done.stderr
    assert 'Set repository = "https://github.com/somebody/elsewhere"' in done.stderr


def test_the_readmes_examples_run() -> None:
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    done = [run(sys.executable, "-c", example) for example in examples]
    assert all(one.returncode == 0 for one in done), [one.stderr for one in done]
    assert "is taken" in done[0].stdout
    assert done[1].stdout.split("\n")[0].endswith("torch.Size([1, 4, 2, 9])")
    assert "'decoder.layers.0.attention': (1, 4, 9, 9)" in done[2].stdout


def test_ci_runs_what_the_readme_says() -> None:
    assert "exec make test" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    makefile = (ROOT / "Makefile").read_text()
    for target in ("setup", "book", "labs", "notebooks", "gpu", "check", "test", "clean"):
        assert f"\n{target}:" in makefile
