"""Tests that students write, held in the jail: the same verdict and the same words as in the notebook; and time."""

from __future__ import annotations

import linecache
import time
from collections.abc import Iterator

import numpy as np
import pytest

from attnkit.grading import jail
from attnkit.grading.asking import Worker
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.zygote import Zygote
from attnkit.lab.calling import InProcess
from attnkit.lab.judge import judge
from attnkit.lab.outcome import Failure, Outcome
from attnkit.lab.question import Case, Question, Threshold, question
from attnkit.lab.reading.cells import Plan, Statement
from attnkit.lab.steps import Trial
from tests.grading.conftest import notebook_bytes
from tests.lab.trial_questions import RIGHT, WRONG, Softmax

SEED = "12" * 32


@pytest.fixture(scope="module")
def zygote(jailed: None) -> Iterator[Zygote]:
    with Zygote("jail", jail.Limits(seconds=5.0, load_seconds=5.0)) as zygote:
        yield zygote


def in_jail(zygote: Zygote, source: str, asked: Question = Softmax) -> Outcome:
    """On the practice cases, in the order in which the notebook has them."""
    worker = Worker(zygote, Plan(attempts=((Statement(1, 1, source, True),),)), asked)
    try:
        return judge(asked, worker, asked.cases(np.random.default_rng(0)))
    finally:
        worker.close()


def in_notebook(source: str) -> Outcome:
    lines = source.splitlines(keepends=True)
    linecache.cache["<cell 1>"] = (len(source), None, lines, "<cell 1>")
    namespace: dict = {"__name__": "student"}
    exec(compile(source, "<cell 1>", "exec"), namespace)
    call = InProcess(namespace["test_softmax"], Softmax)
    return judge(Softmax, call, Softmax.cases(np.random.default_rng(0)))


def graded(zygote: Zygote, source: str, seed: str = SEED) -> Graded:
    cells = read_submission(notebook_bytes(f"# question: test_softmax\n{source}"))
    return grade_question(zygote, Softmax, cells, seed)


@pytest.mark.parametrize("name", RIGHT)
def test_right_tests_get_full_marks(zygote: Zygote, name: str) -> None:
    result = graded(zygote, RIGHT[name])
    assert (result.points, result.status) == (3, "full"), result.told


@pytest.mark.parametrize("name", [*RIGHT, *WRONG])
def test_the_jail_says_what_the_notebook_says(zygote: Zygote, name: str) -> None:
    source = RIGHT.get(name) or WRONG[name][0]
    text = in_jail(zygote, source).as_text()
    assert text == in_notebook(source).as_text()
    if name in WRONG:
        assert " ".join(WRONG[name][2].split()) in " ".join(text.split())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tests_get_what_they_deserve(zygote: Zygote, name: str) -> None:
    assert graded(zygote, WRONG[name][0]).points == WRONG[name][1]


def test_a_student_is_told_which_kind_of_implementation_it_was(zygote: Zygote) -> None:
    result = graded(zygote, WRONG["sums only"][0])
    told = " ".join(" ".join(text for _, text in result.told).split())
    assert "3 of 4 cases pass. It fails on one that overflows." in told
    assert "test_softmax(implementation) your answer: it returns expected: an AssertionError" in told
    assert "It looks as if large logits were never tried. Try one of a thousand." in told


def test_a_test_that_counts_the_trials_gets_nothing(zygote: Zygote) -> None:
    """In the notebook the third and the fourth trial come as they are written, and it passes."""
    counting = (
        "calls = []\ndef test_softmax(f):\n    calls.append(0)\n    assert (len(calls) - 1) % 5 + 1 not in (2, 4, 5)\n"
    )
    assert in_notebook(counting).passed
    earned = [graded(zygote, counting, f"{number:064x}").points for number in range(1, 13)]
    assert earned.count(0) >= 9, "one order in ten is the one that it was made for"


def test_the_same_seed_draws_the_same_order(zygote: Zygote) -> None:
    """A test that keeps what it has seen can say so."""
    telling = (
        "import numpy as np\nseen = []\ndef test_softmax(f):\n"
        "    seen.append(round(float(f(np.array([[0.0, 1.0], [2.0, 0.0]]))[0, 0]), 3))\n"
        "    raise ValueError(str(seen))\n"
    )
    said = [[one["why"] for one in graded(zygote, telling, seed).outcome["results"]] for seed in (SEED, SEED, "3" * 64)]
    assert said[0] == said[1] != said[2]


# What a test in the jail can see of the implementation, by each way to look at a function.
LOOKS = {
    "name": "f.__name__ + f.__qualname__ + f.__module__",
    "representation": "repr(f)",
    "code": "f.__code__.co_filename + f.__code__.co_name",
    "source": "__import__('inspect').getsource(f)",
    "signature": "str(__import__('inspect').signature(f))",
    "pickle": "repr(__import__('pickle').dumps(f))",
    "everything that it holds on to": "repr([c.cell_contents.__dict__ for c in f.__closure__])",
    "every object": "repr([o for o in __import__('gc').get_objects() if 'trial' in type(o).__name__.lower()])",
    "modules": "repr([m for m in __import__('sys').modules if 'questions' in m])",
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nothing_tells_one_implementation_from_another(zygote: Zygote, look: str) -> None:
    source = (
        f"import re\ndef test_softmax(f):\n    try:\n        seen = {look}\n    except Exception as error:\n"
        "        seen = repr(error)\n    raise ValueError(re.sub('0x[0-9a-f]+', '', seen)[:300])\n"
    )
    worker = Worker(zygote, Plan(attempts=((Statement(1, 1, source, True),),)), Softmax)
    seen = set()
    for case in Softmax.cases(np.random.default_rng(0)):
        for step in case.steps:
            reply = worker(Case(steps=(step,)), "torch")
            assert isinstance(reply, Failure)
            assert reply.kind == "raised"
            text = reply.message
            assert not any(name in text for name in ("rows", "columns", "unguarded", "broken", "most", "writes"))
            seen.add("".join(one for one in text if not one.isdigit()))
    worker.close()
    assert len(seen) == 1, seen


def test_what_the_subject_raises_does_not_name_it_in_there(zygote: Zygote) -> None:
    def secret_name(x):
        return secret_name(x, 1)

    @question(points=1, answer="test_softmax")
    class X:
        """A test."""

        def cases(self, rng):
            yield Case(steps=(Trial(secret_name, True),))

        def reference(self, implementation):
            raise AssertionError

    outcome = in_jail(zygote, "def test_softmax(f):\n    f(1)\n", X)
    assert outcome.results[0].why.startswith("raised: ValueError: TypeError:")
    assert "implementation() takes 1 positional argument but 2 were given" in outcome.results[0].why
    assert "secret_name" not in outcome.as_text()


# --- how long an answer may take --------------------------------------------------------------------------------------


def slow(seconds: float) -> Question:
    @question(points=1, answer="f")
    class Slow:
        """Takes its time."""

        def cases(self, rng):
            yield Case((np.ones(1, np.float32),))

        def reference(self, x):
            return x

    object.__setattr__(Slow, "seconds", seconds)
    return Slow


def waiting(loading: float, calling: float) -> str:
    return f"import time\ntime.sleep({loading})\ndef f(x):\n    time.sleep({calling})\n    return x\n"


def test_a_question_that_asks_for_more_time_gets_it_and_one_for_less_gets_less(jailed: None) -> None:
    with Zygote("jail", jail.Limits(seconds=1.0, load_seconds=1.0)) as zygote:
        assert in_jail(zygote, waiting(1.5, 1.5), slow(30)).passed
        failed = in_jail(zygote, waiting(0, 1.5), slow(10))
        assert failed.failure.kind == "timeout"
        assert in_jail(zygote, waiting(1.5, 0), slow(10)).failure.kind == "timeout"
        start = time.monotonic()
        assert in_jail(zygote, waiting(0, 30), slow(2)).failure.kind == "timeout"
        assert time.monotonic() - start < 5


def test_the_kernels_own_limit_follows(jailed: None) -> None:
    own = "import resource\ndef f(x):\n    raise ValueError(resource.getrlimit(resource.RLIMIT_CPU))\n"
    with Zygote("jail", jail.Limits(seconds=5.0, load_seconds=4.0)) as zygote:
        for seconds, limit in ((10, 11), (30, 29), (120, 110)):
            assert f"({limit}, {limit})" in in_jail(zygote, own, slow(seconds)).failure.message


def test_while_the_implementation_works_the_time_goes_on(jailed: None) -> None:
    def takes_a_while(x):
        time.sleep(0.3)
        return x

    @question(points=1, answer="test_softmax")
    class X:
        """A test."""

        def cases(self, rng):
            yield Case(steps=(Trial(takes_a_while, True),))

        def reference(self, implementation):
            raise AssertionError

    with Zygote("jail", jail.Limits(seconds=1.5, load_seconds=2.0)) as zygote:
        asking = "def test_softmax(f):\n    for _ in range(100):\n        f(1)\n"
        assert in_jail(zygote, "def test_softmax(f):\n    f(1)\n    assert False\n", X).passed
        start = time.monotonic()
        assert in_jail(zygote, asking, X).failure.kind == "timeout"
        assert time.monotonic() - start < 8, "a hundred calls would take thirty seconds, for each framework"


# --- thresholds -------------------------------------------------------------------------------------------------------


def test_a_threshold_judges_here_as_it_does_there(zygote: Zygote) -> None:
    def metric(got, x):
        if got.shape != x.shape:
            raise ValueError(f"the shape is {got.shape}; it should be {x.shape}")
        return np.mean(got > x)

    @question(points=1, answer="f")
    class Larger:
        """Larger numbers."""

        def cases(self, rng):
            x = rng.normal(size=5).astype(np.float32)
            yield Case((x,), judged_by=Threshold("the share of larger numbers", metric, 0.9, "Add one.", "page#x"))

        def reference(self, x):
            return x + 1

    def told(source: str) -> str:
        cells = read_submission(notebook_bytes(f"# question: f\n{source}"))
        result = grade_question(zygote, Larger, cells, SEED)
        return f"{result.points:g} {' '.join(' '.join(text for _, text in result.told).split())}"

    assert told("def f(x):\n    return x + 3").startswith("1 ")
    assert "What is broken: the share of larger numbers is below 0.9. Add one. Read in the book" in told(
        "def f(x):\n    return x - 3"
    )
    assert "the share of larger numbers is 0; it should be at least 0.9" in told("def f(x):\n    return x - 3")
    assert "the shape is (5, 1); it should be (5,)" in told("def f(x):\n    return x[:, None]")
    assert "0 0 of 1 cases pass" in told("import numpy as np\ndef f(x):\n    return np.zeros(10**6)")
