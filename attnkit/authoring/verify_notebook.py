"""What must be true of a lab's notebook, for `attnkit lab verify`: it builds, always the same, and runs untouched."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode, from_dict

from attnkit.authoring.labs import LabError, Master, manual_question_of, question_of, student_notebook
from attnkit.authoring.notebook import dumps, execute
from attnkit.authoring.project import Project
from attnkit.authoring.travelling import public_questions, travels
from attnkit.lab.bank import LabSpec


def notebook_faults(master: Master, project: Project, spec: LabSpec) -> list[str]:
    """The notebook builds without a leak, the same in another folder, and the file beside the master is in step."""
    try:
        nb = student_notebook(master, project)
        with _elsewhere(master, project) as (copy, other):
            again = dumps(student_notebook(copy, other))
    except LabError as error:
        return [str(error)]
    except (CellExecutionError, DeadKernelError) as error:
        return [f"the master does not run to its end: {_last_line(error)}"]
    found = [] if again == dumps(nb) else ["built twice, the notebook differs: a cell shows a time, a path or chance"]
    file = master.student_path
    if not file.is_file():
        found.append(f"{file.name} does not exist; run: attnkit lab build")
    # A lab whose questions stay at home is built without checks.
    elif file.read_text("utf-8") not in _versions(nb, master, project):
        found.append(f"{file.name} is out of step with {master.path.name}; run: attnkit lab build")
    return found + _count_faults(nb, spec) + _untouched_faults(nb, master)


def _versions(nb: NotebookNode, master: Master, project: Project) -> Iterator[str]:
    """The notebook's text, and only if that is not the one looked for, its text without checks."""
    yield dumps(nb)
    yield dumps(student_notebook(master, project, checks=False))


def _count_faults(nb: NotebookNode, spec: LabSpec) -> list[str]:
    """The student's notebook names each question, too, and says where words go."""
    text = [name for cell in nb.cells if (name := manual_question_of(cell.source)) and cell.cell_type == "markdown"]
    code = [name for cell in nb.cells if (name := question_of(cell.source)) and cell.cell_type == "code"]
    missing = [name for name in spec.questions if name not in (*code, *text)]
    return [f"the student's notebook has no cell for {name}" for name in missing]


def _untouched_faults(nb: NotebookNode, master: Master) -> list[str]:
    """With nothing written, the notebook runs to its end: a student runs all cells before reading any."""
    with tempfile.TemporaryDirectory() as empty:
        if travels(master.path.parent):
            (Path(empty) / master.questions_path.name).write_text(public_questions(master.path.parent), "utf-8")
        try:
            execute(from_dict(nb), empty)
        except (CellExecutionError, DeadKernelError) as error:
            return [
                f"untouched, the student's notebook stops: {_last_line(error)}. A stub should stand inside a function, "
                "and a given cell that uses an answer inside `if lab.ready(...):`"
            ]
    return []


def _last_line(error: Exception) -> str:
    """What a notebook that stopped said last, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()[-1]


@contextlib.contextmanager
def _elsewhere(master: Master, project: Project) -> Iterator[tuple[Master, Project]]:
    """A copy of the lab at another path, so that a path in an output shows."""
    with tempfile.TemporaryDirectory(prefix="elsewhere-") as folder:
        inside = master.path.parent.relative_to(project.root) if master.path.is_relative_to(project.root) else Path()
        place = Path(folder) / "moved" / (inside if inside.parts else Path(master.name))
        shutil.copytree(master.path.parent, place, ignore=shutil.ignore_patterns("*.ipynb", "__pycache__", "hand-out*"))
        root = Path(folder) / "moved" if inside.parts else place
        yield Master(place / master.path.name), replace(project, root=root)
