"""Line charts in the house style, with alt text and their data in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import ArrayLike

from attnkit.viz.figure import DASHES, INK, MARKERS, SERIES, Figure, house_style
from attnkit.viz.tables import Table

_MOST = 2 * len(SERIES)


def lines(
    x: ArrayLike,
    series: Mapping[str, ArrayLike],
    *,
    alt: str,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    digits: int = 3,
    spread: Mapping[str, ArrayLike] | None = None,
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """One line per entry of `series` over `x`. `log` is "", "x", "y" or "xy". The numbers are folded below.

    `spread` gives half-widths of a band around some or all of the lines; `levels` are horizontal lines with a label,
    for a floor, a goal or what chance would give.
    """
    x = np.asarray(x, dtype=float)
    values = {name: np.asarray(y, dtype=float) for name, y in series.items()}
    for name, y in values.items():
        if y.shape != x.shape:
            raise ValueError(f"series[{name!r}]: shape was {y.shape}; it should be that of x, {x.shape}")
    if len(values) > _MOST:
        raise ValueError(f"series: {len(values)} lines; nobody can tell apart more than {_MOST} in one figure")
    bands = spreads(spread, values)
    with house_style():
        figure = MplFigure(figsize=(6.4, 3.6))
        axes = figure.add_subplot()
        for i, (name, y) in enumerate(values.items()):
            # The second round of colours has other markers and dashes than the first.
            colour, again = SERIES[i % len(SERIES)], i // len(SERIES)
            dash = DASHES[(i + 2 * again) % len(DASHES)]
            marks: dict[str, Any] = {"marker": MARKERS[i % len(MARKERS)], "markersize": 5} if len(x) <= 20 else {}
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=2, label=name, **marks)
            if name in bands:
                axes.fill_between(x, y - bands[name], y + bands[name], color=colour, alpha=0.2, linewidth=0)
        for label, level in (levels or {}).items():
            axes.axhline(level, color=INK, linewidth=1, linestyle=(0, (2, 3)))
            axes.annotate(
                label,
                (1, level),
                (-2, 3),
                ("axes fraction", "data"),
                "offset points",
                ha="right",
                fontsize=9,
                color=INK,
            )
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        axes.set_title(title)
        if "x" in log:
            axes.set_xscale("log", base=2)
            if len(x) <= 12:
                axes.set_xticks(x, [f"{value:g}" for value in x])
                axes.minorticks_off()
        if "y" in log:
            axes.set_yscale("log")
        if len(values) > 4:
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        elif len(values) > 1:
            axes.legend()
    rows = [
        [f"{at:g}", *(short(float(y[i]), digits, bands.get(name), i) for name, y in values.items())]
        for i, at in enumerate(x)
    ]
    return Figure(figure, alt, Table([xlabel, *values], rows))


def spreads(spread: Mapping[str, ArrayLike] | None, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The half-widths by series, checked against `values`."""
    found = {name: np.asarray(half, dtype=float) for name, half in (spread or {}).items()}
    for name, half in found.items():
        if name not in values:
            raise ValueError(f"spread[{name!r}]: there is no such series; there are {', '.join(values)}")
        if half.shape != values[name].shape or (half < 0).any():
            raise ValueError(f"spread[{name!r}]: should be {values[name].shape} half-widths of 0 or more, was {half}")
    return found


def short(value: float, digits: int, spread: np.ndarray | None = None, index: int = 0) -> str:
    """`value` with that many significant digits, no exponent where a plain number will do, and its spread if any."""
    text = f"{value:.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")
    return text if spread is None else f"{text} ± {spread[index]:.2g}"
