"""Heat maps of attention weights, with the numbers in each cell and in a table behind."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as MplFigure

from attnkit.viz.figure import Figure, house_style
from attnkit.viz.tables import Table

_PRINTED = 12  # more rows or columns than this and numbers inside cells can no longer be read


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
    grid = _as_grid(weights)
    queries = _names(queries, grid.shape[0], "queries")
    keys = _names(keys, grid.shape[1], "keys")
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
    import matplotlib as mpl

    rows, columns = grid.shape
    size = (min(7.0, 1.6 + 0.62 * columns), min(6.5, 1.2 + 0.5 * rows))
    figure = MplFigure(figsize=size)
    axes = figure.add_subplot()
    axes.grid(False)
    colours = mpl.colormaps["cividis"]
    scale = mpl.colors.Normalize(low, high)
    small = max(rows, columns) <= _PRINTED
    mesh = axes.pcolormesh(grid, cmap=colours, norm=scale, linewidth=0, rasterized=not small)
    axes.invert_yaxis()
    axes.set_xticks(np.arange(columns) + 0.5, keys, rotation=0 if max(map(len, keys)) <= 6 else 45)
    axes.set_yticks(np.arange(rows) + 0.5, queries)
    axes.tick_params(length=0)
    axes.set_xlabel("key")
    axes.set_ylabel("query")
    for spine in axes.spines.values():
        spine.set_visible(False)
    if title:
        axes.set_title(title)
    if small:
        for i, j in np.ndindex(grid.shape):
            light = sum(np.array(colours(scale(grid[i, j]))[:3]) * (0.299, 0.587, 0.114)) > 0.5
            ink = "black" if light else "white"
            axes.text(j + 0.5, i + 0.5, f"{grid[i, j]:.{digits}f}", ha="center", va="center", color=ink, fontsize=10)
    figure.colorbar(mesh, ax=axes, fraction=0.05, pad=0.03).outline.set_visible(False)
    return figure


def _describe(grid: np.ndarray, queries: list[str], keys: list[str], title: str, alt: str) -> str:
    shown = f"Heat map{f' “{title}”' if title else ''}, {grid.shape[0]} queries by {grid.shape[1]} keys."
    if len(queries) <= _PRINTED:
        best = [
            f"{q} most at {keys[int(np.argmax(row))]} ({row.max():.2f})" if np.ptp(row) > 1e-9 else f"{q} at all alike"
            for q, row in zip(queries, grid, strict=True)
        ]
        shown += " By query: " + "; ".join(best) + "."
    return f"{alt} {shown}".strip()


def _as_grid(weights: object) -> np.ndarray:
    if hasattr(weights, "detach"):
        weights = weights.detach().cpu().float().numpy()
    grid = np.asarray(weights, dtype=float)
    if grid.ndim != 2 or 0 in grid.shape:
        raise ValueError(f"weights: shape was {grid.shape}; it should be (queries, keys): pick one batch and one head")
    return grid


def _names(names: Sequence[str] | None, count: int, which: str) -> list[str]:
    if names is None:
        return [str(i) for i in range(count)]
    if len(names) != count:
        raise ValueError(f"{which}: {len(names)} names for {count} {'rows' if which == 'queries' else 'columns'}")
    return [str(name) for name in names]
