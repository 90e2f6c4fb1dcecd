"""Inside the jail: takes away the calls that would bypass a question, before a student's first statement runs.

A forbidden function is replaced wherever the libraries keep it by one that says why it is not there: under all its
module names (`torch.special.softmax` and what it is an alias of), as a method, in torch's tables of built-in functions
and among its operators. Each child is a fork, so nothing of this reaches the next question. A torch module class stays
and loses its `forward`. A package that is not loaded yet (scipy) is seen to when it is.

What is left of the library keeps working, apart from what is itself written with the forbidden call: with
`torch.Tensor.softmax` gone, so are `torch.nn.functional.softmax` and `gumbel_softmax`, `torch.nn.Softmax` and the
probabilities of `torch.distributions.Categorical`; with `scaled_dot_product_attention` gone, `MultiheadAttention` and
the Transformer layers. logsumexp, cross_entropy and everything else written in C++ do not pass through these names. So
a question forbids what its own right answers, and the worker's `from_numpy`, `detach` and `numpy`, do without.

This is a warning with a lock on it and no proof: code that goes round Python (ctypes, an extension) can reach what it
likes, and what looks as if it did is flagged from the source (`lab/shortcuts.py`). Standard library only; loaded by
`worker.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib.abc
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

LIBRARIES = ("torch", "numpy", "scipy", "einops")
# attnkit is not in here at all (its stand-in must stay), and the interpreter itself needs its own functions.
LEFT_ALONE = ("attnkit", "builtins", *sys.stdlib_module_names)
_WORDS = "{} is what this question asks you to write; it is not available here."

_places: dict[int, list[tuple[dict[str, Any], str]]] = {}


class Refused:
    """In the place of a forbidden function: using it in any way raises."""

    __wrapped__: Refused

    def __init__(self, name: str) -> None:
        self.__name__ = self.__qualname__ = name.rpartition(".")[2]
        self._words = _WORDS.format(name)

    def __call__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError(self._words)

    def __get__(self, instance: object, owner: type | None = None) -> Refused:
        return self

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(self._words)


def prepare() -> None:
    """Note where each callable of the libraries is kept. Once, before the first fork: looking takes 0.06 s."""
    _places.clear()
    for table in _tables(LIBRARIES):
        _note(table)


def _tables(packages: Iterable[str]) -> list[dict[str, Any]]:
    wanted = tuple(packages)
    return [
        vars(module)
        for name, module in list(sys.modules.items())
        if name.split(".")[0] in wanted and isinstance(module, types.ModuleType)
    ]


def _note(table: dict[str, Any]) -> None:
    for name, value in list(table.items()):
        if callable(value):
            _places.setdefault(id(value), []).append((table, name))


def block(names: Iterable[str]) -> tuple[str, ...]:
    """Take away `names` (full ones). Those that are not there (yet) are returned and blocked when they are imported."""
    names = [name for name in names if name.split(".")[0] not in LEFT_ALONE]
    # All are looked up before the first is replaced: one may be reached through another.
    found = {name: _find(name) for name in names}
    absent = tuple(name for name, thing in found.items() if thing is None)
    for name, thing in found.items():
        if thing is not None:
            _take_away(name, *thing)
        _take_operators(name)
    if absent:
        sys.meta_path.insert(0, _Later(absent))
    return absent


def _find(name: str) -> tuple[Any, str, Any] | None:
    """(owner, attribute, the thing) of a full name."""
    first, *rest = name.split(".")
    owner: Any = None
    thing: Any = sys.modules.get(first)
    path = first
    for attribute in rest:
        # A module becomes an attribute of its package only once it is loaded completely.
        path = f"{path}.{attribute}"
        owner, thing = thing, getattr(thing, attribute, None) or sys.modules.get(path)
        if thing is None:
            return None
    return (owner, rest[-1], thing) if rest and thing is not None else None


def _take_away(name: str, owner: Any, attribute: str, thing: Any) -> None:
    refused = Refused(name)
    if hasattr(thing, "__wrapped__"):  # torch looks at this one of its own functions when torch.optim is loaded
        refused.__wrapped__ = Refused(name)
    if isinstance(thing, type):
        for method in ("forward",) if hasattr(thing, "forward") else ("__init__",):
            with contextlib.suppress(TypeError, AttributeError):
                setattr(thing, method, _method(refused))
        return
    if isinstance(thing, types.ModuleType):
        # The module itself stays: parts of the library that are loaded late import it.
        for inner, value in list(vars(thing).items()):
            if callable(value) and not inner.startswith("_"):
                _take_away(f"{name}.{inner}", thing, inner, value)
        return
    for table, place in _places.get(id(thing), []):
        if table.get(place) is thing:
            table[place] = refused
    with contextlib.suppress(TypeError, AttributeError):
        setattr(owner, attribute, refused)
    for kind in _holders(owner):
        if attribute in vars(kind):
            _set_in_type(kind, attribute, refused)


def _method(refused: Refused) -> Callable[..., None]:
    """A function, since torch looks at the signature of a module's `forward`."""

    def forward(self: object, *args: object, **kwargs: object) -> None:
        refused()

    return forward


def _holders(owner: Any) -> list[type]:
    """The built-in types in which torch keeps what `owner` shows: Tensor's base, the table of torch's functions."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return []
    if owner is torch:
        return [type(torch._C._VariableFunctions)]
    return [kind for kind in owner.__mro__[1:-1] if isinstance(kind, type)] if owner is torch.Tensor else []


def _set_in_type(kind: type, name: str, value: object) -> None:
    """Set an attribute of a type written in C, which refuses `setattr`."""
    (table,) = gc.get_referents(vars(kind))
    table[name] = value
    ctypes.pythonapi.PyType_Modified(ctypes.py_object(kind))


def _take_operators(name: str) -> None:
    """What torch's operators of that name run, `torch.ops.aten.softmax` and `_softmax`.

    The operators themselves stay: torch.optim, for one, loads tables of them the first time that it is used.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or not name.startswith("torch."):
        return
    last = name.rpartition(".")[2].lstrip("_")
    for operator in (last, f"_{last}", f"special_{last}"):
        packet = getattr(torch.ops.aten, operator, None)
        if packet is not None:
            for one in (packet, *(getattr(packet, overload) for overload in packet.overloads())):
                one._op = Refused(f"torch.ops.aten.{operator}")


class _Later(importlib.abc.MetaPathFinder):
    """Blocks names of modules that are not loaded yet, right after they are."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        parts = [name.split(".") for name in names]
        self.modules = {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}

    def find_spec(self, name: str, path: Any = None, target: types.ModuleType | None = None) -> Any:
        """The spec that the other finders give, with a loader that blocks afterwards."""
        if name not in self.modules:
            return None
        for finder in sys.meta_path:
            if finder is self or not hasattr(finder, "find_spec"):
                continue
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: Any) -> None:
        load = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            load(module)
            for table in _tables({name.split(".")[0] for name in self.names}):
                _note(table)
            for name in self.names:
                if (thing := _find(name)) is not None and not isinstance(thing[2], Refused):
                    _take_away(name, *thing)

        loader.exec_module = exec_module
