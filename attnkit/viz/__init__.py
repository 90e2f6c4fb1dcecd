"""Figures for page, notebook and Colab: readable by eye in light and dark, by screen reader, and as plain text.

Those that a reader can move (`Explorer`) need neither a kernel nor a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnkit._lazy import on_first_use
from attnkit.viz.bars import bars
from attnkit.viz.explorer import Explorer
from attnkit.viz.figure import Figure
from attnkit.viz.gluing import glue
from attnkit.viz.heat import heatmap
from attnkit.viz.heatmaps import heatmaps
from attnkit.viz.lines import lines
from attnkit.viz.play import play
from attnkit.viz.tables import Table, table

if TYPE_CHECKING:
    from attnkit.viz.explorers.beam import Prefixes, explore_beam, record_prefixes
    from attnkit.viz.explorers.cost import explore_cost
    from attnkit.viz.explorers.matrix import explore_matrix
    from attnkit.viz.explorers.positions import explore_positions
    from attnkit.viz.explorers.translator import explore_translator, number_translator

__all__ = [
    "Explorer",
    "Figure",
    "Prefixes",
    "Table",
    "bars",
    "explore_beam",
    "explore_cost",
    "explore_matrix",
    "explore_positions",
    "explore_translator",
    "glue",
    "heatmap",
    "heatmaps",
    "lines",
    "number_translator",
    "play",
    "record_prefixes",
    "table",
]

# Where each explorer lives. Loaded on first use: a page with one does not wait for the others.
_HOMES = {
    "Prefixes": "explorers.beam",
    "explore_beam": "explorers.beam",
    "explore_cost": "explorers.cost",
    "explore_matrix": "explorers.matrix",
    "explore_positions": "explorers.positions",
    "explore_translator": "explorers.translator",
    "number_translator": "explorers.translator",
    "record_prefixes": "explorers.beam",
}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)
