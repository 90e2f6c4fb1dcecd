"""Comparing an answer with what it should be, and saying in words how they differ."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from attnkit.lab.question import Case, Tolerance
from attnkit.lab.steps import Gradient, Step, Trial, comparing
from attnkit.lab.trials import wrong_verdict


def same(got: Any, want: Any, tolerance: Tolerance) -> bool:
    """Whether `got` equals `want` (arrays, numbers or tuples of them): shapes, values, infinities and NaN."""
    return difference(got, want, tolerance) == ""


def difference(got: Any, want: Any, tolerance: Tolerance) -> str:
    """How `got` differs from `want`, in one line without values; "" when they agree."""
    if isinstance(want, tuple):
        if not isinstance(got, tuple) or len(got) != len(want):
            return f"you returned {_many(got)}; it should be a tuple of {len(want)}"
        lines = (difference(g, w, tolerance) for g, w in zip(got, want, strict=True))
        return next((f"value {i}: {line}" for i, line in enumerate(lines) if line), "")
    if isinstance(got, tuple):
        return f"you returned {_many(got)}; it should be one array"
    return _array_difference(np.asarray(got), np.asarray(want), tolerance)


class Differs(NamedTuple):
    """Where a script's answer differs first: the step, from 1, which of its values (None: the only one), and how."""

    step: int
    value: int | None
    why: str


def script_difference(case: Case, got: Any, want: tuple[Any, ...], tolerance: Tolerance) -> Differs | None:
    """The first step of a script that gives something else than it should; None when all agree."""
    places = comparing(case.steps)
    if not isinstance(got, tuple) or len(got) != len(places):
        return Differs(places[-1] + 1, None, f"you returned {_many(got)}; there are {len(places)} steps to compare")
    for place, one, other in zip(places, got, want, strict=True):
        step = case.steps[place]
        if isinstance(step, Trial):
            if line := wrong_verdict(step.broken, one):
                return Differs(place + 1, None, line)
            continue
        if line := difference(one, other, tolerance):
            return _within(step, place + 1, one, other, tolerance, line)
    return None


def _within(step: Step, number: int, got: Any, want: Any, tolerance: Tolerance, line: str) -> Differs:
    """The same for a step that is known to differ; of several values the first that does, by its name."""
    if not isinstance(want, tuple) or not isinstance(got, tuple) or len(got) != len(want):
        return Differs(number, None, line)
    lines = [difference(one, other, tolerance) for one, other in zip(got, want, strict=True)]
    value = next(place for place, one in enumerate(lines) if one)
    if not isinstance(step, Gradient):
        return Differs(number, value, line)
    lost = "; yours is zero everywhere: is something detached, frozen, or not used?" if _vanishes(got[value]) else ""
    return Differs(number, value, f"the gradient of {(*step.arguments, *step.weights)[value]}: {lines[value]}{lost}")


def _vanishes(gradient: Any) -> bool:
    return np.size(gradient) > 0 and not np.any(gradient)


def _many(value: Any) -> str:
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else "one value"


def _array_difference(got: np.ndarray, want: np.ndarray, tolerance: Tolerance) -> str:
    if got.dtype.kind not in "fiub":
        return f"your answer has dtype {got.dtype}; it should hold real numbers"
    if got.shape != want.shape:
        return f"your answer has shape {got.shape}; it should be {want.shape}"
    got, want = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(invalid="ignore"):
        # Equal infinities pass by ==; they would give NaN in the difference.
        near = (got == want) | (np.abs(got - want) <= tolerance.atol + tolerance.rtol * np.abs(want))
    near |= np.isnan(got) & np.isnan(want)
    near &= np.isfinite(want) | (got == want) | np.isnan(want)
    if near.all():
        return ""
    if (np.isnan(got) & ~np.isnan(want)).any():
        return "your answer holds nan (not a number) where a number is expected"
    if (np.isinf(got) & ~np.isinf(want)).any():
        return "your answer holds inf where a finite number is expected"
    wrong = int((~near).sum())
    return f"{wrong} of {near.size} values differ" if near.size > 1 else "the value differs"
