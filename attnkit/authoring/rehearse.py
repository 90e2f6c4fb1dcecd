"""`attnkit lab rehearse`: a class that never was hands a lab in, to try grading before a real one does.

What is handed in is made from the notebooks that were handed out and from the master's own answers: finished work,
half of it, wrong answers, code that Python cannot read, a copy of another student's file, and nothing.
"""

from __future__ import annotations

import ast
import csv
from collections.abc import Callable
from itertools import cycle
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from attnkit.authoring.handout import INDEX
from attnkit.authoring.labs import LabError, Master, manual_question_of, model_answers, question_of, reference_answers
from attnkit.authoring.notebook import dumps

Answers = dict[str, str]


def rehearse(master: Master, handed_out: Path, out: Path) -> dict[str, str]:
    """Write what each student of `handed_out` hands in to `out`; returns it in words by student id.

    Raises `LabError` when there is no hand-out, or `out` holds anything.
    """
    index = handed_out / INDEX
    if not index.is_file():
        raise LabError(f"--handed-out: {handed_out} holds no {INDEX}; run: attnkit lab hand-out")
    if out.exists() and any(out.iterdir()):
        raise LabError(f"--out: {out} is not empty; nothing was written")
    with index.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows:
        raise LabError(f"--handed-out: {index} lists no student")
    told = {}
    for row, (words, play) in zip(rows, cycle(_PLAYS), strict=False):
        first = handed_out / rows[0]["file"]
        nb = play(nbformat.read(handed_out / row["file"], as_version=4), nbformat.read(first, as_version=4), master)
        told[row["id"]] = words
        if nb is not None:
            place = out / row["file"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(dumps(nb), "utf-8")
    (out / "notes.txt").write_text("Not everything in a folder is a notebook.\n", "utf-8")
    return told


def _filled(nb: NotebookNode, code: Answers, words: Answers) -> NotebookNode:
    """`nb` with the cells of these questions replaced."""
    for cell in nb.cells:
        if cell.cell_type == "code":
            cell.source = code.get(question_of(cell.source) or "", cell.source)
        elif name := manual_question_of(cell.source):
            cell.source = words.get(name, cell.source)
    return nb


def _finished(nb: NotebookNode, first: NotebookNode, master: Master) -> NotebookNode:
    return _filled(nb, reference_answers(master), model_answers(master))


def _wrong(nb: NotebookNode, first: NotebookNode, master: Master) -> NotebookNode:
    return _filled(nb, {name: _returning_its_input(source) for name, source in reference_answers(master).items()}, {})


def _half(nb: NotebookNode, first: NotebookNode, master: Master) -> NotebookNode:
    return _filled(nb, dict(list(reference_answers(master).items())[:1]), {})


def _unreadable(nb: NotebookNode, first: NotebookNode, master: Master) -> NotebookNode:
    answers = reference_answers(master)
    name = next(iter(answers))
    return _filled(nb, {**answers, name: answers[name] + "\n    and so on, see above"}, {})


def _copied(nb: NotebookNode, first: NotebookNode, master: Master) -> NotebookNode:
    return _finished(first, first, master)


def _nothing(nb: NotebookNode, first: NotebookNode, master: Master) -> None:
    return None


_PLAYS: tuple[tuple[str, Callable[[NotebookNode, NotebookNode, Master], NotebookNode | None]], ...] = (
    ("everything right", _finished),
    ("functions that return what they were given", _wrong),
    ("only the first question", _half),
    ("a first answer that Python cannot read", _unreadable),
    ("the file of the first student", _copied),
    ("nothing", _nothing),
)


def _returning_its_input(source: str) -> str:
    """An answer's cell with each function returning its first argument, and nothing where it has none."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            given = [one.arg for one in node.args.args if one.arg != "self"]
            lost = node.name == "__init__" or not given
            node.body = [ast.Pass() if lost else ast.Return(ast.Name(given[0], ast.Load()))]
    marker = next(line for line in source.split("\n") if line.startswith("# question:"))
    return f"{marker}\n{ast.unparse(tree)}"
