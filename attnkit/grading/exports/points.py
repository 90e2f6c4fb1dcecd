"""Which points go to another system: final ones, in that system's rounding and on its scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import rounded
from attnkit.grading.exports.matching import Filled, who
from attnkit.grading.standing import Class, Standing


@dataclass(frozen=True)
class Choice:
    """What an instructor chose for an export.

    `provisional` exports totals that still wait for a mark, `zero` gives 0 to who handed in nothing (otherwise both
    are left as they are and listed). `scale` is "column" (to the maximum of the gradebook's column), "none" (points
    as they are), or "": then a column with another maximum is refused. `partial` writes the file although somebody's
    points found no place.
    """

    assignment: str = ""
    provisional: bool = False
    zero: bool = False
    scale: str = ""
    partial: bool = False


def exported(found: Class, choice: Choice, filled: Filled) -> list[tuple[Standing, float]]:
    """The students with points to export. Who gets none is listed in `filled.left`."""
    ready = []
    for standing in found.standings:
        why = _why_not(standing, choice)
        if why:
            filled.left.append(f"{who(standing)}: {why}")
        else:
            ready.append((standing, standing.total))
    return ready


def _why_not(standing: Standing, choice: Choice) -> str:
    decided = any(mark.override is not None for mark in standing.marks)
    waiting = [mark.question for mark in standing.marks if mark.waiting]
    if waiting and not choice.provisional:
        return f"waits for a mark ({', '.join(waiting)})"
    if standing.record is None and not decided:
        missing = standing.status == "nothing handed in"
        return "" if missing and choice.zero else standing.status
    return ""


def scaled(
    total: float | int, found: Class, column_max: float | None, choice: Choice, where: str, decimals: int
) -> str:
    """The points as the column counts them. Raises `GradingError` where maxima differ and nothing was chosen."""
    if column_max is None or abs(column_max - found.max_points) < 1e-9 or choice.scale == "none":
        return rounded(total, decimals)
    if choice.scale != "column":
        raise GradingError(
            f"{where} counts {column_max:g} points and the lab {found.max_points:g}. Say --scale column to convert, "
            "or --scale none to write the lab's points as they are."
        )
    return rounded(total * column_max / found.max_points if found.max_points else 0.0, decimals)


def refused(filled: Filled, choice: Choice) -> bool:
    """Whether the file must not be written: somebody's points found no place, and that was not allowed."""
    return bool(filled.unmatched) and not choice.partial


def only(matches: Sequence[int], what: str, names: Sequence[str]) -> int:
    """The one column of several names. Raises `GradingError` listing them."""
    if len(matches) != 1:
        has = "several such columns" if matches else "no such column"
        raise GradingError(f"{what}: the file has {has}; it has these: {', '.join(name for name in names if name)}.")
    return matches[0]
