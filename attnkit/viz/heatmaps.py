"""Several heat maps side by side on one colour scale, as for the heads of a layer, with one table behind each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as MplFigure

from attnkit.viz.figure import Figure, house_style
from attnkit.viz.heat import as_numbers, draw_grid, named
from attnkit.viz.tables import Table, Tables

_PRINTED = 7  # more rows or columns than this and numbers inside such small cells cannot be read


def heatmaps(
    weights: object,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    *,
    titles: Sequence[str],
    alt: str = "",
    columns: int = 4,
    limits: tuple[float, float] | None = None,
    digits: int = 2,
) -> Figure:
    """Heat maps of `weights` (panels x queries x keys), each under its title, all on one scale of colours.

    `queries` and `keys` name rows and columns, the same in every panel. `alt` is added to what the figure can say by
    itself: for each panel the query and key with the greatest weight.
    """
    grids = as_numbers(weights)
    if grids.ndim != 3 or 0 in grids.shape:
        raise ValueError(f"weights: shape was {grids.shape}; it should be (panels, queries, keys)")
    if len(titles) != len(grids):
        raise ValueError(f"titles: {len(titles)} titles for {len(grids)} panels")
    queries = named(queries, grids.shape[1], "queries")
    keys = named(keys, grids.shape[2], "keys")
    limits = limits or (min(0.0, float(np.nanmin(grids))), max(float(np.nanmax(grids)), 1e-12))
    tables = [
        Table(
            ["query \\ key", *keys],
            [[name, *(f"{x:.{digits}f}" for x in row)] for name, row in zip(queries, grid, strict=True)],
            caption=title,
        )
        for title, grid in zip(titles, grids, strict=True)
    ]
    with house_style():
        drawn = _draw(grids, queries, keys, titles, min(columns, len(grids)), limits, digits)
    return Figure(drawn, f"{alt} {_describe(grids, queries, keys, titles)}".strip(), Tables(tables))


def _draw(
    grids: np.ndarray,
    queries: list[str],
    keys: list[str],
    titles: Sequence[str],
    columns: int,
    limits: tuple[float, float],
    digits: int,
) -> MplFigure:
    panels, rows, cols = grids.shape
    lines = -(-panels // columns)
    side = min(max(1.7, 0.34 * cols), 8.0 / columns)
    height = side * min(max(rows / cols, 0.5), 2.0)
    figure = MplFigure(figsize=(columns * side + 1.4, lines * (height + 0.6) + 0.4), layout="constrained")
    all_axes = figure.subplots(lines, columns, squeeze=False)
    mesh = None
    for index, axes in enumerate(all_axes.flat):
        if index >= panels:
            axes.set_axis_off()
            continue
        shown = (queries if index % columns == 0 else None, keys if index >= panels - columns else None)
        printed = digits if max(rows, cols) <= _PRINTED else None
        room = max(4, int(5 * side))
        mesh = draw_grid(axes, grids[index], *shown, limits=limits, digits=printed, size=8.0, room=room)
        axes.set_title(titles[index], fontsize=10)
    if mesh is not None:
        figure.colorbar(mesh, ax=all_axes, fraction=0.03, pad=0.02).outline.set_visible(False)
    return figure


def _describe(grids: np.ndarray, queries: list[str], keys: list[str], titles: Sequence[str]) -> str:
    said = []
    for title, grid in zip(titles, grids, strict=True):
        i, j = np.unravel_index(int(np.nanargmax(grid)), grid.shape)
        said.append(f"{title}: most from {queries[i]} to {keys[j]} ({grid[i, j]:.2f})")
    return f"{len(grids)} heat maps, {len(queries)} queries by {len(keys)} keys each. " + "; ".join(said) + "."
