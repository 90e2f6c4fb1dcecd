"""Judging what was measured: limits, growth, and words that do not hang on the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

from attnkit.lab import metering
from attnkit.lab.bank import LabSpec
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.lab import Feedback, Lab
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Failure, Framework, Outcome
from attnkit.lab.question import Case, Question, QuestionError, Resource, Tolerance, question
from attnkit.lab.resources import MIB, Usage, about, exact, exponent, judge_resources, verdict, wrong

LENGTHS = (1024, 2048, 4096)


def _case(length: int, rng: np.random.Generator) -> Case:
    return Case((rng.standard_normal(length).astype(np.float32),))


@question(points=3, answer="total")
class Total:
    """The sum of all products of two."""

    parts: ClassVar = {"ordinary": 1, "memory": 2}
    resources = (
        Resource("memory", "memory", LENGTHS, _case, "Sum first.", at_most=lambda n: 16 * MIB, growth=1.3, read="p#h"),
    )

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Two."""
        yield _case(2, rng)
        yield _case(3, rng)

    def reference(self, x: np.ndarray) -> float:
        """Without the square."""
        return float(x.sum() ** 2)

    tolerance = Tolerance(1e-3, 1e-2)


RESOURCE = Total.resources[0]
TIMED = Resource("time", "time", (10, 100, 1000), _case, "Faster.", growth=0.5)


def frugal(x: np.ndarray) -> float:
    return float(np.sum(x)) ** 2


def greedy(x: np.ndarray) -> float:
    return float(np.sum(np.outer(x, x)))


def usages(*megabytes: float, lengths: Sequence[int] = LENGTHS) -> list[Usage]:
    return [Usage(n, float(size * MIB)) for n, size in zip(lengths, megabytes, strict=False)]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0, 3.0])
def test_the_exponent_of_a_power_law(power: float) -> None:
    assert exponent((10, 30, 100), [7 * n**power for n in (10, 30, 100)], 0.0) == pytest.approx(power)


def test_what_lies_below_the_noise_does_not_look_like_growth() -> None:
    assert exponent((1, 2, 4), [0.0, 1.0, 3.0], 4.0) == 0.0
    assert exponent((1, 2, 4), [1.0, 4.0, 16.0], 4.0) < 2.0
    with pytest.raises(ValueError, match="needs at least two"):
        exponent((1,), [1.0], 1.0)


def test_frugal_passes_and_says_nothing() -> None:
    result = verdict(RESOURCE, usages(0.5, 1, 2))
    assert result.passed
    assert (result.said, result.table) == ("", ())
    assert [one.passed for one in result.results] == [True] * 4


def test_growth_alone_fails_though_every_size_is_allowed() -> None:
    result = verdict(RESOURCE, usages(0.9, 3.6, 14.4))
    assert not result.passed
    assert result.said == "The memory it takes grows faster than length^1.3."
    assert [one.passed for one in result.results] == [True, True, True, False]


def test_a_buffer_set_aside_does_not_grow_and_fails_by_its_size() -> None:
    result = verdict(RESOURCE, usages(64, 64, 64))
    assert not result.passed
    assert result.said == "Your answer takes more memory than it may."
    assert result.table[1] == ("1024", "about 64 MiB", "16 MiB", "too much")


def test_a_wrong_result_fails_whatever_it_took() -> None:
    result = verdict(RESOURCE, [Usage(1024, 0.0), Usage(2048, 0.0, "its result is wrong", "3 of 4 values differ")])
    assert not result.passed
    assert result.said == "At length 2048 your answer fails: its result is wrong."
    assert [(one.passed, one.why) for one in result.results] == [
        (True, ""),
        (False, "3 of 4 values differ"),
        (False, "not measured after that"),
        (False, "not measured"),
    ]


def test_the_words_are_the_same_for_another_run() -> None:
    one, other = verdict(RESOURCE, usages(8.1, 31.9, 128.3)), verdict(RESOURCE, usages(7.7, 33.0, 126.0))
    assert one == other


def test_times_are_never_told() -> None:
    slow = [Usage(10, 0.001), Usage(100, 0.01), Usage(1000, 0.1)]
    result = verdict(TIMED, slow)
    assert not result.passed
    assert result.said == "The time it takes grows faster than length^0.5, about as length^1."
    assert result.table == ()
    assert verdict(TIMED, [Usage(10, 0.0), Usage(100, 0.0), Usage(1000, 0.0004)]).passed
    noisy = [Usage(10, 0.0, noise=0.0001), Usage(100, 0.0, noise=0.001), Usage(1000, 0.009, noise=0.01)]
    assert verdict(TIMED, noisy).passed, "what the measurement itself may have put there is no growth"


@pytest.mark.parametrize(
    ("size", "words"),
    [(0, "little"), (MIB, "little"), (7.9 * MIB, "about 8 MiB"), (1.4e9, "about 1 GiB"), (3 * MIB, "about 4 MiB")],
)
def test_sizes_in_words(size: float | int, words: str) -> None:
    assert about(size) == words


def test_limits_in_words() -> None:
    assert [exact(size) for size in (512.0, 2048.0, 1.5 * MIB, 2.0**31)] == ["512 bytes", "2 KiB", "1.5 MiB", "2 GiB"]


def outcome_of(function, measured: Question = Total) -> Outcome:
    return judge(measured, InProcess(function, measured), measured.cases(np.random.default_rng(0)), ("numpy",))


def test_the_part_is_no_case_s_and_nothing_is_given_for_it_unmeasured() -> None:
    outcome = outcome_of(frugal)
    assert (outcome.points, dict(outcome.parts)) == (1, {"ordinary": True})


def test_parts_are_merged_and_points_counted() -> None:
    assert judge_resources(Total, outcome_of(frugal), lambda resource, framework: usages(1, 1, 1)).points == 3
    merged = judge_resources(Total, outcome_of(frugal), lambda resource, framework: usages(8, 32, 128))
    assert (merged.points, list(merged.parts.items())) == (1, [("ordinary", True), ("memory", False)])
    text = merged.as_text()
    assert "FAILED  memory" in text
    assert "Sum first." in text
    assert "  4096    about 128 MiB  16 MiB   too much" in text
    assert "Read in the book: p.html#h" in text


def test_a_wrong_answer_is_not_measured() -> None:
    def meter(resource: Resource, framework: Framework) -> list[Usage]:
        raise AssertionError("measured")

    merged = judge_resources(Total, outcome_of(lambda x: 0.0), meter)
    assert merged.points == 0
    assert merged.results[-1].why == "not measured: the ordinary cases come first"
    assert merged.resources[0].said == ""


def test_a_part_may_have_cases_and_be_measured() -> None:
    def cases(rng: np.random.Generator) -> Iterator[Case]:
        yield from Total.cases(rng)
        yield Case(_case(5, rng).args, part="memory", note="five numbers")

    both = replace(Total, cases=cases)
    outcome = outcome_of(lambda x: frugal(x) if len(x) < 5 else 0.0, both)
    merged = judge_resources(both, outcome, lambda resource, framework: usages(1, 1, 1))
    assert merged.points == 1
    assert dict(merged.parts) == {"ordinary": True, "memory": False}


def test_where_it_cannot_be_measured_that_is_said() -> None:
    merged = judge_resources(Total, outcome_of(frugal), lambda resource, framework: "Measured elsewhere.")
    assert merged.points == 1
    assert "Note: Measured elsewhere." in merged.as_text()


def test_failures_are_told_without_their_words() -> None:
    case = _case(3, np.random.default_rng(0))
    assert wrong(Total, case, Failure("raised", "ValueError: array([0.5])"))[0] == "it raises an exception"
    assert wrong(Total, case, Failure("raised", "MemoryError: array([0.5])"))[0] == "it runs out of memory"
    assert wrong(Total, case, Failure("timeout"))[0] == "it does not finish in time"


@pytest.fixture
def lab() -> Lab:
    """A lab of the one question."""
    made = Lab("attention")
    made._spec = LabSpec(**{**vars(made._spec), "questions": {"total": Total}})
    return made


def needs_a_peak() -> None:
    if not metering._tells_peak():
        pytest.skip("this system tells no peak of memory")


def test_the_notebook_s_check_measures_too(lab: Lab) -> None:
    needs_a_peak()
    assert lab.check("total", frugal).passed
    feedback = lab.check("total", greedy)
    assert not feedback.passed
    assert feedback.outcome.points == 1
    assert "grows faster than length^1.3" in repr(feedback)
    assert "about 64 MiB" in repr(feedback) or "about 128 MiB" in repr(feedback)
    assert isinstance(feedback, Feedback)


def test_the_notebook_s_words_do_not_change_from_run_to_run(lab: Lab) -> None:
    needs_a_peak()
    assert repr(lab.check("total", frugal)) == repr(lab.check("total", frugal))
    assert repr(lab.check("total", greedy)) == repr(lab.check("total", greedy))


def test_ready_does_not_measure(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnkit.lab.lab.judge_resources", lambda *_: pytest.fail("measured"))
    assert lab.ready("total", greedy)


def test_where_no_peak_is_told_the_notebook_says_when_it_is_measured(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metering, "_tells_peak", lambda: False)
    text = repr(lab.check("total", frugal))
    assert "The part 'memory' is measured when your answer is graded" in text.replace("\n", " ")


def test_handing_over_large_inputs_is_not_the_answer_s_time() -> None:
    resource = replace(TIMED, lengths=(10**4, 10**5, 10**6))
    timed = replace(Total, parts={"ordinary": 1.0, "time": 2.0}, resources=(resource,), reference=lambda x: 1.0)
    found = InsideMeter(lambda x: 1.0, timed, 0)(resource, "numpy")
    assert not isinstance(found, str)
    assert verdict(resource, found).passed


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lengths": ()}, "lengths were"),
        ({"lengths": (4, 2)}, "they should ascend"),
        ({"lengths": (0, 2)}, "from 1 or more"),
        ({"at_most": None, "growth": None}, "neither at_most nor growth"),
        ({"lengths": (4,)}, "growth needs two lengths"),
    ],
)
def test_a_resource_that_could_not_be_judged_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(QuestionError, match=says):
        replace(RESOURCE, **changes)


def test_a_resource_of_no_part_is_refused() -> None:
    with pytest.raises(QuestionError, match="a resource has the part 'memory'; parts were"):

        @question(points=1, answer="total")
        class _:
            """Without a part for its memory."""

            resources = (RESOURCE,)
