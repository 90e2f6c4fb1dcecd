"""The ways to compute attention: one file each, with one signature.

A backend is a module with three functions of `(query, key, value, options)`: `attend` computes; `unsupported` says why
it cannot, or None; `wasteful` says why another backend should be preferred, or None. To add one, write its file and
put its name into ORDER. `attnkit.attention` imports them all, so a file imports what is heavy when it is first wanted.

A module may say `GUARDS_HIDDEN = True`: then a hidden key that holds NaN or infinity has no influence in what `attend`
computes, and the front door need not look for one. And it may have a fourth function, `details`, of the same arguments:
lines for `explain` to print when this backend is taken.
"""

from __future__ import annotations

import importlib
from types import ModuleType

from attnkit.backends.common import Aux, BackendUnsupported, Options, Rows

# The order in which "auto" tries them: the fastest first, the one that can do everything last.
ORDER = ("sdpa", "fused", "online", "inplace", "flex", "naive")

_loaded: dict[str, ModuleType] = {}

__all__ = ["ORDER", "Aux", "BackendUnsupported", "Options", "Rows", "load"]


def load(name: str) -> ModuleType:
    """The backend of this name. Raises ValueError for a name that is not in ORDER."""
    if name not in _loaded:
        if name not in ORDER:
            raise ValueError(f"backend is {name!r}; it must be 'auto' or one of {', '.join(map(repr, ORDER))}")
        _loaded[name] = importlib.import_module(f"attnkit.backends.{name}")
    return _loaded[name]
