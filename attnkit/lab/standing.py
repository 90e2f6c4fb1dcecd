"""How far one is, and how to hand in: in words that depend on the answers alone."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from attnkit.lab import kernel
from attnkit.lab.bank import LabSpec
from attnkit.lab.feedback import WIDTH, points
from attnkit.lab.memory import Earlier, fingerprint
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import Question

if TYPE_CHECKING:
    from attnkit.lab.handing_in import HandIn

_COUNTS = (
    "The grader takes your answers from that file and calls them on fresh inputs; saved outputs count for nothing."
)


def checkable(spec: LabSpec) -> list[Question]:
    """The questions that a notebook can check."""
    return [question for question in spec.questions.values() if not (question.manual or question.private)]


class Standing:
    """Points by question: from the checks of this run, or else from those that an earlier run left behind."""

    def __init__(self, spec: LabSpec, outcomes: Mapping[str, Outcome], earlier: Mapping[str, Earlier]) -> None:
        self._spec, self._outcomes = spec, outcomes
        self._earlier = {name: one for name, one in earlier.items() if name not in outcomes}
        self._changed = {name for name, one in self._earlier.items() if _other_now(spec.questions[name], one)}

    def lines(self, unfinished: bool = False) -> list[str]:
        """The total, and a line for each question; of those that the notebook checks only the `unfinished`."""
        width = max(len(name) for name in self._spec.questions)
        done = {one.name for one in checkable(self._spec) if unfinished and self._is_done(one.name)}
        rows = [
            f"  {name:<{width}}  {self._state(one)}" for name, one in self._spec.questions.items() if name not in done
        ]
        return [self._total(), *rows]

    def _is_done(self, name: str) -> bool:
        return name in self._outcomes and self._outcomes[name].passed

    def _points(self, name: str) -> float:
        if name in self._outcomes:
            return self._outcomes[name].points
        return self._earlier[name].points if name in self._earlier and name not in self._changed else 0.0

    def _state(self, question: Question) -> str:
        if question.manual:
            return f"{points(question.points)}, marked by a person"
        if question.private:
            return f"{points(question.points)}, checked only when it is graded"
        name = question.name
        passed = self._outcomes[name].passed if name in self._outcomes else None
        state = {None: "not checked yet", True: "done", False: "not finished"}[passed]
        if name in self._changed:
            state = "changed since it was checked in an earlier run"
        elif name in self._earlier:
            state = f"{'done' if self._earlier[name].passed else 'not finished'} in an earlier run"
        return f"{self._points(name):g} of {points(question.points)}, {state}"

    def _total(self) -> str:
        """The points on the practice cases, and how many more there are to be had elsewhere."""
        checked = checkable(self._spec)
        earned = float(sum(self._points(question.name) for question in checked))
        most = sum(question.points for question in checked)
        by_person = sum(question.points for question in self._spec.questions.values() if question.manual)
        later = self._spec.max_points - most - by_person
        more = [f"{points(by_person)} more from a person"] if by_person else []
        more += [f"{points(later)} more when it is graded"] if later else []
        return "; ".join([f"{earned:g} of {points(most)} on the practice cases", *more])


def _other_now(question: Question, earlier: Earlier) -> bool:
    """Whether the notebook holds another answer by now than the one that was checked."""
    function = kernel.names().get(question.answer)
    now = fingerprint(function) if callable(function) else ""
    return bool(now and earlier.source) and now != earlier.source


def told(spec: LabSpec, done: HandIn) -> list[str]:
    """What `lab.submit()` says of the file, below the points."""
    if done.empty:
        return ["Nothing is written yet, so there is nothing to hand in."]
    lines = []
    if done.trouble:
        lines += ["Before you hand in:", *(_fill(one, "  - ") for one in done.trouble), ""]
    if done.path is not None:
        where = "your browser downloads it" if done.offered else "it lies beside this notebook"
        if kernel.in_colab() and not done.offered:
            where = "you find it among Colab's files, on the left"
        answers = "all of your answers" if not done.trouble else "your answers"
        lines.append(_fill(f"{done.path} holds {answers}; {where}."))
        lines.append(_fill("To hand in, upload this one file where your course collects its labs."))
    return [*lines, _fill(_COUNTS), *_persons(spec)]


def by_hand(spec: LabSpec) -> Iterator[str]:
    """What it says where no notebook is around it."""
    colab = kernel.in_colab()
    save = "to your computer: File > Download > Download .ipynb" if colab else "in Jupyter: File > Save Notebook"
    yield "To hand in, run all cells of the notebook from the top:"
    yield f"  1. Save it {save}."
    yield f"  2. Upload that one file, {spec.name}.ipynb, where your course collects its labs."
    yield _fill(_COUNTS)
    yield from _persons(spec)


def _persons(spec: LabSpec) -> list[str]:
    names = [question.name for question in spec.questions.values() if question.manual]
    return [_fill(f"A person reads and marks what you wrote for {', '.join(names)}.")] if names else []


def _fill(text: str, mark: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=mark, subsequent_indent=" " * len(mark), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
