"""Which code of a notebook answers a question: chosen by `# question: NAME` in the source, never by metadata.

A question is answered by its own cells plus what they may lean on: definitions, imports and simple assignments of
the other cells. Calls at the top of those cells (checks, plots, magics, shell lines) are left out, so that a set-up
cell never costs a point. Everything here reads source code as a tree; nothing is run.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from attnkit.lab.reading import leftout
from attnkit.lab.reading.cell import Cell, is_stub, read_cells

__all__ = ["Cell", "Plan", "Statement", "choose", "plan", "read_cells"]

_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DEFINITIONS = (*_NAMED, ast.Import, ast.ImportFrom)


class Statement(NamedTuple):
    """One statement for the worker: its cell, the line it starts on, and whether it is of the answer's own cell."""

    cell: int
    line: int
    text: str
    own: bool


@dataclass(frozen=True)
class Plan:
    """What to run for one question.

    `attempts` are tried in turn until one gives the function: everything that the answer may lean on and the answer;
    for when something in there ends the worker, only functions, classes and imports of the other cells; only imports.
    `blank` says that nobody wrote an answer, `error` that it cannot be read; then there is nothing to run.
    `modules` are the sources that the notebook writes to files beside itself, by the name that imports them.
    """

    attempts: tuple[tuple[Statement, ...], ...] = ()
    blank: bool = False
    error: str = ""
    notes: tuple[str, ...] = ()
    modules: tuple[tuple[str, str], ...] = ()


def plan(cells: list[Cell], name: str) -> Plan:
    """How to run the answer to question `name`."""
    chosen, notes = choose(cells, name)
    if chosen is None:
        return Plan(blank=True, notes=notes)
    if chosen.tree is None:
        return Plan(error=chosen.error, notes=notes)
    # A stub must not take the place of an answer, wherever it stands.
    written = {node.name for cell in cells for node in cell.body() if isinstance(node, _NAMED) and not is_stub(node)}

    def displaced(node: ast.stmt) -> bool:
        return isinstance(node, _NAMED) and node.name in written and is_stub(node)

    others = [(cell, [node for node in cell.body() if not displaced(node)]) for cell in cells if cell is not chosen]

    def leaning(keep: Callable[[list[ast.stmt]], list[ast.stmt]]) -> list[Statement]:
        return [statement for cell, body in others for statement in _statements(cell, keep(body), own=False)]

    own = _statements(chosen, chosen.body(), own=True)
    bare = _statements(chosen, _keep(chosen.body()), own=True)
    attempts = ((*leaning(_keep), *own), (*leaning(_definitions), *bare), (*leaning(_imports), *bare))
    return Plan(attempts=attempts, notes=(*notes, *leftout.notes(cells, chosen)), modules=_modules(cells))


def _modules(cells: list[Cell]) -> tuple[tuple[str, str], ...]:
    """What cells write to modules: the last version of each, with what was appended."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        if cell.module:
            found[cell.module] = [*found.get(cell.module, []), cell.source] if cell.appends else [cell.source]
    return tuple((name, "\n".join(pieces)) for name, pieces in found.items())


def choose(cells: list[Cell], name: str) -> tuple[Cell | None, tuple[str, ...]]:
    """The cell that answers `name`: the last marked one that is not a stub, else the last one that defines it.

    And what its author should hear about that.
    """
    marked = [cell for cell in cells if name in cell.questions]
    written = [cell for cell in marked if not cell.untouched(name)]
    # A marked cell without the function may be a helper or a half of a split cell; one that defines it comes first.
    best = [cell for cell in written if cell.defines(name)] or [cell for cell in written if cell.tree is None]
    if best:
        many = len(best) > 1
        note = f"The notebook holds {len(best)} answers to this question; the last one counts." if many else ""
        return best[-1], (note,) if note else ()
    loose = [cell for cell in cells if cell.defines(name)]
    if loose:
        return loose[-1], (f"Taken from a cell without the comment `# question: {name}`.",)
    return (written[-1] if written else None), ()


def _imports(body: list[ast.stmt]) -> list[ast.stmt]:
    return [node for node in body if isinstance(node, ast.Import | ast.ImportFrom)]


def _definitions(body: list[ast.stmt]) -> list[ast.stmt]:
    return [node for node in body if isinstance(node, _DEFINITIONS)]


def _keep(body: list[ast.stmt]) -> list[ast.stmt]:
    """Definitions, imports and assignments to names; of `if`, `try` and `with` what is left when these are kept."""
    return [kept for node in body if (kept := _kept(node)) is not None]


def _kept(node: ast.stmt) -> ast.stmt | None:
    if isinstance(node, _DEFINITIONS):
        return node
    if isinstance(node, ast.Assign):
        return node if all(_plain_target(target) for target in node.targets) else None
    if isinstance(node, ast.AnnAssign | ast.AugAssign):
        return node if _plain_target(node.target) else None
    if isinstance(node, ast.If):
        body, orelse = _keep(node.body), _keep(node.orelse)
        return _rebuilt(ast.If(node.test, body or [ast.Pass()], orelse), node) if body or orelse else None
    if isinstance(node, ast.With):
        body = _keep(node.body)
        return _rebuilt(ast.With(node.items, body), node) if body else None
    if isinstance(node, ast.Try):
        return _kept_try(node)
    return None


def _kept_try(node: ast.Try) -> ast.stmt | None:
    """`try: import a / except ImportError: import b`, without the calls around it."""
    body, orelse, final = _keep(node.body), _keep(node.orelse), _keep(node.finalbody)
    handlers = [ast.ExceptHandler(h.type, h.name, _keep(h.body) or [ast.Pass()]) for h in node.handlers]
    if not (body or orelse or final or any(_keep(h.body) for h in node.handlers)):
        return None
    return _rebuilt(ast.Try(body or [ast.Pass()], handlers, orelse, final if handlers else final or [ast.Pass()]), node)


def _plain_target(target: ast.expr) -> bool:
    """A name, several names, or an item of one: not an attribute, by which another module would be changed."""
    if isinstance(target, ast.Tuple | ast.List):
        return all(_plain_target(one) for one in target.elts)
    if isinstance(target, ast.Subscript):
        return isinstance(target.value, ast.Name)
    return isinstance(target, ast.Name)


def _rebuilt(new: ast.stmt, old: ast.stmt) -> ast.stmt:
    return ast.fix_missing_locations(ast.copy_location(new, old))


def _statements(cell: Cell, body: list[ast.stmt], own: bool) -> list[Statement]:
    original = {id(node) for node in cell.tree.body} if cell.tree else set()
    lines = [line.encode() for line in cell.source.split("\n")]
    found = [_statement(cell, node, lines if id(node) in original else None, own) for node in body]
    return [statement for statement in found if statement is not None]


def _statement(cell: Cell, node: ast.stmt, lines: list[bytes] | None, own: bool) -> Statement | None:
    """The student's own text where the statement is whole (tracebacks then show it), else written anew.

    None where Python cannot write it: a whole number of more than 4300 digits.
    """
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    last = node.end_lineno or first
    end = node.end_col_offset or 0
    after = b"" if lines is None else lines[last - 1][end : end + 200].lstrip()
    if lines is None or node.col_offset or (after and not after.startswith(b"#")):
        # Thinned out, or it shares a line with another statement.
        segment = "" if lines is None or first != node.lineno else _segment(lines, node)
        try:
            return Statement(cell.index, first, segment or ast.unparse(node), own)
        except ValueError:
            return None
    return Statement(cell.index, first, b"\n".join(lines[first - 1 : last]).decode(), own)


def _segment(lines: list[bytes], node: ast.stmt) -> str:
    """The text of `node`. `ast.get_source_segment` splits the whole cell again each time: minutes for `x=1;x=1;...`."""
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
    if first == last:
        return lines[first][node.col_offset : node.end_col_offset].decode()
    return b"\n".join(
        [lines[first][node.col_offset :], *lines[first + 1 : last], lines[last][: node.end_col_offset]]
    ).decode()
