"""Packages that attnkit can do without: asked for by name, refused with the words that install them."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, *, extra: str) -> ModuleType:
    """The module of that (dotted) name; ImportError with the command to run when its package is not installed."""
    if module.partition(".")[0] == "attnkit":  # or a page that uses any of this would seem to depend on all of attnkit
        raise ValueError(f"module is {module!r}; it must be of another package: attnkit's own are imported by name")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the package is there, and lacks something of its own
        package = module.split(".")[0].replace("_", "-")
        raise ImportError(f'this needs the package {package}: pip install "attnkit[{extra}]"') from error
