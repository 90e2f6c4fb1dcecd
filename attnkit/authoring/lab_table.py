"""What a lab's master says of itself: its title, and the table of its questions with points, difficulty and time.

The book's page of labs shows it, so nothing of it is written twice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from attnkit.authoring.labs import LabError, Master, clone
from attnkit.lab.bank import load_lab
from attnkit.viz.tables import Table, table

_TITLE = re.compile(r"^# Lab: (.+)$", re.MULTILINE)
_ROW = re.compile(r"^\|(.+)\|$", re.MULTILINE)
_DOTS = "●"


@dataclass(frozen=True)
class LabTable:
    """A master's title and table. The last two columns are the difficulty, in dots, and the time, in minutes."""

    name: str
    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def minutes(self) -> int:
        """The time of all questions together."""
        return sum(int(row[-1].split()[0]) for row in self.rows)

    @property
    def points(self) -> int:
        """The points that the table promises; a row may promise them in two columns."""
        return sum(
            int(cell.split()[0]) for row in self.rows for cell in row[1:-2] if re.match(r"\d+( points?)?$", cell)
        )

    @property
    def difficulty(self) -> str:
        """The dots of the easiest question and, if they differ, those of the hardest."""
        levels = sorted({row[-2] for row in self.rows}, key=lambda dots: dots.count(_DOTS))
        return levels[0] if len(levels) == 1 else f"{levels[0]} to {levels[-1]}"


def lab_table(master: Master) -> LabTable:
    """Read the master. Raises `LabError` where it has no title or no such table."""
    text = master.path.read_text("utf-8")
    title = _TITLE.search(text)
    rows = [tuple(cell.strip().replace("`", "") for cell in row.split("|")) for row in _ROW.findall(text)]
    start = next((place for place, row in enumerate(rows) if row[-2:] == ("difficulty", "time")), None)
    if title is None or start is None:
        raise LabError(f"{master.path.name}: needs a title `# Lab: ...`, and a table that ends in difficulty and time")
    body = []
    for row in rows[start + 2 :]:  # below the line of dashes
        if len(row) != len(rows[start]) or not re.match(r"\d+ minutes?$", row[-1]):
            break
        body.append(row)
    return LabTable(master.name, title[1], rows[start], tuple(body))


def of_lab(name: str) -> Table:
    """The questions of a lab, as its notebook lists them."""
    found = lab_table(_master(name))
    return table(found.header, found.rows)


def of_labs(names: list[str]) -> Table:
    """A line for each lab: what it is about, and what it takes."""
    rows = []
    for found in (lab_table(_master(name)) for name in names):
        spec = load_lab(clone() / "labs" / found.name)
        minutes = 5 * round(found.minutes / 5)
        title = found.title[0].upper() + found.title[1:]
        rows.append([title, len(spec.questions), f"{spec.max_points:g}", found.difficulty, f"{minutes} minutes"])
    return table(["lab", "questions", "points", "difficulty", "time"], rows)


def _master(name: str) -> Master:
    return Master(Path(clone()) / "labs" / name / f"{name}.md")
