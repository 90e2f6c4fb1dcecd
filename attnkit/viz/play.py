"""A parameter study that the reader moves: drawn again by the kernel in a notebook, from frames on a page."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from html import escape
from typing import Any, no_type_check

from attnkit.viz.explorer import Explorer
from attnkit.viz.explorers.frames import frames_explorer, is_number, label
from attnkit.viz.figure import Figure
from attnkit.viz.gluing import BOOK
from attnkit.viz.tables import Table, text_only

MOST = 64  # frames on a page

Draw = Callable[..., Figure | Table]


@no_type_check
def play(draw: Draw, /, **grid: Sequence[Any]) -> Any:
    """`draw(**choice)`, a figure or a table, for every choice that the reader makes from the values in `grid`.

    - In a notebook with a running kernel: ipywidgets controls, and `draw` is called for what is chosen.
    - On a page of the book, or without a kernel: every combination is drawn now, `MOST` at most, and the reader
      switches between them. So `draw` should be quick, and give the same for the same choice.

    Numbers become a slider, other values a list. Raises ValueError for a grid without values, for values that look the
    same, and for too many combinations; TypeError for a `draw` that gives neither figure nor table.

    >>> from attnkit.viz import table
    >>> play(lambda n: table(["n", "n squared"], [[n, n * n]]), n=[1, 2, 3])
    Explorer (frames): One picture for each choice of n: 1, 2, 3. The first is shown.
    n  n squared
    1          1
    """
    values = {name: _values(name, given) for name, given in grid.items()}
    if not values:
        raise ValueError("grid: was empty; name at least one parameter, such as play(draw, heads=[1, 2, 4])")
    if has_kernel():
        return _widget(draw, values)
    return frames(draw, values)


def frames(draw: Draw, grid: dict[str, list[Any]]) -> Explorer:
    """Every combination, drawn now."""
    count = math.prod(map(len, grid.values()))
    if count > MOST:
        sizes = " x ".join(f"{len(values)} ({name})" for name, values in grid.items())
        raise ValueError(f"grid: has {sizes} = {count} combinations; on a page it should have {MOST} at most")
    choices = itertools.product(*grid.values())
    return frames_explorer(grid, [_drawn(draw, dict(zip(grid, choice, strict=True))) for choice in choices])


def has_kernel() -> bool:
    """Can a reader's controls reach a kernel? Not while a page is built, nor where words are asked for."""
    if os.environ.get(BOOK) or text_only():
        return False
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    return getattr(get_ipython(), "kernel", None) is not None


def _values(name: str, given: Sequence[Any]) -> list[Any]:
    values = list(given) if not isinstance(given, str) else []
    if not values:
        raise ValueError(f"{name}: was {given!r}; it should be a list of the values to choose from")
    labels = [label(value) for value in values]
    twice = next((text for text in labels if labels.count(text) > 1), None)
    if twice is not None:
        raise ValueError(f"{name}: has {twice!r} more than once; its values should look different")
    return values


def _drawn(draw: Draw, choice: dict[str, Any]) -> Figure | Table:
    shown = draw(**choice)
    if not isinstance(shown, Figure | Table):
        raise TypeError(f"draw: gave a {type(shown).__name__} for {choice}; it should give a Figure or a Table")
    return shown


def _widget(draw: Draw, grid: dict[str, list[Any]]) -> Any:
    """Controls above what is drawn for them. Asks nothing of ipywidgets that 7.7.1 has not."""
    import ipywidgets as widgets

    look = {"style": {"description_width": "initial"}, "layout": {"width": "auto", "max_width": "30em"}}
    controls = {}
    for name, values in grid.items():
        kind = widgets.SelectionSlider if len(values) > 1 and all(map(is_number, values)) else widgets.Dropdown
        options = [(label(value), value) for value in values]
        controls[name] = kind(options=options, value=values[0], description=name, **look)
    shown = widgets.HTML(_drawn(draw, {name: values[0] for name, values in grid.items()}).html())

    def redraw(change: Any) -> None:
        choice = {name: control.value for name, control in controls.items()}
        try:
            shown.value = _drawn(draw, choice).html()
        except Exception as error:  # in a callback it would be lost
            shown.value = f"<pre>{escape(type(error).__name__)}: {escape(str(error))}</pre>"

    for control in controls.values():
        control.observe(redraw, names="value")
    return widgets.VBox([*controls.values(), shown])
