"""Every lab is ready for a class: `attnkit lab verify` finds nothing, and catches what it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from attnkit.authoring.verify_mutants import RATE
from attnkit.authoring.verify_questions import MANY
from tests.lab.labs import MASTERS, class_each, spec_of

pytestmark = pytest.mark.slow

SOLVED_IN = 180  # seconds, at most, for a solved lab from its first cell to its last


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each question of the class's lab."""
    if "name" in metafunc.fixturenames:
        questions = spec_of(metafunc.cls.lab).questions.values()
        metafunc.parametrize("name", [question.name for question in questions if not question.manual])


@pytest.fixture(scope="class")
def verified(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the command says of the class's lab, run once, as its user runs it: without the tests' checks of types."""
    strange = ("ATTNKIT_", "TRITON_", "PYTEST_", "MPLBACKEND")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    command = [sys.executable, "-m", "attnkit.cli", "lab", "verify", request.cls.lab, "--json", "--jobs", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout, done.stderr[-3000:]
    (found,) = json.loads(done.stdout)
    assert done.returncode == (0 if found["passed"] else 1)
    return found


class EveryLab:
    """The tests of one lab; a subclass for each stands below."""

    lab: str

    def test_nothing_is_found_wrong(self, verified: dict[str, Any]) -> None:
        every = [verified, *verified["questions"]]
        assert [fault for one in every for fault in one["faults"]] == []
        assert [warning for one in every for warning in one["warnings"]] == []
        assert verified["passed"]

    def test_it_is_solved_in_time(self, verified: dict[str, Any]) -> None:
        assert 0 < verified["solved_in"] < SOLVED_IN

    def test_every_mistake_of_many_is_caught(self, verified: dict[str, Any], name: str) -> None:
        (one,) = [question for question in verified["questions"] if question["name"] == name]
        assert one["mistakes"] >= MANY
        assert one["caught"] == one["mistakes"]

    def test_mutants_of_the_solution_lose_points(
        self, verified: dict[str, Any], name: str, record_property: Any
    ) -> None:
        (mutants,) = [question["mutants"] for question in verified["questions"] if question["name"] == name]
        record_property("kill rate", mutants["rate"])
        assert mutants["of"] >= 20, "the mutants should be many"
        assert mutants["killed"] >= 5, "and of some that take long at least a few should be tried"
        assert mutants["rate"] >= RATE, "\n".join(mutants["alive"])


globals().update(class_each(EveryLab, MASTERS))
