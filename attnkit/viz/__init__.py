"""Figures for page, notebook and Colab: readable by eye in light and dark, by screen reader, and as plain text."""

from __future__ import annotations

from attnkit.viz.bars import bars
from attnkit.viz.figure import Figure
from attnkit.viz.gluing import glue
from attnkit.viz.heat import heatmap
from attnkit.viz.heatmaps import heatmaps
from attnkit.viz.lines import lines
from attnkit.viz.tables import Table, table

__all__ = ["Figure", "Table", "bars", "glue", "heatmap", "heatmaps", "lines", "table"]
