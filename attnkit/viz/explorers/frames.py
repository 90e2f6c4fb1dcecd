"""Frames of a parameter study as an explorer: what several frames have in common travels once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from attnkit.viz.explorer import Explorer
from attnkit.viz.figure import Figure
from attnkit.viz.tables import Table

# Names inside an SVG carry a mark of their own figure (attnkit.viz.figure); only one frame is in the page at a time.
_MARK = re.compile(r'(\bid="|xlink:href="#|url\(#)f[0-9a-f]{8}-')


def frames_explorer(grid: Mapping[str, Sequence[Any]], shown: Sequence[Figure | Table]) -> Explorer:
    """`shown` has one frame for each combination of the grid's values, the last name running fastest."""
    lines: dict[str, int] = {}
    mark = hashlib.sha256("".join(frame.html() for frame in shown).encode()).hexdigest()[:8]
    frames = [
        _runs([lines.setdefault(line, len(lines)) for line in _MARK.sub(rf"\1p{mark}-", frame.html()).split("\n")])
        for frame in shown
    ]
    labels = [[label(value) for value in values] for values in grid.values()]
    spec = {
        "names": list(grid),
        "labels": labels,
        "numeric": [all(is_number(value) for value in values) for values in grid.values()],
        "lines": list(lines),
        "frames": frames,
    }
    choices = "; ".join(f"{name}: {', '.join(texts)}" for name, texts in zip(grid, labels, strict=True))
    alt = f"One picture for each choice of {choices}. The first is shown."
    return Explorer("frames", spec, alt=alt, fallback=shown[0])


def _runs(numbers: list[int]) -> list[int]:
    """5, 6, 7, 2 as 5, 3, 2, 1: where a run of consecutive numbers begins, and how long it is."""
    runs: list[int] = []
    for number in numbers:
        if runs and number == runs[-2] + runs[-1]:
            runs[-1] += 1
        else:
            runs += [number, 1]
    return runs


def is_number(value: object) -> bool:
    """A number that belongs on a slider; True and False do not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def label(value: object) -> str:
    """What a control says."""
    return f"{value:g}" if isinstance(value, float) else str(value)
