"""A lab's master becomes the notebook that a student opens: solutions out, outputs of the reference run in.

The master is `labs/<name>/<name>.md`; the student's notebook is `<name>.ipynb` beside it. A cell that answers a
question says so in its source (`# question: softmax`), since Colab loses metadata and cell ids.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell

from attnkit.authoring.notebook import dumps, execute, read_myst, setup_source, with_stable_ids, write_if_changed
from attnkit.authoring.project import Project

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_QUESTION = re.compile(r"^# question: (\w+)$", re.MULTILINE)
_REGION = re.compile(rf"^(?P<indent>[ ]*){BEGIN}\n(?P<body>.*?)^[ ]*{END}$", re.MULTILINE | re.DOTALL)


class LabError(ValueError):
    """A master is written wrongly; the message names the cell, what was found and what it should be."""


@dataclass(frozen=True)
class Master:
    """The source of a lab."""

    path: Path

    @property
    def name(self) -> str:
        """The lab's name, which is also the folder's."""
        return self.path.stem

    @property
    def student_path(self) -> Path:
        """Where the student's notebook lies."""
        return self.path.with_suffix(".ipynb")


def find_masters(root: Path, name: str | None = None) -> list[Master]:
    """The masters below `root`/labs, all of them or the one of lab `name`."""
    masters = [Master(path) for path in sorted(root.glob("labs/*/*.md")) if path.stem == path.parent.name]
    if name is None:
        return masters
    chosen = [master for master in masters if master.name == name]
    if not chosen:
        raise LabError(f"name: was {name!r}; it should be one of: {', '.join(m.name for m in masters) or 'none'}")
    return chosen


def question_of(source: str) -> str | None:
    """The question that a cell answers, by the comment in its source."""
    found = _QUESTION.search(source)
    return found[1] if found else None


def student_source(source: str) -> str:
    """`source` with each solution replaced by a stub at the same indentation."""
    if BEGIN not in source and END not in source:
        return source
    question = question_of(source)
    if question is None:
        raise LabError("a cell with a solution names no question; its source should hold a line `# question: <name>`")

    def stub(match: re.Match[str]) -> str:
        lines = "# Your code goes here, in place of the next line.", f'raise NotImplementedError("{question}")'
        return "\n".join(match["indent"] + line for line in lines)

    replaced = _REGION.sub(stub, source)
    if BEGIN in replaced or END in replaced:
        raise LabError(f"question {question}: {BEGIN!r} and {END!r} should come in pairs, each on a line of its own")
    return replaced


def solution_lines(nb: NotebookNode) -> list[str]:
    """Every line of every solution, stripped; short ones that say nothing (`)`, `else:`) left out."""
    bodies = [match["body"] for cell in nb.cells for match in _REGION.finditer(cell.source)]
    return [line.strip() for body in bodies for line in body.splitlines() if len(line.strip()) > 6]


def with_setup(nb: NotebookNode, project: Project, master: Master) -> NotebookNode:
    """Put the setup cell before the first code cell and, when the project is published, the Colab badge on top."""
    first = next(i for i, cell in enumerate(nb.cells) if cell.cell_type == "code")
    nb.cells.insert(first, new_code_cell(setup_source(project)))
    url = project.colab_url(master.student_path.relative_to(project.root).as_posix())
    if url:
        badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
        nb.cells.insert(0, new_markdown_cell(badge))
    return with_stable_ids(nb)


def completed_notebook(master: Master, project: Project) -> NotebookNode:
    """The lab as a student hands it in who has answered everything, not executed."""
    nb = with_setup(read_myst(master.path), project, master)
    for cell in nb.cells:
        cell.source = _without_markers(cell.source)
    return nb


def student_notebook(master: Master, project: Project) -> NotebookNode:
    """The notebook that a student opens, holding the outputs of the reference run.

    The run happens in an empty folder: a student has nothing but this one file.
    """
    with tempfile.TemporaryDirectory() as empty:
        executed = execute(completed_notebook(master, project), empty)
    nb = with_setup(read_myst(master.path), project, master)
    solutions = solution_lines(nb)
    for cell, run in zip(nb.cells, executed.cells, strict=True):
        if cell.cell_type != "code":
            continue
        cell.source = student_source(cell.source)
        cell.execution_count = run.execution_count  # without one, nbval calls a cell unrun
        # What the setup cell prints depends on the machine; nothing is stored, and nbval is told to let it be.
        cell.outputs = [] if "NBVAL_IGNORE_OUTPUT" in cell.source else run.outputs
    leaked = leaks(with_stable_ids(nb), solutions)
    if leaked:
        raise LabError(f"{master.path.name}: lines of a solution are in the student's notebook: {leaked}")
    return nb


def filled_in(student: NotebookNode, answers: dict[str, str]) -> NotebookNode:
    """`student` with the cells of some questions replaced by `answers` (source by question); outputs stay."""
    nb = from_dict(student)
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = answers.get(question_of(cell.source) or "", cell.source)
    return nb


def reference_answers(master: Master) -> dict[str, str]:
    """The source of each question's cell in the master, without the markers."""
    cells = (cell.source for cell in read_myst(master.path).cells if cell.cell_type == "code")
    return {name: _without_markers(source) for source in cells if (name := question_of(source))}


def _without_markers(source: str) -> str:
    student_source(source)  # raises LabError where the markers are wrong
    return re.sub(rf"^[ ]*(?:{BEGIN}|{END})\n?", "", source, flags=re.MULTILINE).rstrip("\n")


def leaks(nb: NotebookNode, solutions: list[str]) -> list[str]:
    """Those of `solutions` that stand anywhere in `nb`: in sources, outputs or metadata."""
    texts = _strings(nb)
    return [line for line in solutions if any(line in text for text in texts)]


def _strings(node: object) -> list[str]:
    if isinstance(node, str):
        return [node]
    if isinstance(node, dict):
        return [text for key, value in node.items() for text in (str(key), *_strings(value))]
    if isinstance(node, list):
        return [text for value in node for text in _strings(value)]
    return []


def build(master: Master, project: Project, check: bool = False) -> bool:
    """Write the student's notebook; return whether the file changed or, under `check`, would have changed."""
    nb = student_notebook(master, project)
    if not check:
        return write_if_changed(nb, master.student_path)
    return not master.student_path.is_file() or master.student_path.read_text("utf-8") != dumps(nb)
