"""Stand-ins, inside the jail, for packages that show or check something and compute no answer.

An honest notebook imports attnkit, makes a `Lab`, draws a plot. There is no attnkit in the jail (its references are
the answers), so these names exist and do nothing. Modules that a student wrote with `%%writefile` are found here
too. Standard library only; loaded by `worker.py`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import types
from collections.abc import Mapping

NAMES = ("attnkit", "IPython", "google", "matplotlib", "ipywidgets", "seaborn", "plotly", "bokeh", "tqdm", "nbformat")


class Inert:
    """Takes part in anything and does nothing; as a decorator it leaves the function alone."""

    def __call__(self, *args, **kwargs):
        return args[0] if len(args) == 1 and not kwargs and isinstance(args[0], types.FunctionType) else self

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        return None

    def __iter__(self):
        return iter(())

    def __format__(self, _: str) -> str:
        return ""

    def __getitem__(self, _):
        return self


class Module(types.ModuleType):
    """A module all of whose names are inert."""

    __path__: list = []  # noqa: RUF012  (what the import system expects of a package)
    __all__: list = []  # noqa: RUF012  (the same)

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        # tqdm(items) must still give the items
        return (lambda items=(), *_, **__: items) if self.__name__.split(".")[0] == "tqdm" else Inert()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds stand-ins for the packages that only show or check."""

    def find_spec(self, name: str, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in NAMES else None

    def create_module(self, spec):
        return Module(spec.name)

    def exec_module(self, module) -> None:
        return None


class Written(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules that the notebook writes to files beside itself; there are no such files here.

    `lines` takes their source, by which a traceback's line is shown.
    """

    def __init__(self, sources: Mapping[str, str], lines: dict[tuple[str, int], str]) -> None:
        self.sources, self.lines = sources, lines

    def find_spec(self, name: str, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name in self.sources else None

    def create_module(self, spec):
        return None

    def exec_module(self, module) -> None:
        source, file = self.sources[module.__name__], f"<{module.__name__}.py>"
        for number, line in enumerate(source.split("\n"), 1):
            self.lines[file, number] = line.strip()
        exec(compile(source, file, "exec", dont_inherit=True), module.__dict__)
