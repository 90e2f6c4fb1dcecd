"""Which statements at the top of a file do more than define: a registration, a setting, a call that prints.

Erring is allowed towards too much only, so whatever is not known to be harmless has an effect.
"""

from __future__ import annotations

import ast

Chain = tuple[str, ...]

# A call of one of these builds a value and does nothing else; a decorator of the second list changes only what it is
# given. All others are taken to act on something, as a registry would.
_PURE_CALLS = {
    *("bool", "dict", "float", "frozenset", "int", "len", "list", "max", "min", "range", "set", "sorted", "str", "sum"),
    *(
        "tuple",
        "object",
        "zip",
        "Path",
        "re.compile",
        "TypeVar",
        "ParamSpec",
        "namedtuple",
        "field",
        "dataclasses.field",
    ),
}
_PURE_DECORATORS = {
    *("property", "staticmethod", "classmethod", "dataclass", "dataclasses.dataclass", "abstractmethod", "overload"),
    *("cache", "lru_cache", "functools.cache", "functools.lru_cache", "functools.wraps", "wraps", "cached_property"),
    *("contextmanager", "contextlib.contextmanager", "final", "no_type_check", "override", "runtime_checkable"),
    *(
        "torch.no_grad",
        "torch.inference_mode",
        "torch.jit.ignore",
        "triton.jit",
        "triton.heuristics",
        "triton.autotune",
    ),
}


def acts(node: ast.stmt) -> bool:
    """Whether running the statement may do more than bind names."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        values = [*node.args.defaults, *(value for value in node.args.kw_defaults if value)]
        return any(map(_calls, values)) or any(map(_decorates, node.decorator_list))
    if isinstance(node, ast.ClassDef):
        head = [*node.bases, *(word.value for word in node.keywords)]
        return (
            bool(node.keywords)
            or any(map(_calls, head))
            or any(map(_decorates, node.decorator_list))
            or any(acts(inner) for inner in node.body)
        )
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        return not all(map(_plain, node.targets)) or _calls(node.value)
    if isinstance(node, ast.AnnAssign):
        return not _plain(node.target) or (node.value is not None and _calls(node.value))
    return not isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom))


def _plain(target: ast.expr) -> bool:
    inner = target.elts if isinstance(target, ast.Tuple) else [target]
    return all(isinstance(one, ast.Name) for one in inner)


def _calls(value: ast.expr) -> bool:
    """Whether computing `value` calls something that may do more than build a value."""
    found = False
    for node in ast.walk(value):
        if isinstance(node, ast.Call):
            found |= ast.unparse(node.func) not in _PURE_CALLS
    return found


def _decorates(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = ast.unparse(called)
    return name not in _PURE_DECORATORS and not name.endswith(".setter")


def plain_bases(node: ast.stmt) -> list[Chain] | None:
    """The bases of a class of which `isinstance` asks only whether it is among the bases; None for all else.

    A protocol or an abstract class may look at methods, and a metaclass may do anything.
    """
    if (
        not isinstance(node, ast.ClassDef)
        or node.keywords
        or any("checkable" in ast.dump(d) for d in node.decorator_list)
    ):
        return None
    names = [ast.unparse(base).partition("[")[0].split(".") for base in node.bases]
    return None if any(name[-1] in ("Protocol", "ABC") for name in names) else [tuple(name) for name in names]
