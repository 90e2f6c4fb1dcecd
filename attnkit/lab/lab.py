"""The student's side of a lab: check a function, see how far one is, hand in."""

from __future__ import annotations

import difflib
import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.lab import kernel
from attnkit.lab.bank import load_lab
from attnkit.lab.calling import InProcess, frameworks_of
from attnkit.lab.feedback import as_html, as_text, points
from attnkit.lab.judge import PRACTICE_SEED, judge
from attnkit.lab.memory import Memory
from attnkit.lab.metering import InsideMeter
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import ORDINARY, Question
from attnkit.lab.resources import judge_resources
from attnkit.lab.sources import shortcut_notes
from attnkit.lab.standing import Standing, by_hand, checkable, told
from attnkit.lab.variants import PRACTICE


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
    """Words for the reader of a notebook, shown without quotation marks; `link` is a file that they speak of."""

    def __init__(self, text: str, link: str = "") -> None:
        self.text, self.link = text, link

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        text, link = html.escape(self.text), html.escape(self.link)
        if link:
            text = text.replace(link, f'<a href="{link}" download>{link}</a>', 1)
        return f'<div role="status" style="font-family:monospace;white-space:pre-wrap">{text}</div>'


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
        self._memory = Memory(self._spec)

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

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` as a NumPy array: handed over as torch tensors if that is what the function takes.

        Real arrays are handed over in single precision, and plain numbers as they are, as in a check. A tuple comes
        back as a tuple of arrays.
        """
        ready = [_ready(one) for one in arguments]
        outcome = self._outcomes.get(getattr(function, "__name__", ""))
        framework = outcome.framework if outcome else frameworks_of(function)[0]
        if framework == "torch":
            import torch  # the function's own library: it is loaded already

            ready = [torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in ready]
        return _as_arrays(function(*ready))

    def progress(self) -> Message:
        """Points so far, question by question, from the last check of each: of this run, or of an earlier one."""
        return Message("\n".join(self._standing().lines()))

    def _standing(self) -> Standing:
        return Standing(self._spec, self._outcomes, self._memory.earlier())

    def _checked(self) -> list[Question]:
        """The questions that the notebook can check."""
        return checkable(self._spec)

    def submit(self) -> Message:
        """Check everything once more, look at the notebook as the grader will, and write the file to hand in."""
        trouble = []
        for question in self._checked():
            function = kernel.names().get(question.answer)
            try:
                if callable(function):
                    self._judge(question, function)
            except Exception as error:  # an object may raise whatever is asked of it
                trouble.append(f"{question.name} could not be checked: {type(error).__name__}.")
        lines = self._standing().lines(unfinished=True)
        if kernel.shell() is None:
            return Message("\n".join([*lines, "", *by_hand(self._spec)]))
        from attnkit.lab.handing_in import prepare  # here: few cells need to know how a notebook is read

        done = prepare(self._spec)
        done.trouble[:0] = trouble
        return Message("\n".join([*lines, "", *told(self._spec, done)]), link=str(done.path or ""))

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
            self._memory.keep(outcome, function)
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


def _ready(argument: Any) -> Any:
    """A list or an array as an array of its own, reals in single precision; numbers, texts and None as they are."""
    if argument is None or isinstance(argument, bool | int | float | str):
        return argument
    return np.array(argument, dtype=np.float32 if np.asarray(argument).dtype.kind == "f" else None)


def _as_arrays(result: Any) -> Any:
    if isinstance(result, tuple):
        return tuple(map(_as_arrays, result))
    return result.detach().numpy() if hasattr(result, "detach") else np.asarray(result)


def _kind(value: Any) -> str:
    name = type(value).__name__
    return f"an object of type {name}"
