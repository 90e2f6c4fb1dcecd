"""Which attnkit files a piece of code depends on, transitively, read from the sources without importing them."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path

_DYNAMIC = {"import_module", "__import__"}
# Imports what its callers name, each of whom also imports it for type checkers, where it counts.
_FOR_CALLERS = "attnkit._lazy"


class ImportGraph:
    """The modules of `package` below the folder `root`, and who imports whom.

    The answer errs on the side of too much: an import inside a function counts, and so does a string that is the full
    name of a module. A name that is put together, as in `import_module(f"attnkit.backends.{name}")`, stands for the
    whole package; where not even a package can be read off, the module counts as importing its own.
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
        named, dynamic = False, False
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found |= self._with_parents(alias.name)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node, module)
                for name in (base, *(f"{base}.{alias.name}" for alias in node.names)):
                    found |= self._with_parents(name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                spelled = self._spelled(node.value)
                named |= bool(spelled)
                found |= spelled
            elif isinstance(node, (ast.Name, ast.Attribute)):
                dynamic |= (node.id if isinstance(node, ast.Name) else node.attr) in _DYNAMIC
        if dynamic and not named and module and module != _FOR_CALLERS:
            found |= self._below(module if self._is_package(module) else module.rpartition(".")[0])
        return found

    def _spelled(self, text: str) -> set[str]:
        """What a string constant names: a module, a `module:attribute`, or the beginning `package.` of names."""
        if text.endswith(".") and self._is_package(text[:-1]):
            return self._with_parents(text[:-1]) | self._below(text[:-1])
        name = text.partition(":")[0]
        return self._with_parents(name) if name in self.files else set()

    def _absolute(self, node: ast.ImportFrom, module: str) -> str:
        if not node.level:
            return node.module or ""
        parts = module.split(".")
        parts = parts[: len(parts) - node.level + self._is_package(module)]
        return ".".join([*parts, *([node.module] if node.module else [])])

    def _with_parents(self, name: str) -> set[str]:
        parts = name.split(".")
        return {".".join(parts[: i + 1]) for i in range(len(parts))} & self.files.keys()

    def _is_package(self, name: str) -> bool:
        return name in self.files and self.files[name].name == "__init__.py"

    def _below(self, package: str) -> set[str]:
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
