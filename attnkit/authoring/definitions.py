"""What one Python file defines at its top, and what each definition uses, read from its source without running it.

`attnkit.authoring.symbols` joins the files. Everything here errs towards too much: what is not surely a definition
without an effect counts as a statement that runs when its module is loaded.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from attnkit.authoring.effects import Chain, acts, plain_bases

_LONGEST_NAME = 80  # of a file or module; a longer text is prose


@dataclass
class Unit:
    """One statement at the top of a file: lines `start` to `end`, the names that it binds and what it uses.

    `effect`: it runs, and may matter, whenever the file is loaded. `chains` are the dotted names that it reads from
    outside itself, `asked` those that it only asks `isinstance` about; `imports` are its own, by alias, as (module,
    name or "" for the module itself). `bases` are those of a class whose body cannot decide what is an instance of it.
    """

    names: list[str]
    start: int
    end: int
    digest: str
    effect: bool = False
    typing: bool = False
    chains: list[Chain] = field(default_factory=list)
    strings: list[str] = field(default_factory=list)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    loads: list[tuple[str, str]] = field(default_factory=list)
    asked: list[Chain] = field(default_factory=list)
    bases: list[Chain] | None = None


@dataclass
class Module:
    """A file: its statements, and for each name that `on_first_use` brings the module where it lives."""

    units: list[Unit]
    homes: dict[str, str] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain lists and dicts."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Module:
        """What `as_json` gave."""
        units = []
        for unit in told["units"]:
            pairs = {alias: (module, name) for alias, (module, name) in unit["imports"].items()}
            chains, loads = [tuple(chain) for chain in unit["chains"]], [(m, n) for m, n in unit["loads"]]
            asked = [tuple(chain) for chain in unit["asked"]]
            bases = None if unit["bases"] is None else [tuple(chain) for chain in unit["bases"]]
            read = {"imports": pairs, "chains": chains, "loads": loads, "asked": asked, "bases": bases}
            units.append(Unit(**{**unit, **read}))
        return cls(units, told["homes"])


def read_module(source: str, name: str, is_package: bool) -> Module:
    """The definitions of the module called `name`."""
    tree = ast.parse(source)
    lines = source.splitlines()
    later = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    units = [
        _unit(node, lines, _Reader(name, is_package, annotations=not later), type_only)
        for node, type_only in _statements(tree.body)
    ]
    return Module(units, _homes(tree, name))


def read_cells(sources: Sequence[str]) -> Unit:
    """The cells of a notebook as one unit."""
    reader = _Reader("", False, annotations=True)
    for source in sources:
        reader.visit(_parse_cell(source))
    chains, strings = sorted(reader.chains | reader.asked), sorted(reader.strings)
    return Unit([], 0, 0, "", True, False, chains, strings, reader.imports, reader.loads)


def _statements(body: Sequence[ast.stmt], type_only: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """The statements of a file; what stands under `if TYPE_CHECKING:` is never run."""
    for node in body:
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _statements(node.body, True)
            yield from _statements(node.orelse, type_only)
        else:
            yield node, type_only


def _unit(node: ast.stmt, lines: Sequence[str], reader: _Reader, type_only: bool) -> Unit:
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    last = node.end_lineno or node.lineno
    text = "\n".join(line.rstrip() for line in lines[first - 1 : last])
    homes = _lazy_homes(node)
    reader.visit(
        node.value.func if homes and isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) else node
    )
    is_import = isinstance(node, (ast.Import, ast.ImportFrom))
    return Unit(
        names=sorted(set(reader.imports) if is_import else _bound(node)),
        start=first,
        end=last,
        digest=hashlib.sha256(text.encode()).hexdigest()[:16],
        effect=not type_only and not is_import and acts(node),
        typing=type_only,
        chains=sorted(reader.chains),
        strings=sorted(reader.strings),
        imports=reader.imports,
        loads=reader.loads,
        asked=sorted(reader.asked - reader.chains),
        bases=plain_bases(node),
    )


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement binds at the level where it stands."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return {node.name}
    found: set[str] = set()
    for inner in _level(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.add(inner.id)
        elif isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(inner.name)
        elif isinstance(inner, (ast.Import, ast.ImportFrom)):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in inner.names}
        elif isinstance(inner, ast.ExceptHandler) and inner.name:
            found.add(inner.name)
    return found


def _level(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below `node` in its own scope: not inside functions, lambdas, classes and comprehensions."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, _SCOPES):
            yield from _level(child)


_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, *_COMPREHENSIONS)


class _Reader(ast.NodeVisitor):
    """Collects what a statement uses from outside itself: names not bound in one of its own functions."""

    def __init__(self, module: str, is_package: bool, annotations: bool):
        self.module, self.is_package, self.annotations = module, is_package, annotations
        self.chains: set[Chain] = set()
        self.asked: set[Chain] = set()
        self.strings: set[str] = set()
        self.imports: dict[str, tuple[str, str]] = {}
        self.loads: list[tuple[str, str]] = []
        self._scopes: list[set[str]] = []

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.loads.append((alias.name, ""))
            target = alias.name if alias.asname else alias.name.partition(".")[0]
            self.imports[alias.asname or target] = (target, "")

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.module.split(".")
            parts = parts[: len(parts) - node.level + self.is_package]
            base = ".".join([*parts, *([node.module] if node.module else [])])
        for alias in node.names:
            self.loads.append((base, alias.name))
            self.imports[alias.asname or alias.name] = (base, alias.name)

    def visit_Name(self, node: ast.Name) -> None:
        self._use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            parts.append(inner.attr)
            inner = inner.value
        if isinstance(inner, ast.Name):
            self._use((inner.id, *reversed(parts)))
        else:
            self.visit(inner)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and 1 < len(node.value) <= _LONGEST_NAME and not node.value.strip().count(" "):
            self.strings.add(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        named = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        if ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__"):
            self.strings.update(f"{name}." for name in named)  # whatever is in it may be asked for
        if ast.unparse(node.func) in ("isinstance", "issubclass") and len(node.args) == 2:
            self.visit(node.args[0])
            kept, self.chains = self.chains, set()
            self.visit(node.args[1])
            self.asked |= self.chains
            self.chains = kept
        else:
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for outside in (*node.decorator_list, *node.args.defaults, *(v for v in node.args.kw_defaults if v)):
            self.visit(outside)
        if self.annotations:
            for note in [node.returns, *(argument.annotation for argument in _arguments(node.args))]:
                if note is not None:
                    self.visit(note)
        own = {argument.arg for argument in _arguments(node.args)}
        shared: set[str] = set()
        for statement in node.body:
            own |= _bound(statement)
            shared |= {n for i in ast.walk(statement) if isinstance(i, (ast.Global, ast.Nonlocal)) for n in i.names}
        self._inside(own - shared, node.body)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for value in (*node.args.defaults, *(v for v in node.args.kw_defaults if v)):
            self.visit(value)
        self._inside({argument.arg for argument in _arguments(node.args)}, [node.body])

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        for part in (node.target, node.value, node.annotation if self.annotations else None):
            if part is not None:
                self.visit(part)

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, _COMPREHENSIONS):
            targets = [generator.target for generator in node.generators]
            own = {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}
            self.visit(node.generators[0].iter)  # evaluated outside
            self._scopes.append(own)
            super().generic_visit(node)
            self._scopes.pop()
            return
        super().generic_visit(node)

    def _inside(self, own: set[str], body: Sequence[ast.AST]) -> None:
        self._scopes.append(own)
        for node in body:
            self.visit(node)
        self._scopes.pop()

    def _use(self, chain: Chain) -> None:
        imported_here = chain[0] in self.imports
        if imported_here or not any(chain[0] in scope for scope in self._scopes):
            self.chains.add(chain)


def _arguments(args: ast.arguments) -> list[ast.arg]:
    return [*args.posonlyargs, *args.args, *args.kwonlyargs, *(a for a in (args.vararg, args.kwarg) if a)]


def _homes(tree: ast.Module, name: str) -> dict[str, str]:
    """Where each name lives that the package brings by `on_first_use(__name__, TABLE)`."""
    for node in tree.body:
        table = _lazy_homes(node)
        for other in tree.body if table else []:
            if isinstance(other, ast.Assign) and _bound(other) == {table} and isinstance(other.value, ast.Dict):
                return {key: f"{name}.{module}" for key, module in ast.literal_eval(other.value).items()}
    return {}


def _lazy_homes(node: ast.stmt) -> str:
    """The name of the table in `__getattr__, __dir__ = on_first_use(__name__, TABLE)`, or ""."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and len(node.value.args) == 2:
        called, table = node.value.func, node.value.args[1]
        if ast.unparse(called).endswith("on_first_use") and isinstance(table, ast.Name):
            return table.id
    return ""


def _parse_cell(source: str) -> ast.AST:
    """The syntax tree of a notebook cell, without IPython's magics; what `%time` runs stays."""
    try:
        return ast.parse(source)
    except SyntaxError:
        lines = []
        for line in source.splitlines():
            bare = line.lstrip()
            head, _, rest = bare.partition(" ")
            if head in ("%time", "%timeit", "%%time", "%%timeit"):
                lines.append(line[: len(line) - len(bare)] + (rest or "pass"))
            elif not bare.startswith(("%", "!")):
                lines.append(line)
        try:
            return ast.parse("\n".join(lines))
        except SyntaxError:
            return ast.parse("")  # a cell that shows a syntax error on purpose uses nothing
