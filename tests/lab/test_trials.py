"""Questions that ask for a test: what it is handed, what it may ask, and what feedback says of it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from attnkit.authoring.verify_questions import mistake_faults, reference_faults
from attnkit.lab.blackbox import BlackBox
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.outcome import Answer
from attnkit.lab.question import Case, QuestionError, question
from attnkit.lab.reference import as_call
from attnkit.lab.steps import Build, Call, Trial
from attnkit.lab.trials import MAX_CALLS, Refused, Trying, held, trial_faults
from attnkit.lab.verdict import replies

from . import trial_questions as asked
from .trial_questions import RIGHT, WRONG, Softmax


def defined(source: str, tmp_path=None):
    namespace: dict = {"__name__": "student"}
    exec(compile(source, "<cell>", "exec"), namespace)
    return namespace["test_softmax"]


def outcome(test, frameworks=("torch", "numpy"), order=None):
    return judge(Softmax, InProcess(test, Softmax), Softmax.cases(np.random.default_rng(0)), frameworks, order)


@pytest.mark.parametrize("source", RIGHT.values(), ids=RIGHT)
def test_right_tests_pass(source: str) -> None:
    found = outcome(defined(source))
    assert found.passed, found.as_text()


@pytest.mark.parametrize("name", [name for name in WRONG if "at line" not in WRONG[name][2]])
def test_wrong_tests_lose_points_and_are_told_why(name: str) -> None:
    source, points, words = WRONG[name]
    found = outcome(defined(source))
    assert found.points == points
    assert " ".join(words.split()) in " ".join(found.as_text().split())


def test_the_line_that_failed_a_right_implementation_is_shown() -> None:
    def test_softmax(f):
        assert f(torch.ones(1, 2)).sum() == 2, "this is\n  wrong"

    found = outcome(test_softmax)
    assert found.counterexample.note == "a right softmax"
    assert found.counterexample.got.startswith("AssertionError: this is wrong ")
    assert "\nat line " in found.counterexample.got
    assert "assert f(torch.ones(1, 2)).sum() == 2" in found.counterexample.got
    assert found.counterexample.why == "your test fails a right implementation"
    assert found.counterexample.script == ("test_softmax(implementation)",)


def test_a_long_message_is_cut_and_addresses_are_left_out() -> None:
    def test_softmax(f):
        raise AssertionError(f"{object()} " + "x" * 10_000 + "\x1b[31m")

    text = outcome(test_softmax).as_text()
    assert "0x…" in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) < 250


def test_of_several_trials_the_one_that_fails_is_shown() -> None:
    asked_for: list[int] = []

    def test_softmax(f):
        asked_for.append(0)
        asked.sums(f)
        if len(asked_for) == 3:
            raise ValueError("the third")

    found = outcome(test_softmax, ("numpy",))
    assert found.results[2].why == "raised: ValueError: the third"
    assert len(asked_for) == 5


def test_reference_and_mistakes_pass_through_the_same_judge() -> None:
    assert reference_faults(Softmax) == []
    assert mistake_faults(Softmax) == []
    assert trial_faults(Softmax) == []
    call = as_call(asked.tiled, Softmax)
    found = judge(Softmax, call, Softmax.cases(np.random.default_rng(0)))
    assert found.mistake.name == "it tries large arrays"
    assert found.mistake.certain


def faulty(*cases: Case, reference=asked.reference):
    @question(points=1, answer="test_x")
    class X:
        """A test."""

        def cases(self, rng):
            return cases

        def reference(self, implementation):
            return reference(implementation)

    return trial_faults(X)


def test_what_an_author_may_get_wrong_is_found() -> None:
    right, broken = Case(steps=(Trial(asked.rows, False),)), Case(steps=(Trial(asked.columns, True),), note="columns")
    assert faulty(right, broken) == []
    assert "no subject is broken" in faulty(right)[0]
    assert "no subject is right" in faulty(broken)[0]
    lied = Case(steps=(Trial(asked.rows, True),), note="rows")
    assert faulty(right, lied) == ["rows: the subject is said to be broken, and the reference lets it pass"]
    lied = Case(steps=(Trial(asked.columns, False),), note="columns")
    assert faulty(right, broken, lied) == ["columns: the subject is said to be right, and the reference catches it"]
    small = Case(steps=(Trial(asked.rows, False, most=2),), note="small")
    assert "small: the reference raises Refused on a right subject: Your test hands over 4" in faulty(small, broken)[0]
    assert faulty(right, broken, Case((np.ones(2),), note="a call")) == ["a call: is no trial, and others are"]
    with pytest.raises(QuestionError, match="NameError"):
        raise QuestionError(faulty(right, broken, reference=lambda f: undefined)[0])


def trial(**fields) -> Trial:
    """A trial as an author may write it, whose types nobody checks."""
    made = Trial(np.ones, True)
    for name, value in fields.items():
        object.__setattr__(made, name, value)
    return made


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((Trial(np.ones, True), Call()), "step 2 was Call; a script with trials holds nothing else"),
        ((Build(), Trial(np.ones, True)), "step 1 was Build"),
        ((trial(subject=3),), "subject was 3"),
        ((trial(subject=dict),), "it should be a function"),
        ((trial(broken=1),), "broken was 1"),
        ((trial(most=0),), "most was 0"),
        ((trial(most=2.5),), r"most was 2\.5"),
    ],
)
def test_a_trial_that_is_written_wrongly_is_refused(steps, words: str) -> None:
    with pytest.raises(QuestionError, match=words):
        Case(steps=steps)


# --- the black box ----------------------------------------------------------------------------------------------------


def boxed(subject, as_torch=False, most=None):
    trying = Trying(Trial(subject, True, most))
    return BlackBox(trying, as_torch).function(), trying


def test_it_gives_back_the_kind_that_it_was_handed() -> None:
    implementation, _ = boxed(asked.rows)
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        out = implementation(torch.ones(2, 2, dtype=dtype))
        assert (type(out), out.dtype) == (torch.Tensor, dtype)
    for kind in (np.float16, np.float32, np.float64):
        out = implementation(np.ones((2, 2), kind))
        assert (type(out), out.dtype) == (np.ndarray, kind)
    two, _ = boxed(lambda x, y: (x.astype(np.float64) + y, x > y, x.sum(), 3, None, "text"))
    total, more, number, three, none, text = two(torch.ones(2), torch.ones(2, dtype=torch.float64, requires_grad=True))
    assert (total.dtype, more.dtype, number.ndim) == (torch.float64, torch.bool, 0)
    assert (three, none, text) == (3, None, "text")
    assert not total.requires_grad
    numbers = two(np.ones(2, np.float32), np.float32(0.5))
    assert (numbers[0].dtype, type(numbers[2])) == (np.float32, np.float32)


def test_numbers_alone_come_back_as_the_framework_has_arrays() -> None:
    assert isinstance(boxed(lambda n: np.ones(n), as_torch=True)[0](3), torch.Tensor)
    assert boxed(lambda n: np.ones(n), as_torch=True)[0](3).dtype == torch.float32
    assert isinstance(boxed(lambda n: np.ones(n))[0](n=3), np.ndarray)
    assert boxed(lambda *a, **k: repr((a, k)))[0](True, 2, 2.5, None, "x", (1, (2,)), y=np.int8(3)) == (
        "((True, 2, 2.5, None, 'x', (1, (2,))), {'y': 3})"
    )


def test_nobody_writes_into_anothers_arrays() -> None:
    x = torch.tensor([[1.0, 2.0]])
    implementation, _ = boxed(asked.writes)
    out = implementation(x)
    assert x.tolist() == [[1.0, 2.0]]
    assert out is not x
    same, _ = boxed(lambda x: x)
    array = np.ones(2)
    same(array)[:] = 7
    assert array.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1.0], "a list"),
        ({}, "a dict"),
        (1j, "a complex"),
        (torch.ones(2) * 1j, "complex numbers"),
        (np.array([None]), "dtype object"),
        (np.ones(2, np.uint16), "dtype uint16"),
        (((((1,),),),), "a tuple"),
        (2**64, "64 bits"),
        (object(), "an object"),
    ],
)
def test_what_does_not_travel_is_told(value, words: str) -> None:
    implementation, trying = boxed(asked.rows)
    with pytest.raises(ValueError, match=words):
        implementation(value)
    assert trying.refused == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones(4097),), "4097 numbers in one call; at most 4096"),
        ((np.ones(4000), np.ones(97)), "4097 numbers"),
        ((np.ones((0, 10**7)),), "too large"),
        (("x" * 5000,), "a text"),
        ((10_001,), "the whole number 10001"),
        ((-(2**62),), "the whole number"),
        ((10_000, 10_000, 2), "together"),
        ((np.array([2**40, 1]),), "beyond 65536"),
        ((np.array(20_000),), "the whole number 20000"),
    ],
)
def test_what_could_harm_the_judge_is_refused(arguments, words: str) -> None:
    called: list[int] = []
    implementation, trying = boxed(lambda *_: called.append(0) or 0.0)
    with pytest.raises(ValueError, match=words):
        implementation(*arguments)
    assert words in trying.refused
    assert called == []


def test_a_result_that_is_too_large_and_calls_that_are_too_many_are_refused() -> None:
    implementation, trying = boxed(lambda x: np.zeros((x.size, x.size)))
    with pytest.raises(ValueError, match="a result of 90000 numbers"):
        implementation(np.ones(300))
    implementation, trying = boxed(asked.rows)
    for _ in range(MAX_CALLS):
        implementation(np.ones((1, 2)))
    assert trying.refused == ""
    with pytest.raises(ValueError, match="more than 200 times"):
        implementation(np.ones((1, 2)))
    assert trying.calls == MAX_CALLS + 1


def test_the_subjects_error_comes_as_a_value_error_that_does_not_name_it() -> None:
    implementation, trying = boxed(asked.one_row)
    with pytest.raises(ValueError, match=r"^IndexError: row 1 is out of reach of implementation$") as caught:
        implementation(np.ones((2, 2)))
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert trying.refused == ""
    with pytest.raises(ValueError, match="shapes") as caught:
        boxed(lambda x, y: x + y)[0](np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="got an unexpected keyword argument 'z'"):
        boxed(asked.one_row)[0](1, z=1)
    with pytest.raises(ValueError, match=r"no test can be handed \(dict\)"):
        boxed(lambda x: {})[0](1)

    def raises(x):
        raise AssertionError("a broken subject's own")

    with pytest.raises(ValueError, match="AssertionError: a broken subject's own"):
        boxed(raises)[0](1)
    assert held(lambda f: f(np.ones((1, 2))), Trial(asked.one_row, True)) == 0.0


def test_a_trusted_test_that_asks_for_too_much_is_refused_even_if_it_hides_it() -> None:
    def hides(implementation):
        with contextlib.suppress(ValueError):
            implementation(np.ones((2, 2)))

    assert held(hides, Trial(asked.rows, False, most=4)) == 0.0
    with pytest.raises(Refused, match="4 numbers in one call; at most 3"):
        held(hides, Trial(asked.rows, False, most=3))
    with pytest.raises(Refused, match="at most 1 is allowed"):
        held(hides, Trial(asked.rows, False, most=1))


def test_threads_take_turns_and_after_the_test_it_is_silent() -> None:
    inside: list[int] = []
    most: list[int] = []

    def slow(x):
        inside.append(0)
        most.append(len(inside))
        inside.pop()
        return x

    box = BlackBox(Trying(Trial(slow, False)), False)
    implementation = box.function()
    threads = [threading.Thread(target=lambda: [implementation(np.ones(3)) for _ in range(20)]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert (len(most), max(most)) == (80, 1)
    box.close()
    with pytest.raises(ValueError, match="the test is over"):
        implementation(1)


# --- order ------------------------------------------------------------------------------------------------------------


def test_trials_are_held_one_by_one_in_the_order_that_is_drawn() -> None:
    """A test that counts would otherwise know what comes when."""
    cases = list(Softmax.cases(np.random.default_rng(0)))
    seen: list[str] = []

    def call(case: Case, framework: str) -> Answer:
        (step,) = case.steps
        seen.append(step.subject.__name__)
        return Answer((float(step.broken),), said=(("", step.subject.__name__),))

    orders = set()
    for seed in (None, *range(8)):
        seen.clear()
        found = replies(cases, call, "torch", seed)
        assert [one.value for one in found] == [(0.0,), (1.0,), (0.0, 1.0), (1.0,)]
        assert found[2].said == (("", "writes"), ("", "columns"))
        orders.add(tuple(seen))
        if seed is None:
            assert seen == ["rows", "columns", "writes", "columns", "unguarded"]
    assert len(orders) > 5


def test_a_test_that_counts_passes_no_drawn_order() -> None:
    def counting():
        calls: list[int] = []

        def test_softmax(f):
            calls.append(0)
            assert len(calls) not in (2, 4, 5)

        return test_softmax

    assert outcome(counting(), ("numpy",)).passed
    drawn = [outcome(counting(), ("numpy",), np.random.default_rng(seed)).points for seed in range(10)]
    assert sum(points == 0 for points in drawn) >= 8


def test_loading_the_lab_stays_light() -> None:
    heavy = ("torch", "IPython", "nbformat", "attnkit.grading", "attnkit.lab.handing_in", "attnkit.lab.reading")
    code = f"import sys, attnkit.lab; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
