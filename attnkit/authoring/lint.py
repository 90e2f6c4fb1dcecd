"""What Sphinx does not check: figures without words, exercises without solutions, typed numbers, idle references."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode

from attnkit.authoring.chapters import Chapter, load_chapters
from attnkit.authoring.chapters import pages as all_pages
from attnkit.authoring.notebook import read_myst
from attnkit.authoring.pagetext import ROLE, directives, prose
from attnkit.authoring.references import faults, read_works

_ALT_WORDS = 6
_SKIPS = {"skip-execution", "nbval-skip", "raises-anything"}
# A decimal, or an integer that looks measured. Sizes that a page chooses (powers of two, round tens) are no results.
_NUMBER = re.compile(r"(?<!CC BY )(?<![\w.{\\/])\d+\.\d+(?!\w|\.\d)|(?<![\w.{\\/,-])\d{4,}(?!\w|\.\d)")


def lint(root: Path, chapters: Sequence[Chapter] | None = None, pages: Sequence[Path] | None = None) -> list[str]:
    """Every fault of the pages, as `page: fault`; empty when all is well. Chapters must have been executed.

    With `chapters` and `pages`, only of these; what can be told of the whole book alone is then left out.
    """
    found: list[str] = []
    whole = pages is None
    texts = {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in pages or all_pages(root)}
    for name, text in texts.items():
        found += [f"{name}: {fault}" for fault in [*exercise_faults(text), *number_faults(_markdown(root / name))]]
    for chapter in load_chapters(root) if chapters is None else chapters:
        faults = [*figure_faults(chapter.executed()), *glue_faults(chapter), *skip_faults(chapter.notebook)]
        found += [f"{chapter.name}.md: {fault}" for fault in faults]
    references = reference_faults(root, "\n".join(texts.values()))
    return found + [f"book/references.bib: {fault}" for fault in references if whole or "but not there" in fault]


def skip_faults(nb: NotebookNode) -> list[str]:
    """Cells that ask not to be run: there are none, so that every number of the book has been computed."""
    tags = [tag for cell in nb.cells for tag in cell.metadata.get("tags", [])]
    return [f"a cell has the tag {tag}: every cell of the book runs" for tag in tags if tag in _SKIPS]


def exercise_faults(text: str) -> list[str]:
    """Exercises without a solution, solutions without an exercise."""
    all_of = directives(text)
    asked = {d.options.get("label", "") for d in all_of if d.name in {"exercise", "exercise-start"}}
    solved = {d.argument for d in all_of if d.name in {"solution", "solution-start"}}
    return [
        *(f"exercise {label!r} has no solution" for label in sorted(asked - solved)),
        *(f"solution {label!r} belongs to no exercise" for label in sorted(solved - asked)),
    ]


def number_faults(markdown: str) -> list[str]:
    """Numbers in sentences that look like results but do not come out of a cell."""
    typed = [n for n in _NUMBER.findall(prose(markdown)) if "." in n or not _is_chosen(int(n))]
    return [f"the number {n} is typed: compute it in a cell and quote it with the glue role" for n in typed]


def figure_faults(nb: NotebookNode) -> list[str]:
    """Figures without alt text, and heat maps without the table that says the same in numbers."""
    found = []
    for number, cell in enumerate((c for c in nb.cells if c.cell_type == "code"), start=1):
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        for output in cell.outputs:
            data = output.get("data", {})
            html = data.get("text/html", "")
            drawn = re.findall(r"<(?:img|svg)\b[^>]*>", html)
            words = [re.search(r'\b(?:alt|aria-label)="([^"]*)"', tag) for tag in drawn]
            if any(kind.startswith("image/") for kind in data) and len(alt.split()) < _ALT_WORDS:
                found.append(f"code cell {number} draws an image without alt text: show it with attnkit.viz")
            if any(not match or len(match[1].split()) < _ALT_WORDS for match in words):
                found.append(f"code cell {number} draws a figure whose alt text says too little")
            if "Heat map" in html and "<table" not in html:
                found.append(f"code cell {number} draws a heat map without a table behind it")
    return found


def glue_faults(chapter: Chapter) -> list[str]:
    """Quoted names that no cell glues; glued names that no sentence quotes."""
    names = set(glued(chapter.executed()))
    quoted = {m["text"] for m in ROLE.finditer(chapter.path.read_text("utf-8")) if m["name"].startswith("glue")}
    return [
        *(f"{name!r} is quoted but no cell glues it" for name in sorted(quoted - names)),
        *(f"{name!r} is glued but never quoted" for name in sorted(names - quoted)),
    ]


def glued(nb: NotebookNode) -> dict[str, str]:
    """The values that the cells of an executed notebook hand to the text."""
    values: dict[str, str] = {}
    for cell in nb.cells:
        for output in cell.get("outputs", []):
            record = output.get("metadata", {}).get("scrapbook")
            if record:
                values[record["name"]] = ast.literal_eval(output.data["application/papermill.record/text/plain"])
    return values


def reference_faults(root: Path, text: str) -> list[str]:
    """Entries that are incomplete or cited nowhere; keys that are cited but missing."""
    works = read_works(root / "book" / "references.bib")
    cited = {key.strip() for m in ROLE.finditer(text) if m["name"].startswith("cite") for key in m["text"].split(",")}
    return [
        *faults(works),
        *(f"{key} is cited nowhere" for key in sorted(works.keys() - cited)),
        *(f"{key} is cited but not there" for key in sorted(cited - works.keys())),
    ]


def _markdown(page: Path) -> str:
    return "\n\n".join(cell.source for cell in read_myst(page).cells if cell.cell_type == "markdown")


def _is_chosen(number: int) -> bool:
    return number & (number - 1) == 0 or number % 1000 == 0
