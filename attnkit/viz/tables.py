"""Data tables: HTML with proper headers for a page, aligned text for a terminal or a stored notebook."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from html import escape


def text_only() -> bool:
    """Whether ATTNKIT_VIZ=text asks for words in place of pictures: for terminals, and to validate stored notebooks."""
    return os.environ.get("ATTNKIT_VIZ") == "text"


class Table:
    """What a cell shows as a table. `_repr_html_` serves page and Colab, `repr` everything else."""

    def __init__(self, header: Sequence[object], rows: Sequence[Sequence[object]], caption: str = ""):
        self.header = [str(cell) for cell in header]
        self.rows = [[str(cell) for cell in row] for row in rows]
        self.caption = caption
        wrong = [row for row in self.rows if len(row) != len(self.header)]
        if wrong:
            raise ValueError(f"rows: each needs {len(self.header)} cells as the header has, but one was {wrong[0]}")

    def __repr__(self) -> str:
        lines = [self.header, *self.rows]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        text = "\n".join("  ".join(c.rjust(w) for c, w in zip(line, widths, strict=True)).rstrip() for line in lines)
        return f"{self.caption}\n{text}" if self.caption else text

    def _repr_html_(self) -> str | None:
        return None if text_only() else self.html()

    def html(self) -> str:
        """The table in a frame that scrolls sideways when it must."""
        # Numbers stand right, so that their digits line up; words stand left.
        kinds = ["" if _numeric(column) else ' class="ak-words"' for column in zip(*self.rows, strict=True)]
        kinds = kinds or [""] * len(self.header)
        head = "".join(f'<th scope="col"{kind}>{escape(c)}</th>' for c, kind in zip(self.header, kinds, strict=True))
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td{kind}>{escape(c)}</td>" for c, kind in zip(row[1:], kinds[1:], strict=True))
            + "</tr>"
            for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        # Wide tables scroll inside their frame; a frame that scrolls must be reachable by keyboard and have a name.
        name = escape(self.caption or "Table: " + ", ".join(self.header[:4]), quote=True)
        return (
            f'<div class="ak-scroll" tabindex="0" role="group" aria-label="{name}">'
            f'<table class="ak-table">{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        )


def _numeric(column: Sequence[str]) -> bool:
    """Whether most of a column's cells begin as a number does."""
    return sum(bool(re.match(r"[-+−±≈<>]?\s*\.?\d|—?$|nan|[-−]?(inf|∞)", cell)) for cell in column) > len(column) / 2


class Tables:
    """One table after the other: what lies behind a figure of several panels."""

    def __init__(self, tables: Sequence[Table]):
        self.tables = list(tables)

    def __repr__(self) -> str:
        return "\n\n".join(repr(table) for table in self.tables)

    def html(self) -> str:
        """The tables, one below the other."""
        return "".join(table.html() for table in self.tables)


def table(header: Sequence[object], rows: Sequence[Sequence[object]], caption: str = "") -> Table:
    """A table whose first column names its rows; cells are shown as `str` gives them, so format numbers before."""
    return Table(header, rows, caption)
