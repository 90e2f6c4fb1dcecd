"""The guide through the museum: `visit` shows one specimen, `directory` lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import torch

from attnkit.museum.base import SPECIMENS, Specimen, find, verdict
from attnkit.viz.tables import Table


class Exhibit(Table):
    """A specimen at work: wrong beside right, what both pass, what only one passes, and what the test says."""

    def __init__(self, specimen: Specimen) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # modules draw their weights: the same at each visit
            wrong, right = specimen.does(specimen.wrong), specimen.does(specimen.right)
            said = [[verdict(check, f) for f in (specimen.wrong, specimen.right)] for check in specimen.checks]
        rows = [[name, wrong[name], right[name]] for name in wrong]
        for label, verdicts in zip((specimen.plausible, specimen.invariant), said, strict=True):
            rows.append([f"test: {label}", *("passes" if says is None else "FAILS" for says in verdicts)])
        super().__init__(["what is asked", "wrong", "right"], rows, specimen.title)
        self.says = said[1][0] or "nothing"

    def __repr__(self) -> str:
        return f"{super().__repr__()}\nThe test says: {self.says}"

    def html(self) -> str:
        """The table and what the test says. Numbers in a row stay on a line."""
        text = re.sub(r"(?<=>)[-\d.,naif# ]+(?=</td>)", lambda cell: cell[0].replace(" ", "&nbsp;"), super().html())
        return f'{text}<p class="ak-says">The test says: <em>{escape(self.says)}</em></p>'


def visit(slug: str) -> Exhibit:
    """Show a specimen: what it does, the plausible check that it passes, and the test that catches it.

    Raises ValueError for a slug that no specimen has, with the nearest ones.
    """
    return Exhibit(find(slug))


class Directory(Table):
    """Specimens by name, room and catching test. On a page each name is a link."""

    def __init__(self, specimens: Sequence[Specimen]) -> None:
        self.specimens = specimens
        rows = [[s.title, s.room, s.invariant] for s in specimens]
        super().__init__(["specimen", "room", "the test that catches it"], rows)

    def html(self) -> str:
        """The table, with links to where each specimen is shown."""
        text = super().html()
        for s in self.specimens:
            name = escape(s.title)
            link = f'<a href="{s.room}.html#museum-{s.slug}">{name}</a>'
            text = text.replace(f'<th scope="row">{name}</th>', f'<th scope="row">{link}</th>')
        return text


def directory(room: str | None = None) -> Directory:
    """All specimens, or those of one room. Raises ValueError for a room that is none."""
    rooms = {s.room for s in SPECIMENS.values()}
    if room is not None and room not in rooms:
        raise ValueError(f"room is {room!r}; it must be one of {', '.join(map(repr, sorted(rooms)))}, or None for all")
    return Directory([s for s in SPECIMENS.values() if room in (None, s.room)])
