"""What a worker is shown of the machine: neither attnkit, nor a course, nor another environment, wherever they lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnkit.grading import jail, shown
from attnkit.grading.errors import GradingError


def seen(folder: Path, private: tuple[Path, ...] = ()) -> set[str]:
    """The files with something in them that a worker finds below `folder`, by name."""
    look = (
        f"import os, json; print(json.dumps([n for d, _, ns in os.walk({str(folder)!r}) for n in ns "
        "if os.path.isfile(os.path.join(d, n)) and open(os.path.join(d, n), 'rb').read(1)]))"
    )
    return set(json.loads(subprocess.run(jail.command(["-c", look], private), capture_output=True, check=True).stdout))


def write(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("secret")
    return file


@pytest.fixture
def prefix(jailed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment made in the course's own folder: the interpreter believes that it lives there."""
    real = shown.library_folders()
    for name in ("lib/python3.11/site-packages/library.py", "bin/tool", "pyvenv.cfg"):
        write(tmp_path / name)
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(jail, "library_folders", lambda: sorted({*real, *shown.library_folders()}))
    return tmp_path


def test_of_an_environment_only_programs_and_libraries_are_shown(prefix: Path) -> None:
    for name in (
        *("course.key", "roster.csv", "submissions/ada.ipynb", "out/ledger.db", "labs/attention/questions.py"),
        *("envs/other/lib/python3.12/site-packages/attnkit/lab/judge.py", "share/attnkit/questions.py"),
    ):
        write(prefix / name)
    assert seen(prefix) == {"library.py", "tool", "pyvenv.cfg"}


def test_every_copy_of_attnkit_among_the_libraries_is_hidden(prefix: Path) -> None:
    for version in ("python3.11", "python3.12", "python3"):
        write(prefix / "lib" / version / "site-packages" / "attnkit" / "judge.py")
    write(prefix / "lib" / "python3" / "dist-packages" / "attnkit" / "judge.py")
    assert seen(prefix) == {"library.py", "tool", "pyvenv.cfg"}


def test_the_sources_of_an_editable_install_are_hidden(prefix: Path) -> None:
    clone = prefix / "lib" / "src"
    for name in ("attnkit/lab/judge.py", "labs/attention/questions.py", "tests/answers.py", "pyproject.toml"):
        write(clone / name)
    record = write(prefix / "lib/python3.11/site-packages/attnkit-1.0.dist-info/direct_url.json")
    record.write_text(json.dumps({"url": clone.as_uri(), "dir_info": {"editable": True}}))
    assert not seen(prefix) & {"judge.py", "questions.py", "answers.py"}
    record.write_text("no JSON")
    assert "library.py" in seen(prefix)


def test_a_copy_on_the_search_path_is_hidden(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(prefix / "lib" / "extra" / "attnkit" / "judge.py")
    monkeypatch.syspath_prepend(str(prefix / "lib" / "extra"))
    assert "judge.py" not in seen(prefix)


def test_private_files_and_folders_are_hidden_among_the_libraries(prefix: Path) -> None:
    roster, key = write(prefix / "lib" / "roster.csv"), write(prefix / "lib" / "course" / "course.key")
    assert {"roster.csv", "course.key"} <= seen(prefix)
    assert not {"roster.csv", "course.key"} & seen(prefix, (roster, key.parent))


def test_what_holds_the_libraries_cannot_be_hidden(prefix: Path) -> None:
    with pytest.raises(GradingError, match="Python's libraries are in it"):
        jail.command([], private=[prefix / "lib"])
    assert "library.py" in seen(prefix, (prefix,)), "of a course folder around them only the libraries are there"


def test_links_to_the_interpreter_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "python-3.11.9" / "bin" / "python3.11")
    (tmp_path / "python-3.11").symlink_to("python-3.11.9")
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(tmp_path / "python-3.11" / "bin" / "python3.11")
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "venv"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv" / "bin" / "python"))
    folders = shown.library_folders()
    assert tmp_path / "python-3.11.9" / "bin" in folders
    found = shown.links(folders)
    assert found[tmp_path / "python-3.11"] == "python-3.11.9"
    assert not any(link.is_relative_to(tmp_path / "venv" / "bin") for link in found), "those are shown already"


def test_no_folder_is_shown_that_is_not_on_the_list() -> None:
    folders = shown.library_folders()
    homes = {Path("/"), Path("/usr"), Path("/etc"), Path("/home"), Path("/root"), Path("/var"), Path.home(), Path.cwd()}
    assert not homes & set(folders)
    assert not any(one != other and one.is_relative_to(other) for one in folders for other in folders)
    assert all(os.path.exists(path) for path in folders)
