"""Line charts in the house style, with alt text and their data in a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import ArrayLike

from attnkit.viz.figure import DASHES, MARKERS, SERIES, Figure, house_style
from attnkit.viz.tables import Table


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
) -> Figure:
    """One line per entry of `series` over `x`. `log` is "", "x", "y" or "xy". The numbers are folded below."""
    x = np.asarray(x, dtype=float)
    values = {name: np.asarray(y, dtype=float) for name, y in series.items()}
    for name, y in values.items():
        if y.shape != x.shape:
            raise ValueError(f"series[{name!r}]: shape was {y.shape}; it should be that of x, {x.shape}")
    with house_style():
        figure = MplFigure(figsize=(6.4, 3.6))
        axes = figure.add_subplot()
        for (name, y), colour, marker, dash in zip(values.items(), SERIES, MARKERS, DASHES, strict=False):
            marks: dict[str, Any] = {"marker": marker, "markersize": 5} if len(x) <= 20 else {}
            axes.plot(x, y, color=colour, linestyle=dash, linewidth=2, label=name, **marks)
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
        if len(values) > 1:
            axes.legend()
    rows = [[f"{at:g}", *(_short(float(y[i]), digits) for y in values.values())] for i, at in enumerate(x)]
    return Figure(figure, alt, Table([xlabel, *values], rows))


def _short(value: float, digits: int) -> str:
    """`value` with that many significant digits, and no exponent where a plain number will do."""
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")
