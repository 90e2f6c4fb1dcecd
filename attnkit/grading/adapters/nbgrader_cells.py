"""A student's notebook as nbgrader expects it, whatever happened to its metadata, its cells and their order.

nbgrader finds cells by metadata that Colab drops and students duplicate; one bad cell can end its run for the whole
class (nbgrader#1083). Here the student's metadata counts for nothing: answers are found in the source as the
engine finds them, and everything else about a cell is taken from the gradebook, which `generate_assignment` filled.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from attnkit.lab.reading.cells import plan, read_cells

# Cells beyond these are cut: nobody writes them, and a page of formgrader with them cannot be opened.
MAX_SOURCE, MAX_CELLS = 200_000, 3000
# How the cell of a question's answer is called; its grade has the question's own name.
ANSWER = "{}-answer"
_SUFFIX = ANSWER.format("")


@dataclass(frozen=True)
class Wanted:
    """A cell of the assignment as the gradebook knows it; `points` is None where it carries no grade."""

    grade_id: str
    cell_type: str
    source: str
    checksum: str
    solution: bool
    points: float | None

    @property
    def metadata(self) -> dict[str, Any]:
        """The cell's metadata, schema 3."""
        told: dict[str, Any] = {
            "schema_version": 3,
            "grade_id": self.grade_id,
            "grade": self.points is not None,
            "solution": self.solution,
            "locked": not self.solution,
            "task": False,
            "cell_type": self.cell_type,
            "checksum": self.checksum,
        }
        return told | ({} if self.points is None else {"points": self.points})


def cleaned(nb: NotebookNode, wanted: Sequence[Wanted]) -> NotebookNode:
    """The cells of `nb` without outputs, ids and metadata, among them each of `wanted` exactly once.

    Locked cells are the assignment's own; an answer that is missing is the untouched stub, so nbgrader gives it 0.
    """
    student = [(_text(cell.get("source")), cell) for cell in nb.cells[:MAX_CELLS]]
    locked = {_plain(one.source) for one in wanted if not one.solution}
    kept = [(source, cell) for source, cell in student if cell.cell_type != "code" or _plain(source) not in locked]
    places = {one.grade_id: _place(one, kept) for one in wanted if one.solution}
    by_place: dict[int, Wanted] = {}
    for one in wanted:
        if (place := places.get(one.grade_id)) is not None:
            by_place[place] = one
    cells = [_cell(source, cell, by_place.get(index)) for index, (source, cell) in enumerate(kept)]
    _put_back(cells, wanted, {one.grade_id for one in by_place.values()})
    return new_notebook(cells=cells, metadata=_kernel())


def _put_back(cells: list[NotebookNode], wanted: Sequence[Wanted], there: set[str]) -> None:
    """Insert what is missing, each after the assignment's cell that comes before it."""
    at = 0
    for one in wanted:
        if one.grade_id in there:
            found = next(i for i, cell in enumerate(cells) if _claim(cell) == one.grade_id)
            at = max(at, found + 1)
        else:
            cells.insert(at, _new(one.cell_type, one.source, one.metadata))
            at += 1


def _place(one: Wanted, kept: Sequence[tuple[str, NotebookNode]]) -> int | None:
    """Which of the student's cells answers `one`: by the comment in its source, as the engine chooses."""
    if one.cell_type == "markdown":
        mark = re.compile(rf"<!--\s*question:\s*{re.escape(one.grade_id)}\s*-->")
        texts = [i for i, (_, cell) in enumerate(kept) if cell.cell_type == "markdown"]
        marked = [i for i in texts if mark.search(kept[i][0])]
        found = marked or [i for i in texts if _claim(kept[i][1]) == one.grade_id]
        return found[-1] if found else None
    name = one.grade_id.removesuffix(_SUFFIX)
    code = [i for i, (_, cell) in enumerate(kept) if cell.cell_type == "code"]
    cells = read_cells(kept[i][0] for i in code)
    how = plan(cells, name)
    own = {statement.cell for statement in how.attempts[0] if statement.own} if how.attempts else set()
    chosen = own or {cell.index for cell in cells if name in cell.questions}
    return code[max(chosen) - 1] if chosen else None


def _cell(source: str, cell: NotebookNode, one: Wanted | None) -> NotebookNode:
    metadata = one.metadata if one is not None else None
    return _new(cell.cell_type, source, metadata)


def _new(cell_type: str, source: str, nbgrader: dict[str, Any] | None) -> NotebookNode:
    make = new_code_cell if cell_type == "code" else new_markdown_cell
    return make(source, metadata={} if nbgrader is None else {"nbgrader": nbgrader})


def _claim(cell: NotebookNode) -> str:
    """The grade_id in the cell's metadata, which is whatever the student's file says."""
    metadata = cell.get("metadata")
    told = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = told.get("grade_id") if isinstance(told, dict) else None
    return name if isinstance(name, str) else ""


def _text(source: object) -> str:
    text = "".join(str(line) for line in source) if isinstance(source, list) else source
    return text[:MAX_SOURCE] if isinstance(text, str) else ""


def _plain(source: str) -> str:
    return "\n".join(line.rstrip() for line in source.strip().splitlines())


def _kernel() -> dict[str, Any]:
    """Never the student's: what a kernel's name starts is the grader's affair."""
    return {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
