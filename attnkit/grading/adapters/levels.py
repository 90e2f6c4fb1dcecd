"""Which isolation an adapter grades with: the strongest that works where it runs, and never none unasked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attnkit.grading.errors import GradingError
from attnkit.grading.isolation import why_no
from attnkit.grading.jail import Isolation

_LEVELS: tuple[Isolation, ...] = ("jail", "uid")


def choose(wanted: str, private: Iterable[Path] = ()) -> Isolation:
    """The level `wanted`, or with "auto" the strongest that works here and hides the `private` paths.

    Raises `GradingError` when none does.
    """
    if wanted == "none":
        return "none"
    if wanted not in ("auto", *_LEVELS):
        raise GradingError(f"isolation: was {wanted!r}; it should be auto, {', '.join(_LEVELS)} or none.")
    hidden, reasons = list(private), []
    for level in _LEVELS:
        if wanted in ("auto", level):
            if (reason := why_no(level, hidden)) is None:
                return level
            reasons.append(f"no {level}: {reason}")
    raise GradingError(f"{'; '.join(reasons)}. Answers would run unprotected, so nothing is graded.")
