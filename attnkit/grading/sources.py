"""The code by which a notebook answers each question: its own cell and the helpers it reaches, less what was given."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from attnkit.grading.engine import read_submission
from attnkit.lab.bank import LabSpec
from attnkit.lab.parsing import parse
from attnkit.lab.reading.cells import Statement, plan
from attnkit.lab.reading.notebook import NotANotebook, code_sources


def sources_of(data: bytes, spec: LabSpec) -> dict[str, str]:
    """The source by question of the notebook file `data`; a question that nobody answered is left out.

    Statements that stand in the lab's own notebook are given and left out, too. Raises `NotANotebook`.
    """
    cells = read_submission(data)
    given = given_code(spec)
    found = {}
    for question in spec.questions.values():
        attempts = plan(cells, question.name).attempts
        texts = (
            [text for text, tree in _reached(attempts[0], question.answer) if _shape(tree) not in given]
            if attempts
            else []
        )
        if texts:
            found[question.name] = "\n".join(texts)
    return found


def given_code(spec: LabSpec) -> frozenset[str]:
    """The statements of the notebook that students start from, by shape; none where there is no such notebook."""
    file = spec.folder / f"{spec.name}.ipynb"
    try:
        sources = code_sources(file.read_bytes())
    except (OSError, NotANotebook):
        return frozenset()
    return frozenset(_shape(node) for source in sources if (tree := _parsed(source)) for node in tree.body)


def _shape(node: ast.AST) -> str:
    return ast.dump(node)


def _parsed(source: str) -> ast.Module | None:
    try:
        return parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _reached(statements: Sequence[Statement], answer: str) -> list[tuple[str, ast.stmt]]:
    """The statements, in their order, that bind the answer or a name that it leans on."""
    parsed = [(one, tree.body[0]) for one in statements if (tree := _parsed(one.text)) and tree.body]
    binds = [_bound(node) for _, node in parsed]
    wanted, chosen = {answer}, set[int]()
    while more := {i for i, names in enumerate(binds) if i not in chosen and names & wanted}:
        chosen |= more
        for i in more:
            wanted |= {node.id for node in ast.walk(parsed[i][1]) if isinstance(node, ast.Name)}
    return [(parsed[i][0].text, parsed[i][1]) for i in sorted(chosen)]


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set()
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)}
