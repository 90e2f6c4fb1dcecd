"""A notebook file's code, read with care: only the sources of its code cells matter, and any of it may be hostile."""

from __future__ import annotations

import json
from typing import Any

MAX_CELLS = 3000
MAX_SOURCE = 2 * 2**20


class NotANotebook(ValueError):
    """The file cannot be read as a notebook; the message tells the student why and what to do."""


def code_sources(data: bytes) -> list[str]:
    """The sources of the code cells of the notebook `data`, in order. Raises `NotANotebook`.

    Metadata, outputs, ids and the minor version are not looked at; Colab and others lose or change them.
    """
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
    sources = [_source(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    found = [source for source in sources if source is not None]
    if sum(map(len, found)) > MAX_SOURCE:
        raise NotANotebook(f"more than {MAX_SOURCE >> 20} MiB of code")
    return found


def _source(cell: dict[str, Any]) -> str | None:
    """A cell's text, which the format allows as one string or as a list of lines."""
    source = cell.get("source")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        return None
    # A lone surrogate is valid JSON and no valid text.
    return source.encode("utf-8", "replace").decode("utf-8")
