"""Answers that are judged by how well they do, where no two right ones are the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attnkit.authoring.verify_questions import mistake_faults, reference_faults
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.outcome import Answer
from attnkit.lab.question import MOST_SECONDS, Case, Mistake, QuestionError, Resource, Threshold, question
from attnkit.lab.reference import as_call
from attnkit.lab.resources import wrong
from attnkit.lab.steps import Build, Call


def accuracy(got, x, labels):
    return np.mean(got == labels)


GOOD = Threshold("the share of right answers", accuracy, 0.8, "Train until the loss is small.", "training#loss")


def nearest(x, labels):
    means = np.array([x[labels == one].mean(0) for one in range(2)])
    return np.argmin(((x[:, None] - means) ** 2).sum(-1), axis=1)


@question(points=2, answer="classify")
class Classify:
    """A class for each row of `x`."""

    seconds = 30
    read = "training#training"
    mistakes = (
        Mistake("every row gets class 0", lambda x, labels: np.zeros(len(x), int), "Look at the rows."),
        Mistake("the classes are exchanged", lambda x, labels: 1 - nearest(x, labels), "Exchange them."),
    )

    def reference(self, x, labels):
        return nearest(x, labels)

    def cases(self, rng):
        labels = np.arange(10) % 2
        x = (rng.normal(size=(10, 2)) * 0.1 + labels[:, None]).astype(np.float32)
        yield Case((x, labels), judged_by=GOOD, note="two heaps")


def outcome(answer, asked=Classify):
    return judge(asked, InProcess(answer, asked), asked.cases(np.random.default_rng(0)))


def test_who_does_well_enough_passes_whatever_the_reference_gives() -> None:
    def nearly(x, labels):
        got = labels.clone() if isinstance(labels, torch.Tensor) else labels.copy()
        got[0] = 1 - got[0]
        return got

    assert outcome(nearly).passed
    assert outcome(lambda x, labels: labels).passed


def test_who_does_not_is_told_the_score_and_what_to_do() -> None:
    found = outcome(lambda x, labels: 1 - 0 * labels)
    assert found.points == 0
    assert found.results[0].why == "the share of right answers is 0.5; it should be at least 0.8"
    assert found.counterexample.got == "the share of right answers is 0.5"
    assert found.counterexample.want == "at least 0.8"
    assert found.mistake is None
    assert (found.invariant.name, found.invariant.read) == ("the share of right answers is below 0.8", "training#loss")
    text = found.as_text()
    assert "What is broken: the share of right answers is below 0.8. Train until the loss is small." in text
    assert text.endswith("Read in the book: training.html#loss")


def test_a_mistake_is_told_by_its_own_hint() -> None:
    found = outcome(lambda x, labels: 0 * labels)
    assert found.mistake.name == "every row gets class 0"
    assert found.invariant is None
    assert reference_faults(Classify) == []
    assert mistake_faults(Classify) == []


def test_a_reference_that_misses_its_own_threshold_is_found() -> None:
    @question(points=1, answer="guess")
    class Guess:
        """Guess."""

        def reference(self, x, labels):
            return 0 * labels

        def cases(self, rng):
            return Classify.cases(rng)

    assert "the share of right answers is 0.5; it should be at least 0.8" in reference_faults(Guess)[0]


@pytest.mark.parametrize(
    ("got", "words"),
    [
        (np.zeros(3), "an array of shape (3,): operands could not be broadcast"),
        ((np.zeros(10), np.zeros(3)), "cannot be measured on your answer, a tuple of 2: "),
        (np.zeros(70_000), "your answer holds 70000 numbers; at most 65536"),
        (np.full(10, np.nan), "is 0; it should"),
    ],
)
def test_an_odd_answer_is_told_and_stops_nothing(got, words: str) -> None:
    found = outcome(lambda x, labels: got)
    assert not found.passed
    assert words in found.results[0].why
    if "is 0;" not in words:
        assert found.invariant is None, "a hint on training would mislead"
        assert found.as_text().endswith("Read in the book: training.html#training")


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (lambda *_: np.nan, "is nan"),
        (lambda *_: -np.inf, "is -inf"),
        (lambda *_: 0.7999999, "is 0.7999999; it should be at least 0.8"),
        (lambda *_: np.ones(3), "cannot be measured"),
        (lambda *_: None, "cannot be measured"),
        (lambda *_: 1 / 0, "division by zero"),
    ],
)
def test_a_score_that_is_no_number_above_it_fails(metric, words: str) -> None:
    judged_by = Threshold("it", metric, 0.8, "Do better.")

    @question(points=1, answer="f")
    class F:
        """Any."""

        def reference(self, x):
            return x

        def cases(self, rng):
            yield Case((np.ones(2, np.float32),), judged_by=judged_by)

    assert words in outcome(lambda x: x, F).results[0].why


def test_the_metric_sees_copies_in_double_precision() -> None:
    seen: list = []

    def metric(got, x, scale):
        seen.append((got.dtype, x.dtype, scale))
        got[:], x[:] = 7, 7
        return 1.0

    given = np.ones(2, np.float32)

    @question(points=1, answer="f")
    class F:
        """Any."""

        def reference(self, x, scale):
            return x

        def cases(self, rng):
            yield Case((given,), {"scale": 2}, judged_by=Threshold("it", metric, 0.5, "Do."))

    assert outcome(lambda x, scale: x, F).passed
    assert seen == [(np.float64, np.float64, 2)]
    assert given.tolist() == [1, 1]


def test_for_a_script_it_gets_the_entries_alone() -> None:
    class Walk:
        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def __call__(self):
            return self.rng.normal(size=100)

    def spread(entries):
        return 1.0 if len(entries) == 2 and abs(np.std(np.concatenate(entries)) - 1) < 0.3 else 0.0

    @question(points=1, answer="Walk")
    class Walking:
        """A class."""

        reference = Walk

        def cases(self, rng):
            yield Case(steps=(Build((3,)), Call(), Call()), judged_by=Threshold("it", spread, 1.0, "Draw normally."))

    class Mine(Walk):
        def __init__(self, seed):
            self.rng = np.random.default_rng(seed + 1)

    class Wide(Walk):
        def __call__(self):
            return 2 * super().__call__()

    cases = list(Walking.cases(np.random.default_rng(0)))
    assert judge(Walking, InProcess(Mine, Walking), cases).passed
    found = judge(Walking, InProcess(Wide, Walking), cases)
    assert found.results[0].why == "it is 0; it should be at least 1"
    assert "it()" in found.as_text()
    assert judge(Walking, as_call(Walk, Walking), cases).passed


def test_what_is_measured_is_judged_by_it_too() -> None:
    case = next(iter(Classify.cases(np.random.default_rng(0))))
    assert wrong(Classify, case, Answer(case.args[1])) == ("", "")
    told, detail = wrong(Classify, case, Answer(1 - case.args[1]))
    assert told == "its result is wrong"
    assert "is 0;" in detail
    assert Resource("ordinary", "time", (1, 2), lambda n, rng: case, "h", growth=1.0).part == "ordinary"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name and hint"),
        ({"hint": ""}, "name and hint"),
        ({"metric": 3}, "metric was 3"),
        ({"at_least": float("nan")}, "at_least was nan"),
        ({"at_least": "0.9"}, "at_least was '0.9'"),
    ],
)
def test_a_threshold_that_is_written_wrongly_is_refused(changes, words: str) -> None:
    made = Threshold("it", accuracy, 0.9, "Do.")
    for name, value in changes.items():  # as an author would, whose types nobody checks
        object.__setattr__(made, name, value)
    with pytest.raises(QuestionError, match=words):
        made.__post_init__()
    case = Case((1,))
    object.__setattr__(case, "judged_by", 1)
    with pytest.raises(QuestionError, match="judged_by was 1"):
        case.__post_init__()


def test_how_long_an_answer_may_take_is_said_by_its_question() -> None:
    assert Classify.seconds == 30

    def asked(seconds):
        return question(points=1, answer="f")(
            type("F", (), {"seconds": seconds, "cases": lambda s, r: (), "reference": lambda s, x: x, "__doc__": "F."})
        )

    assert asked(MOST_SECONDS).seconds == MOST_SECONDS
    for bad in (0, -1, 121, "10", None, True, float("nan")):
        with pytest.raises(QuestionError, match="seconds was"):
            asked(bad)
