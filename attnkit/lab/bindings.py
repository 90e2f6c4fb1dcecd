"""What statements bind: the names of a module, function or class body, with all that each may stand for."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
MAX_BINDINGS = 64
_ADDING = {"append", "extend", "insert", "update", "setdefault", "add", "__setitem__", "__setattr__"}


@dataclass(eq=False)
class Scope:
    """The names of a module, function or class body. `owner` is the class that a method belongs to."""

    parent: Scope | None = None
    owner: str = ""
    bound: dict[str, list[Binding]] = field(default_factory=dict)
    stars: list[str] = field(default_factory=list)

    def bind(self, name: str, binding: Binding) -> None:
        """One more thing that `name` may be; of very many only the latest are kept."""
        bound = self.bound.setdefault(name, [])
        bound.append(binding)
        if len(bound) > MAX_BINDINGS:
            del bound[: MAX_BINDINGS // 2]


@dataclass(frozen=True, eq=False)
class Binding:
    """One thing that a name may stand for: an outside thing's full name (`node` imports it), or what `node` is.

    `order` counts the module's statements. One that is `sure` replaces what the name stood for before.
    """

    full: str = ""
    node: ast.AST | None = None
    scope: Scope | None = None
    order: int = 0
    cell: int = 0
    sure: bool = False


def inside(body: list[ast.stmt] | list[ast.expr]) -> Iterator[ast.AST]:
    """All nodes of `body` but those within functions and classes defined there."""
    waiting: list[ast.AST] = list(reversed(body))
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))


def root_name(node: ast.AST) -> str:
    """The name that an attribute or item hangs on: `a` of `a.b["c"].d`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def collect(scope: Scope, body: list[ast.stmt], order: int = 0, cell: int = 0, sure: bool = False) -> None:
    """Add to `scope` what `body` binds. `sure` where nothing but this decides what the name is afterwards."""

    whole = set(map(id, body))
    for node in inside(body):
        top = id(node) in whole
        if isinstance(node, ast.Import | ast.ImportFrom):
            _bind_imports(scope, node, order, cell, sure and top)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope.bind(node.name, Binding("", node, scope, order, cell, sure and top))
        else:
            for target, value in _assigned(node):
                _bind(scope, target, Binding("", value, scope, order, cell, sure and top))


def _bind(scope: Scope, target: ast.AST, what: Binding) -> None:
    """Add to `scope` that `target`, a name or something that holds names, is assigned `what`."""
    if isinstance(target, ast.Tuple | ast.List):
        values = what.node.elts if isinstance(what.node, ast.Tuple | ast.List) else []
        same = len(values) == len(target.elts)
        for place, one in enumerate(target.elts):
            _bind(scope, one, replace(what, node=values[place]) if same else what)
    elif isinstance(target, ast.Starred):
        _bind(scope, target.value, what)
    elif isinstance(target, ast.Name):
        scope.bind(target.id, what)
    elif name := root_name(target):
        scope.bind(name, replace(what, sure=False))


def _bind_imports(scope: Scope, node: ast.Import | ast.ImportFrom, order: int, cell: int, sure: bool) -> None:
    for alias in node.names:
        if isinstance(node, ast.Import):
            full = alias.name if alias.asname else alias.name.split(".")[0]
            scope.bind(alias.asname or full, Binding(full, node, None, order, cell, sure))
        elif alias.name == "*":
            scope.stars.append(node.module or "")
        else:
            full = f"{node.module or '.'}.{alias.name}"
            scope.bind(alias.asname or alias.name, Binding(full, node, None, order, cell, sure))


def _assigned(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST | None]]:
    """The (target, value) pairs of a node, also of what puts a value into something: `d.update(f=...)`."""
    match node:
        case ast.Assign():
            for target in node.targets:
                yield target, node.value
        case ast.AnnAssign() | ast.AugAssign() | ast.NamedExpr():
            yield node.target, node.value
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield node.target, node.iter
        case ast.withitem(optional_vars=ast.AST() as target):
            yield target, node.context_expr
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield ast.Name(name, ast.Store()), None
        case ast.Expr(value=ast.Call(func=ast.Attribute(attr=attr) as function) as call) if attr in _ADDING:
            for value in (*call.args, *(one.value for one in call.keywords)):
                yield ast.Attribute(function.value, attr, ast.Store()), value
        case ast.Expr(value=ast.Call(func=ast.Name(id="setattr"), args=[thing, _, value])):
            yield ast.Attribute(thing, "", ast.Store()), value
        case _:
            return


def declared_elsewhere(function: ast.AST) -> set[str]:
    """The names that a function declares `global` or `nonlocal`."""
    body = getattr(function, "body", [])
    return {name for node in inside(body) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}


def running_annotations(node: Function) -> Iterator[ast.AST]:
    """Annotations are names of types and no uses, but one that calls something is run like a default."""
    if isinstance(node, ast.Lambda):
        return
    taken = node.args
    for one in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs, taken.vararg, taken.kwarg):
        if one and one.annotation and any(isinstance(inner, ast.Call) for inner in ast.walk(one.annotation)):
            yield one.annotation
    if node.returns and any(isinstance(inner, ast.Call) for inner in ast.walk(node.returns)):
        yield node.returns


def methods_of(statement: ast.stmt) -> set[str]:
    """Names of methods and attributes that classes of the student's own define."""
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.ClassDef):
            found |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
    return found
