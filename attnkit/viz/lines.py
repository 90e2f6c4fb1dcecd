"""Line charts in the house style, with alt text and their data in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as MplFigure

from attnkit.viz.figure import DASHES, MARKERS, SERIES, Figure, house_style
from attnkit.viz.tables import Table


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    alt: str,
    xlabel: str,
    ylabel: str,
    title: str = "",
    log: str = "",
    data: bool = True,
    digits: int = 3,
) -> Figure:
    """One line per entry of `series` over `x`. `log` is "", "x", "y" or "xy". `data` folds the numbers below."""
    with house_style():
        figure = MplFigure(figsize=(6.4, 3.6))
        axes = figure.add_subplot()
        for (name, y), colour, marker, dash in zip(series.items(), SERIES, MARKERS, DASHES, strict=False):
            marks = {"marker": marker, "markersize": 5} if len(x) <= 20 else {}
            axes.plot(x, _floats(y), color=colour, linestyle=dash, linewidth=2, label=name, **marks)
        _finish(axes, xlabel, ylabel, title)
        if "x" in log:
            axes.set_xscale("log", base=2)
            if len(x) <= 12:
                axes.set_xticks(list(x), [f"{value:g}" for value in x])
                axes.minorticks_off()
        if "y" in log:
            axes.set_yscale("log")
        if len(series) > 1:
            axes.legend()
    rows = [[f"{value:g}", *(_short(float(y[i]), digits) for y in series.values())] for i, value in enumerate(x)]
    return Figure(figure, alt, Table([xlabel, *series], rows) if data else None)


def _finish(axes, xlabel: str, ylabel: str, title: str) -> None:
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    if title:
        axes.set_title(title)


def _short(value: float, digits: int) -> str:
    """`value` with that many significant digits, and no exponent where a plain number will do."""
    if abs(value) >= 10**digits:
        return f"{value:.0f}"
    return f"{value:#.{digits}g}".rstrip(".")


def _floats(values: Sequence[float]) -> np.ndarray:
    return np.array([float(value) for value in values])
