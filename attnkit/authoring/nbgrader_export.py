"""`attnkit lab nbgrader`: a lab as a source assignment of nbgrader, for `nbgrader generate_assignment`.

A master holds nbgrader's own markers already (`### BEGIN SOLUTION`), so what is added is metadata (schema 3,
nbgrader/nbgraderformat/v3.json): a question's cell becomes a solution cell, its check the grade cell that carries the
points under the question's name, a question answered in words one cell that is both. The check ends in the points
that it gives, which is how nbgrader reads partial credit from a cell that it executes itself.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell

from attnkit.authoring.labs import (
    LabError,
    Master,
    find_master,
    manual_question_of,
    prepared,
    question_of,
    student_source,
    student_text,
)
from attnkit.authoring.notebook import dumps, with_stable_ids
from attnkit.authoring.project import Project, ProjectError
from attnkit.authoring.travelling import public_questions, travels
from attnkit.grading.adapters.nbgrader_cells import ANSWER
from attnkit.grading.given import say
from attnkit.lab.bank import LabNotFound, LabSpec, load_lab
from attnkit.lab.question import Question, QuestionError

_BADGE = "[![Open in Colab]"
_LAB = re.compile(r"^(\w+) = Lab\(", re.MULTILINE)
_CONFIG = """\
# nbgrader reads this file when it is run in this folder. See attnkit/grading/adapters/nbgrader.py.
from attnkit.grading.adapters.nbgrader import configure

c = get_config()
# assignment: the lab's name, or the folder that holds its questions.py
configure(c, labs={labs!r})
"""


def nbgrader_notebook(nb: NotebookNode, questions: Mapping[str, Question]) -> NotebookNode:
    """The master `nb` with nbgrader's metadata: each of `questions` has a cell to answer in and a grade.

    Raises `LabError` when a question has no cell, or a cell answers something that is no question.
    """
    nb = from_dict(nb)
    lab = next((match[1] for cell in nb.cells if (match := _LAB.search(cell.source))), "lab")
    found: list[str] = []
    cells: list[NotebookNode] = []
    for cell in nb.cells:
        cells.append(cell)
        text = cell.cell_type == "markdown"
        (student_text if text else student_source)(cell.source)  # raises LabError where the markers are wrong
        name = (manual_question_of if text else question_of)(cell.source)
        if name is None:
            continue
        if name not in questions or name in found:
            what = "twice" if name in found else "and questions.py has no such question"
            raise LabError(f"question {name}: a cell of the master answers it, {what}")
        found.append(name)
        if questions[name].manual:
            cell.metadata["nbgrader"] = _metadata(name, questions[name].points, solution=True)
        else:
            cell.metadata["nbgrader"] = _metadata(ANSWER.format(name), solution=True)
            cells.append(_grade_cell(questions[name], lab))
    if missing := [name for name in questions if name not in found]:
        raise LabError(f"questions: {', '.join(missing)}: no cell of the master answers them")
    nb.cells = [cell for cell in cells if not _is_plain_check(cell, found)]
    return with_stable_ids(nb)


def source_notebook(master: Master, project: Project, spec: LabSpec) -> NotebookNode:
    """The whole source assignment: the master with the set-up cell, as nbgrader wants it."""
    nb = prepared(master, project)
    if nb.cells[0].source.startswith(_BADGE):  # it opens the published notebook, which is not the assignment
        del nb.cells[0]
    return nbgrader_notebook(nb, spec.questions)


def export(master: Master, project: Project, course: Path) -> list[Path]:
    """Write `course`/source/<lab>/ and, where there is none, nbgrader_config.py; returns the files that changed.

    For a lab that attnkit does not bring, the public questions lie beside the notebook, and the config names its
    folder. Raises `LabError`.
    """
    folder = master.path.parent
    own = travels(folder)
    source = course / "source" / master.name
    source.mkdir(parents=True, exist_ok=True)
    texts = {source / f"{master.name}.ipynb": dumps(source_notebook(master, project, load_lab(folder)))}
    if own:
        texts[source / master.questions_path.name] = public_questions(folder)
    config = course / "nbgrader_config.py"
    if not config.exists():
        texts[config] = _CONFIG.format(labs={master.name: str(folder) if own else master.name})
    changed = [path for path, text in texts.items() if not path.is_file() or path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(texts[path], "utf-8")
    return changed


def nbgrader_command(
    lab: Annotated[str, typer.Argument(help="The lab's name, or its folder.")],
    course: Annotated[Path, typer.Argument(metavar="COURSE_DIR", help="nbgrader's course folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the lab into an nbgrader course as a source assignment; nbgrader does the rest.

    Where the course has no nbgrader_config.py, one is written that has attnkit's engine give the points.

    Exit code 0: written, or nothing to change. Exit code 1: it could not be, and says why.
    """
    try:
        master, project = find_master(lab)
        written = export(master, project, course)
    except (LabError, LabNotFound, ProjectError, QuestionError) as error:
        typer.echo(f"attnkit lab nbgrader: {error}", err=True)
        raise typer.Exit(1) from None
    name, config = master.name, course / "nbgrader_config.py"
    lines = [f"{path}: written" for path in written] or [f"{course / 'source' / name}: unchanged"]
    named = config in written or f"{name!r}" in config.read_text("utf-8")
    if not named:
        lines.append(
            f"{config} does not name {name!r}: add it to configure(c, labs=...), else nbgrader grades it itself"
        )
    lines.append(f"Next, in {course}: nbgrader generate_assignment {name}")
    say(as_json, {"assignment": name, "written": [str(path) for path in written], "in_config": named}, lines)


def _metadata(grade_id: str, points: float | None = None, solution: bool = False) -> NotebookNode:
    grade = points is not None
    told = {
        "schema_version": 3,
        "grade_id": grade_id,
        "grade": grade,
        "solution": solution,
        "locked": grade and not solution,
        "task": False,
    }
    return NotebookNode(told | ({"points": points} if grade else {}))


def _grade_cell(question: Question, lab: str) -> NotebookNode:
    """The public check. It ends in a number: left to itself, nbgrader gives full marks for any other output."""
    lines = [f"# {question.points:g} points. The course grades on other inputs than this check."]
    if question.private:
        lines = [f"# {question.points:g} points, graded by the course only.", "0.0"]
    else:
        lines += [f"display(checked := {lab}.check({question.answer}))", "checked.outcome.points"]
    cell = new_code_cell("\n".join(lines))
    cell.metadata["nbgrader"] = _metadata(question.name, question.points)
    return cell


def _is_plain_check(cell: NotebookNode, names: list[str]) -> bool:
    """A cell that is only `lab.check(name)`: the grade cell takes its place."""
    if cell.cell_type != "code" or "nbgrader" in cell.metadata:
        return False
    try:
        body = ast.parse(cell.source).body
    except SyntaxError:
        return False
    if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(body[0].value, ast.Call):
        return False
    call = body[0].value
    is_check = isinstance(call.func, ast.Attribute) and call.func.attr == "check"
    return is_check and len(call.args) == 1 and isinstance(call.args[0], ast.Name) and call.args[0].id in names
