"""A graded question: its cases, its trusted reference and the mistakes that it can name.

The notebook's check and the autograder judge by the same object, through `attnkit.lab.judge`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Case:
    """One call of the student's answer: what goes in, and which part of the points hangs on it.

    `args` and `kwargs` hold NumPy arrays, numbers, booleans, strings or None.
    `part` groups cases: a part's share of the points is given when all of its cases pass.
    `note` completes the sentence "Your answer fails on ...".
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    part: str = "ordinary"
    note: str = "an ordinary input"


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that we have seen before: `wrong` computes it, `hint` says what it breaks and why.

    `read` is the place in the book that explains, as `page#heading`.
    """

    name: str
    wrong: Callable[..., Any]
    hint: str
    read: str = ""


@dataclass(frozen=True)
class Tolerance:
    """An answer passes where |got - want| <= atol + rtol * |want|; infinities and NaN must agree exactly."""

    rtol: float = 1e-6
    atol: float = 1e-8


@dataclass(frozen=True)
class Question:
    """A question as the judge sees it. Made by the `question` decorator from a class (see DESIGN)."""

    name: str
    points: float
    answer: str
    doc: str
    cases: Callable[[np.random.Generator], Iterable[Case]]
    reference: Callable[..., Any]
    parts: Mapping[str, float]
    tolerance: Tolerance
    mistakes: tuple[Mistake, ...]
    read: str = ""
