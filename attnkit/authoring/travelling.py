"""The questions file that goes with a student's notebook: public questions whole, private ones not at all.

A check needs a question's reference, so whoever can check can read the reference. What must not be read is marked
`private = True` in its class; it is then left out here together with every helper that nothing else uses, and with
the comments between classes and functions, which may speak of it.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterable
from pathlib import Path

from attnkit.authoring.personal import MasterError
from attnkit.lab.bank import lab_names, load_lab

HEAD = "# The public questions of the lab {name}, written by `attnkit lab build`; changes belong in its questions.py.\n"


def travels(folder: Path) -> bool:
    """Whether the notebook of the lab in `folder` needs a questions file beside it: attnkit does not bring the lab."""
    return (folder / "questions.py").is_file() and folder.name not in lab_names()


def public_questions(folder: Path) -> str:
    """The source of the lab's questions without the private ones. Raises `MasterError` when that cannot be told.

    Questions that a person marks stay: without cases and reference there is nothing to hide but the rubric, which is
    taken out.
    """
    spec = load_lab(folder)
    private = {name for name, question in spec.questions.items() if question.private}
    manual = {name for name, question in spec.questions.items() if question.manual}
    source = (folder / "questions.py").read_text("utf-8")
    tree = ast.parse(source)
    asked = {name: node for node in tree.body if isinstance(node, ast.ClassDef) and (name := _answer_of(node))}
    if missing := sorted(spec.questions.keys() - asked.keys()):
        raise MasterError(
            f"{folder.name}/questions.py: the question {missing[0]} is no class with a decorator "
            f'@question(points=..., answer="{missing[0]}") at the top of the file'
        )
    dropped = {id(asked[name]) for name in private}
    wanted = _needed(tree.body, [node for node in asked.values() if id(node) not in dropped])
    lines = source.splitlines()
    by_hand = [asked[name] for name in manual]
    kept = [node for node in tree.body if id(node) in wanted]
    imports = [_text(node, lines) for node in kept if isinstance(node, ast.Import | ast.ImportFrom)]
    blocks = [
        ast.unparse(_without_rubric(node)) if isinstance(node, ast.ClassDef) and node in by_hand else _text(node, lines)
        for node in kept
        if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    doc = ast.get_docstring(tree, clean=False)
    # Only the first line, which is the lab's title: the rest may speak of what stays at home.
    title = f'"""{(doc or folder.name).strip().splitlines()[0]}"""'
    return HEAD.format(name=folder.name) + "\n\n\n".join([f"{title}\n\n" + "\n".join(imports), *blocks]) + "\n"


def _answer_of(node: ast.ClassDef) -> str | None:
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            for word in decorator.keywords:
                if word.arg == "answer" and isinstance(word.value, ast.Constant) and isinstance(word.value.value, str):
                    return word.value.value
    return None


def _needed(body: list[ast.stmt], roots: Iterable[ast.stmt]) -> set[int]:
    """The statements that `roots` use, directly or not, by the names that they mention."""
    makers: dict[str, list[ast.stmt]] = {}
    for node in body:
        for name in _defined(node):
            makers.setdefault(name, []).append(node)
    wanted: set[int] = set()
    waiting = [*roots, *(node for node in body if isinstance(node, ast.ImportFrom) and node.module == "__future__")]
    while waiting:
        node = waiting.pop()
        if id(node) in wanted:
            continue
        wanted.add(id(node))
        # In text, too: an annotation may be a string.
        mentioned = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        waiting += [maker for name in mentioned for maker in makers.get(name, [])]
    return wanted


def _defined(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module makes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    inner = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.stmt)]  # of `if TYPE_CHECKING:`
    stored = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored.union(*(_defined(one) for one in inner))


def _text(node: ast.stmt, lines: list[str]) -> str:
    """The statement as it is written, with its decorators."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    return "\n".join(lines[first - 1 : node.end_lineno])


def _without_rubric(node: ast.ClassDef) -> ast.ClassDef:
    kept = [
        one
        for one in node.body
        if not (isinstance(one, ast.Assign) and any(getattr(target, "id", "") == "rubric" for target in one.targets))
    ]
    slim = copy.copy(node)
    slim.body = kept
    return slim
