"""Bar charts in the house style: a few named things compared, with alt text and their data in a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import ArrayLike

from attnkit.viz.figure import INK, SERIES, Figure, house_style
from attnkit.viz.lines import short, spreads
from attnkit.viz.tables import Table

# Hatches tell the series apart without colour, for print and for those who cannot see it.
_HATCHES = ("", "//", "..", "xx", "--")


def bars(
    names: Sequence[str],
    series: Mapping[str, ArrayLike],
    *,
    alt: str,
    ylabel: str,
    title: str = "",
    spread: Mapping[str, ArrayLike] | None = None,
    digits: int = 3,
) -> Figure:
    """A group of bars for each of `names`, a bar in it for each entry of `series`.

    `spread` gives half-widths of error bars for some or all series. The numbers are folded below the figure.
    """
    at = np.arange(len(names), dtype=float)
    values = {name: np.asarray(y, dtype=float) for name, y in series.items()}
    for name, y in values.items():
        if y.shape != at.shape:
            raise ValueError(f"series[{name!r}]: shape was {y.shape}; it should be ({len(names)},), one for each name")
    errors = spreads(spread, values)
    width = 0.8 / len(values)
    with house_style():
        figure = MplFigure(figsize=(6.4, 3.6))
        axes = figure.add_subplot()
        axes.grid(False, axis="x")
        axes.set_axisbelow(True)
        for i, (name, y) in enumerate(values.items()):
            axes.bar(
                at + (i - (len(values) - 1) / 2) * width,
                y,
                width * 0.92,
                yerr=errors.get(name),
                color=SERIES[i % len(SERIES)],
                hatch=_HATCHES[i % len(_HATCHES)],
                label=name,
                error_kw={"ecolor": INK, "capsize": 3, "elinewidth": 1.2},
            )
        turn = 0 if sum(map(len, names)) <= 60 else 30
        axes.set_xticks(at, list(names), rotation=turn, ha="center" if not turn else "right")
        axes.set_ylabel(ylabel)
        axes.set_title(title)
        if len(values) > 1:
            # Beside the bars: inside it would cover some of them.
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    rows = [
        [name, *(short(float(y[i]), digits, errors.get(key), i) for key, y in values.items())]
        for i, name in enumerate(names)
    ]
    return Figure(figure, alt, Table([ylabel, *values], rows))
