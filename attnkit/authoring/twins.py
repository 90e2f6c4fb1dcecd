"""The notebook twin of a chapter: what Colab opens. The page's cells, their text outputs, and plain Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from attnkit.authoring.chapters import Chapter, load_chapters
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


def twin_path(chapter: Chapter) -> Path:
    """The `.ipynb` beside the chapter's `.md`."""
    return chapter.path.with_suffix(".ipynb")


def write_twins(root: Path, jobs: int = 2, check: bool = False, say: Callable[[str], None] = print) -> list[str]:
    """Write every twin that is out of step, or with `check` only name them."""
    project, chapters = load_project(root), [chapter for chapter in load_chapters(root) if not chapter.is_guide]
    refresh(chapters, jobs=jobs, say=say)
    changed = []
    for chapter in chapters:
        twin, path = make_twin(chapter, project), twin_path(chapter)
        if check:
            differs = not path.is_file() or path.read_text("utf-8") != dumps(twin)
        else:
            differs = write_if_changed(twin, path)
        if differs:
            changed.append(path.relative_to(root).as_posix())
    return changed


def make_twin(chapter: Chapter, project: Project) -> NotebookNode:
    """The twin of an executed chapter."""
    executed = chapter.executed()
    works = read_works(chapter.root / "book" / "references.bib")
    plain = PlainMarkdown(chapter.path, project, glued(executed), works)
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
    return with_stable_ids(nb)


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
    setup = new_code_cell(setup_source(project))
    # Its output is about the reader's machine, so there is nothing to compare it with.
    setup.metadata = NotebookNode({"cellView": "form", "tags": ["nbval-skip"]})
    return [*cells, setup]


def _code(cell: NotebookNode) -> list[NotebookNode]:
    """The cell as a reader needs it; none if it only hands numbers to the prose."""
    source = shown_source(cell.source)
    if not source:
        return []
    tags = [tag for tag in cell.metadata.get("tags", []) if tag in _KEPT_TAGS]
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
