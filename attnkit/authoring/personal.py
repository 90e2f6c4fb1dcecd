"""A master's cells made one student's: their id, their numbers; or made those of a notebook without checks.

Numbers stand as plain assignments in a cell that holds `# variant: NAME`. So a student's code can use them by name,
and so can the grader, whose jail has no attnkit to ask.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.lab import Lab
from attnkit.lab.variants import PRACTICE

_VARIANT = re.compile(r"^# variant: (\w+)$", re.MULTILINE)
_ANSWERS = re.compile(r"^# question: \w+$", re.MULTILINE)


class MasterError(ValueError):
    """A master is written wrongly; the message names the cell, what was found and what it should be."""


def personal(nb: NotebookNode, folder: Path, student: str) -> NotebookNode:
    """`nb` with the numbers of `student` and their id, or with those of the practice variant when it is "".

    `folder` is the lab's. Raises `MasterError` where the master has no place for the one or the other.
    """
    cells = [cell for cell in nb.cells if cell.cell_type == "code"]
    with_numbers = [(cell, name) for cell in cells for name in _VARIANT.findall(cell.source)]
    if with_numbers:
        spec = load_lab(folder).for_student(student or PRACTICE)
        for cell, name in with_numbers:
            cell.source = _with_numbers(cell.source, name, spec)
    if student:
        _name_student(cells, student)
    return nb


def _with_numbers(source: str, name: str, spec: LabSpec) -> str:
    question = spec.questions.get(name)
    if question is None or question.draw is None:
        varied = ", ".join(one.name for one in spec.questions.values() if one.draw) or "none"
        raise MasterError(f"`# variant: {name}`: the questions with a variant are: {varied}")
    assigned = {name: node for node in _tree(source).body if isinstance(node, ast.Assign) and (name := _target(node))}
    if unknown := sorted(assigned.keys() - question.variant.keys()):
        drawn = ", ".join(question.variant)
        raise MasterError(f"`# variant: {name}`: the cell assigns {', '.join(unknown)}; its variant draws {drawn}")
    return _rewritten(source, [(node.value, repr(question.variant[key])) for key, node in assigned.items()])


def _name_student(cells: list[NotebookNode], student: str) -> None:
    """Put the id where the master has a place for one: `STUDENT = ""`, else the call of `Lab`."""
    for cell in cells:
        for node in _tree(cell.source).body:
            if isinstance(node, ast.Assign) and _target(node) == "STUDENT":
                cell.source = _rewritten(cell.source, [(node.value, _quoted(student))])
                return
    for cell in cells:
        for call in ast.walk(_tree(cell.source)):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Lab" and call.args:
                given = [word.value for word in call.keywords if word.arg == "student"]
                last = given[0] if given else call.args[-1]
                text = (
                    _quoted(student)
                    if given
                    else f"{ast.get_source_segment(cell.source, last)}, student={_quoted(student)}"
                )
                cell.source = _rewritten(cell.source, [(last, text)])
                return
    raise MasterError(
        'the master has no place for a student\'s id: it should make its lab by Lab("<name>", student="")'
    )


def without_checks(nb: NotebookNode, folder: Path, student: str) -> NotebookNode:
    """`nb` without the statements that use `Lab`, for a lab whose questions stay at home; a task becomes plain text."""
    names = _lab_names(nb)
    lab = Lab(folder, student=student)
    cells = []
    for cell in nb.cells:
        using = [node for node in _tree(cell.source).body if _mentions(node, names)] if cell.cell_type == "code" else []
        if not using:
            cells.append(cell)
            continue
        if _ANSWERS.search(cell.source):
            raise MasterError("a cell that answers a question uses the lab; checks belong in a cell of their own")
        tasks = re.findall(r"\.task\(\s*[\"'](\w+)[\"']\s*\)", cell.source)
        cell.source = re.sub(r"\n{3,}", "\n\n", _rewritten(cell.source, [(node, "") for node in using])).strip()
        cells += [new_markdown_cell(f"```text\n{lab.task(name)!r}\n```") for name in tasks]
        if _tree(cell.source).body:
            cells.append(cell)
    nb.cells = cells
    return nb


def _mentions(node: ast.stmt, names: set[str]) -> bool:
    return any(isinstance(one, ast.Name) and one.id in names for one in ast.walk(node))


def _lab_names(nb: NotebookNode) -> set[str]:
    """`Lab` and the names that hold one."""
    names = {"Lab"}
    for cell in nb.cells:
        for node in _tree(cell.source).body if cell.cell_type == "code" else []:
            called = getattr(getattr(getattr(node, "value", None), "func", None), "id", "")
            if called == "Lab" and (target := _target(node)):
                names.add(target)
    return names


def _quoted(text: str) -> str:
    """A text as Python has it between double quotation marks."""
    return json.dumps(text, ensure_ascii=False)


def _target(node: ast.stmt) -> str:
    """The one name that `node` assigns to; "" when it is no such assignment."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return ""


def _tree(source: str) -> ast.Module:
    """The tree of a cell of a master; lines for the shell count as empty."""
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in source.split("\n"))
    try:
        return ast.parse("\n".join(lines))
    except SyntaxError as error:
        raise MasterError(f"a code cell cannot be read: {error.msg} in line {error.lineno}:\n{source}") from None


def _rewritten(source: str, changes: Sequence[tuple[ast.expr | ast.stmt, str]]) -> str:
    """`source` with each of the nodes replaced by a text; columns count bytes, as `ast` has them."""
    starts = [0]
    for line in source.encode().split(b"\n"):
        starts.append(starts[-1] + len(line) + 1)
    data = source.encode()
    for node, text in sorted(changes, key=lambda change: (change[0].lineno, change[0].col_offset), reverse=True):
        first = starts[node.lineno - 1] + node.col_offset
        last = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        data = data[:first] + text.encode() + data[last:]
    return data.decode()
