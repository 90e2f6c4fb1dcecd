"""Heat maps of attention weights, with the numbers in each cell and in a table behind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as MplFigure

from attnkit.viz.figure import Figure, house_style
from attnkit.viz.tables import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

_PRINTED = 12  # more rows or columns than this and numbers inside cells can no longer be read
_NAMED = 24  # more names than this on a side and they run into each other


def heatmap(
    weights: object,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    alt: str = "",
    title: str = "",
    limits: tuple[float, float] | None = None,
    digits: int = 2,
) -> Figure:
    """A heat map of `weights` (queries x keys; array or tensor), row by row what each query looks at.

    `queries` and `keys` name rows and columns. `alt` is added to what the figure can say by itself: for each query the
    key with the greatest weight. `limits` fixes the colour scale, (0, greatest) if not given.
    """
    grid = as_numbers(weights)
    if grid.ndim != 2 or 0 in grid.shape:
        raise ValueError(f"weights: shape was {grid.shape}; it should be (queries, keys): pick one batch and one head")
    queries = named(queries, grid.shape[0], "queries")
    keys = named(keys, grid.shape[1], "keys")
    data = Table(
        ["query \\ key", *keys],
        [[name, *(f"{x:.{digits}f}" for x in row)] for name, row in zip(queries, grid, strict=True)],
    )
    low, high = limits or (min(0.0, float(np.nanmin(grid))), max(float(np.nanmax(grid)), 1e-12))
    with house_style():
        drawn = _draw(grid, queries, keys, low, high, title, digits)
    return Figure(drawn, _describe(grid, queries, keys, title, alt), data)


def _draw(
    grid: np.ndarray, queries: list[str], keys: list[str], low: float, high: float, title: str, digits: int
) -> MplFigure:
    rows, columns = grid.shape
    size = (min(7.0, 1.6 + 0.62 * columns), min(6.5, 1.2 + 0.5 * rows))
    figure = MplFigure(figsize=size)
    axes = figure.add_subplot()
    small = max(rows, columns) <= _PRINTED
    mesh = draw_grid(axes, grid, queries, keys, limits=(low, high), digits=digits if small else None)
    axes.set_xlabel("key")
    axes.set_ylabel("query")
    if title:
        axes.set_title(title)
    figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03).outline.set_visible(False)
    return figure


def draw_grid(
    axes: Axes,
    grid: np.ndarray,
    queries: list[str] | None,
    keys: list[str] | None,
    *,
    limits: tuple[float, float],
    digits: int | None,
    size: float = 10.0,
    room: int = _NAMED,
) -> QuadMesh:
    """Draw `grid` (queries x keys) into `axes`, with `digits` in its cells unless None; names may be left out.

    `room` is how many names there is space for on a side.
    """
    import matplotlib as mpl

    rows, columns = grid.shape
    axes.grid(False)
    colours = mpl.colormaps["cividis"]
    scale = mpl.colors.Normalize(*limits)
    mesh = axes.pcolormesh(grid, cmap=colours, norm=scale, linewidth=0, rasterized=max(rows, columns) > _PRINTED)
    axes.invert_yaxis()
    if keys is None:
        axes.set_xticks([])
    else:
        at = _ticks(columns, room)
        turn = 0 if max(len(keys[i]) for i in at) <= 6 else 45
        axes.set_xticks(at + 0.5, [keys[i] for i in at], rotation=turn, fontsize=size)
    if queries is None:
        axes.set_yticks([])
    else:
        at = _ticks(rows, room)
        axes.set_yticks(at + 0.5, [queries[i] for i in at], fontsize=size)
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if digits is not None:
        for i, j in np.ndindex(grid.shape):
            light = sum(np.array(colours(scale(grid[i, j]))[:3]) * (0.299, 0.587, 0.114)) > 0.5
            ink = "black" if light else "white"
            axes.text(j + 0.5, i + 0.5, f"{grid[i, j]:.{digits}f}", ha="center", va="center", color=ink, fontsize=size)
    return mesh


def _ticks(count: int, room: int) -> np.ndarray:
    """Which rows or columns to name: all, or every second, third ... where there is no room for all."""
    step = max(1, -(-count // room))
    return np.arange(0, count, step)


def _describe(grid: np.ndarray, queries: list[str], keys: list[str], title: str, alt: str) -> str:
    shown = f"Heat map{f' “{title}”' if title else ''}, {grid.shape[0]} queries by {grid.shape[1]} keys."
    if len(queries) <= _PRINTED:
        best = [
            f"{q} most at {keys[int(np.argmax(row))]} ({row.max():.2f})" if np.ptp(row) > 1e-9 else f"{q} at all alike"
            for q, row in zip(queries, grid, strict=True)
        ]
        shown += " By query: " + "; ".join(best) + "."
    return f"{alt} {shown}".strip()


def as_numbers(weights: object) -> np.ndarray:
    """An array or a tensor on any device as float64 numbers."""
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().float().numpy()
    return np.asarray(weights, dtype=float)


def named(names: Sequence[str] | None, count: int, which: str) -> list[str]:
    """`names`, or numbers from 0 where there are none; one for each of `count` rows or columns."""
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{which}: {len(names)} names for {count} {'rows' if which == 'queries' else 'columns'}")
    return [str(name) for name in names]
