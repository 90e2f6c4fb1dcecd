"""Hostile tests, held in the jail: each gets what it deserves, soon enough, and costs nobody else anything."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from attnkit.grading import jail, wire
from attnkit.grading.engine import grade_question, read_submission
from attnkit.grading.trying import MAX_ASKED, Examined
from attnkit.grading.zygote import Zygote
from attnkit.lab.steps import Trial
from tests.grading.conftest import notebook_bytes
from tests.lab.trial_questions import RIGHT, Softmax, rows
from tests.redteam.trial_attacks import ATTACKS

SEED = "5" * 64


@pytest.fixture(scope="module")
def zygote(jailed: None) -> Iterator[Zygote]:
    with Zygote("jail", jail.Limits(seconds=3.0, load_seconds=3.0)) as zygote:
        yield zygote


def graded(zygote: Zygote, source: str):
    return grade_question(zygote, Softmax, read_submission(notebook_bytes(f"# question: test_softmax\n{source}")), SEED)


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_each_gets_what_it_deserves_and_the_next_is_graded_as_if_nothing_had_been(zygote: Zygote, name: str) -> None:
    source, points, why = ATTACKS[name]
    start = time.monotonic()
    result = graded(zygote, source)
    # Two frameworks and the practice run, each with a child that may use up its time and a new zygote after it.
    assert time.monotonic() - start < 60
    assert result.points == points, why
    for _, text in result.told:
        assert len(text) < 3000
        assert not [one for one in text if not one.isprintable() and one != "\n" and one != "\t"]
    assert graded(zygote, RIGHT["numpy"]).points == 3


# --- frames by themselves ---------------------------------------------------------------------------------------------


def asked(*headers: dict, arrays=()) -> list[wire.Frame]:
    """The answers to questions of which each is the given header."""
    examined = Examined(Trial(rows, True), 7)
    return [wire.Parser().feed(examined(wire.Frame(header, list(arrays)))) for header in headers]


def frame(count: int = 1, **changes) -> dict:
    return {"id": 7, "ask": count, "args": [{"array": 0}], "kwargs": {}, **changes}


ONE = (np.ones((1, 2)),)
ODD = {
    "another number": frame(id=8),
    "no number": {**frame(), "id": None},
    "a number that is true": frame(ask=True),
    "out of turn": frame(2),
    "no arguments": {"id": 7, "ask": 1},
    "arguments that are no list": frame(args={"array": 0}),
    "keywords that are no object": frame(kwargs=[]),
    "too many": frame(args=[{"none": 0}] * 40),
    "an array that is not there": frame(args=[{"array": 1}]),
    "an array before the first": frame(args=[{"array": -1}]),
    "an array of true": frame(args=[{"array": True}]),
    "two kinds at once": frame(args=[{"array": 0, "none": 0}]),
    "an unknown kind": frame(args=[{"held": 0}]),
    "a text that is none": frame(args=[{"text": 3}]),
    "a number that is an array": frame(args=[{"number": 0}]),
    "too deep": frame(args=[{"tuple": [{"tuple": [{"tuple": [{"tuple": []}]}]}]}]),
    "a tuple that is none": frame(args=[{"tuple": 3}]),
    "a bare value": frame(args=[1.5]),
}


@pytest.mark.parametrize("header", ODD.values(), ids=ODD)
def test_a_question_in_no_known_form_is_malformed(header: dict) -> None:
    with pytest.raises(wire.Malformed):
        asked(header, arrays=ONE)


def test_a_question_in_its_form_is_answered_with_its_own_numbers() -> None:
    first, second = asked(frame(), frame(2, args=[{"none": 0}]), arrays=ONE)
    assert (first.header, first.arrays[0].tolist()) == ({"id": 7, "ask": 1, "value": {"array": 0}}, [[0.5, 0.5]])
    assert (second.header["id"], second.header["ask"]) == (7, 2)
    assert second.header["error"].startswith("AttributeError")


def test_who_asks_without_end_is_cut_off() -> None:
    examined = Examined(Trial(rows, True), 7)
    for count in range(1, MAX_ASKED + 1):
        examined(wire.Frame(frame(count), list(ONE)))
    assert examined.trying.refused == "Your test calls the implementation more than 200 times."
    with pytest.raises(wire.Malformed, match="without end"):
        examined(wire.Frame(frame(MAX_ASKED + 1), list(ONE)))


def test_results_that_no_frame_holds_become_errors_in_words() -> None:
    for result, words in (
        (tuple(range(300)), "too many arrays"),
        ("x" * 5000, "a text that is too long"),
        (2**80, "no test can be handed"),
        ((None,) * 9000, "a header of"),
        (np.array(["x"]), "no test can be handed"),
    ):
        examined = Examined(Trial(lambda result=result: result, True), 7)
        answer = wire.Parser().feed(examined(wire.Frame(frame(args=[]), [])))
        assert words in answer.header["error"]
