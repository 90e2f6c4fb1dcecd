"""Which attnkit files a piece of code depends on, transitively, read from the sources without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

_DYNAMIC = {"import_module", "__import__", "iter_modules", "walk_packages"}


class ImportGraph:
    """The modules of `package` below the folder `root`, and who imports whom.

    The answer errs on the side of too much: an import inside a function counts, a string that is the full name of a
    module counts, and a module that imports by a computed name counts as importing its whole package.
    """

    def __init__(self, root: Path | str, package: str = "attnkit"):
        self.root, self.package = Path(root), package
        self.files = {_module_name(path, self.root): path for path in sorted((self.root / package).rglob("*.py"))}
        self._direct: dict[str, set[str]] = {}

    def closure(self, sources: Iterable[str]) -> list[Path]:
        """The files that running `sources` (Python text) may load, sorted."""
        todo = [name for source in sources for name in self._names(_parse(source), module="")]
        seen: set[str] = set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            todo.extend(self.direct(name))
        return sorted(self.files[name] for name in seen)

    def direct(self, module: str) -> set[str]:
        """The modules that `module` itself may load."""
        if module not in self._direct:
            tree = ast.parse(self.files[module].read_text("utf-8"))
            self._direct[module] = self._names(tree, module)
        return self._direct[module]

    def _names(self, tree: ast.AST, module: str) -> set[str]:
        found: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= self._with_parents(alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node, module)
                found |= self._with_parents(base)
                for alias in node.names:
                    found |= self._with_parents(f"{base}.{alias.name}")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found |= self._with_parents(node.value) if node.value in self.files else set()
            elif module and isinstance(node, (ast.Name, ast.Attribute)):
                called = node.id if isinstance(node, ast.Name) else node.attr
                found |= self._siblings(module) if called in _DYNAMIC else set()
        return found

    def _absolute(self, node: ast.ImportFrom, module: str) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        is_package = bool(module) and self.files[module].name == "__init__.py"
        parts = parts[: len(parts) - node.level + is_package]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _with_parents(self, name: str) -> set[str]:
        parts = name.split(".")
        return {".".join(parts[: i + 1]) for i in range(len(parts))} & self.files.keys()

    def _siblings(self, module: str) -> set[str]:
        package = module if self.files[module].name == "__init__.py" else module.rpartition(".")[0]
        return {name for name in self.files if name.startswith(package + ".")}


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _parse(source: str) -> ast.AST:
    """The syntax tree of a notebook cell; IPython's magics are dropped."""
    try:
        return ast.parse(source)
    except SyntaxError:
        lines = [line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))]
        try:
            return ast.parse("\n".join(lines))
        except SyntaxError:
            return ast.parse("")  # a cell that shows a syntax error on purpose imports nothing
