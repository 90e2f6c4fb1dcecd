"""Mutants of a solution: small wrong answers that nobody had to think of, to see whether a question catches them.

A mutant differs from the solution in one node of its syntax tree: another operator, axis, bound or name, a term or a
keyword that is gone, a statement left out. `attnkit.authoring.verify_mutants` runs them.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

_OPERATORS: dict[type, tuple[type, ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult, ast.Sub),
    ast.FloorDiv: (ast.Mult, ast.Mod),
    ast.Mod: (ast.FloorDiv,),
    ast.Pow: (ast.Mult,),
    ast.MatMult: (ast.Mult,),
    ast.BitOr: (ast.BitAnd, ast.BitXor),
    ast.BitAnd: (ast.BitOr,),
    ast.BitXor: (ast.BitOr,),
}
_NOT_COMMUTATIVE = (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
_COMPARISONS: dict[type, tuple[type, ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
# What stands in for a function or method, in NumPy and in torch.
_CALLS = {
    **{"max": ("min", "sum"), "min": ("max",), "amax": ("amin", "sum"), "amin": ("amax",), "maximum": ("minimum",)},
    **{"minimum": ("maximum",), "argmax": ("argmin",), "argmin": ("argmax",), "sum": ("max", "mean", "prod")},
    **{"mean": ("sum",), "prod": ("sum",), "any": ("all",), "all": ("any",), "cumsum": ("cumprod",)},
    **{"exp": ("expm1", "exp2"), "log": ("log2",), "log1p": ("log",), "sqrt": ("square",), "rsqrt": ("sqrt",)},
    **{"sin": ("cos",), "cos": ("sin",), "tril": ("triu",), "triu": ("tril",), "zeros": ("ones",), "ones": ("zeros",)},
    **{"floor": ("ceil",), "ceil": ("floor",), "var": ("std",), "std": ("var",), "relu": ("abs",)},
    **{"softmax": ("log_softmax",), "log_softmax": ("softmax",), "zeros_like": ("ones_like",)},
    **{"ones_like": ("zeros_like",), "logical_and": ("logical_or",), "logical_or": ("logical_and",)},
    **{"append": ("extend",), "vstack": ("hstack",), "hstack": ("vstack",), "eval": ("train",), "train": ("eval",)},
}
_BUILT_IN = {"max": "min", "min": "max", "any": "all", "all": "any"}
_TRANSPOSES = ("T", "mT")
_RETURNED = 3  # how many of the names that were set before may be returned instead
_SIMPLE = (ast.AugAssign, ast.Expr, ast.If, ast.For, ast.While, ast.Raise, ast.Assert, ast.Break, ast.Continue)


@dataclass(frozen=True, order=True)
class Mutant:
    """A changed source, the line on which it differs (from 1, in the solution's source), and the change in words."""

    line: int
    change: str
    source: str


@dataclass(frozen=True)
class _Scope:
    """Where a node stands: the arguments of the function around it, and the names that were set before it."""

    arguments: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


def mutants(source: str, lines: Collection[int] | None = None) -> list[Mutant]:
    """Every mutant of `source`, without those that read the same; with `lines`, only changes that begin there."""
    tree = ast.parse(source)
    before = ast.unparse(tree)
    found: dict[str, Mutant] = {}

    for node, scope, put in _places(tree, _Scope(), lambda _: None):
        line = getattr(node, "lineno", None)
        if line is None or (lines is not None and line not in lines):
            continue
        for other in _replacements(node, scope):
            put(other)
            changed = ast.unparse(tree)
            put(node)
            if changed != before:
                found.setdefault(changed, Mutant(line, f"{_short(node)}  ->  {_short(other)}", changed))
    return sorted(found.values())


def _short(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split()) if not isinstance(node, ast.Pass) else "(left out)"
    return text if len(text) <= 60 else text[:57] + "..."


def _places(
    node: ast.AST, scope: _Scope, put: Callable[[ast.AST], None]
) -> Iterator[tuple[ast.AST, _Scope, Callable[[ast.AST], None]]]:
    """Each node below, with its scope and a function that puts another in its place."""
    yield node, scope, put
    for field, value in ast.iter_fields(node):
        if field in ("decorator_list", "returns", "annotation"):
            continue
        if isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            inner = _entered(node, scope) if field in ("body", "args") else scope
            yield from _places(value, inner, _setter(node, field))
        elif isinstance(value, list):
            inner = _entered(node, scope) if field == "body" else scope
            for place, item in enumerate(value):
                if isinstance(item, ast.AST) and not _is_docstring(node, item):
                    yield from _places(item, inner, _item_setter(value, place))
                    inner = _after(item, inner)


def _setter(node: ast.AST, field: str) -> Callable[[ast.AST], None]:
    return lambda other: setattr(node, field, other)


def _item_setter(items: list, place: int) -> Callable[[ast.AST], None]:
    return lambda other: items.__setitem__(place, other)


def _entered(node: ast.AST, scope: _Scope) -> _Scope:
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return _Scope(tuple(one.arg for one in given if one.arg != "self"), ())
    return scope


def _after(node: ast.AST, scope: _Scope) -> _Scope:
    """The scope behind a statement: it may have set names."""
    if not isinstance(node, ast.stmt) or isinstance(node, ast.FunctionDef | ast.ClassDef):
        return scope
    stored = [one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
    return _Scope(scope.arguments, tuple(dict.fromkeys((*scope.names, *stored))))


def _is_docstring(parent: ast.AST, node: ast.AST) -> bool:
    body = getattr(parent, "body", None)
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    return text and isinstance(body, list) and bool(body) and body[0] is node


# --- what may stand in for a node ------------------------------------------------------------------------------------


def _replacements(node: ast.AST, scope: _Scope) -> Iterator[ast.AST]:
    if isinstance(node, ast.stmt):
        yield from _of_statement(node, scope)
    elif isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp | ast.Compare | ast.IfExp):
        yield from _of_operation(node)
    elif isinstance(node, ast.Constant):
        yield from _of_constant(node)
    elif isinstance(node, ast.Call):
        yield from _of_call(node)
    elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
        yield from (ast.Attribute(node.value, name, node.ctx) for name in _CALLS.get(node.attr, ()))
        if node.attr in _TRANSPOSES:
            yield node.value
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from _of_name(node, scope)
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
        yield node.value
    elif isinstance(node, ast.Slice):
        yield from _of_slice(node)
    elif isinstance(node, ast.Tuple | ast.List) and isinstance(node.ctx, ast.Load):
        yield from (type(node)(items, node.ctx) for items in _neighbours_swapped(node.elts))
    elif isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        yield from _without_filters(node)


def _of_statement(node: ast.stmt, scope: _Scope) -> Iterator[ast.AST]:
    """Left out, its test turned round, or with another value returned."""
    if isinstance(node, _SIMPLE) or (isinstance(node, ast.Assign) and _changes_something(node, scope)):
        yield ast.Pass()
    if isinstance(node, ast.AugAssign):
        for operator in _OPERATORS.get(type(node.op), ()):
            yield ast.AugAssign(node.target, operator(), node.value)
        yield ast.copy_location(ast.Assign([node.target], node.value), node)
    if isinstance(node, ast.If):
        yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)
        yield ast.If(ast.Constant(True), node.body, node.orelse)
    if isinstance(node, ast.Return) and node.value is not None:
        own = node.value.id if isinstance(node.value, ast.Name) else ""
        others = [name for name in scope.names if name != own][-_RETURNED:]
        yield from (ast.Return(ast.Name(name, ast.Load())) for name in others)


def _changes_something(node: ast.Assign, scope: _Scope) -> bool:
    """Whether the program still runs without it: it sets an item, an attribute, or a name that has a value already."""
    known = {*scope.arguments, *scope.names}
    return all(not isinstance(one, ast.Name | ast.Tuple) or _names(one) <= known for one in node.targets)


def _names(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def _of_operation(node: ast.AST) -> Iterator[ast.AST]:
    if isinstance(node, ast.BinOp):
        yield from (ast.BinOp(node.left, operator(), node.right) for operator in _OPERATORS.get(type(node.op), ()))
        if isinstance(node.op, _NOT_COMMUTATIVE):
            yield ast.BinOp(node.right, node.op, node.left)
        yield node.left
        yield node.right
    elif isinstance(node, ast.BoolOp):
        yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        yield from node.values
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in _COMPARISONS.get(type(operator), ()):
                yield ast.Compare(node.left, [*node.ops[:place], other(), *node.ops[place + 1 :]], node.comparators)
    elif isinstance(node, ast.IfExp):
        yield ast.IfExp(node.test, node.orelse, node.body)
        yield node.body
        yield node.orelse


def _of_constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield from (ast.Constant(value + change) for change in (-1, 1))
    elif isinstance(value, float):
        yield ast.Constant(value + 1.0)
        yield from [ast.Constant(value / 2)] if value else []
    elif isinstance(value, str) and "->" in value:
        yield from map(ast.Constant, _patterns(value))


def _patterns(text: str) -> Iterator[str]:
    """An einsum or einops pattern with two neighbouring axes of its output exchanged."""
    left, _, right = text.partition("->")
    axes = list(re.finditer(r"\w+" if " " in text else r"\w", right))
    for one, other in itertools.pairwise(axes):
        parts = right[: one.start()], other[0], right[one.end() : other.start()], one[0], right[other.end() :]
        yield f"{left}->{''.join(parts)}"


def _of_call(node: ast.Call) -> Iterator[ast.AST]:
    """Its argument as it is, neighbouring arguments exchanged, one or a keyword left out; bounds of a range."""
    if isinstance(node.func, ast.Attribute) and not node.args:
        yield node.func.value  # x.sum() and x
    yield from node.args[:3] if len(node.args) in (1, 3) else node.args[:1]
    yield from (ast.Call(node.func, items, node.keywords) for items in _neighbours_swapped(node.args))
    if len(node.args) > 1:
        yield ast.Call(node.func, node.args[:-1], node.keywords)
    for place in range(len(node.keywords)):
        yield ast.Call(node.func, node.args, node.keywords[:place] + node.keywords[place + 1 :])
    if isinstance(node.func, ast.Name) and node.func.id == "range":
        for place, bound in enumerate(node.args):
            for other in _off_by_one(bound):
                yield ast.Call(node.func, [*node.args[:place], other, *node.args[place + 1 :]], [])


def _neighbours_swapped(items: list[ast.expr]) -> Iterator[list[ast.expr]]:
    for place in range(len(items) - 1):
        yield [*items[:place], items[place + 1], items[place], *items[place + 2 :]]


def _off_by_one(node: ast.expr) -> Iterator[ast.expr]:
    if not isinstance(node, ast.Constant):  # a constant has neighbours by itself
        yield from (ast.BinOp(node, operator(), ast.Constant(1)) for operator in (ast.Add, ast.Sub))


def _of_slice(node: ast.Slice) -> Iterator[ast.AST]:
    """A bound that is gone, or off by one."""
    if node.lower is not None:
        yield from (ast.Slice(other, node.upper, node.step) for other in (None, *_off_by_one(node.lower)))
    if node.upper is not None:
        yield from (ast.Slice(node.lower, other, node.step) for other in (None, *_off_by_one(node.upper)))
    if node.step is not None:
        yield ast.Slice(node.lower, node.upper)


def _of_name(node: ast.Name, scope: _Scope) -> Iterator[ast.AST]:
    """The next or the last argument in place of an argument, the name that was set before in place of another."""
    others: list[str] = [_BUILT_IN[node.id]] if node.id in _BUILT_IN else []
    for group, steps in ((scope.arguments, (1, -1)), (scope.names, (-1,))):
        if node.id in group:
            others += [group[(group.index(node.id) + step) % len(group)] for step in steps]
    yield from (ast.Name(name, ast.Load()) for name in dict.fromkeys(others) if name != node.id)


def _without_filters(node: ast.ListComp | ast.GeneratorExp | ast.SetComp) -> Iterator[ast.AST]:
    for place, part in enumerate(node.generators):
        if part.ifs:
            bare = ast.comprehension(part.target, part.iter, [], part.is_async)
            yield type(node)(node.elt, [*node.generators[:place], bare, *node.generators[place + 1 :]])
