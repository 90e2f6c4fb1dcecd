"""What must be true of a question before a class meets it, each as a function that returns its faults in words.

`attnkit lab verify` asks them all; the tests of our own labs ask the same ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.authoring.project import page_files
from attnkit.lab.calling import InProcess
from attnkit.lab.compare import same
from attnkit.lab.judge import judge
from attnkit.lab.outcome import Framework, Outcome
from attnkit.lab.question import Case, Question
from attnkit.lab.reference import as_call, run_trusted
from attnkit.lab.steps import values

SEEDS = (0, 1, 2, 3)
MANY = 8  # mistakes that a question of ours names at least


def outcome_of(question: Question, trusted: Any, seed: int, framework: Framework) -> Outcome:
    """How `trusted`, a reference or a mistake, does as an answer to the cases that `seed` draws.

    A function is called as a student's is, with tensors or with arrays; scripts, which may ask for gradients, are
    gone through as the reference does.
    """
    cases = list(question.cases(np.random.default_rng(seed)))
    if any(case.steps for case in cases):
        return judge(question, as_call(trusted, question), cases, (framework,))
    return judge(question, InProcess(_taking(trusted, framework), question), cases, (framework,))


def _taking(function: Any, framework: Framework) -> Any:
    """`function`, written for arrays, as a student's function of `framework`."""
    if framework == "numpy":
        return function
    import torch

    def through(value: Any) -> Any:
        return value.numpy() if isinstance(value, torch.Tensor) else value

    def in_torch(*args: Any, **kwargs: Any) -> Any:
        with np.errstate(all="ignore"):
            got = function(*map(through, args), **{name: through(value) for name, value in kwargs.items()})
        return tuple(map(_tensor, got)) if isinstance(got, tuple) else _tensor(got)

    return in_torch


def _tensor(value: Any) -> Any:
    import torch

    return torch.as_tensor(np.array(value, order="C"))  # a copy: torch takes no array that runs backwards


def reference_faults(question: Question, seeds: Iterable[int] = SEEDS) -> list[str]:
    """The reference gets full marks for its own cases in each framework, and obeys its own invariants."""
    found = []
    for seed in seeds:
        for framework in question.frameworks:
            outcome = outcome_of(question, question.reference, seed, framework)
            if not outcome.passed:
                found.append(f"the reference gets {_points(outcome)} with {framework}: {_why(outcome)}")
        for case in question.cases(np.random.default_rng(seed)):
            if case.steps or not question.invariants:
                continue
            got = run_trusted(question.reference, question, case)
            given = got if isinstance(got, tuple) else np.asarray(got)
            broken = [i.name for i in question.invariants if not i.holds(given, *case.args, **case.kwargs)]
            found += [f'the reference breaks the invariant "{name}" on {case.note}' for name in broken]
    return list(dict.fromkeys(found))


def mistake_faults(question: Question, seeds: Iterable[int] = SEEDS) -> list[str]:
    """Every mistake loses points and is told its own name and hint, whatever cases are drawn."""
    found: list[str] = []
    for mistake in question.mistakes:
        faults = (
            fault
            for seed in seeds
            for framework in question.frameworks
            if (fault := _mistaken(question, mistake, outcome_of(question, mistake.wrong, seed, framework)))
        )
        found += [f'mistake "{mistake.name}": {fault}' for fault in [next(faults, "")] if fault]
    return found


def _mistaken(question: Question, mistake: Any, outcome: Outcome) -> str:
    if outcome.passed:
        return "gets full marks: add a case that tells it from the right answer"
    if outcome.mistake is None:
        return "is not recognised: another mistake gives the same answers in the part that fails, or it raises there"
    if outcome.mistake.name != mistake.name:
        return f'is taken for "{outcome.mistake.name}", which gives the same answers: drop one, or add a case'
    if not outcome.mistake.certain or mistake.hint.split()[0] not in outcome.as_text():
        return "is recognised on some of the cases only: does it raise, or depend on chance, on the others?"
    return ""


def alike_faults(question: Question, seed: int = 5) -> list[str]:
    """Mistakes differ in name, in hint and in what they compute."""
    found = []
    for what in ("name", "hint"):
        texts = [getattr(mistake, what) for mistake in question.mistakes]
        found += [
            f"two mistakes have the same {what}: {text}" for text in sorted({t for t in texts if texts.count(t) > 1})
        ]
    cases = list(question.cases(np.random.default_rng(seed)))
    rows = [[_given(mistake.wrong, question, case) for case in cases] for mistake in question.mistakes]
    for i, one in enumerate(rows):
        for j in range(i):
            pairs = zip(one, rows[j], strict=True)
            if all((a is None) == (b is None) and (a is None or same(a, b, question.tolerance)) for a, b in pairs):
                names = question.mistakes[j].name, question.mistakes[i].name
                found.append(f'the mistakes "{names[0]}" and "{names[1]}" give the same answers to every case')
    return found


def _given(wrong: Any, question: Question, case: Case) -> Any:
    try:
        return run_trusted(wrong, question, case, None)
    except Exception:  # a mistake that raises is told by that
        return None


def case_faults(question: Question) -> list[str]:
    """Cases depend on the seed alone, each is described in its own words, each part has one, and reals are float32."""
    draws = [list(question.cases(np.random.default_rng(seed))) for seed in (3, 3, 4)]
    first, again, other = ([_bytes(case) for case in cases] for cases in draws)
    found = [] if first == again else ["the same seed draws different cases: use `rng`, and nothing else, to draw"]
    if first == other:
        found.append("every seed draws the same cases: an answer could hold them; use `rng` to draw some numbers")
    notes = [case.note for case in draws[0]]
    found += [f"two cases have the note {note!r}" for note in sorted({n for n in notes if notes.count(n) > 1})]
    parts = {case.part for case in draws[0]}
    measured = {resource.part for resource in question.resources}
    found += [f"no case belongs to the part {part!r}" for part in question.parts if part not in parts | measured]
    found += [f"a case has the part {part!r}, which is worth nothing" for part in sorted(parts - set(question.parts))]
    kinds = {np.dtype(v.dtype) for case in draws[0] for v in _arrays(case)}
    wide = sorted(str(kind) for kind in kinds if kind.kind == "f" and kind != np.float32)
    found += [f"a case holds {kind}: torch's own reals are float32, so draw those" for kind in wide]
    return found


def _arrays(case: Case) -> Iterator[np.ndarray]:
    inputs = [*case.args, *case.kwargs.values(), *(value for step in case.steps for value in values(step))]
    yield from (value for value in inputs if isinstance(value, np.ndarray))


def _bytes(case: Case) -> list[Any]:
    plain = [v for v in (*case.args, *case.kwargs.values()) if not isinstance(v, np.ndarray)]
    return [case.note, repr(plain), *(array.tobytes() for array in _arrays(case))]


def few_mistakes(question: Question) -> list[str]:
    """Whether the question names fewer mistakes than ours do."""
    few = len(question.mistakes)
    return [] if few >= MANY else [f"names {few} mistakes; {MANY} or more catch most wrong answers"]


def read_faults(question: Question, pages: Mapping[str, str]) -> list[str]:
    """Every place to read, `page#anchor`, is in the book whose Markdown is `pages`, by name."""
    found = []
    places = [item.read for group in (question.mistakes, question.invariants, question.resources) for item in group]
    for read in filter(None, dict.fromkeys([question.read, *places])):
        page, _, anchor = read.partition("#")
        if page not in pages:
            found.append(f"read {read!r}: the book has no page {page}")
        elif anchor and not re.search(rf"^\({re.escape(anchor)}\)=$", pages[page], re.MULTILINE):
            found.append(f"read {read!r}: the page has no line ({anchor})=")
    return found


def book_pages(root: Path) -> dict[str, str]:
    """The Markdown of the book's pages in the clone at `root`, by the names that `read` has for them."""
    return {name: path.read_text("utf-8") for name, path in page_files(root).items()}


def name_faults(question: Question) -> list[str]:
    """`forbidden` holds full names, and a private or manual question is written as one."""
    odd = [name for name in question.forbidden if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)*(\.\*)?", name)]
    found = [f"forbidden: {name!r} is no dotted name, as in torch.nn.functional.softmax" for name in odd]
    if question.manual and not question.rubric:
        found.append("a person marks it, and nothing says how: give the class a `rubric`")
    return found + ([] if question.doc else ["the class has no docstring, which says what is asked"])


def _points(outcome: Outcome) -> str:
    return f"{outcome.points:g} of {outcome.max_points:g} points"


def _why(outcome: Outcome) -> str:
    return next((f"{result.note}: {result.why}" for result in outcome.results if not result.passed), "")
