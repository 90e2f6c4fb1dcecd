"""The student's side of a lab: check a function, see how far one is, hand in."""

from __future__ import annotations

import difflib
import html
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.lab.bank import load_lab
from attnkit.lab.calling import InProcess, frameworks_of
from attnkit.lab.feedback import as_html, as_text, points
from attnkit.lab.judge import judge
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import ORDINARY, Question
from attnkit.lab.resources import judge_resources
from attnkit.lab.sources import shortcut_notes
from attnkit.lab.variants import PRACTICE

# The notebook always draws the same cases, so that a check says the same thing twice; the grader draws others.
PRACTICE_SEED = 0


class Feedback:
    """What a check says. A notebook shows it; `print` gives the same words; `outcome` holds the facts."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome

    @property
    def passed(self) -> bool:
        """Whether every case passed."""
        return self.outcome.passed

    def __repr__(self) -> str:
        return as_text(self.outcome)

    def _repr_html_(self) -> str:
        return as_html(self.outcome)


class Message:
    """Words for the reader of a notebook, shown without quotation marks."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return f'<div role="status" style="font-family:monospace;white-space:pre-wrap">{html.escape(self.text)}</div>'


class Lab:
    """A lab by name (`Lab("attention")`), or by the path of its folder.

    Checks run on practice cases in your own process; the grader draws other cases of the same kinds. In some labs
    each student has numbers of their own: `Lab("rotary", student="your id")`. Without an id you get those of a
    practice variant, which are not the ones that you are graded by.
    """

    def __init__(self, name: str | Path, student: str | int | None = None) -> None:
        self._spec = load_lab(name)
        # An empty id is one that nobody has filled in yet.
        self.student = "" if student is None else str(student).strip()
        if self._spec.has_variants:
            self._spec = self._spec.for_student(self.student or PRACTICE)
        self._outcomes: dict[str, Outcome] = {}

    def __repr__(self) -> str:
        lines = [f"{self._spec.title}: {len(self._spec.questions)} questions, {points(self._spec.max_points)}"]
        lines += [f"  {q.name} ({points(q.points)}): {q.doc}" for q in self._spec.questions.values()]
        if self._spec.has_variants:
            lines.append(self._whose())
        return "\n".join(lines)

    def _whose(self) -> str:
        """Whose numbers these are."""
        if self.student:
            return f"The numbers are those of student {self.student}."
        call = f'Lab("{self._spec.name}", student="your id")'
        return f"The numbers are those of the practice variant. For yours, name yourself: {call}"

    def task(self, name: str) -> Message:
        """What the question `name` asks, with your own numbers where each student has their own."""
        if name not in self._spec.questions:
            known = ", ".join(self._spec.questions)
            raise ValueError(f"name: was {name!r}; this lab has the questions {known}")
        question = self._spec.questions[name]
        lines = [f"{name}, {points(question.points)}", "", question.task]
        if question.draw is not None:
            lines += ["", self._whose()]
        return Message("\n".join(lines))

    def check(self, answer: Any, function: Callable[..., Any] | None = None) -> Feedback:
        """Check a function of yours: `check(softmax)`, or `check("softmax", my_function)` under another name."""
        question, function = self._resolve(answer, function)
        return Feedback(self._judge(question, function))

    def ready(self, answer: Any, function: Callable[..., Any] | None = None) -> bool:
        """Whether a function passes its ordinary cases. If not, prints why the cell shows nothing."""
        question, function = self._resolve(answer, function)
        if self._judge(question, function, measured=False).parts[ORDINARY]:
            return True
        print(f"{question.name} does not pass its ordinary cases yet: run this cell again when it does.")
        return False

    def run(self, function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
        """`function(*arrays)` as a NumPy array: handed over as torch tensors if that is what the function takes.

        Real numbers are handed over in single precision, as in a check.
        """
        ready = [np.array(array, dtype=np.float32 if np.asarray(array).dtype.kind == "f" else None) for array in arrays]
        outcome = self._outcomes.get(getattr(function, "__name__", ""))
        framework = outcome.framework if outcome else frameworks_of(function)[0]
        if framework == "torch":
            import torch  # the function's own library: it is loaded already

            result = function(*map(torch.from_numpy, ready))
            return result.detach().numpy() if isinstance(result, torch.Tensor) else np.asarray(result)
        return np.asarray(function(*ready))

    def progress(self) -> Message:
        """Points so far, question by question, from the last check of each."""
        width = max(len(name) for name in self._spec.questions)
        lines = [f"  {name:<{width}}  {self._state(question)}" for name, question in self._spec.questions.items()]
        return Message("\n".join([self._total(), *lines]))

    def _state(self, question: Question) -> str:
        if question.manual:
            return f"{points(question.points)}, marked by a person"
        if question.private:
            return f"{points(question.points)}, checked only when it is graded"
        outcome = self._outcomes.get(question.name)
        earned = 0.0 if outcome is None else outcome.points
        state = "not checked yet" if outcome is None else "done" if outcome.passed else "not finished"
        return f"{earned:g} of {points(question.points)}, {state}"

    def _total(self) -> str:
        """The points on the practice cases, and how many more there are to be had elsewhere."""
        earned = float(sum(outcome.points for outcome in self._outcomes.values()))
        checked = sum(question.points for question in self._checked())
        by_hand = sum(question.points for question in self._spec.questions.values() if question.manual)
        later = self._spec.max_points - checked - by_hand
        more = [f"{points(by_hand)} more from a person"] if by_hand else []
        more += [f"{points(later)} more when it is graded"] if later else []
        return "; ".join([f"{earned:g} of {points(checked)} on the practice cases", *more])

    def _checked(self) -> list[Question]:
        """The questions that the notebook can check."""
        return [question for question in self._spec.questions.values() if not (question.manual or question.private)]

    def submit(self) -> Message:
        """Say how to hand in: which file, and how it gets out of Colab or Jupyter."""
        steps = (
            "Save the notebook to your computer: File > Download > Download .ipynb."
            if "google.colab" in sys.modules
            else "Save the notebook: File > Save Notebook."
        )
        by_hand = [question.name for question in self._spec.questions.values() if question.manual]
        manual = f"\nA person reads and marks what you wrote for {', '.join(by_hand)}." if by_hand else ""
        return Message(
            f"{self._total()}.\n\n"
            "To hand in:\n"
            "  1. Run all cells once more, from the top.\n"
            f"  2. {steps}\n"
            f"  3. Upload that one file, {self._spec.name}.ipynb, where your course collects its labs.\n"
            "The grader takes your functions from it and calls them on fresh inputs; saved outputs\n"
            f"count for nothing.{manual}"
        )

    def _judge(self, question: Question, function: Callable[..., Any], measured: bool = True) -> Outcome:
        call = InProcess(function, question)
        cases = question.cases(np.random.default_rng(PRACTICE_SEED))
        outcome = judge(question, call, cases, frameworks_of(function))
        if measured:
            outcome = judge_resources(question, outcome, InsideMeter(function, question, PRACTICE_SEED))
        notes = ["What your function prints is hidden while it is being checked."] if call.printed else []
        notes += shortcut_notes(function, question.forbidden)
        if question.draw is not None and not self.student:
            notes.append("Checked with the numbers of the practice variant, not with yours: Lab was given no student.")
        outcome = replace(outcome, notes=(*outcome.notes, *notes))
        if measured or not question.resources:
            self._outcomes[question.name] = outcome
        return outcome

    def _resolve(self, answer: Any, function: Callable[..., Any] | None) -> tuple[Question, Callable[..., Any]]:
        name, function = (answer, function) if isinstance(answer, str) else (getattr(answer, "__name__", ""), answer)
        known = [question.name for question in self._checked()]
        if name in self._spec.questions and name not in known:
            how = "a person marks it" if self._spec.questions[name].manual else "it is checked only when it is graded"
            raise ValueError(f"answer: {name} has no check in the notebook: {how}")
        if not known:
            raise ValueError("answer: this lab has no question that the notebook can check")
        if function is None:
            raise ValueError(f"answer: was the text {name!r}; pass the function itself, as in check({name})")
        if not callable(function):
            raise ValueError(
                f"answer: was {_kind(function)}; pass the function itself, as in check({known[0]}), without calling it"
            )
        if name not in self._spec.questions:
            close = difflib.get_close_matches(str(name), known, n=1)
            raise ValueError(
                f"answer: this lab asks for no function called {name!r}; it asks for {', '.join(known)}. "
                f'For a function of another name: check("{(close or known)[0]}", your_function)'
            )
        return self._spec.questions[name], function


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an object of type {name}"
