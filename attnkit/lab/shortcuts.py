"""Finds, in the source of an answer, calls that would bypass the task: the library's own softmax in a softmax of yours.

Read from the tree alone, on the trusted side (nothing is run, torch is not loaded) and in the notebook's check. Only
what the answer reaches is looked at, through helper functions and other cells: a plot that compares with the library
is nobody's shortcut. A find is for a person to look at and never changes a point by itself. What hides well enough is
not found here: the worker also takes the forbidden names away (`grading/blocks.py`), and the two together still
prove nothing about somebody who sets out to hide; for the others they are a fair warning.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from attnkit.lab.bindings import (
    FUNCTIONS,
    Binding,
    Function,
    Scope,
    collect,
    inside,
    methods_of,
    root_name,
    running_annotations,
)
from attnkit.lab.parsing import parse
from attnkit.lab.scopes import Names, TooTangled, bind_globals

Kind = Literal["bypasses the task", "unusual"]
Statement = tuple[int, int, str, bool]  # cell, first line, text, whether it is of the answer's own cell

# No answer to a question about arrays needs these; whoever uses them means well or does not.
UNUSUAL = (
    *(f"builtins.{name}" for name in ("exec", "eval", "compile", "__import__", "__builtins__", "breakpoint")),
    *("builtins", "importlib", "ctypes", "cffi", "subprocess", "gc", "inspect", "pickle", "marshal", "dill", "socket"),
    *("cloudpickle", "multiprocessing", "signal", "code", "codeop", "runpy", "pty", "faulthandler", "numpy.ctypeslib"),
    *(f"os.{name}" for name in ("system", "popen", "fork", "forkpty", "kill", "killpg", "_exit", "memfd_create")),
    *(f"os.{name}{kind}" for name in ("exec", "spawn") for kind in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"sys.{name}" for name in ("_getframe", "modules", "settrace", "setprofile", "addaudithook", "meta_path")),
    *("torch.ops", "torch._C", "torch._VF", "torch.load", "torch.hub", "torch.utils.cpp_extension", "numpy.load"),
)
_HIDDEN_DOORS = {"__subclasses__", "__globals__", "__builtins__", "__code__", "__closure__", "f_back", "f_globals"}
_SAME = (  # one thing under several names, the most particular first
    (re.compile(r"^torch\.nn\.modules\.(?:[a-z]\w*\.)?"), "torch.nn."),
    (re.compile(r"^(?:torch\._C\._VariableFunctions(?:Class)?|torch\._VF|torch\.functional)\."), "torch."),
    (re.compile(r"^torch\._C\._nn\."), "torch.nn.functional."),
    (re.compile(r"^torch\._C\._?TensorBase\."), "torch.Tensor."),
    (re.compile(r"^torch\._C\._special\.special_"), "torch.special."),
    (re.compile(r"^torch\.ops\.aten\._?"), "torch."),
)
_INSIDE_ANOTHER = re.compile(r"^(?:torch|numpy|scipy)\..*?\.(torch|numpy|scipy|sys|os|importlib|builtins)(?=\.|$)")


@dataclass(frozen=True)
class Shortcut:
    """A use of `name` (in full) in `cell`, counted from 1, on `line` of it, whose text is `source`."""

    name: str
    kind: Kind
    cell: int
    line: int
    source: str

    def flag(self) -> str:
        """For the instructor, in one line."""
        words = "is what this question asks for" if self.kind == "bypasses the task" else "is unusual in an answer"
        where = f"cell {self.cell}" if self.cell else "a file that the notebook writes"
        return f"{self.name} {words}: {where}, line {self.line}: {self.source}"

    def note(self) -> str:
        """For the student, in the notebook and afterwards: that the call is not available, and why."""
        return (
            f"Your answer uses {self.name} (line {self.line}: {self.source}). That is what this question asks you to "
            "write, so it is not available when your answer is graded."
        )


def not_available(shortcuts: Iterable[Shortcut]) -> tuple[tuple[str, str], ...]:
    """The notes for the student, as feedback's (kind, text) pairs."""
    return tuple(("note", one.note()) for one in shortcuts if one.kind == "bypasses the task")


def find_shortcuts(
    statements: Iterable[Statement],
    answer: str,
    forbidden: Iterable[str],
    modules: Mapping[str, str] | Iterable[tuple[str, str]] = (),
) -> tuple[Shortcut, ...]:
    """What the answer called `answer` uses of `forbidden` (full names) and of `UNUSUAL`, in the order found.

    `statements` are the notebook's in the order in which they run. One that does not parse is passed over.
    `modules` are the sources of modules that the notebook writes beside itself, by name.
    """
    written = dict(modules)
    reader = _Reader(tuple(forbidden), frozenset(written))
    reader.read((0, 1, source, False) for source in written.values())
    reader.read(statements)
    try:
        reader.follow(answer)
    except (TooTangled, RecursionError):
        reader.add("code that is too tangled to be read", "unusual", 1)
    return tuple(reader.found.values())


def same_name(full: str) -> str:
    """The name by which `full` is documented: `torch._C._nn.gelu` is `torch.nn.functional.gelu`."""
    full = _INSIDE_ANOTHER.sub(r"\1", full)
    for pattern, name in _SAME:
        full = pattern.sub(name, full)
    return full


class _Reader:
    """Follows an answer from name to name and notes each forbidden thing that it meets, once."""

    def __init__(self, forbidden: tuple[str, ...], written: frozenset[str]) -> None:
        self.names = Names()
        self.written = written
        self.forbidden = frozenset(forbidden)
        self.methods = {name.split(".")[-1]: name for name in forbidden if name.startswith("torch.Tensor.")}
        self.found: dict[str, Shortcut] = {}
        self.top: list[tuple[ast.stmt, int, int, bool]] = []
        self.lines: dict[tuple[int, int], str] = {}
        self.own_methods: set[str] = set()
        self.cell, self.order = 0, None
        self._seen: set[int] = set()
        self._waiting: list[Binding] = []
        self._only_unusual = False

    cell: int
    order: int | None

    def read(self, statements: Iterable[Statement]) -> None:
        for cell, line, text, own in statements:
            tree = _parsed(text, line)
            for number, source in enumerate(text.split("\n"), line):
                self.lines.setdefault((cell, number), source.strip()[:200])
            for statement in tree.body if tree else ():
                order = len(self.top)
                self.top.append((statement, cell, order, own))
                collect(self.names.module, [statement], order, cell, sure=True)
                bind_globals(self.names, statement, order, cell)
                self.own_methods |= methods_of(statement)

    def follow(self, answer: str) -> None:
        for statement, cell, order, own in self.top:
            self.cell, self.order = cell, order
            for node in inside([statement]) if own else ():
                if isinstance(node, ast.Call):
                    self._adopt(node, self.names.module)
        self._waiting += self.names.lookup(answer, self.names.module)[0]
        while self._waiting:
            binding = self._waiting.pop()
            self.cell, self.order = binding.cell, binding.order
            if binding.full and binding.node is not None:
                self._check(same_name(binding.full), binding.node, binding.full)
            elif binding.node is not None:
                self._visit(binding.node, binding.scope or self.names.module)
        self._only_unusual = True
        for statement, cell, order, own in self.top:
            if own and not isinstance(statement, ast.FunctionDef | ast.ClassDef):
                self.cell, self.order = cell, order
                self._visit(statement, self.names.module)

    def add(self, name: str, kind: Kind, line: int) -> None:
        source = "".join(one if one.isprintable() else " " for one in self.lines.get((self.cell, line), ""))
        self.found.setdefault(name, Shortcut(name, kind, self.cell, line, source))

    # --- one node after another ---

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        if id(node) in self._seen:
            return
        self._seen.add(id(node))
        if isinstance(node, FUNCTIONS):
            self._visit_function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self._visit_class(node, scope)
        else:
            self._look_at(node, scope)
            for child in _parts(node):
                self._visit(child, scope)

    def _visit_function(self, node: Function, scope: Scope) -> None:
        taken = node.args
        outer = [*taken.defaults, *(one for one in taken.kw_defaults if one), *getattr(node, "decorator_list", [])]
        for value in (*outer, *running_annotations(node)):
            self._visit(value, scope)
        order, self.order = self.order, None  # a body runs later, when every name has its last meaning
        inner = self.names.inner(node, scope)
        body: list[ast.AST] = [node.body] if isinstance(node, ast.Lambda) else [*node.body]
        for one in body:
            self._visit(one, inner)
        self.order = order

    def _visit_class(self, node: ast.ClassDef, scope: Scope) -> None:
        for one in (*node.bases, *(keyword.value for keyword in node.keywords), *node.decorator_list):
            self._visit(one, scope)
        # methods do not see the names of their class's body
        inside, methods = Scope(scope, node.name), Scope(scope, node.name)
        collect(inside, node.body, self.order or 0, self.cell)
        for statement in node.body:
            self._visit(statement, methods if isinstance(statement, FUNCTIONS) else inside)

    def _look_at(self, node: ast.AST, scope: Scope) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            bindings, of_module = self.names.lookup(node.id, scope, self.order)
            if of_module and not self._only_unusual:
                self._waiting += [one for one in bindings if not one.full]
            self._check_all(node, scope)
        elif (got := self.names.access(node, scope, self.order)) is not None:
            self._look_at_attribute(node, *got, scope)
        elif isinstance(node, ast.Call) and (tree := self._adopt(node, scope)) is not None:
            inner = Scope(scope, scope.owner)
            collect(inner, tree.body)
            for run in tree.body:
                self._visit(run, inner)

    def _look_at_attribute(self, node: ast.AST, base: ast.AST, name: str, scope: Scope) -> None:
        if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
            for full in self.names.resolve(base, scope, self.order):
                if not full.startswith(("<", "builtins.")) and root_name(base):
                    self.add(f"a change of {same_name(full)}", "unusual", _line(node))
            return
        things = self.names.resolve(base, scope, self.order)
        if name in _HIDDEN_DOORS:
            self.add(name, "unusual", _line(node))
        if name == "?" and any(same_name(thing).split(".")[0] in ("torch", "numpy", "scipy") for thing in things):
            self.add("a function of a library by a name that is computed", "unusual", _line(node))
        own = all(thing.startswith("<") for thing in things)
        if name in self.methods and own and not self._only_unusual and not (things and name in self.own_methods):
            kind: Kind = "unusual" if name in self.own_methods else "bypasses the task"
            self.add(self.methods[name], kind, _line(node))
        self._check_all(node, scope)

    def _adopt(self, node: ast.Call, scope: Scope) -> ast.Module | None:
        """The code of a text that is run, whose names are then names of the module."""
        functions = self.names.resolve(node.func, scope, self.order)
        if not functions & {"builtins.exec", "builtins.eval", "builtins.compile"} or not node.args:
            return None
        text = self.names.constant(node.args[0], scope, self.order)
        tree = _parsed(text, _line(node)) if isinstance(text, str) else None
        if tree is not None:
            collect(self.names.module, tree.body, self.order or 0, self.cell)
        return tree

    def _check_all(self, node: ast.AST, scope: Scope) -> None:
        for full in self.names.resolve(node, scope, self.order):
            self._check(same_name(full), node, full)

    def _check(self, full: str, node: ast.AST, raw: str) -> None:
        module, _, name = full.rpartition(".")
        if module in self.written and not self._only_unusual:
            self._waiting += [one for one in self.names.lookup(name, self.names.module)[0] if not one.full]
        if not self._only_unusual:
            for name in _wholes(full):
                if name in self.forbidden:
                    self.add(name, "bypasses the task", _line(node))
                    return
        for name in dict.fromkeys((*_wholes(full), *_wholes(raw))):
            if name in UNUSUAL:
                self.add(name.removeprefix("builtins."), "unusual", _line(node))


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 1)


def _wholes(full: str) -> list[str]:
    """`full` and what it is inside of; every built-in function is in `builtins`, and only itself is meant by that."""
    parts = full.split(".")
    first = 2 if parts[0] == "builtins" and len(parts) > 1 else 1
    return [".".join(parts[:length]) for length in range(first, len(parts) + 1)]


def _parsed(text: str, line: int) -> ast.Module | None:
    try:
        tree = parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    ast.increment_lineno(tree, line - 1)
    return tree


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """The children of a node that run: no annotations, and not the class that `isinstance` asks for."""
    if isinstance(node, ast.AnnAssign):
        yield from (one for one in (node.target, node.value) if one)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "isinstance":
        yield from node.args[:1]
    else:
        yield from ast.iter_child_nodes(node)
