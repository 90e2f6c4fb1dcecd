"""A question with numbers of one's own: which ones a student gets, and whose a notebook was made for.

A student sees the numbers of their variant anyway, so they are drawn from a public seed, the hash of lab, question
and student id: a notebook needs no secret to show them, and anybody can draw them again. What must stay unknown, the
inputs that an answer is graded on, has nothing to do with it: those come from the course key (`grading/seeds.py`).
"""

from __future__ import annotations

import ast
import hashlib
import json
import unicodedata
from collections.abc import Iterable

import numpy as np

from attnkit.lab.parsing import parse
from attnkit.lab.question import Question

# Whose variant a notebook shows that names nobody.
PRACTICE = "practice"


def folded(student: str) -> str:
    """A student id as variants know it: case, spaces and the way an accent is encoded make no difference."""
    return "".join(unicodedata.normalize("NFKC", student).casefold().split())


def same_student(one: str, other: str) -> bool:
    """Whether two spellings of a student id give the same variants."""
    return folded(one) == folded(other)


def variant_rng(lab: str, question: str, student: str) -> np.random.Generator:
    """The generator that draws the variant of `question` for the student id `student`.

    Raises `ValueError` when the id has no characters but spaces.
    """
    if not folded(student):
        raise ValueError(f"student: was {student!r}; it should be a student's id")
    message = json.dumps(["variant", lab, question, folded(student)], ensure_ascii=False, separators=(",", ":"))
    return np.random.default_rng(int.from_bytes(hashlib.sha256(message.encode()).digest(), "big"))


def drawn_for(question: Question, lab: str, student: str) -> Question:
    """`question` with the parameters of `student`; itself where every student gets the same."""
    return question.drawn(variant_rng(lab, question.name, student)) if question.draw else question


def named_student(cells: Iterable[str]) -> str | None:
    """The student whom a notebook says it is for: the constant in `Lab(..., student="...")` or `STUDENT = "..."`.

    `cells` are the sources of its code cells. They are read as a tree and never run; the last name counts, since
    that is the one that the notebook's checks used. None: it names nobody.
    """
    names = [name for cell in cells for node in _nodes(cell) if (name := _name_in(node)) is not None]
    return names[-1] if names else None


def _nodes(cell: str) -> Iterable[ast.AST]:
    """The nodes of a cell's tree in the order of its lines; none where Python cannot read it."""
    if "Lab" not in cell and "STUDENT" not in cell:
        return []
    lines = ("" if line.lstrip().startswith(("%", "!")) else line for line in cell.splitlines())
    try:
        tree = parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AnnAssign | ast.Call)]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def _name_in(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call):
        function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [word.value for word in node.keywords if word.arg == "student"] if function == "Lab" else []
    else:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        is_name = any(isinstance(target, ast.Name) and target.id == "STUDENT" for target in targets)
        given = [value] if is_name and (value := getattr(node, "value", None)) is not None else []
    constants = [one.value for one in given if isinstance(one, ast.Constant) and type(one.value) in (str, int)]
    return str(constants[0]).strip() or None if constants else None
