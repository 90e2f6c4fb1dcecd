"""Explorers joined to a kernel: by anywidget, which runs the same scripts, or by plain ipywidgets controls.

Colab has ipywidgets 7.7.1, so nothing newer is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from attnkit.viz.figure import Figure

if TYPE_CHECKING:
    from attnkit.viz.explorer import Explorer

OnChange = Callable[[dict[str, Any]], object]
Redraw = Callable[[Mapping[str, Any]], Figure]


@dataclass(frozen=True)
class Choice:
    """One of several values, `options` as (label, value)."""

    name: str
    label: str
    options: Sequence[tuple[str, Any]]
    value: Any


@dataclass(frozen=True)
class Slide:
    """A number from `low` to `high`; whole steps if `step` is an integer. `log` moves by powers of two."""

    name: str
    label: str
    low: int | float
    high: int | float
    value: int | float
    step: int | float | None = None
    log: bool = False


Controls = Sequence[Choice | Slide]


def live(explorer: Explorer, on_change: OnChange | None = None) -> Any:
    """A widget that shows `explorer` and has its `state` (a dict that both sides set)."""
    try:
        kind = _widget_class(explorer.kind)
    except ImportError:
        if explorer.controls is None or explorer.redraw is None:
            raise ImportError(
                f'a live explorer of kind {explorer.kind!r} needs the package anywidget: pip install "attnkit[live]"'
            ) from None
        widget = _by_controls(explorer.controls, explorer.redraw, explorer.state, explorer.title)
    else:
        widget = kind(**explorer.data())
    if on_change is not None:
        widget.observe(lambda change: on_change(dict(change["new"])), names="state")
    return widget


@cache
def _widget_class(kind: str) -> type:
    """A widget class whose front end is the scripts of `kind`, as the module that anywidget asks for."""
    import anywidget
    import traitlets

    from attnkit.viz.explorer import scripts, version

    module = f'{scripts(kind)}\nexport default {{ render: globalThis.attnkitExplorers["{version()}"].render }};\n'

    class LiveExplorer(anywidget.AnyWidget):
        _esm = module
        kind = traitlets.Unicode().tag(sync=True)
        title = traitlets.Unicode().tag(sync=True)
        spec = traitlets.Dict().tag(sync=True)
        state = traitlets.Dict().tag(sync=True)

    return LiveExplorer


def _by_controls(controls: Controls, redraw: Redraw, state: Mapping[str, Any], title: str) -> Any:
    import ipywidgets as widgets
    import traitlets

    class LiveControls(widgets.VBox):
        """Controls above a figure that is drawn again after each change."""

        state = traitlets.Dict()

    parts = {control.name: _part(control, state.get(control.name, control.value)) for control in controls}
    shown = widgets.HTML()
    heading = [widgets.Label(title)] if title else []
    box = LiveControls([*heading, *parts.values(), shown])
    box.state = {name: part.value for name, part in parts.items()}

    def draw(change: Any = None) -> None:
        for name, part in parts.items():
            part.value = box.state.get(name, part.value)
        shown.value = redraw({**state, **box.state}).html()

    def gather(change: Any) -> None:
        box.state = {**box.state, **{name: part.value for name, part in parts.items()}}

    for part in parts.values():
        part.observe(gather, names="value")
    draw()
    box.observe(draw, names="state")
    return box


def _part(control: Choice | Slide, value: Any) -> Any:
    import math

    import ipywidgets as widgets

    look: dict[str, Any] = {"description": control.label, "value": value}
    look["style"] = {"description_width": "initial"}
    if isinstance(control, Choice):
        return widgets.Dropdown(options=list(control.options), **look)
    if control.log:
        low, high = math.log2(control.low), math.log2(control.high)
        return widgets.FloatLogSlider(base=2, min=low, max=high, step=(high - low) / 100, **look)
    if isinstance(control.step, int):
        return widgets.IntSlider(
            min=int(control.low), max=int(control.high), step=control.step, **{**look, "value": int(value)}
        )
    return widgets.FloatSlider(min=control.low, max=control.high, step=control.step or 0.01, **look)
