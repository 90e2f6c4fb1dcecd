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
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import ORDINARY, Question

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

    Checks run on practice cases in your own process; the grader draws other cases of the same kinds.
    """

    def __init__(self, name: str | Path) -> None:
        self._spec = load_lab(name)
        self._outcomes: dict[str, Outcome] = {}

    def __repr__(self) -> str:
        lines = [f"{self._spec.title}: {len(self._spec.questions)} questions, {points(self._spec.max_points)}"]
        return "\n".join(
            [*lines, *(f"  {q.name} ({points(q.points)}): {q.doc}" for q in self._spec.questions.values())]
        )

    def check(self, answer: Any, function: Callable[..., Any] | None = None) -> Feedback:
        """Check a function of yours: `check(softmax)`, or `check("softmax", my_function)` under another name."""
        question, function = self._resolve(answer, function)
        return Feedback(self._judge(question, function))

    def ready(self, answer: Any, function: Callable[..., Any] | None = None) -> bool:
        """Whether a function passes its ordinary cases. If not, prints why the cell shows nothing."""
        question, function = self._resolve(answer, function)
        if self._judge(question, function).parts[ORDINARY]:
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
        lines = []
        for name, question in self._spec.questions.items():
            outcome = self._outcomes.get(name)
            earned = 0.0 if outcome is None else outcome.points
            state = "not checked yet" if outcome is None else "done" if outcome.passed else "not finished"
            lines.append(f"  {name:<{width}}  {earned:g} of {points(question.points)}, {state}")
        total = f"{self._earned():g} of {points(self._spec.max_points)} on the practice cases"
        return Message("\n".join([total, *lines]))

    def submit(self) -> Message:
        """Say how to hand in: which file, and how it gets out of Colab or Jupyter."""
        steps = (
            "Save the notebook to your computer: File > Download > Download .ipynb."
            if "google.colab" in sys.modules
            else "Save the notebook: File > Save Notebook."
        )
        return Message(
            f"{self._earned():g} of {points(self._spec.max_points)} on the practice cases.\n\n"
            "To hand in:\n"
            "  1. Run all cells once more, from the top.\n"
            f"  2. {steps}\n"
            f"  3. Upload that one file, {self._spec.name}.ipynb, where your course collects its labs.\n"
            "The grader takes your functions from it and calls them on fresh inputs; saved outputs\n"
            "count for nothing."
        )

    def _earned(self) -> float:
        return float(sum(outcome.points for outcome in self._outcomes.values()))

    def _judge(self, question: Question, function: Callable[..., Any]) -> Outcome:
        call = InProcess(function, question)
        cases = question.cases(np.random.default_rng(PRACTICE_SEED))
        outcome = judge(question, call, cases, frameworks_of(function))
        if call.printed:
            note = "What your function prints is hidden while it is being checked."
            outcome = replace(outcome, notes=(*outcome.notes, note))
        self._outcomes[question.name] = outcome
        return outcome

    def _resolve(self, answer: Any, function: Callable[..., Any] | None) -> tuple[Question, Callable[..., Any]]:
        name, function = (answer, function) if isinstance(answer, str) else (getattr(answer, "__name__", ""), answer)
        known = list(self._spec.questions)
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
