"""What a notebook did by Jupyter's own commands and a worker leaves out: a note, where an answer could miss it.

A set-up line (`!pip install`, `%matplotlib inline`) needs no word. A word is due when the result of a command is used,
when a script was run that may define what the answer uses, and when a file was written that something opens.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import warnings
from collections.abc import Iterator
from functools import cached_property

from attnkit.lab.reading.cell import Cell

# Line magics that bring names from elsewhere.
_BRINGING = ("run", "load", "loadpy", "pylab", "store")
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_KNOWN = {*dir(builtins), "get_ipython", "display", "__name__", "__file__", "__doc__"}
_MOST = 5  # notes; nobody reads more


def notes(cells: list[Cell], chosen: Cell) -> tuple[str, ...]:
    """What the author of the answer in the cell `chosen` should hear of what was left out of `cells`."""
    notebook = _Notebook(cells, chosen)
    found = [note for cell in cells for note in _of_cell(notebook, cell) if note]
    return tuple(dict.fromkeys(found))[:_MOST]


def undefined(cells: list[Cell], chosen: Cell) -> set[str]:
    """Names that the answer in the cell `chosen` reads, as its functions do, and no cell of the notebook makes."""
    return _Notebook(cells, chosen).unknown


def _of_cell(notebook: _Notebook, cell: Cell) -> Iterator[str]:
    if "get_ipython" in cell.source:  # few cells have any: the others are not looked through
        for node in _walk(cell):
            if isinstance(node, ast.Assign):
                yield _result_used(notebook, cell, node)
            elif isinstance(node, ast.Expr):
                yield _names_brought(notebook, cell, node)
    if cell.writes and notebook.opens(cell.writes):
        shown = f"`%%writefile {cell.writes[:60]}` (cell {cell.index})"
        yield f"{shown} wrote a file that is not there when your answer is graded."


def _walk(cell: Cell) -> Iterator[ast.AST]:
    for statement in cell.body():
        yield from ast.walk(statement)


def _command(node: ast.AST) -> tuple[str, str] | None:
    """`get_ipython().METHOD("a", "b")` as its method and its text."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return None
    on = node.func.value
    if not (isinstance(on, ast.Call) and isinstance(on.func, ast.Name) and on.func.id == "get_ipython"):
        return None
    texts = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
    return node.func.attr, " ".join(text for text in texts if text)


def _not_run(cell: Cell, command: tuple[str, str]) -> str:
    mark = {"run_line_magic": "%", "run_cell_magic": "%%"}.get(command[0], "!")
    shown = " ".join(command[1].split())[:60]
    return f"`{mark}{shown}` (cell {cell.index}) is not run when your answer is graded"


def _result_used(notebook: _Notebook, cell: Cell, node: ast.Assign) -> str:
    command = _command(node.value)
    if command is None:
        return ""
    names = {one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)}
    used = sorted(names & notebook.needed)
    return f"{_not_run(cell, command)}: `{used[0]}`, which you use, holds nothing then." if used else ""


def _names_brought(notebook: _Notebook, cell: Cell, node: ast.Expr) -> str:
    command = _command(node.value)
    if command is None or command[0] != "run_line_magic" or command[1].split(" ")[0] not in _BRINGING:
        return ""
    if not notebook.unknown:
        return ""
    name = min(notebook.unknown)
    return f"{_not_run(cell, command)}: `{name}` is defined nowhere else. Put that code into the notebook."


class _Notebook:
    """What the cells together read, make and open; each found once, and only when something asks."""

    def __init__(self, cells: list[Cell], chosen: Cell) -> None:
        self.cells, self.chosen = cells, chosen

    @cached_property
    def needed(self) -> set[str]:
        """The global names that the answer's cell reads, and those that the definitions of the others read."""
        return set().union(*(_globals_read(cell, cell is self.chosen) for cell in self.cells))

    @cached_property
    def unknown(self) -> set[str]:
        """Names that the answer's cell reads and no cell makes; none where they could come from an import of all."""
        made = set(_KNOWN)
        for node in (node for cell in self.cells for node in _walk(cell)):
            if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                made.add(node.id)
            elif isinstance(node, (*_DEFINITIONS, ast.ExceptHandler)):
                made.add(node.name or "")
            elif isinstance(node, ast.alias):
                if node.name == "*":
                    return set()
                made.add((node.asname or node.name).split(".")[0])
        return _globals_read(self.chosen, at_top=True) - made

    @cached_property
    def _named(self) -> tuple[set[str], set[str]]:
        """The last parts of all texts, which may be files, and the modules that are imported."""
        files: set[str] = set()
        modules: set[str] = set()
        for node in (node for cell in self.cells for node in _walk(cell)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                files.add(node.value.replace("\\", "/").rsplit("/", 1)[-1])
            elif isinstance(node, ast.Import):
                modules |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module or "")
        return files, modules

    def opens(self, path: str) -> bool:
        """Whether some text in the code names the file, or an import the module, unless it is there to be imported."""
        path = path.replace("\\", "/").removeprefix("./")
        files, modules = self._named
        if path.rsplit("/", 1)[-1] in files:
            return True
        return "/" in path and path.endswith(".py") and path.removesuffix(".py").replace("/", ".") in modules


def _globals_read(cell: Cell, at_top: bool) -> set[str]:
    """The global names that a cell's functions and classes read, and, `at_top`, those that its own statements do."""
    if not cell.body():
        return set()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tables = [symtable.symtable(cell.source, "<cell>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # it parses, and yet is no program
        return set()
    names: set[str] = set()
    for table in tables:
        top = table.get_type() == "module"
        read = (one for one in table.get_symbols() if one.is_referenced())
        names |= {one.get_name() for one in read if (at_top if top else one.is_global())}
        tables += table.get_children()
    return names
