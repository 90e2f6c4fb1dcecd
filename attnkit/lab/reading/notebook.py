"""A notebook file, read with care: only the sources of its cells matter, and any of it may be hostile."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

MAX_CELLS = 3000
# Far above any real lab; made of tiny statements alone, so much takes seconds to read.
MAX_SOURCE = 2**19


class NotANotebook(ValueError):
    """The file cannot be read as a notebook; the message tells the student why and what to do."""


@dataclass(frozen=True)
class TextCell:
    """A Markdown cell: its source, and the names of the files attached to it."""

    text: str
    attachments: tuple[str, ...] = ()


def code_sources(data: bytes) -> list[str]:
    """The sources of the code cells of the notebook `data`, in order. Raises `NotANotebook`.

    Metadata, outputs, ids and the minor version are not looked at; Colab and others lose or change them.
    """
    sources = [_source(cell) for cell in _cells(data) if cell.get("cell_type") == "code"]
    found = [source for source in sources if source is not None]
    if sum(map(len, found)) > MAX_SOURCE:
        raise NotANotebook(f"more than {MAX_SOURCE >> 10} KiB of code")
    return found


def text_cells(data: bytes) -> list[TextCell]:
    """The Markdown cells of the notebook `data`, in order. Raises `NotANotebook`.

    Text beyond the size that is read is left out: it costs nobody the points of their code.
    """
    found: list[TextCell] = []
    room = MAX_SOURCE
    for cell in _cells(data):
        source = _source(cell) if cell.get("cell_type") == "markdown" else None
        if source is None or len(source) > room:
            continue
        room -= len(source)
        extra = cell.get("attachments")
        names = tuple(_clean(name) for name in extra) if isinstance(extra, dict) else ()
        found.append(TextCell(source, names))
    return found


def _cells(data: bytes) -> list[dict[str, Any]]:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError, MemoryError) as error:
        kind = "empty" if not data.strip() else f"not JSON ({type(error).__name__})"
        raise NotANotebook(f"not a notebook: the file is {kind}; hand in the .ipynb file itself") from None
    if not isinstance(notebook, dict) or type(notebook.get("nbformat")) is not int:
        raise NotANotebook("not a notebook: the file is JSON, but says nowhere which notebook format it has")
    if notebook["nbformat"] != 4:
        raise NotANotebook(
            f"notebook format {notebook['nbformat']}; it should be 4: open and save it in Jupyter or Colab"
        )
    cells = notebook.get("cells")
    if not isinstance(cells, list):
        raise NotANotebook("not a notebook: it has no list of cells")
    if len(cells) > MAX_CELLS:
        raise NotANotebook(f"{len(cells)} cells; at most {MAX_CELLS} are read")
    return [cell for cell in cells if isinstance(cell, dict)]


def _source(cell: dict[str, Any]) -> str | None:
    """A cell's text, which the format allows as one string or as a list of lines."""
    source = cell.get("source")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    return _clean(source)


def _clean(text: str) -> str:
    """A lone surrogate is valid JSON and no valid text."""
    return text.encode("utf-8", "replace").decode("utf-8")
