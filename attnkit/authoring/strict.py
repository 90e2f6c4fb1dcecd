"""A strict run of a notebook, for what nbval lets pass.

nbval 0.11 looks at what cells show, and so it misses two things: where outputs are not compared (`--nbval-lax`, or the
comment NBVAL_IGNORE_OUTPUT) a cell that dies of an unknown magic passes, and a cell that is tagged `raises-exception`
passes when it does not raise and stores nothing. `run_strict` executes and reports both, and warnings too;
`blind_spots` finds both without running anything.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode, from_dict

from attnkit.authoring.notebook import execution_environment

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


def run_strict(nb: NotebookNode, cwd: Path | str, timeout: int = 300) -> list[Problem]:
    """Execute a copy of `nb` in a fresh kernel started in `cwd`, every cell of it; return what went wrong.

    A cell must not raise, unless it is tagged `raises-exception`: then it must, and with the exception that its stored
    output names. Nothing may be written to standard error.
    """
    copy = from_dict(nb)
    client = NotebookClient(copy, timeout=timeout, resources={"metadata": {"path": str(cwd)}})
    problems: list[Problem] = []
    with execution_environment(), client.setup_kernel():
        for index, cell in enumerate(copy.cells):
            if cell.cell_type == "code":
                problems += [Problem(index, message) for message in _run_cell(client, cell, index)]
    return problems


def _run_cell(client: NotebookClient, cell: NotebookNode, index: int) -> list[str]:
    tags = cell.metadata.pop("tags", [])  # without the tag, nbclient tells us what was raised
    stored = [output.ename for output in cell.outputs if output.output_type == "error"]
    raised = None
    try:
        client.execute_cell(cell, index)
    except CellExecutionError as error:
        raised = error.ename
    messages = []
    if RAISES in tags and raised is None:
        messages.append(f"is tagged {RAISES} and did not raise")
    elif RAISES in tags and stored and raised != stored[0]:
        messages.append(f"should raise {stored[0]}, and raised {raised}")
    elif RAISES not in tags and raised is not None:
        messages.append(f"raised {raised}")
    noise = "".join(o.text for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")
    if noise.strip() and raised is None:
        messages.append(f"wrote to standard error: {noise.strip().splitlines()[-1]}")
    return messages


def blind_spots(nb: NotebookNode) -> list[Problem]:
    """What nbval would let pass in `nb`, found by reading: magics that we do not know, and `raises-exception` cells
    without a stored error to be compared with."""
    problems = []
    for index, cell in enumerate(nb.cells):
        if cell.cell_type != "code":
            continue
        names = {match[1] or match[2] for match in _MAGIC.finditer(cell.source)}
        problems += [Problem(index, f"uses the unknown magic {name!r}") for name in sorted(names - KNOWN_MAGICS)]
        errors = [output for output in cell.outputs if output.output_type == "error"]
        if RAISES in cell.metadata.get("tags", []) and not errors:
            problems.append(Problem(index, f"is tagged {RAISES} and stores no error to compare with"))
    return problems
