"""Every lab's questions, held against answers that others wrote: right ones pass, wrong ones hear what is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from attnkit.authoring.lab_table import lab_table
from attnkit.authoring.labs import completed_notebook
from attnkit.authoring.project import load_project
from attnkit.authoring.verify_values import ask, differs
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.question import Question, Tolerance
from attnkit.lab.steps import Gradient
from attnkit.lab.variants import PRACTICE
from tests.lab.conftest import graded, judged, takes_long
from tests.lab.labs import MASTERS, ROOT, class_each, spec_of
from tests.lab.right import answers_to

SEEDS, FEW_SEEDS = range(4), range(1)
ENOUGH = 3  # right answers of each question, and wrong ones
CLOSE, GRADIENTS_CLOSE = Tolerance(1e-9, 1e-10), Tolerance(1e-7, 1e-8)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test for each question of the class's lab, or for each answer that was written to one."""
    for wanted in {"question", "right", "oracle", "forbidden", "wrong"} & set(metafunc.fixturenames):
        found = list(everything(metafunc.cls.lab, wanted))
        metafunc.parametrize(wanted, [value for _, value in found], ids=[name for name, _ in found])


def closeness(question: Question) -> Tolerance:
    """How near a reference in double precision is to any other right answer; its gradients are differences."""
    steps = (step for case in question.cases(np.random.default_rng(0)) for step in case.steps)
    return GRADIENTS_CLOSE if any(isinstance(step, Gradient) for step in steps) else CLOSE


def everything(lab: str, wanted: str) -> Iterator[tuple[str, object]]:
    """(id, what the test gets) for each question of a lab, or for each answer of a kind."""
    questions = {name: one for name, one in spec_of(lab).questions.items() if not one.manual}
    if wanted == "question":
        yield from questions.items()
        return
    answers = answers_to(lab)
    if wanted == "right":
        for name, functions in getattr(answers, "RIGHT", {}).items():
            yield from (
                (f"{name}-{place}-{function.__name__}", (name, function)) for place, function in enumerate(functions)
            )
    elif wanted == "wrong":
        for place, one in enumerate(getattr(answers, "WRONG", [])):
            yield f"{one[0]}-{place}-{one[2][:30]}", one
    else:
        kind = {"oracle": "ORACLES", "forbidden": "FORBIDDEN"}[wanted]
        yield from ((name, (name, one)) for name, one in getattr(answers, kind, {}).items())


@pytest.fixture(scope="class")
def spec(request: pytest.FixtureRequest) -> LabSpec:
    """The class's lab, with the numbers of the practice variant."""
    return spec_of(request.cls.lab)


@pytest.fixture(scope="class")
def answers(request: pytest.FixtureRequest) -> ModuleType:
    """What somebody else answered."""
    lab, found = request.cls.lab, answers_to(request.cls.lab)
    assert found, f"nobody has answered the lab {lab} yet: write tests/lab/right/{lab.replace('-', '_')}.py"
    return found


@pytest.fixture(scope="class")
def solved(request: pytest.FixtureRequest) -> list[str]:
    """The code cells of the notebook in which the master's answers stand."""
    nb = completed_notebook(MASTERS[request.cls.lab], load_project(ROOT))
    return [cell.source for cell in nb.cells if cell.cell_type == "code"]


class EveryLab:
    """The tests of one lab; a subclass for each stands below."""

    lab: str

    def test_it_has_a_master_and_questions(self) -> None:
        assert self.lab in MASTERS, f"the lab {self.lab} has questions and no labs/{self.lab}/{self.lab}.md"
        assert load_lab(self.lab).questions

    def test_its_first_table_says_what_it_takes(self, spec: LabSpec) -> None:
        """The book's page of labs shows what it says."""
        told = lab_table(MASTERS[self.lab])
        assert told.points == spec.max_points
        assert 60 <= told.minutes <= 120
        assert told.title
        assert all(set(row[-2].split()) <= {"●", "○"} for row in told.rows)

    def test_every_question_has_been_answered_rightly_and_wrongly(self, spec: LabSpec, answers: ModuleType) -> None:
        asked = {name: one for name, one in spec.questions.items() if not one.manual}
        assert set(answers.RIGHT) == set(asked)
        few = {name: len(found) for name, found in answers.RIGHT.items() if len(found) < ENOUGH}
        assert few == {}, f"each question needs {ENOUGH} right answers or more"
        wrong = {name: sum(one[0] == name for one in answers.WRONG) for name in asked}
        assert min(wrong.values()) >= ENOUGH, wrong
        banned = {name for name, one in asked.items() if set(one.forbidden) - {"attnkit"}}
        assert banned <= set(answers.FORBIDDEN) <= {name for name, one in asked.items() if one.forbidden}
        assert set(answers.ORACLES) <= set(asked)

    def test_a_right_answer_gets_full_marks_whatever_is_drawn(
        self, spec: LabSpec, answers: ModuleType, right: tuple[str, Callable]
    ) -> None:
        """Other inputs each time and, where each student has their own numbers, another student's."""
        name, answer = right
        for seed in FEW_SEEDS if takes_long(spec.questions[name]) else SEEDS:
            question = load_lab(self.lab).for_student(f"student {seed}" if seed else PRACTICE).questions[name]
            vars(answers).update(question.variant)
            outcome = judged(question, answer, seed, measured=seed == 0)
            assert outcome.points == question.points, f"seed {seed}\n{outcome.as_text()}"

    def test_the_reference_agrees_with_somebody_else_in_double_precision(
        self, spec: LabSpec, answers: ModuleType, oracle: tuple[str, Callable]
    ) -> None:
        name, other = oracle
        vars(answers).update(spec.questions[name].variant)
        question = spec.questions[name]
        drawn = [ask(question, seed, double=True) for seed in SEEDS]
        assert differs(question, other, drawn, closeness(question), ("torch",)) == ""

    def test_a_wrong_answer_hears_what_is_wrong(
        self, spec: LabSpec, answers: ModuleType, wrong: tuple[str, Callable, str]
    ) -> None:
        name, answer, says = wrong
        vars(answers).update(spec.questions[name].variant)
        outcome = judged(spec.questions[name], answer, measured=True)
        assert outcome.points < outcome.max_points
        assert " ".join(says.split()) in " ".join(outcome.as_text().split())

    def test_calling_what_is_asked_for_is_seen_and_does_not_work(
        self, spec: LabSpec, forbidden: tuple[str, str], zygote: Zygote
    ) -> None:
        """It is found by reading, for a person to look at; and while the answer runs it is not there."""
        question, source = spec.questions[forbidden[0]], forbidden[1]
        numbers = [f"{name} = {value!r}" for name, value in question.variant.items()]
        result = graded(zygote, question, "\n".join(numbers), f"# question: {question.name}\n{source}")
        assert "bypasses the task" in [kind for kind, _ in result.flags]
        assert result.points == 0
        # A library's call raises and says why; of attnkit there is nothing in the jail but its names.
        assert "asks you to write" in str(result.outcome) or "attnkit" in source

    def test_the_masters_answer_gets_full_marks_from_the_grader(
        self, spec: LabSpec, question: Question, zygote: Zygote, solved: list[str]
    ) -> None:
        """In the jail, within its limits, on inputs that no notebook has seen."""
        result = graded(zygote, question, *solved)
        assert result.points == question.points, result.outcome
        assert result.flags == ()


globals().update(class_each(EveryLab))


def test_every_lab_is_tested() -> None:
    assert {"attention"} <= {cls.lab for cls in EveryLab.__subclasses__()}
    assert {path.parent.name for path in ROOT.glob("labs/*/questions.py")} <= {c.lab for c in EveryLab.__subclasses__()}


def test_two_mistakes_at_once_still_hear_of_the_first() -> None:
    """Wrong axis *and* no maximum: no single mistake gives this answer, but the ordinary cases show the axis."""
    question = load_lab("attention").questions["softmax"]
    outcome = judged(question, lambda x: torch.exp(x) / torch.exp(x).sum(0, keepdim=True))
    assert outcome.mistake is not None
    assert not outcome.mistake.certain
    assert "first axis" in outcome.mistake.name


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
