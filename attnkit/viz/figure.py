"""One display object for every figure: inline SVG that follows the page's colours, alt text, and the data behind it."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from attnkit.viz.tables import Table, Tables, text_only

if TYPE_CHECKING:
    import matplotlib.figure

# Colours that a colour-blind reader can tell apart (after Okabe and Ito), each with a contrast of 3:1 or more on
# white and on the dark page. Line styles and markers differ too, so that colour is never the only sign.
SERIES = ("#0072b2", "#d55e00", "#00875f", "#b8609a", "#7a7a7a")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)))
# Drawn in this colour, a mark takes the page's text colour: the SVG says currentColor in its place.
INK = "#010203"

_STYLE: dict[Any, Any] = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "legend.framealpha": 0.0,
    "legend.edgecolor": "none",
    "legend.labelcolor": INK,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#808080",
    "grid.alpha": 0.3,
    "grid.linewidth": 0.6,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "axes.titlesize": 12,
    "svg.fonttype": "path",
    "svg.hashsalt": "attnkit",
}


@contextmanager
def house_style() -> Iterator[None]:
    """Draw in the house style; what matplotlib was set to before is put back."""
    with mpl.rc_context(_STYLE):
        yield


class Figure:
    """A finished figure. A page and Colab show its SVG; text and screen readers get `alt` and the data table."""

    def __init__(self, figure: matplotlib.figure.Figure, alt: str, data: Table | Tables | None = None):
        if len(alt.split()) < 6:
            raise ValueError(f"alt: was {alt!r}; say in a sentence what the figure shows and what to see in it")
        self.alt, self.data = alt, data
        self._svg = _inline_svg(figure, alt)

    def __repr__(self) -> str:
        return f"Figure: {self.alt}" + (f"\n{self.data!r}" if self.data else "")

    def _repr_html_(self) -> str | None:
        return None if text_only() else self.html()

    def html(self) -> str:
        """The drawing with its words, and the numbers folded below it."""
        behind = f"<details><summary>Data behind this figure</summary>{self.data.html()}</details>" if self.data else ""
        return f'<figure class="ak-figure">{self._svg}{behind}</figure>'


def _inline_svg(figure: matplotlib.figure.Figure, alt: str) -> str:
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", bbox_inches="tight", pad_inches=0.05, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Figures share a page: names inside one SVG must not meet those of another.
    mark = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r'\bid="', f'id="f{mark}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\1f{mark}-", text)
    text = text.replace(INK, "currentColor")
    width = float(text.partition('width="')[2].partition('pt"')[0])
    text = re.sub(r' (?:width|height)="[\d.]+pt"', "", text, count=2)
    label = escape(alt, quote=True)
    style = f"width:100%;max-width:{width * 4 / 3:.0f}px;height:auto"
    return re.sub(r"\n\s*", "\n", text.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1))
