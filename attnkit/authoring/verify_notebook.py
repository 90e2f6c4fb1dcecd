"""What must be true of a lab's notebook, for `attnkit lab verify`: it builds, always the same, and runs untouched."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode, from_dict

from attnkit.authoring.labs import (
    LabError,
    Master,
    manual_question_of,
    question_of,
    reference_run,
    student_notebook,
)
from attnkit.authoring.notebook import dumps, execute
from attnkit.authoring.project import Project
from attnkit.authoring.strict import problems
from attnkit.authoring.travelling import public_questions, travels
from attnkit.lab.bank import LabSpec

STOPPED = (CellExecutionError, DeadKernelError)


class Runs:
    """A lab's notebook and its runs, each made when it is first asked for and then kept: a kernel takes seconds.

    Each raises what stopped it: one of `STOPPED`, or `LabError`.
    """

    def __init__(self, master: Master, project: Project) -> None:
        self.master, self.project = master, project
        self.solved_in = 0.0  # seconds, once the notebook has run

    @cached_property
    def completed(self) -> NotebookNode:
        """The run of the notebook in which everything is answered."""
        start = time.perf_counter()
        ran = reference_run(self.master, self.project)
        self.solved_in = time.perf_counter() - start
        return ran

    @cached_property
    def built(self) -> NotebookNode:
        """The student's notebook, which shows the outputs of that run."""
        return student_notebook(self.master, self.project, run=from_dict(self.completed))

    @cached_property
    def untouched(self) -> NotebookNode:
        """The run of the student's notebook with nothing written, alone in an empty folder.

        Raises `LabError`, too, when it leaves something there.
        """
        with tempfile.TemporaryDirectory() as empty:
            if travels(self.master.path.parent):
                questions = public_questions(self.master.path.parent)
                (Path(empty) / self.master.questions_path.name).write_text(questions, "utf-8")
            ran = execute(from_dict(self.built), empty)
            if left := left_behind(Path(empty), self.master):
                raise LabError(f"untouched, the student's notebook leaves {', '.join(left)} behind")
        return ran


def left_behind(folder: Path, master: Master) -> list[str]:
    """What a run of the notebook left in `folder` besides the file to hand in and what `Lab` remembers."""
    known = {master.questions_path.name, f".attnkit-{master.name}.json", f"{master.name}-hand-in.ipynb"}
    return sorted(path.name for path in folder.iterdir() if path.name not in known)


def notebook_faults(runs: Runs, spec: LabSpec) -> list[str]:
    """The notebook builds without a leak, the file beside the master is in step with it, and untouched it runs."""
    try:
        text = dumps(runs.built)
        file = runs.master.student_path
        found = []
        # One that is in step was run at another time, in another folder, mostly on another machine: no need to again.
        if not file.is_file() or file.read_text("utf-8") != text:
            found = [*_changing_faults(runs, text), *_step_faults(runs, file)]
    except LabError as error:
        return [str(error)]
    except STOPPED as error:
        return [f"the master does not run to its end: {_last_line(error)}"]
    return found + _count_faults(runs.built, spec) + _untouched_faults(runs)


def strict_faults(runs: Runs) -> list[str]:
    """What a reader of the completed notebook should not meet: warnings, and magics that Colab may not have."""
    if "completed" not in vars(runs):  # it did not run to its end, which is told already
        return []
    return [f"in the solved notebook, {problem}" for problem in problems(runs.completed)]


def _changing_faults(runs: Runs, text: str) -> list[str]:
    """Whether a second run, in a copy of the lab elsewhere, shows something else."""
    with _elsewhere(runs.master, runs.project) as (copy, other):
        again = dumps(student_notebook(copy, other))
    return [] if again == text else ["built twice, the notebook differs: a cell shows a time, a path or chance"]


def _step_faults(runs: Runs, file: Path) -> list[str]:
    if not file.is_file():
        return [f"{file.name} does not exist; run: attnkit lab build"]
    # A lab whose questions stay at home is built without checks.
    if file.read_text("utf-8") == dumps(student_notebook(runs.master, runs.project, checks=False)):
        return []
    return [f"{file.name} is out of step with {runs.master.path.name}; run: attnkit lab build"]


def _count_faults(nb: NotebookNode, spec: LabSpec) -> list[str]:
    """The student's notebook names each question, too, and says where words go."""
    text = [name for cell in nb.cells if (name := manual_question_of(cell.source)) and cell.cell_type == "markdown"]
    code = [name for cell in nb.cells if (name := question_of(cell.source)) and cell.cell_type == "code"]
    missing = [name for name in spec.questions if name not in (*code, *text)]
    return [f"the student's notebook has no cell for {name}" for name in missing]


def _untouched_faults(runs: Runs) -> list[str]:
    """With nothing written, the notebook runs to its end: a student runs all cells before reading any."""
    try:
        runs.untouched  # noqa: B018  # the run is what is asked for
    except LabError as error:
        return [str(error)]
    except STOPPED as error:
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
