"""Which code of a notebook answers a question: chosen by `# question: NAME` in the source, never by metadata.

A question is answered by its own cells plus what they may lean on: definitions, imports and simple assignments of
the other cells. Calls at the top of those cells (checks, plots, magics, shell lines) are left out, so that a set-up
cell never costs a point. Everything here reads source code as a tree; nothing is run.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

_MARKER = re.compile(r"^[ \t]*#[ \t]*question[ \t]*:[ \t]*([A-Za-z_]\w*)[ \t]*$", re.MULTILINE | re.IGNORECASE)
_PYTHON_MAGICS = {"%%time", "%%timeit", "%%capture", "%%prun"}
_MAGIC_LINE = re.compile(r"^\s*(?:%|!|\?|[\w.]+\?\??\s*$|[\w., ]+=\s*[%!])")
_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_DEFINITIONS = (*_NAMED, ast.Import, ast.ImportFrom)
MAX_CELL = 200_000
# Deeper trees parse, but writing one out again would exhaust Python's stack. People write about 20 levels.
MAX_DEPTH = 100


class Statement(NamedTuple):
    """One statement for the worker: its cell, the line it starts on, and whether it is of the answer's own cell."""

    cell: int
    line: int
    text: str
    own: bool


@dataclass(frozen=True)
class Cell:
    """A code cell: its place in the notebook, its source with magics blanked, and its tree (None: does not parse)."""

    index: int
    source: str
    tree: ast.Module | None
    error: str
    questions: frozenset[str]

    def defines(self, name: str) -> bool:
        """Whether the cell defines `name` at its top, by more than a stub."""
        return any(_binds(node, name) and not _is_stub(node) for node in self.body())

    def untouched(self, name: str) -> bool:
        """Whether the cell holds `name` only as the stub that was handed out."""
        return not self.defines(name) and any(_binds(node, name) for node in self.body())

    def body(self) -> list[ast.stmt]:
        """The cell's statements; none when it does not parse."""
        return self.tree.body if self.tree else []


@dataclass(frozen=True)
class Plan:
    """What to run for one question.

    `attempts` are tried in turn until one gives the function: everything that the answer may lean on and the answer;
    for when something in there ends the worker, only functions, classes and imports of the other cells; only imports.
    `blank` says that nobody wrote an answer, `error` that it cannot be read; then there is nothing to run.
    """

    attempts: tuple[tuple[Statement, ...], ...] = ()
    blank: bool = False
    error: str = ""
    notes: tuple[str, ...] = ()


def read_cells(sources: Iterable[str]) -> list[Cell]:
    """The code cells of a notebook, in order."""
    return [_read_cell(index, source) for index, source in enumerate(sources, 1)]


def plan(cells: list[Cell], name: str) -> Plan:
    """How to run the answer to question `name`."""
    chosen, notes = _choose(cells, name)
    if chosen is None:
        return Plan(blank=True, notes=notes)
    if chosen.tree is None:
        return Plan(error=chosen.error, notes=notes)
    # A stub must not take the place of an answer, wherever it stands.
    written = {node.name for cell in cells for node in cell.body() if isinstance(node, _NAMED) and not _is_stub(node)}
    others = [
        (cell, [node for node in cell.body() if not (_is_stub(node) and node.name in written)])  # type: ignore[attr-defined]  # a stub is a function
        for cell in cells
        if cell is not chosen
    ]

    def leaning(keep: Callable[[list[ast.stmt]], list[ast.stmt]]) -> list[Statement]:
        return [statement for cell, body in others for statement in _statements(cell, keep(body), own=False)]

    own = _statements(chosen, chosen.body(), own=True)
    bare = _statements(chosen, _keep(chosen.body()), own=True)
    attempts = ((*leaning(_keep), *own), (*leaning(_definitions), *bare), (*leaning(_imports), *bare))
    return Plan(attempts=attempts, notes=notes)


def _choose(cells: list[Cell], name: str) -> tuple[Cell | None, tuple[str, ...]]:
    """The cell that answers `name`: the last marked one that is not a stub, else the last one that defines it."""
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


def _read_cell(index: int, source: str) -> Cell:
    questions = frozenset(_MARKER.findall(source[:MAX_CELL]))
    if len(source) > MAX_CELL:
        return Cell(index, "", None, f"a cell of more than {MAX_CELL} characters", questions)
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    source, tree, error = _parse(_without_cell_magic(source))
    return Cell(index, source, tree, error, questions)


def _without_cell_magic(source: str) -> str:
    """`%%time` and its like run Python; any other `%%` cell is another language or a file."""
    lines = source.split("\n")
    first = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if not lines[first].startswith("%%"):
        return source
    if lines[first].split()[0] not in _PYTHON_MAGICS:
        return ""
    lines[first] = ""
    return "\n".join(lines)


def _parse(source: str) -> tuple[str, ast.Module | None, str]:
    """The tree of `source`, with `%magic`, `!shell` and `help?` lines blanked where Python cannot read them."""
    lines = source.split("\n")
    for _ in range(len(lines) + 1):
        try:
            tree = ast.parse("\n".join(lines))
            if _depth(tree) > MAX_DEPTH:
                raise RecursionError
            return "\n".join(lines), tree, ""
        except SyntaxError as error:
            row = (error.lineno or 0) - 1
            if not (0 <= row < len(lines) and _MAGIC_LINE.match(lines[row])):
                return "", None, f"SyntaxError: {error.msg} (line {error.lineno})"
            lines[row] = lines[row][: len(lines[row]) - len(lines[row].lstrip())] + "pass"
        except (ValueError, RecursionError, MemoryError) as error:
            return "", None, f"{type(error).__name__}: this cell is too deeply nested to be read"
    return "", None, "SyntaxError"


def _depth(tree: ast.Module) -> int:
    """How many nodes deep the tree is, found without recursion."""
    depth, level = 0, list[ast.AST]([tree])
    while level:
        depth, level = depth + 1, [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def _binds(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _is_stub(node: ast.stmt) -> bool:
    """A function whose body, after its docstring, only passes or raises NotImplementedError."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return all(
        isinstance(step, ast.Pass)
        or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))
        or (isinstance(step, ast.Raise) and step.exc is not None and "NotImplementedError" in ast.dump(step.exc))
        for step in node.body
    )


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
    lines = cell.source.split("\n")
    return [_statement(cell, node, lines if id(node) in original else None, own) for node in body]


def _statement(cell: Cell, node: ast.stmt, lines: list[str] | None, own: bool) -> Statement:
    """The student's own text where the statement is whole (tracebacks then show it), else written anew."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))])
    last = node.end_lineno or first
    after = "" if lines is None else lines[last - 1].encode()[node.end_col_offset or 0 :].decode().lstrip()
    if lines is None or node.col_offset or (after and not after.startswith("#")):
        # Thinned out, or it shares a line with another statement.
        segment = None if lines is None or first != node.lineno else ast.get_source_segment(cell.source, node)
        return Statement(cell.index, first, segment or ast.unparse(node), own)
    return Statement(cell.index, first, "\n".join(lines[first - 1 : last]), own)
