"""The bench of grading, on a class too small to say anything: it measures what it says, and tells what it left out."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from attnkit.bench import grading, stock
from attnkit.bench.classes import ANSWERS, QUESTIONS, submissions, write_class
from attnkit.bench.report import as_table
from attnkit.lab import Lab
from attnkit.lab.bank import load_lab
from tests.grading import nbgrader_env
from tests.tools import need

SPEC = load_lab("attention")


def defined(answers: dict[str, str]) -> dict:
    """The functions of one set of answers."""
    namespace: dict = {}
    exec("import torch\n" + "\n".join(answers[name] for name in QUESTIONS), namespace)
    return namespace


def test_the_class_is_the_same_for_the_same_seed_and_mixed() -> None:
    students = submissions(200)
    assert students == submissions(200)
    assert students != submissions(200, seed=1)
    for name in QUESTIONS:
        given = [answers[name] for answers in students]
        right = sum(given.count(answer) for answer in ANSWERS[name][:2]) / 200
        assert 0.5 < right < 0.8
        assert all(answer in given for answer in ANSWERS[name])
        assert any("NotImplementedError" in answer for answer in given)


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_first_two_answers_are_right_and_the_others_wrong(name: str) -> None:
    for number, answer in enumerate(ANSWERS[name]):
        functions = defined({**{one: ANSWERS[one][0] for one in QUESTIONS}, name: answer})
        assert Lab("attention").check(name, functions[name]).passed == (number < 2), answer


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_stock_graders_tests_tell_right_from_wrong(name: str) -> None:
    tests = stock._HEAD + stock.asserts(SPEC.questions[name])
    for number, answer in enumerate(ANSWERS[name]):
        functions = defined({**{one: ANSWERS[one][0] for one in QUESTIONS}, name: answer})
        if number < 2:
            exec(tests, functions)
        else:
            with pytest.raises(AssertionError):
                exec(tests, functions)


def test_the_class_is_written_as_notebooks(tmp_path: Path) -> None:
    write_class(tmp_path / "class", 3)
    (first, *others) = sorted((tmp_path / "class").iterdir())
    assert len(others) == 2
    cells = json.loads(first.read_text())["cells"]
    assert [cell["source"].split("\n")[0] for cell in cells[1:]] == [f"# question: {name}" for name in QUESTIONS]


@pytest.mark.slow
def test_a_tiny_class_is_measured_and_what_is_not_installed_is_said(
    jailed: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(grading, "REPEATS", 1)
    rows = {row.name: row for row in grading.suite(4)}
    table = as_table(list(rows.values()))
    assert table.count("not measured: not installed") == 2
    assert "grade 4 submissions of 3 questions in torch, 2 workers" in rows
    assert rows["seconds per submission, 2 workers against 1"].goal == pytest.approx(1 / 1.8, abs=1e-3)
    assert 20 < rows["trusted process, peak memory"].measured < 500
    assert len(rows["isolation jail, cost per question"].ours) == 1
    assert all(sample > 0 for row in rows.values() if "cost" not in row.name for sample in row.ours)


@pytest.mark.slow
def test_a_grader_that_fails_is_an_error_and_no_time(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="there is nothing at"):
        grading.graded(tmp_path, "nowhere", "none", 1)


def test_an_environment_without_the_grader_is_an_error(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such package >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(stock.StockError, match="no such package"):
        stock.version(python, "otter-grader")


@pytest.mark.slow
def test_stock_nbgrader_grades_the_class_as_it_deserves(tmp_path: Path) -> None:
    need(nbgrader_env.has_pins(nbgrader_env.READY), "nbgrader in an environment of its own: run `make nbgrader-env`")
    right = {name: ANSWERS[name][0] for name in QUESTIONS}
    students = [right, right | {"attention": ANSWERS["attention"][3]}]
    (each,) = stock.nbgrader_seconds(nbgrader_env.READY / "bin" / "python", SPEC, students, tmp_path)
    assert each > 0
    with sqlite3.connect(tmp_path / "gradebook.db") as database:
        scores = [score for (score,) in database.execute("SELECT auto_score FROM grade")]
    assert sorted(scores) == [0, 3, 3, 3, 4, 4]
