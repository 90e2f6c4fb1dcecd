"""Gradescope's autograder, run for real: the zip unpacked below a folder of its own in place of /autograder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from attnkit.cli import build_app
from attnkit.grading.adapters import gradescope
from attnkit.grading.adapters.gradescope import pins, write_zip
from attnkit.grading.adapters.gradescope_run import find_notebook, submitter
from attnkit.grading.errors import GradingError
from attnkit.grading.notebook import NotANotebook
from attnkit.lab.bank import load_lab
from tests.grading import container
from tests.grading.autograder import ADA, HOSTILE, Autograder, set_up
from tests.grading.conftest import notebook_bytes
from tests.grading.nbgrader_class import CAPPED, RIGHT, SQUARE, write_lab
from tests.tools import need

IN_CONTAINER = Path(__file__).resolve().with_name("gradescope_in_container.py")


@pytest.fixture
def autograder(tmp_path: Path, jailed: None) -> Autograder:
    """An autograder of the tiny lab."""
    (tmp_path / "root").mkdir()
    return set_up(tmp_path / "root", write_lab(tmp_path))


def scores(results: dict[str, Any]) -> dict[str, float]:
    return {test["name"]: test["score"] for test in results["tests"] if "score" in test}


# What a student gets


@pytest.mark.slow
def test_honest_wrong_and_blank(autograder: Autograder) -> None:
    right = autograder.grade(tiny=notebook_bytes(RIGHT))
    assert right["score"] == 3
    assert right["extra_data"]["student"] == "ada@example.org"
    assert "isolation: jail" in right["output"]
    assert [test["status"] for test in right["tests"] if "score" in test] == ["passed"]
    partial = autograder.grade(tiny=notebook_bytes(CAPPED))
    assert (partial["score"], scores(partial)) == (1, {"double": 1})
    assert "It fails on large numbers" in partial["tests"][0]["output"]
    wrong = autograder.grade(tiny=notebook_bytes(SQUARE))
    assert wrong["score"] == 0
    assert "It looks as if x is squared" in wrong["tests"][0]["output"]
    blank = autograder.grade(tiny=notebook_bytes("# question: double\ndef double(x):\n    raise NotImplementedError()"))
    assert blank["score"] == 0
    assert "Not written yet." in blank["tests"][0]["output"]


@pytest.mark.slow
def test_a_question_in_words_is_left_to_a_person(autograder: Autograder) -> None:
    tests = autograder.grade(tiny=notebook_bytes(RIGHT))["tests"]
    assert [test["name"] for test in tests] == ["double", "essay (marked by a person)"]
    assert "score" not in tests[1]


@pytest.mark.slow
def test_nothing_readable_is_told(autograder: Autograder) -> None:
    assert "there is no notebook" in autograder.grade()["output"]
    told = autograder.grade(tiny=b"%PDF-1.4")
    assert told["score"] == 0
    assert "not a notebook" in told["output"]
    assert "larger than 10 MiB" in autograder.grade(tiny=b" " * (10 * 2**20 + 1))["output"]


@pytest.mark.slow
def test_results_wait_where_the_instructor_says_so(autograder: Autograder) -> None:
    autograder.settings(visibility="after_published")
    results = autograder.grade(tiny=notebook_bytes(RIGHT))
    assert results["visibility"] == "after_published"
    assert not any("visibility" in test for test in results["tests"])


# Hostile answers


@pytest.mark.slow
def test_a_hostile_answer_reads_no_secret_and_writes_no_result(autograder: Autograder) -> None:
    secret = (autograder.root / "source" / "course.key").read_text().strip()
    places = repr([str(autograder.root), "/autograder"])
    results = autograder.grade(tiny=notebook_bytes(HOSTILE.replace("ROOTS", places)))
    assert results["score"] == 0
    assert "isolation: jail" in results["output"]
    assert "RuntimeError: read 0 files" in results["tests"][0]["output"]
    told = json.dumps(results)
    assert secret not in told
    assert "rubric" not in told
    assert "ada@example.org" not in results["tests"][0]["output"]
    assert json.loads((autograder.root / "submission_metadata.json").read_text()) == ADA
    assert autograder.grade(tiny=notebook_bytes(RIGHT))["score"] == 3, "and the next one is graded as ever"


@pytest.mark.slow
def test_where_no_jail_can_be_built_answers_run_as_another_user(jailed: None, tmp_path: Path) -> None:
    """As in Gradescope's container: root, and no namespaces to be had."""
    need(os.getuid() == 0, "root, to run workers as another user")
    run = container.run(tmp_path, IN_CONTAINER)
    assert run.returncode == 0, run.stderr[-3000:]
    found = json.loads(run.stdout.splitlines()[-1])
    given = found["given"]
    assert "isolation: uid" in given["right"]["output"], run.stderr[-2000:]
    assert [given[name]["score"] for name in ("right", "hostile", "again")] == [3, 0, 3]
    assert "RuntimeError: read 0 files" in given["hostile"]["tests"][0]["output"]
    assert not found["leaked"]
    assert found["metadata"] == ADA
    assert given["jail only"]["score"] == 0
    assert "no jail: " in given["jail only"]["extra_data"]["error"]


@pytest.mark.slow
def test_what_is_secret_is_for_root_only(autograder: Autograder) -> None:
    autograder.grade(tiny=notebook_bytes(RIGHT))
    for name in ("source", "results", "submission"):
        assert stat.S_IMODE((autograder.root / name).stat().st_mode) == 0o700
    assert stat.S_IMODE((autograder.root / "submission_metadata.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((autograder.root / "results" / "results.json").stat().st_mode) == 0o600


# There is always a result


@pytest.mark.slow
def test_an_error_of_the_grader_is_told_and_is_no_verdict(autograder: Autograder) -> None:
    (autograder.root / "source" / "lab" / "tiny" / "questions.py").write_text("raise ValueError('broken')")
    results = autograder.grade(tiny=notebook_bytes(RIGHT))
    assert "did not work, which is not your fault" in results["output"]
    assert "broken" not in results["output"]
    assert "ValueError: broken" in results["extra_data"]["error"]


@pytest.mark.slow
def test_isolation_is_never_weakened(autograder: Autograder) -> None:
    autograder.settings(isolation="none")
    results = autograder.grade(tiny=notebook_bytes(RIGHT))
    assert results["score"] == 0
    assert "should be auto, jail or uid" in results["extra_data"]["error"]


def a_python(folder: Path, does: str) -> str:
    """A folder whose bin/python does something else."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text(f"#!/bin/sh\n{does}\n")
    (folder / "bin" / "python").chmod(0o755)
    return str(folder)


def test_a_python_that_dies_hangs_or_is_not_there_leaves_a_result(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    autograder = set_up(root, write_lab(tmp_path))
    assert "exit status 127" in autograder.run(ATTNKIT_HOME=str(tmp_path / "nowhere"))["output"]
    assert "exit status 3" in autograder.run(ATTNKIT_HOME=a_python(tmp_path / "a", "exit 3"))["output"]
    start = time.monotonic()
    told = autograder.run(ATTNKIT_HOME=a_python(tmp_path / "b", "exec sleep 100"), ATTNKIT_SECONDS="1")
    assert "ran out of time" in told["output"]
    assert time.monotonic() - start < 60
    killed = autograder.run(ATTNKIT_HOME=a_python(tmp_path / "c", "kill -9 $$"))
    assert "out of time or memory" in killed["output"]


# Who and what


def test_seeds_are_of_the_student_and_the_attempt(tmp_path: Path) -> None:
    none = tmp_path / "none.csv"
    assert submitter(ADA, none) == submitter(ADA | {"created_at": "2026"}, none)
    again = submitter(ADA | {"previous_submissions": [{}, {}]}, none)
    assert (again.student, again.attempt) == ("ada@example.org", 3)
    pair = {"users": [{"id": 9}, {"email": "a@b.c", "id": 8}]}
    assert submitter(pair, none).student == "9+a@b.c"
    with pytest.raises(GradingError, match="names no user"):
        submitter({"users": []}, none)
    roster = tmp_path / "roster.csv"
    roster.write_text("id,name,email\ns17,Ada Lovelace,ada@example.org\n")
    assert submitter(ADA, roster).student == "s17"


def test_the_notebook_that_bears_the_labs_name_counts(tmp_path: Path) -> None:
    with pytest.raises(NotANotebook, match="no notebook"):
        find_notebook(tmp_path, "tiny")
    for name in ("z.ipynb", "tiny.ipynb", "__MACOSX/tiny.ipynb", "deep/.tiny.ipynb"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "tiny-2.ipynb").symlink_to(tmp_path / "z.ipynb")
    path, notes = find_notebook(tmp_path, "tiny")
    assert path == tmp_path / "tiny.ipynb"
    assert notes == ["2 notebooks were handed in; tiny.ipynb was graded."]


# The zip


def test_the_zip_holds_what_a_grader_needs_and_nothing_else(tmp_path: Path) -> None:
    write_zip(load_lab("attention"), tmp_path / "a.zip", tmp_path / "course.key", pip_args="--extra-index-url X")
    write_zip(load_lab("attention"), tmp_path / "b.zip", tmp_path / "course.key", pip_args="--extra-index-url X")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert stat.S_IMODE((tmp_path / "a.zip").stat().st_mode) == 0o600
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = set(archive.namelist())
        assert {"setup.sh", "run_autograder", "course.key", "lab/attention/questions.py"} <= names
        assert archive.getinfo("run_autograder").external_attr >> 16 == 0o100755
        assert archive.getinfo("course.key").external_attr >> 16 == 0o100600
        assert archive.read("requirements.txt").decode().split() == pins()
        assert archive.read("pip_args.txt") == b"--extra-index-url X\n"
    assert not [name for name in names if name.startswith(("attnkit/authoring", "attnkit/lab/bank/")) or ".md" in name]
    assert not any("+" in pin for pin in pins())


@pytest.mark.parametrize("name", ["setup.sh", "run_autograder"])
def test_the_scripts_are_bash(name: str) -> None:
    path = Path(gradescope.__file__).parent / "autograder" / name
    assert subprocess.run(["bash", "-n", str(path)]).returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere"], "should be one of"),
        (["attention", "--isolation", "none"], "auto, jail or uid"),
        (["attention", "--visibility", "never"], "visible, after_due_date"),
    ],
)
def test_bad_words_are_refused(words: list[str], told: str, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "a.zip"), "--key", str(tmp_path / "course.key")]
    run = CliRunner().invoke(build_app(), ["gradescope", *words, *out])
    assert run.exit_code == 1
    assert told in " ".join(run.output.split())
    assert not (tmp_path / "a.zip").exists()
