"""The judge's contract: how points are given, which framework counts, what it does with failures."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from attnkit.lab.bank import LabNotFound, load_lab
from attnkit.lab.judge import judge
from attnkit.lab.outcome import Answer, Failure
from attnkit.lab.question import Case, Mistake, Question, QuestionError, question

CALLS = [
    Case((np.array([2.0], np.float32),), note="two"),
    Case((np.array([3.0, 4.0], np.float32),), note="three and four"),
    Case((np.array([100.0], np.float32),), part="large", note="a hundred"),
]


@question(points=4, answer="double")
class Double:
    """Twice x."""

    parts = {"ordinary": 3, "large": 1}  # noqa: RUF012  # a question's class body reads as data
    mistakes = (Mistake("you squared", lambda x: x * x, "Twice, not squared."),)

    def cases(self, rng):
        yield from CALLS

    def reference(self, x):
        return 2 * x


def replies(*values):
    """A `call` that gives these replies in turn, whatever the framework, and counts its calls."""

    def call(case, framework):
        call.seen.append((case.note, framework))
        value = values[(len(call.seen) - 1) % len(values)]
        return value if isinstance(value, Failure) else Answer(np.asarray(value))

    call.seen = []
    return call


RIGHT = ([4.0], [6.0, 8.0], [200.0])


def test_full_marks_at_the_first_framework_end_the_matter() -> None:
    call = replies(*RIGHT)
    outcome = judge(Double, call, CALLS)
    assert (outcome.points, outcome.passed, outcome.framework) == (4, True, "torch")
    assert [framework for _, framework in call.seen] == ["torch"] * 3


def test_a_part_counts_only_when_all_its_cases_pass_and_nothing_counts_without_the_ordinary_part() -> None:
    assert judge(Double, replies([4.0], [6.0, 8.0], [0.0]), CALLS).points == 3
    assert judge(Double, replies([4.0], [6.0, 0.0], [200.0]), CALLS).points == 0


def test_the_better_framework_counts() -> None:
    def call(case, framework):
        return Failure("raised", "TypeError: no tensors") if framework == "torch" else Answer(2 * case.args[0])

    outcome = judge(Double, call, CALLS)
    assert (outcome.points, outcome.framework) == (4, "numpy")


def test_between_equal_totals_the_outcome_that_explains_more_counts() -> None:
    def call(case, framework):
        return Failure("raised", "TypeError: no tensors") if framework == "torch" else Answer(case.args[0] ** 2)

    outcome = judge(Double, call, CALLS)
    assert outcome.framework == "numpy"
    assert outcome.mistake.name == "you squared"


@pytest.mark.parametrize("kind", ["timeout", "died"])
def test_an_answer_that_hangs_or_dies_is_not_called_again_with_that_framework(kind: str) -> None:
    call = replies(Failure(kind))
    outcome = judge(Double, call, CALLS)
    assert outcome.points == 0
    assert call.seen == [("two", "torch"), ("two", "numpy")]
    assert {result.passed for result in outcome.results} == {False}


def test_a_missing_function_is_asked_for_once() -> None:
    call = replies(Failure("missing"))
    outcome = judge(Double, call, CALLS)
    assert call.seen == [("two", "torch")]
    assert "no function called double" in outcome.as_text()


def test_the_smallest_failed_case_is_shown_and_an_answer_before_an_exception() -> None:
    outcome = judge(Double, replies(Failure("raised", "E"), [0.0, 8.0], [0.0]), CALLS, frameworks=("numpy",))
    assert outcome.counterexample.note == "three and four"
    outcome = judge(Double, replies([0.0], [0.0, 8.0], [0.0]), CALLS)
    assert outcome.counterexample.note == "two"
    assert outcome.counterexample.inputs == (("x", "[2]"),)
    assert (outcome.counterexample.got, outcome.counterexample.want) == ("[0]", "[4]")


def test_a_mistake_that_explains_only_some_answers_is_not_named() -> None:
    # 2 * 2 = 2 ** 2, so the case "two" tells nothing; the answers to "three and four" are not squares
    assert judge(Double, replies([4.0], [6.0, 9.0], [200.0]), CALLS).mistake is None


def test_text_from_the_students_process_is_one_short_printable_line() -> None:
    failure = Failure("raised", "\x1b[2Jgone\n" + "x" * 10_000, "line 1 of double:\x07 return\u202e")
    text = judge(Double, replies(failure), CALLS).as_text()
    assert len(text) < 2_000
    assert all(one.isprintable() or one == "\n" for one in text)


def test_when_two_mistakes_explain_the_first_part_equally_neither_is_named() -> None:
    class Twice:
        """Twice x."""

        parts = {"ordinary": 1, "large": 1}  # noqa: RUF012  # a question's class body reads as data
        mistakes = (
            Mistake("you returned it", lambda x: x, "Twice."),
            Mistake("you cut it off", lambda x: np.minimum(x, 50), "Twice."),
        )

        def cases(self, rng):
            yield from CALLS

        def reference(self, x):
            return 2 * x

    twice = question(points=2, answer="twice")(Twice)
    assert judge(twice, replies([2.0], [3.0, 4.0], [100.0]), CALLS).mistake.name == "you returned it"
    assert judge(twice, replies([2.0], [3.0, 4.0], [50.0]), CALLS).mistake.name == "you cut it off"
    assert judge(twice, replies([2.0], [3.0, 4.0], [7.0]), CALLS).mistake is None


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([[4.0]], "shape (1, 1)"),
        ([np.nan], "nan"),
        ([np.inf], "inf"),
        ([4.1], "the value differs"),
        (["4"], "real numbers"),
        ([4 + 1j], "real numbers"),
    ],
)
def test_what_is_wrong_is_said(value, why: str) -> None:
    outcome = judge(Double, replies(value, *RIGHT[1:]), CALLS)
    assert outcome.points == 0
    assert why in outcome.counterexample.why


def test_a_tuple_in_place_of_an_array_is_said() -> None:
    outcome = judge(Double, lambda case, framework: Answer((2 * case.args[0], 1.0)), CALLS)
    assert "tuple of 2" in outcome.counterexample.why


def test_the_tolerance_is_two_sided_and_infinities_and_nan_must_agree() -> None:
    class Odd:
        """Gives inf and nan."""

        parts = {"ordinary": 1}  # noqa: RUF012  # a question's class body reads as data

        def cases(self, rng):
            yield CALLS[0]

        def reference(self, x):
            return np.array([np.inf, -np.inf, np.nan, 1.0])

    odd = question(points=1, answer="odd")(Odd)

    def points(*value):
        return judge(odd, replies(list(value)), [CALLS[0]]).points

    assert points(np.inf, -np.inf, np.nan, 1.0 + 5e-7) == 1
    assert points(np.inf, -np.inf, np.nan, 1.0 - 5e-7) == 1
    assert points(np.inf, -np.inf, np.nan, 1.0 + 5e-6) == 0
    assert points(-np.inf, -np.inf, np.nan, 1.0) == 0
    assert points(1e300, -np.inf, np.nan, 1.0) == 0
    assert points(np.inf, -np.inf, 1.0, 1.0) == 0
    assert points(np.nan, -np.inf, np.nan, 1.0) == 0


def test_cases_without_a_part_or_a_part_without_cases_are_refused() -> None:
    with pytest.raises(ValueError, match="cases: had the parts"):
        judge(Double, replies(*RIGHT), CALLS[:2])
    with pytest.raises(ValueError, match="cases: had the parts"):
        judge(Double, replies(*RIGHT), [*CALLS, Case((CALLS[0].args[0],), part="other")])


def test_an_outcome_is_plain_data_and_its_text_is_always_the_same() -> None:
    outcome = judge(Double, replies([5.0], [6.0, 8.0], [200.0]), CALLS)
    again = judge(Double, replies([5.0], [6.0, 8.0], [200.0]), CALLS)
    assert json.dumps(outcome.as_dict()) == json.dumps(again.as_dict())
    assert outcome.as_text() == again.as_text()


def test_judging_loads_no_torch() -> None:
    """The grader's trusted process does without it."""
    code = (
        "import sys, numpy as np\n"
        "from attnkit.lab.bank import load_lab\nfrom attnkit.lab.judge import Answer, judge\n"
        "for q in load_lab('attention').questions.values():\n"
        "    call = lambda case, framework: Answer(q.reference(*case.args))\n"
        "    assert judge(q, call, q.cases(np.random.default_rng(0))).passed\n"
        "    call = lambda case, framework: Answer(q.mistakes[0].wrong(*case.args))\n"
        "    assert judge(q, call, q.cases(np.random.default_rng(0))).mistake.name\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("points", "answer", "parts", "says"),
    [
        (3, "f", {"ordinary": 1}, "add up to 3"),
        (1, "f", {"other": 1}, "'ordinary'"),
        (1, "f g", {"ordinary": 1}, "name of the function"),
        (1, "f", {"ordinary": 2, "odd": -1}, "positive"),
    ],
)
def test_a_question_that_is_written_wrongly_is_refused(points, answer, parts, says) -> None:
    body = type("Body", (), {"parts": parts, "cases": None, "reference": None})
    with pytest.raises(QuestionError, match=says):
        question(points=points, answer=answer)(body)


def test_mistakes_with_the_same_name_are_refused() -> None:
    body = type("Body", (), {"mistakes": [Mistake("a", abs, "b")] * 2, "cases": None, "reference": None})
    with pytest.raises(QuestionError, match="different names"):
        question(points=1, answer="f")(body)


def test_a_lab_is_found_by_name_by_folder_and_by_file(root, tmp_path) -> None:
    by_name = load_lab("attention")
    assert by_name.title == "Attention from scratch"
    assert by_name.max_points == 10
    assert list(load_lab(root / "labs" / "attention").questions) == list(by_name.questions)
    private = tmp_path / "my lab" / "questions.py"
    private.parent.mkdir()
    private.write_text((root / "labs/attention/questions.py").read_text("utf-8"), "utf-8")
    assert load_lab(private).name == "my lab"
    assert isinstance(load_lab(private.parent).questions["softmax"], Question)


def test_an_unknown_lab_is_refused_with_the_names_of_those_there_are(tmp_path) -> None:
    with pytest.raises(LabNotFound, match=r"was 'atention'.*attention"):
        load_lab("atention")
    (tmp_path / "questions.py").write_text("x = 1\n")
    with pytest.raises(LabNotFound, match="defines no question"):
        load_lab(tmp_path)
