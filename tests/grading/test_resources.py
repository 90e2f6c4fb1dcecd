"""What answers use, graded: the frugal pass, the greedy do not, however they go about it."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from attnkit.grading import jail, seeds
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.zygote import Zygote
from attnkit.lab.question import Question, Resource
from tests.grading.conftest import notebook_bytes
from tests.grading.measured_questions import (
    GREEDY_FLASH,
    MIB,
    RIGHT_CACHED,
    RIGHT_FLASH,
    SLOW_CACHED,
    Cached,
    Flash,
)

pytestmark = pytest.mark.slow  # jails, or notebooks that run

SEED = seeds.seed(b"7" * 32, "lab", "q", "s", 1)


@pytest.fixture(scope="module")
def patient(jailed: None) -> Iterator[Zygote]:
    """A zygote with the usual limits: some of the greedy take seconds."""
    with Zygote("jail", jail.Limits()) as zygote:
        yield zygote


def graded(zygote: Zygote, question: Question, source: str, seed: str = SEED) -> Graded:
    cells = read_submission(notebook_bytes(f"# question: {question.name}\n{source}"))
    return grade_question(zygote, question, cells, seed)


def passed(result: Graded) -> dict[str, bool]:
    return {part: good for part, _, good in result.parts}


@pytest.mark.parametrize("name", RIGHT_FLASH)
def test_memory_that_grows_like_the_length_passes(patient: Zygote, name: str) -> None:
    result = graded(patient, Flash, RIGHT_FLASH[name])
    assert passed(result) == {"ordinary": True, "memory": True}, result.measured
    assert (result.points, result.status) == (3, "full")
    assert not [kind for kind, _ in result.told if kind in ("resource", "table", "failed")]


@pytest.mark.parametrize("name", GREEDY_FLASH)
def test_memory_that_is_held_is_found(patient: Zygote, name: str) -> None:
    result = graded(patient, Flash, GREEDY_FLASH[name])
    assert passed(result) == {"ordinary": True, "memory": False}, result.measured
    assert (result.points, result.status) == (1, "partial")


@pytest.mark.parametrize("name", RIGHT_CACHED)
def test_a_step_that_leans_on_what_is_kept_passes(patient: Zygote, name: str) -> None:
    result = graded(patient, Cached, RIGHT_CACHED[name])
    assert passed(result) == {"ordinary": True, "time": True}, result.measured
    assert result.points == 2


@pytest.mark.parametrize("name", SLOW_CACHED)
def test_a_step_that_does_all_the_work_again_does_not(patient: Zygote, name: str) -> None:
    result = graded(patient, Cached, SLOW_CACHED[name])
    assert passed(result)["ordinary"], result.told
    assert passed(result) == {"ordinary": True, "time": False}, result.measured
    assert result.points == 1


def test_what_is_told_shows_lengths_and_limits_and_says_the_same_each_time(patient: Zygote) -> None:
    first, second = (graded(patient, Flash, GREEDY_FLASH["naive"], seed) for seed in (SEED, SEED[::-1]))
    assert first.told == second.told
    assert json.dumps(first.outcome) == json.dumps(second.outcome)
    told = dict(first.told)
    assert "grows faster than length^1.4, about as length^2" in told["resource"].replace("\n", " ")
    assert "running maximum" in told["resource"]
    lines = told["table"].split("\n")
    assert lines[:2] == ["Memory by length", "length\tmemory\tat most\t"]
    assert lines[2:] == [
        "1024\tabout 8 MiB\t16.5 MiB\tfine",
        "2048\tabout 32 MiB\t17 MiB\ttoo much",
        "4096\tabout 128 MiB\t18 MiB\ttoo much",
    ]
    assert first.told[-1] or first.told
    assert "3 of 7 cases pass" not in told["failed"]


def test_the_instructor_has_the_numbers_and_whose_they_are(patient: Zygote) -> None:
    (reading,) = graded(patient, Flash, GREEDY_FLASH["naive"]).measured
    assert (reading["part"], reading["measure"]) == ("memory", "memory")
    assert reading["by"] in ("peak resident set", "cgroup")
    assert reading["values"]["4096"] == pytest.approx(128 * MIB, rel=0.1)


def test_nothing_is_measured_before_the_ordinary_cases_pass(patient: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(length: int, rng: np.random.Generator) -> None:
        raise AssertionError("measured")

    resource = replace(Flash.resources[0], case=never)
    question = replace(Flash, resources=(resource,))
    result = graded(patient, question, "def flash(query, key, value):\n    return query")
    assert result.points == 0
    assert passed(result) == {"ordinary": False, "memory": False}
    assert not [kind for kind, _ in result.told if kind == "resource"]


def test_no_two_calls_get_the_same_inputs(patient: Zygote) -> None:
    drawn: list[bytes] = []
    resource = Cached.resources[0]

    def case(length: int, rng: np.random.Generator):
        made = resource.case(length, rng)
        drawn.append(b"".join(step.args[0].tobytes() for step in made.steps if getattr(step, "args", ())))
        return made

    question = replace(Cached, resources=(replace(resource, case=case),))
    assert graded(patient, question, RIGHT_CACHED["keeps the rows"]).points == 2
    assert len(drawn) >= 18
    assert len(set(drawn)) == len(drawn)


def test_a_limit_in_seconds(patient: Zygote) -> None:
    resource = Resource("time", "time", (4096,), Cached.resources[0].case, "Too slow.", at_most=lambda length: 0.01)
    question = replace(Cached, resources=(resource,))
    assert passed(graded(patient, question, RIGHT_CACHED["keeps the rows"]))["time"]
    result = graded(patient, question, SLOW_CACHED["computes every row again"])
    assert not passed(result)["time"]
    assert dict(result.told)["table"].split("\n")[1:] == ["length\tat most\t", "4096\t0.01 s\ttoo much"]


def spin() -> None:
    while True:
        pass


@pytest.mark.slow
def test_a_busy_machine_changes_no_verdict(patient: Zygote) -> None:
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=spin, daemon=True) for _ in range(2)]
    for process in busy:
        process.start()
    try:
        assert graded(patient, Cached, RIGHT_CACHED["keeps the rows"]).points == 2
        assert graded(patient, Cached, SLOW_CACHED["computes every row again"]).points == 1
        assert graded(patient, Flash, RIGHT_FLASH["in blocks"]).points == 3
        assert graded(patient, Flash, GREEDY_FLASH["naive"]).points == 1
    finally:
        for process in busy:
            process.kill()
