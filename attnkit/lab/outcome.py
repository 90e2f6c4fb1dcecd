"""What an answer replied and what became of it: plain data, so that it can be stored, shown and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Framework = Literal["torch", "numpy"]
# What a call returns, and what a script comes to: an entry for each step that compares.
Entry = np.ndarray | float | tuple[np.ndarray | float, ...]
Value = Entry | tuple[Entry, ...]
FailureKind = Literal["raised", "not-implemented", "timeout", "died", "malformed", "missing"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the student's function returned: a NumPy array, a number, or a tuple of these.

    For a script it is a tuple with one such entry for each step that compares.
    `changed` names the arguments that the function wrote into (it was handed copies). `said` is for trials: what the
    test said of each implementation, and the line that said it, both empty where it returned.
    """

    value: Value
    changed: tuple[str, ...] = ()
    said: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Failure:
    """There is no answer. `message` says why, in words for the student; `where` is the student's own line of code.

    raised: an exception; not-implemented: NotImplementedError, the stub; timeout: out of time;
    died: the process ended; malformed: returned something that is no array; missing: no such function.
    `step` is the number of the script's step in which it happened, from 1; 0 without a script.
    """

    kind: FailureKind
    message: str = ""
    where: str = ""
    step: int = 0


Reply = Answer | Failure


@dataclass(frozen=True)
class CaseResult:
    """One case: whether it passed, and if not, `why`: one line without values."""

    part: str
    note: str
    passed: bool
    why: str = ""


@dataclass(frozen=True)
class Counterexample:
    """The smallest case that failed, as text: `inputs` are (argument, value) pairs.

    `script` are the steps as Python, up to the one that differs; then `got`, `want` and `why` are that step's.
    """

    note: str
    inputs: tuple[tuple[str, str], ...]
    got: str
    want: str
    why: str
    script: tuple[str, ...] = ()


@dataclass(frozen=True)
class Recognised:
    """A named mistake or a broken invariant.

    `certain` is true when the mistake gives the student's answer on every case, and false when it only explains
    the first part that failed (a second mistake hides behind it).
    """

    name: str
    hint: str
    read: str
    certain: bool = True


@dataclass(frozen=True)
class ResourceResult:
    """How an answer did by one `Resource`. `said` is what is wrong, in words, "" when it passed or was not measured.

    `table` has its header first, empty when there is nothing to show. Sizes in it are rounded to a power of two and
    times are not told at all: another run of the same answer measures other numbers, and must say the same.
    """

    part: str
    measure: str
    passed: bool
    results: tuple[CaseResult, ...]
    said: str = ""
    table: tuple[tuple[str, ...], ...] = ()
    hint: str = ""
    read: str = ""


@dataclass(frozen=True)
class Outcome:
    """How an answer did. `parts` says which parts passed, `worth` what each is worth in points."""

    question: str
    framework: Framework
    points: float
    max_points: float
    parts: Mapping[str, bool]
    worth: Mapping[str, float]
    results: tuple[CaseResult, ...]
    failure: Failure | None = None  # why there is no answer on the counter-example's case
    mistake: Recognised | None = None
    invariant: Recognised | None = None
    counterexample: Counterexample | None = None
    notes: tuple[str, ...] = field(default=())
    read: str = ""
    resources: tuple[ResourceResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the answer gets all points."""
        return all(self.parts.values())

    def as_text(self) -> str:
        """The feedback as plain text: the same answer always gives the same text."""
        from attnkit.lab.feedback import as_text  # here, since feedback reads this module

        return as_text(self)

    def as_dict(self) -> dict[str, Any]:
        """The outcome in dicts, lists, strings and numbers, ready for JSON."""
        return asdict(self)
