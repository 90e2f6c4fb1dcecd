"""What the names in a student's code stand for, read from its tree: nothing is run.

`Names` holds the module's names and finds, for an expression, the full names of the outside things that it may be:
after `import torch.nn.functional as F` and `f = F.softmax`, the name `f` is `torch.nn.functional.softmax`. A class of
the student's own is `<its name>`; the empty set means "some value". Whatever cannot be told is left out, so that
nothing honest is suspected.
"""

from __future__ import annotations

import ast
import builtins

from attnkit.lab.bindings import Binding, Function, Scope, collect, declared_elsewhere, inside
from attnkit.lab.folding import fold

# Steps that following names may take in one answer; what is more tangled than this is no ordinary homework.
MAX_STEPS = 20_000
MAX_DEPTH = 24


class TooTangled(Exception):
    """Following the names of this code takes more steps than any honest answer needs."""


class Names:
    """The names of a notebook's module, and what expressions in it may be."""

    def __init__(self) -> None:
        self.module = Scope()
        self._steps = 0
        # Found already; the node and scope are kept, so that no other gets their ids.
        self._known: dict[tuple[int, int, int | None], tuple[ast.AST, Scope, set[str]]] = {}

    def lookup(self, name: str, scope: Scope, before: int | None = None) -> tuple[list[Binding], bool]:
        """What `name` may be in `scope`, and whether it is a name of the module. `before`: only earlier statements."""
        here: Scope | None = scope
        while here is not None and here is not self.module:
            if name in here.bound:
                return here.bound[name], False
            here = here.parent
        found = [one for one in self.module.bound.get(name, []) if before is None or one.order < before]
        last = max((place for place, one in enumerate(found) if one.sure), default=0)
        return found[last:], True

    def resolve(self, node: ast.AST | None, scope: Scope, before: int | None = None, depth: int = 0) -> set[str]:
        """The full names of the things that the expression `node` may be."""
        if node is None or depth > MAX_DEPTH:
            return set()
        key = (id(node), id(scope), before)
        if key not in self._known:
            self._steps += 1
            if self._steps > MAX_STEPS:
                raise TooTangled
            self._known[key] = (node, scope, set())  # what it is while it is looked at: `x = x - x.max()` ends here
            self._known[key] = (node, scope, self._resolve(node, scope, before, depth))
        return self._known[key][2]

    def _resolve(self, node: ast.AST, scope: Scope, before: int | None, depth: int) -> set[str]:
        def among(*nodes: ast.AST | None) -> set[str]:
            return set().union(*(self.resolve(one, scope, before, depth + 1) for one in nodes))

        match node:
            case ast.Name(id=name):
                return self._resolve_name(name, scope, before, depth)
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name):
                return {f"<{name}>"}
            case ast.IfExp():
                return among(node.body, node.orelse)
            case ast.BoolOp():
                return among(*node.values)
            case ast.NamedExpr() | ast.Starred() | ast.Await():
                return among(node.value)
            case ast.Tuple() | ast.List() | ast.Set():
                return among(*node.elts)
            case ast.Dict():
                return among(*node.values)
        if (got := self.access(node, scope, before)) is not None:
            base, attribute = got
            return {f"{one}.{attribute}" for one in among(base) if not one.startswith("<")}
        if isinstance(node, ast.Subscript):
            return self._resolve_item(node, scope, before, depth)
        return self._resolve_call(node, scope, before, depth) if isinstance(node, ast.Call) else set()

    def _resolve_name(self, name: str, scope: Scope, before: int | None, depth: int) -> set[str]:
        bindings, _ = self.lookup(name, scope, before)
        if not bindings:
            known = {f"builtins.{name}"} if hasattr(builtins, name) or name == "__builtins__" else set()
            stars = {f"{module}.{name}" for place in (scope, self.module) for module in place.stars}
            return known or stars
        found: set[str] = set()
        for one in bindings:
            when = one.order if one.scope is self.module else None
            found |= {one.full} if one.full else self.resolve(one.node, one.scope or scope, when, depth + 1)
        return found

    def _resolve_item(self, node: ast.Subscript, scope: Scope, before: int | None, depth: int) -> set[str]:
        """`sys.modules["torch"]`, `globals()["F"]`, or one of the things in a list."""
        things = self.resolve(node.value, scope, before, depth + 1)
        key = self.constant(node.slice, scope, before)
        if "sys.modules" in things and isinstance(key, str):
            return {key, "sys.modules"}
        call = node.value.func if isinstance(node.value, ast.Call) else None
        tables = self.resolve(call, scope, before, depth + 1) & {"builtins.globals", "builtins.locals"}
        return self._resolve_name(key, scope, before, depth + 1) if tables and isinstance(key, str) else things

    def _resolve_call(self, node: ast.Call, scope: Scope, before: int | None, depth: int) -> set[str]:
        """What a call gives, where that can be told: a module that it imports, an object of an own class."""
        functions = self.resolve(node.func, scope, before, depth + 1)
        if functions & {"builtins.__import__", "importlib.import_module", "importlib.__import__"} and node.args:
            name = self.constant(node.args[0], scope, before)
            return {name} if isinstance(name, str) else set()
        if "builtins.super" in functions:
            return {f"<{scope.owner}>"} if scope.owner else set()
        found: set[str] = set()
        for name in functions:
            if not name.startswith("<"):
                continue
            for binding in self.lookup(name[1:-1], scope)[0]:
                if isinstance(binding.node, ast.ClassDef):
                    found.add(name)
                elif isinstance(binding.node, ast.FunctionDef):
                    found |= self._returned(binding.node, binding.scope or self.module, depth)
        return found

    def _returned(self, function: ast.FunctionDef, scope: Scope, depth: int) -> set[str]:
        inner = self.inner(function, scope)
        values = [node.value for node in inside(function.body) if isinstance(node, ast.Return)]
        return set().union(*(self.resolve(value, inner, None, depth + 4) for value in values))

    def inner(self, function: Function, scope: Scope) -> Scope:
        """The scope of a function's body: its parameters (of which nothing is known) and what it binds."""
        new = Scope(scope, scope.owner)
        taken = function.args
        named = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs]
        for one in (*named, *(extra for extra in (taken.vararg, taken.kwarg) if extra)):
            new.bind(one.arg, Binding())
        defaults = [*zip(reversed([*taken.posonlyargs, *taken.args]), reversed(taken.defaults), strict=False)]
        defaults += [(one, value) for one, value in zip(taken.kwonlyargs, taken.kw_defaults, strict=True) if value]
        for one, value in defaults:
            new.bind(one.arg, Binding("", value, scope))
        if scope.owner and named and named[0].arg in ("self", "cls"):
            new.bound[named[0].arg] = [Binding(f"<{scope.owner}>")]
        if not isinstance(function, ast.Lambda):
            collect(new, function.body)
            for name in declared_elsewhere(function):
                new.bound.pop(name, None)
        return new

    def constant(self, node: ast.AST | None, scope: Scope, before: int | None = None) -> str | int | None:
        """The text or number that `node` always is, or None."""

        def of_name(name: str) -> ast.AST | None:
            bindings, _ = self.lookup(name, scope, before)
            return bindings[0].node if len(bindings) == 1 else None

        return fold(node, of_name)

    def access(self, node: ast.AST, scope: Scope, before: int | None = None) -> tuple[ast.AST, str] | None:
        """(thing, attribute) where `node` takes an attribute of a thing in any of the ways that Python has.

        An attribute whose name is computed in a way that cannot be followed is "?".
        """
        match node:
            case ast.Attribute(value=base, attr=name):
                return base, name
            case ast.Subscript(value=ast.Attribute(value=base, attr="__dict__"), slice=key):
                value = self.constant(key, scope, before)
            case ast.Subscript(value=ast.Call(func=ast.Name(id="vars"), args=[base]), slice=key):
                value = self.constant(key, scope, before)
            case ast.Call(func=ast.Name(id="getattr"), args=[base, key, *_]):
                value = self.constant(key, scope, before)
            case ast.Call(func=ast.Attribute(value=base, attr="__getattribute__" | "__getattr__"), args=[key]):
                value = self.constant(key, scope, before)
            case ast.Call(func=ast.Call(func=maker, args=[key, *_]), args=[base, *_]) if self._makes_getter(
                maker, scope, before
            ):
                value = self.constant(key, scope, before)
            case _:
                return None
        return base, value if isinstance(value, str) else "?"

    def _makes_getter(self, node: ast.AST, scope: Scope, before: int | None) -> bool:
        return bool(self.resolve(node, scope, before) & {"operator.attrgetter", "operator.methodcaller"})


def bind_globals(names: Names, tree: ast.AST, order: int, cell: int) -> None:
    """Add to the module what functions within `tree` assign to names that they declare `global`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (declared := declared_elsewhere(node)):
            inner = Scope(names.module)
            collect(inner, node.body, order, cell)
            for name in declared & set(inner.bound):
                names.module.bound.setdefault(name, []).extend(inner.bound[name])
