"""A lab's master becomes the notebook that a student opens: solutions out, outputs of the reference run in.

The master is `<name>/<name>.md`, in a clone's `labs` or anywhere; the student's notebook is `<name>.ipynb` beside it.
A cell that answers a question says so in its source (`# question: softmax`), since Colab loses metadata and cell ids;
the text cell of a question that is answered in words says it in a comment (`<!-- question: why -->`).
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell

from attnkit.authoring.notebook import dumps, execute, read_myst, setup_source, with_stable_ids
from attnkit.authoring.personal import MasterError, personal, without_checks
from attnkit.authoring.project import Project, ProjectError, find_root, project_of
from attnkit.authoring.travelling import public_questions, travels
from attnkit.lab.bank import TRAVELS_AS

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
_QUESTION = re.compile(r"^# question: (\w+)$", re.MULTILINE)
_MANUAL = re.compile(r"^<!-- question: (\w+) -->$", re.MULTILINE)
_REGION = re.compile(rf"^(?P<indent>[ ]*){BEGIN}\n(?P<body>.*?)^[ ]*{END}$", re.MULTILINE | re.DOTALL)


LabError = MasterError


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

    @property
    def questions_path(self) -> Path:
        """The questions file that goes with the student's notebook, for a lab that attnkit does not bring."""
        return self.path.with_name(self.name + TRAVELS_AS)


def find_masters(root: Path, name: str | None = None) -> list[Master]:
    """The masters below `root`/labs, all of them or the one of lab `name`."""
    masters = [Master(path) for path in sorted(root.glob("labs/*/*.md")) if path.stem == path.parent.name]
    if name is None:
        return masters
    chosen = [master for master in masters if master.name == name]
    if not chosen:
        raise LabError(f"name: was {name!r}; it should be one of: {', '.join(m.name for m in masters) or 'none'}")
    return chosen


def find_master(lab: str) -> tuple[Master, Project]:
    """The master of `lab`, with the project that it belongs to: its folder, its `.md`, or its name inside a clone.

    Raises `LabError` where there is none.
    """
    path = Path(lab)
    if path.suffix == ".md" and path.is_file():
        path = path.parent
    if path.is_dir() and (master := Master(path.resolve() / f"{path.resolve().name}.md")).path.is_file():
        return master, project_of(master.path.parent)
    if path.is_dir() or len(path.parts) != 1:
        raise LabError(
            f"lab: was {lab!r}; it should be a folder <name> that holds <name>.md; attnkit lab new makes one"
        )
    root = clone()
    return find_masters(root, lab)[0], project_of(root / "labs" / lab)


def clone() -> Path:
    """The clone that we are in, or else the one that attnkit runs from. Raises `LabError` where there is neither."""
    for start in (Path(), Path(__file__)):
        with contextlib.suppress(ProjectError):
            return find_root(start)
    raise LabError("lab: a name is that of a lab in a clone of attnkit, and this is none; give the folder of a lab")


def question_of(source: str) -> str | None:
    """The question that a code cell answers, by the comment in its source."""
    found = _QUESTION.search(source)
    return found[1] if found else None


def manual_question_of(source: str) -> str | None:
    """The question that a text cell answers in words, by the comment in its source, which readers do not see."""
    found = _MANUAL.search(source)
    return found[1] if found else None


def student_source(source: str) -> str:
    """`source`, of a code cell, with each solution replaced by a stub at the same indentation."""
    if BEGIN not in source and END not in source:
        return source
    question = question_of(source)
    if question is None:
        raise LabError("a cell with a solution names no question; its source should hold a line `# question: <name>`")

    def stub(match: re.Match[str]) -> str:
        lines = "# Your code goes here, in place of the next line.", f'raise NotImplementedError("{question}")'
        return "\n".join(match["indent"] + line for line in lines)

    return _replaced(source, question, stub)


def student_text(source: str) -> str:
    """`source`, of a text cell, with the model answer replaced by a place to write.

    What stands after the comment is read as the student's answer, so nothing but the model answer may stand there.
    """
    question = manual_question_of(source)
    if question is None:
        if BEGIN in source or END in source:
            raise LabError("a text cell with a solution names no question; it needs a line `<!-- question: <name> -->`")
        return source
    after = _MANUAL.split(source)[-1]
    if len(_REGION.findall(after)) != 1 or _REGION.sub("", after).strip():
        raise LabError(
            f"question {question}: after the comment should stand one model answer, between {BEGIN!r} and {END!r}, and "
            "nothing else: it would be taken for the student's words. What is asked goes above; `+++` starts a new cell"
        )
    return _replaced(source, question, lambda _: "*Your answer goes here.*")


def _replaced(source: str, question: str, stub: Callable[[re.Match[str]], str]) -> str:
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
    shelf = project.root / "labs"
    inside = master.path.is_relative_to(shelf)
    url = project.colab_url(master.student_path.relative_to(project.root).as_posix()) if inside else None
    if url:
        badge = f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
        nb.cells.insert(0, new_markdown_cell(badge))
    return with_stable_ids(nb)


def completed_notebook(master: Master, project: Project, student: str = "", checks: bool = True) -> NotebookNode:
    """The lab as a student hands it in who has answered everything, not executed."""
    nb = prepared(master, project, student, checks)
    for cell in nb.cells:
        cell.source = _without_markers(cell)
    return nb


def prepared(master: Master, project: Project, student: str = "", checks: bool = True) -> NotebookNode:
    """The master's cells with a student's numbers and the setup, solutions still in."""
    nb = personal(read_myst(master.path), master.path.parent, student)
    return with_setup(nb if checks else without_checks(nb, master.path.parent, student), project, master)


def reference_run(master: Master, project: Project, student: str = "", checks: bool = True) -> NotebookNode:
    """The completed notebook after its run, in an empty folder: a student has nothing but this one file.

    For a lab that attnkit does not bring, the public questions are there, too.
    """
    with tempfile.TemporaryDirectory() as empty:
        if checks and travels(master.path.parent):
            (Path(empty) / master.questions_path.name).write_text(public_questions(master.path.parent), "utf-8")
        return execute(completed_notebook(master, project, student, checks), empty)


def student_notebook(
    master: Master, project: Project, student: str = "", checks: bool = True, run: NotebookNode | None = None
) -> NotebookNode:
    """The notebook that a student opens, holding the outputs of the reference run, which `run` is if it was made.

    `student` is the id whose numbers it shows; without `checks` no cell uses `Lab`.
    """
    executed = reference_run(master, project, student, checks) if run is None else run
    nb = prepared(master, project, student, checks)
    solutions = solution_lines(nb)
    for cell, ran in zip(nb.cells, executed.cells, strict=True):
        if cell.cell_type != "code":
            cell.source = student_text(cell.source)
            continue
        cell.source = student_source(cell.source)
        cell.execution_count = ran.execution_count  # without one, nbval calls a cell unrun
        # What the setup cell prints depends on the machine; nothing is stored, and nbval is told to let it be.
        cell.outputs = [] if "NBVAL_IGNORE_OUTPUT" in cell.source else ran.outputs
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
    cells = (cell for cell in read_myst(master.path).cells if cell.cell_type == "code")
    return {name: _without_markers(cell) for cell in cells if (name := question_of(cell.source))}


def model_answers(master: Master) -> dict[str, str]:
    """The text cell of each question in words, with the master's answer."""
    cells = (cell for cell in read_myst(master.path).cells if cell.cell_type == "markdown")
    return {name: _without_markers(cell) for cell in cells if (name := manual_question_of(cell.source))}


def _without_markers(cell: NotebookNode) -> str:
    source = cell.source
    (student_source if cell.cell_type == "code" else student_text)(
        source
    )  # raises LabError where the markers are wrong
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


def build(master: Master, project: Project, check: bool = False, checks: bool = True) -> bool:
    """Write the student's notebook; return whether a file changed or, under `check`, would have changed.

    For a lab that attnkit does not bring, the public questions are written beside it, unless it has no `checks`.
    """
    nb = student_notebook(master, project, checks=checks)
    changed = _put(master.student_path, dumps(nb), check)
    if checks and travels(master.path.parent):
        changed = _put(master.questions_path, public_questions(master.path.parent), check) or changed
    return changed


def _put(path: Path, text: str, check: bool) -> bool:
    differs = not path.is_file() or path.read_text("utf-8") != text
    if differs and not check:
        path.write_text(text, "utf-8")
    return differs
