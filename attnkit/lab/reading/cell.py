"""One code cell, read with care: its source as Python, its tree, the questions that it is marked to answer.

Which cell answers what is told by `# question: NAME` in the source, never by metadata. Nothing is run.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from attnkit.lab.parsing import parse
from attnkit.lab.reading.magics import PYTHON_MAGICS, WRITING_MAGICS, CellMagic, as_python, cell_magic, without_prompts

_MARKER = re.compile(r"^[ \t]*#[ \t]*question[ \t]*:[ \t]*([A-Za-z_]\w*)[ \t]*$", re.MULTILINE | re.IGNORECASE)
# A file that a cell writes and other cells may import: in the notebook's own folder.
_MODULE = re.compile(r"(?:\./)?([A-Za-z_]\w*)\.py")
MAX_CELL = 200_000
# Deeper trees parse, but writing one out again would exhaust Python's stack. People write about 20 levels.
MAX_DEPTH = 100
# Some 3,000 lines: whoever writes more into one cell wants the grader's time.
MAX_NODES = 50_000


@dataclass(frozen=True)
class Cell:
    """A code cell: its place in the notebook, its source as Python, and its tree (None: does not parse).

    `writes` is the file that a cell with `%%writefile` makes of its source instead of running it.
    """

    index: int
    source: str
    tree: ast.Module | None
    error: str
    questions: frozenset[str]
    writes: str = ""
    appends: bool = False

    @property
    def module(self) -> str:
        """The name by which other cells can import what this one writes, or ""."""
        match = _MODULE.fullmatch(self.writes)
        return match[1] if match else ""

    def defines(self, name: str) -> bool:
        """Whether the cell defines `name` at its top, by more than a stub."""
        return any(binds(node, name) and not is_stub(node) for node in self.body())

    def untouched(self, name: str) -> bool:
        """Whether the cell holds `name` only as the stub that was handed out."""
        return not self.defines(name) and any(binds(node, name) for node in self.body())

    def body(self) -> list[ast.stmt]:
        """The statements that the cell runs; none when it does not parse or is written to a file."""
        return self.tree.body if self.tree and not self.writes else []


def read_cells(sources: Iterable[str]) -> list[Cell]:
    """The code cells of a notebook, in order."""
    return [_read_cell(index, source) for index, source in enumerate(sources, 1)]


def _read_cell(index: int, source: str) -> Cell:
    questions = frozenset(_MARKER.findall(source[:MAX_CELL]))
    if len(source) > MAX_CELL:
        return Cell(index, "", None, f"a cell of more than {MAX_CELL} characters", questions)
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    magic = cell_magic(source)
    if magic is None or magic.name in PYTHON_MAGICS:
        source, tree, error = _parse(source if magic is None else _under(magic))
        return Cell(index, source, tree, error, questions)
    if magic.name in WRITING_MAGICS:
        *options, name = magic.line.split() or [""]
        _, tree, error = _parse(magic.body)
        appends = any(option in ("-a", "--append") for option in options)
        return Cell(index, magic.body, tree, error, questions, name.strip("'\""), appends)
    # Another language, or a command: nothing that could be an answer, and no harm to any other cell.
    error = f"a cell that begins with %%{magic.name} is not run when it is graded"
    return Cell(index, "", None if questions else ast.Module([], []), error, questions)


def _under(magic: CellMagic) -> str:
    """The Python under a cell magic. `%%capture out` names what it caught."""
    names = [name for name in magic.line.split() if name.isidentifier()]
    if magic.name != "capture" or not names:
        return magic.body
    lines = magic.body.split("\n")
    blank = next(i for i, line in enumerate(lines) if not line)
    lines[blank] = f"{names[0]} = get_ipython().run_cell_magic('capture', {names[0]!r})"
    return "\n".join(lines)


def _parse(source: str) -> tuple[str, ast.Module | None, str]:
    """The source as Python and its tree; what Python cannot read is read as Jupyter does, by magics and shell lines."""
    error = ""
    for read in (str, as_python, lambda text: as_python(without_prompts(text))):
        try:
            python = read(source)
            if len(python) > 2 * MAX_CELL:  # a call takes more room than the mark that stands for it
                return "", None, f"a cell of more than {MAX_CELL} characters"
            with warnings.catch_warnings():
                # What a compiler finds odd in a student's code is not the grader's to print.
                warnings.simplefilter("ignore")
                tree = parse(python)
            if _depth(tree) > MAX_DEPTH:
                raise RecursionError
            return python, tree, ""
        except SyntaxError as wrong:
            error = f"SyntaxError: {wrong.msg} (line {wrong.lineno})"
        except (ValueError, RecursionError, MemoryError) as wrong:
            error = f"{type(wrong).__name__}: this cell is too deeply nested or too long to be read"
    return "", None, error


def _depth(tree: ast.Module) -> int:
    """How many nodes deep the tree is, found without recursion. Raises `MemoryError` for one of very many nodes."""
    depth, nodes, level = 0, 0, list[ast.AST]([tree])
    while level:
        depth, nodes = depth + 1, nodes + len(level)
        if nodes > MAX_NODES:
            raise MemoryError
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    return depth


def binds(node: ast.stmt, name: str) -> bool:
    """Whether the statement defines or assigns `name`."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def is_stub(node: ast.stmt) -> bool:
    """A function that only passes or raises NotImplementedError after its docstring; a class of such methods."""
    if isinstance(node, ast.FunctionDef):
        return all(_does_nothing(step) or _gives_up(step) for step in node.body)
    if isinstance(node, ast.ClassDef):
        # One that only passes may inherit its answer.
        unwritten = [_gives_up(step) or is_stub(step) for step in node.body if not _does_nothing(step)]
        return bool(unwritten) and all(unwritten)
    return False


def _does_nothing(step: ast.stmt) -> bool:
    return isinstance(step, ast.Pass) or (isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant))


def _gives_up(step: ast.stmt) -> bool:
    return isinstance(step, ast.Raise) and step.exc is not None and "NotImplementedError" in ast.dump(step.exc)
