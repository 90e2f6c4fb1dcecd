"""The ways to compute attention: one file each, with one signature.

A backend is a module with three functions of `(query, key, value, options)`: `attend` computes; `unsupported` says why
it cannot, or None; `wasteful` says why another backend should be preferred, or None. To add one, write its file and
put its name into ORDER. A backend's file is imported when it is first wanted.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from attnkit.backends.common import Aux, BackendUnsupported, Options

# The order in which "auto" tries them: the fastest first, the one that can do everything last.
ORDER = ("sdpa", "online", "inplace", "naive")

_loaded: dict[str, ModuleType] = {}

__all__ = ["ORDER", "Aux", "BackendUnsupported", "Options", "load"]


def load(name: str) -> ModuleType:
    """The backend of this name. Raises ValueError for a name that is not in ORDER."""
    if name not in _loaded:
        if name not in ORDER:
            raise ValueError(f"backend is {name!r}; it must be 'auto' or one of {', '.join(map(repr, ORDER))}")
        _loaded[name] = importlib.import_module(f"attnkit.backends.{name}")
    return _loaded[name]
