"""The questions of the attention lab: right answers pass, every mistake is caught and called by its name."""

from __future__ import annotations

import inspect
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attnkit.authoring import verify_questions as of_questions
from attnkit.lab.bank import load_lab
from attnkit.lab.question import Question

from .answers import RIGHT
from .conftest import SPEC, judged

SEEDS = range(4)
QUESTIONS = list(SPEC.questions.values())


@pytest.mark.parametrize(
    ("question", "answer"),
    [(q, a) for q in QUESTIONS for a in RIGHT[q.name]],
    ids=lambda p: p.__name__ if inspect.isfunction(p) else p.name,
)
def test_right_answers_get_full_marks_whatever_cases_are_drawn(question: Question, answer) -> None:
    for seed in SEEDS:
        outcome = judged(question, answer, seed)
        assert outcome.points == question.points, f"seed {seed}\n{outcome.as_text()}"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_the_reference_agrees_with_an_independent_answer_in_double_precision(question: Question) -> None:
    oracle = {
        "softmax": lambda x: torch.softmax(x, -1),
        "attention": torch.nn.functional.scaled_dot_product_attention,
        "masked_attention": lambda q, k, v, m: (
            torch.nan_to_num((q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~m, -torch.inf).softmax(-1)) @ v
        ),
    }[question.name]
    for seed in SEEDS:
        for case in question.cases(np.random.default_rng(seed)):
            args = [np.array(a, dtype=float) if a.dtype.kind == "f" else a for a in case.args]
            want = oracle(*map(torch.from_numpy, args)).numpy()
            np.testing.assert_allclose(question.reference(*args), want, rtol=1e-12, atol=1e-12)


# What every lab is held to has its home in `attnkit lab verify`; these are the same questions, asked of our labs.


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
@pytest.mark.parametrize(
    "faults",
    [
        of_questions.mistake_faults,
        of_questions.alike_faults,
        of_questions.few_mistakes,
        of_questions.case_faults,
        of_questions.reference_faults,
        of_questions.name_faults,
    ],
    ids=lambda faults: faults.__name__,
)
def test_nothing_is_found_wrong_with_a_question(question: Question, faults) -> None:
    assert faults(question) == []


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_what_is_needed_to_answer_is_exact_in_single_precision(question: Question) -> None:
    """Real inputs are float32 and every part has a case, so that neither framework is at a disadvantage."""
    cases = list(question.cases(np.random.default_rng(0)))
    assert {a.dtype for case in cases for a in case.args} <= {np.dtype("float32"), np.dtype("bool")}
    assert {case.part for case in cases} == set(question.parts)
    assert len({case.note for case in cases}) == len(cases), "each case needs its own description"


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_an_empty_batch_and_a_single_element_are_among_the_cases(question: Question) -> None:
    sizes = [case.args[0].size for case in question.cases(np.random.default_rng(0))]
    assert 0 in sizes
    assert any(1 in case.args[-1].shape for case in question.cases(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("name", "wrong", "says"),
    [
        ("softmax", lambda x: torch.softmax(x, 0), "normalised over the first axis"),
        ("softmax", lambda x: torch.exp(x) / torch.exp(x).sum(-1, keepdim=True), "maximum is not subtracted"),
        ("softmax", lambda x: torch.log_softmax(x, -1), "logarithm"),
        ("attention", lambda q, k, v: (q @ k.mT).softmax(-1) @ v, "not scaled"),
        ("attention", lambda q, k, v: (q @ k.mT / q.shape[-1]).softmax(-1) @ v, "divided by d_k"),
        ("attention", lambda q, k, v: (q @ k.mT / q.shape[-1] ** 0.5).softmax(-2) @ v, "over the queries"),
        (
            "masked_attention",
            lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(m == 0, -1e9).softmax(-1) @ v,
            "averages all values",
        ),
        (
            "masked_attention",
            lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~m, -torch.inf).softmax(-1) @ v,
            "gives nan",
        ),
        (
            "masked_attention",
            lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(m, -torch.inf).softmax(-1).nan_to_num() @ v,
            "wrong way round",
        ),
        (
            "masked_attention",
            lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(m, -torch.inf).softmax(-1) @ v,
            "where the mask is True",
        ),
        (
            "masked_attention",
            lambda q, k, v, m: (q @ k.mT / q.shape[-1] ** 0.5 - 1e9 * m).softmax(-1) @ v,
            "where the mask is True",
        ),
        (
            "masked_attention",  # no scale and no care for rows without keys: the ordinary cases show the first
            lambda q, k, v, m: (q @ k.mT).masked_fill(~m, -torch.inf).softmax(-1) @ v,
            "not scaled",
        ),
        (
            "masked_attention",
            lambda q, k, v, m: ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * m) @ v,
            "not renormalised",
        ),
        ("attention", lambda q, k, v: torch.softmax(q @ k.mT / k.shape[-2] ** 0.5, -1) @ v, "number of keys"),
        ("attention", lambda q, k, v: torch.softmax(q @ k.mT / q.shape[-1] ** 0.5 @ v, -1), "output instead"),
    ],
)
def test_mistakes_as_people_write_them_in_torch(name: str, wrong, says: str) -> None:
    outcome = judged(SPEC.questions[name], wrong)
    assert outcome.points < outcome.max_points
    assert outcome.mistake is not None
    assert says in outcome.mistake.name


def test_two_mistakes_at_once_still_hear_of_the_first() -> None:
    """Wrong axis *and* no maximum: no single mistake gives this answer, but the ordinary cases show the axis."""
    outcome = judged(SPEC.questions["softmax"], lambda x: np.exp(x) / np.exp(x).sum(axis=0, keepdims=True))
    assert outcome.mistake is not None
    assert not outcome.mistake.certain
    assert "first axis" in outcome.mistake.name
    assert "One thing at least" in outcome.as_text()


def test_an_answer_that_is_wrong_in_a_new_way_hears_which_rule_it_breaks() -> None:
    outcome = judged(SPEC.questions["softmax"], lambda x: 1 / (2 + x**2))
    assert outcome.mistake is None
    assert "does not sum to 1" in outcome.invariant.name
    outcome = judged(SPEC.questions["masked_attention"], lambda q, k, v, m: q @ k.mT @ v * 100)
    assert "lies outside the values" in outcome.invariant.name


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.name)
def test_every_place_to_read_exists_in_the_book(question: Question, root: Path) -> None:
    assert of_questions.read_faults(question, of_questions.book_pages(root)) == []


def test_questions_are_those_of_the_file_as_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An edit of the same size within the same second, where Python may keep bytecode: nothing old is taken."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "quick" / "questions.py"
    file.parent.mkdir()
    source = (
        "from attnkit.lab.question import question\n\n\n@question(points=1, answer='f')\nclass F:\n"
        "    def cases(self, rng): return ()\n    def reference(self, x): return 'old'\n"
    )
    told = []
    for text in (source, source.replace("old", "new")):
        file.write_text(text)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        told.append(load_lab(file.parent).questions["f"].reference(0))
    assert told == ["old", "new"]
    assert [path.name for path in file.parent.iterdir()] == ["questions.py"], "and nothing is left beside it"
