"""The notebook twin of a chapter: what Colab opens. The page's cells, their text outputs, and plain Markdown.

A chapter runs in the order of its twin, so the chapter's run is also the twin's verification: `write_twins(check=True)`
compares every output with the stored one. Cells with the tag `varies` are left out of that, and the values that they
hand to the prose: the twin keeps those of the run that it was written from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from attnkit.authoring.chapters import VARIES, Chapter, load_chapters
from attnkit.authoring.execution import refresh
from attnkit.authoring.lint import glued
from attnkit.authoring.notebook import dumps, keep_text_outputs, setup_source, with_stable_ids, write_if_changed
from attnkit.authoring.plain import END, SOLUTION, PlainMarkdown, TwinError
from attnkit.authoring.project import Project, load_project
from attnkit.authoring.references import read_works
from attnkit.authoring.shown import shown_source

__all__ = ["TwinError", "make_twin", "twin_path", "write_twins"]

# Metadata that means something outside the book.
_KEPT_TAGS = {"raises-exception"}
# What nbval, too, is told about a cell whose outputs vary.
_IGNORED = "nbval-ignore-output"


def twin_path(chapter: Chapter) -> Path:
    """The `.ipynb` beside the chapter's `.md`."""
    return chapter.path.with_suffix(".ipynb")


def write_twins(
    root: Path, jobs: int | None = None, check: bool = False, say: Callable[[str], None] = print
) -> list[str]:
    """Write every twin that is out of step, or with `check` only name them."""
    project, chapters = load_project(root), [chapter for chapter in load_chapters(root) if not chapter.is_guide]
    refresh(chapters, jobs=jobs, say=say)
    changed = []
    for chapter in chapters:
        path = twin_path(chapter)
        if in_step(chapter, project):
            continue
        if not check:
            write_if_changed(make_twin(chapter, project), path)
        changed.append(path.relative_to(root).as_posix())
    return changed


def in_step(chapter: Chapter, project: Project) -> bool:
    """Whether the twin on disk is what the chapter's run gives, byte for byte, but for what varies."""
    path = twin_path(chapter)
    if not path.is_file():
        return False
    text = path.read_text("utf-8")
    try:
        stored = nbformat.reads(text, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError):
        return False
    return text == dumps(make_twin(chapter, project, stored))


def make_twin(chapter: Chapter, project: Project, stored: NotebookNode | None = None) -> NotebookNode:
    """The twin of an executed chapter; what varies is taken from the twin `stored`, if there is one."""
    executed = chapter.executed()
    works = read_works(chapter.root / "book" / "references.bib")
    varying = glued(NotebookNode(cells=[cell for cell in executed.cells if _varies(cell)]))
    if stored:
        kept = stored.metadata.get("attnkit", {}).get("varying", {})
        varying = {name: kept.get(name, value) for name, value in varying.items()}
    plain = PlainMarkdown(chapter.path, project, glued(executed) | varying, works)
    cells, solutions = opening_cells(chapter, project), [new_markdown_cell("## Solutions")]
    place = cells
    for cell in keep_text_outputs(executed).cells:
        if cell.cell_type == "code":
            place.extend(_code(cell))
            continue
        # A notebook cannot fold away a solution with its code, so solutions go to the end.
        for piece in re.split(f"({SOLUTION}|{END})", plain.render(cell.source)):
            if piece in (SOLUTION, END):
                place = solutions if piece == SOLUTION else cells
            elif piece.strip():
                place.append(new_markdown_cell(piece.strip()))
    if len(solutions) > 1:
        cells += solutions
    if plain.cited:
        cells.append(new_markdown_cell(plain.references()))
    for count, cell in enumerate((c for c in cells if c.cell_type == "code" and c.execution_count), start=1):
        _number(cell, count)
    nb = NotebookNode(
        nbformat=4,
        nbformat_minor=5,
        metadata=NotebookNode(
            kernelspec=NotebookNode(display_name="Python 3", language="python", name="python3"),
            language_info=NotebookNode(name="python"),
        ),
        cells=cells,
    )
    if varying:
        nb.metadata["attnkit"] = NotebookNode(varying=NotebookNode(varying))
    return _with_outputs_of(stored, with_stable_ids(nb))


def _varies(cell: NotebookNode) -> bool:
    return VARIES in cell.metadata.get("tags", [])


def _with_outputs_of(stored: NotebookNode | None, nb: NotebookNode) -> NotebookNode:
    """`nb` with the stored outputs in the cells that vary; a cell whose source changed has another id."""
    known = {cell.id: cell for cell in stored.cells if _IGNORED in cell.metadata.get("tags", [])} if stored else {}
    for cell in nb.cells:
        if cell.id in known and _IGNORED in cell.metadata.get("tags", []):
            cell.outputs = known[cell.id].outputs
            for output in cell.outputs:
                if "execution_count" in output:
                    output.execution_count = cell.execution_count
    return nb


def opening_cells(chapter: Chapter, project: Project) -> list[NotebookNode]:
    """A badge where the book is published, and the cell that installs attnkit where it is missing."""
    cells = []
    notebook = twin_path(chapter).relative_to(chapter.root).as_posix()
    address = project.colab_url(notebook)
    if address:
        cells.append(
            new_markdown_cell(
                f"[Open in Colab]({address}) · made from [`{chapter.name}.md`]"
                f"({project.repository}/blob/main/{chapter.name}.md)"
            )
        )
    setup = new_code_cell(setup_source(project, extra="chapters"))
    # Its output is about the reader's machine, so there is nothing to compare it with.
    setup.metadata = NotebookNode({"cellView": "form", "tags": ["nbval-skip"]})
    return [*cells, setup]


def _code(cell: NotebookNode) -> list[NotebookNode]:
    """The cell as a reader needs it; none if it only hands numbers to the prose."""
    source = shown_source(cell.source)
    if not source:
        return []
    tags = [tag for tag in cell.metadata.get("tags", []) if tag in _KEPT_TAGS]
    tags += [_IGNORED] if _varies(cell) else []
    outputs = [_settled(output) for output in cell.outputs]
    code = new_code_cell(source, outputs=outputs, execution_count=cell.execution_count)
    code.metadata = NotebookNode({"tags": tags} if tags else {})
    return [code]


def _number(cell: NotebookNode, count: int) -> None:
    cell.execution_count = count
    for output in cell.outputs:
        if "execution_count" in output:
            output.execution_count = count


def _settled(output: NotebookNode) -> NotebookNode:
    """An error's output without the traceback, whose paths and colours differ from machine to machine."""
    if output.output_type == "error":
        output.traceback = [f"{output.ename}: {output.evalue}"]
    return output
