"""What an answer replied and what became of it: plain data, so that it can be stored, shown and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

Framework = Literal["torch", "numpy"]
FailureKind = Literal["raised", "not-implemented", "timeout", "died", "malformed", "missing"]


@dataclass(frozen=True, eq=False)
class Answer:
    """What the student's function returned: a NumPy array, a number, or a tuple of these.

    `changed` names the arguments that the function wrote into (it was handed copies).
    """

    value: np.ndarray | float | tuple[np.ndarray | float, ...]
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failure:
    """There is no answer. `message` says why, in words for the student; `where` is the student's own line of code.

    raised: an exception; not-implemented: NotImplementedError, the stub; timeout: out of time;
    died: the process ended; malformed: returned something that is no array; missing: no such function.
    """

    kind: FailureKind
    message: str = ""
    where: str = ""


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
    """The smallest case that failed, as text: `inputs` are (argument, value) pairs."""

    note: str
    inputs: tuple[tuple[str, str], ...]
    got: str
    want: str
    why: str


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
