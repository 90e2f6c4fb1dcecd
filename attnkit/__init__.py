"""attnkit: reference implementations of attention, for the book, the labs and the autograder.

>>> from attnkit import attention
>>> from attnkit.masks import Causal
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from attnkit._lazy import on_first_use

if TYPE_CHECKING:
    from attnkit.attention import Explanation, attention, explain
    from attnkit.backends.common import Aux, BackendUnsupported, Rows

__version__ = "0.1.0"

__all__ = ["Aux", "BackendUnsupported", "Explanation", "Rows", "about", "attention", "explain"]

# Where each name lives. Loaded on first use, so that the grader's trusted process need not load torch.
_HOMES = {
    "attention": "attention",
    "explain": "attention",
    "Explanation": "attention",
    "Aux": "backends.common",
    "BackendUnsupported": "backends.common",
    "Rows": "backends.common",
}

__getattr__, __dir__ = on_first_use(__name__, _HOMES)


class _Package(ModuleType):
    """Keeps `attnkit.attention` the function: importing the module of that name would bind the module instead."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value.attention if name == "attention" and isinstance(value, ModuleType) else value)


sys.modules[__name__].__class__ = _Package


def about() -> None:
    """Print versions and device in one line: what to quote when asking for help. Never fails."""
    import platform
    from importlib import metadata

    parts = [f"python {platform.python_version()}", f"attnkit {__version__}"]
    for package in ("torch", "numpy"):
        try:
            parts.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            parts.append(f"{package} missing")
    print(", ".join([*parts, f"device {_device()}"]))


def _device() -> str:
    """The fastest device that torch can use here, by name."""
    try:
        import torch

        if torch.cuda.is_available():
            return f"cuda ({torch.cuda.get_device_name()})"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    except Exception as error:  # a broken installation must not stop a report about the installation
        return f"unknown ({type(error).__name__})"
