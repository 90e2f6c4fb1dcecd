"""What nbval lets pass in a notebook, found by reading its source and the outputs of a run.

nbval 0.11 looks at what cells show, and so it misses two things: where outputs are not compared (`--nbval-lax`, or the
comment NBVAL_IGNORE_OUTPUT) a cell that dies of an unknown magic passes, and a cell that is tagged `raises-exception`
passes when it does not raise and stores nothing. A run that stops at whatever raises, as `notebook.execute` does, and
`problems` of what it gives find both, and warnings too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from nbformat import NotebookNode

# The magics that our notebooks may use; all of them exist in Colab.
KNOWN_MAGICS = {"pip", "matplotlib", "time", "timeit"}
RAISES = "raises-exception"
_MAGIC = re.compile(r"^\s*%%?([A-Za-z_]\w*)|^\s*(!)", re.MULTILINE)


@dataclass(frozen=True)
class Problem:
    """What is wrong with the cell at `index` of a notebook."""

    index: int
    message: str

    def __str__(self) -> str:
        return f"cell {self.index}: {self.message}"


def problems(ran: NotebookNode) -> list[Problem]:
    """What is wrong with a notebook that has been run: `blind_spots`, and what it wrote to standard error."""
    found = []
    for index, cell in enumerate(ran.cells):
        if cell.cell_type == "code":
            noise = [o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr"]
            if text := "".join(noise).strip():
                found.append(Problem(index, f"wrote to standard error: {text.splitlines()[-1]}"))
    return [*found, *blind_spots(ran)]


def blind_spots(nb: NotebookNode) -> list[Problem]:
    """What nbval would let pass in `nb`, found by reading: magics that we do not know, and `raises-exception` cells
    without a stored error to be compared with."""
    found = []
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        names = {match[1] or match[2] for match in _MAGIC.finditer(cell.source)}
        found += [Problem(index, f"uses the unknown magic {name!r}") for name in sorted(names - KNOWN_MAGICS)]
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if RAISES in cell.metadata.get("tags", []) and not errors:
            found.append(Problem(index, f"is tagged {RAISES} and stores no error to compare with"))
    return found
