"""One step through the graph of definitions: what a single statement brings with it. See `symbols` for the whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnkit.authoring.definitions import Unit
from attnkit.authoring.effects import Chain

if TYPE_CHECKING:
    from attnkit.authoring.symbols import SymbolGraph

LOADED = -1  # in the place of a statement: the module as a whole is loaded
_DYNAMIC = {"import_module", "__import__"}
_OWN_FILE = {("globals",), ("exec",), ("eval",), ("sys", "modules")}
# They import what their callers name, and a caller's string counts where it stands.
_FOR_CALLERS = {"attnkit._lazy", "attnkit._optional"}


class Step:
    """What a piece of code uses: `nodes` are (module, place of a statement or LOADED), `data` other files."""

    def __init__(self, graph: SymbolGraph):
        self.graph = graph
        self.nodes: set[tuple[str, int]] = set()
        self.data: set[Path] = set()
        self._symbols: set[tuple[str, Chain, bool]] = set()
        self._whole: set[str] = set()

    def follow(self, module: str, unit: Unit) -> None:
        """What one statement uses counts."""
        for base, name in unit.loads:
            self.load_import(base, name)
            if not module and name and f"{base}.{name}" not in self.graph.files:
                self.reach(base, name, ())  # a cell's import counts as a use: a magic may hide the use from us
        for chain, asked in [*((c, False) for c in unit.chains), *((c, True) for c in unit.asked)]:
            self.name(module, unit, chain, asked)
            if chain in _OWN_FILE or chain[:2] in _OWN_FILE:
                self.file(module)
        self.follow_names(module, unit)

    def name(self, module: str, unit: Unit, chain: Chain, asked: bool) -> None:
        """A statement reads a name; with `asked`, only to see whether something is an instance of it."""
        if chain[0] in unit.imports:
            self.reach(*unit.imports[chain[0]], chain[1:], asked)
        elif module:
            self.symbol(module, chain, own=True, asked=asked)

    def follow_names(self, module: str, unit: Unit) -> None:
        """Modules and other files that strings name, and imports of names that are put together."""
        dynamic = any(_DYNAMIC & set(chain) for chain in unit.chains)
        named = [self.spelled(text, dynamic) for text in unit.strings]
        self.data_files(module, unit, [text for text, hit in zip(unit.strings, named, strict=True) if hit])
        if not dynamic or any(named) or not module or module in _FOR_CALLERS:
            return
        elsewhere = [text for other in self.graph.module(module).units for text in other.strings]
        spelled = [self.spelled(text, dynamic) for text in elsewhere]
        if not any(spelled):
            for inner in self.graph.below(module if self.graph.is_package(module) else module.rpartition(".")[0]):
                self.all_of(inner)

    def spelled(self, text: str, dynamic: bool) -> bool:
        """What a string names: a module, `module:name`, `module.name`, or the beginning `package.` of names."""
        if text.partition(".")[0].partition(":")[0] != self.graph.package:
            return False
        if text.endswith(".") and self.graph.is_package(text[:-1]):
            self.load(text[:-1])
            for inner in self.graph.below(text[:-1]):
                self.all_of(inner)
            return True
        base, colon, name = text.partition(":")
        if base in self.graph.files:
            self.load(base)
            if colon:
                self.symbol(base, tuple(name.split(".")))
            elif dynamic and base != self.graph.package:
                self.all_of(base)
            else:
                self.file(base)
            return True
        base, _, name = text.rpartition(".")
        if base in self.graph.files and name:
            self.load(base)
            self.symbol(base, (name,))
            return True
        return False

    def data_files(self, module: str, unit: Unit, spelled: Sequence[str]) -> None:
        """Files beside the module, or in a package that it spells, that the statement names."""
        homes = {module, *(text.partition(":")[0].rstrip(".") for text in spelled)} - {self.graph.package}
        near = {path for home in homes for path in self.graph.beside(home)}
        if not near:
            return
        opens = self.graph.opens(module)
        found = {path for path in near for text in unit.strings if _names_file(text, path, opens)}
        if not found and any("__file__" in chain for chain in unit.chains):
            found = near
        self.data |= found

    def load_import(self, base: str, name: str) -> None:
        """`from base import name`, or `import base` where `name` is ""."""
        if base.partition(".")[0] != self.graph.package:
            return
        while base and base not in self.graph.files:
            base = base.rpartition(".")[0]
        if not base:
            return
        self.load(base)
        if name == "*":
            self.all_of(base)
        elif name:
            inner = f"{base}.{name}"  # also where the package's own file imports it, and so binds the name
            home = inner if name in self.bound(base) else self.graph.module(base).homes.get(name, inner)
            if home in self.graph.files:
                self.load(home)

    def load(self, name: str) -> None:
        """The module is loaded, after the packages around it."""
        parts = name.split(".")
        modules = (".".join(parts[:i]) for i in range(1, len(parts) + 1))
        self.nodes |= {(module, LOADED) for module in modules if module in self.graph.files}

    def run(self, module: str) -> None:
        """What loading the module does: statements with an effect, and imports."""
        for place, unit in enumerate(self.graph.module(module).units):
            if unit.effect:
                self.nodes.add((module, place))
            elif unit.imports and not unit.typing and set(unit.names) == set(unit.imports):
                for base, imported in unit.loads:
                    self.load_import(base, imported)

    def bound(self, module: str) -> set[str]:
        """The names that the module's own statements bind as it runs."""
        return {name for unit in self.graph.module(module).units if not unit.typing for name in unit.names}

    def reach(self, base: str, name: str, rest: Chain, asked: bool = False) -> None:
        """An imported name is used: the module `base`, or `name` of it, and then `rest` of that."""
        if base.partition(".")[0] != self.graph.package or base not in self.graph.files:
            return
        chain = (name, *rest) if name else rest
        if chain:
            self.symbol(base, chain, asked=asked)
        else:
            self.all_of(base)

    def symbol(self, module: str, chain: Chain, own: bool = False, asked: bool = False) -> None:
        """`chain` is read off the module, from outside or by a statement of its `own`."""
        if (module, chain, asked) in self._symbols:
            return
        self._symbols.add((module, chain, asked))
        self.load(module)
        name, rest = chain[0], chain[1:]
        told = self.graph.module(module)
        binding = [place for place, unit in enumerate(told.units) if name in unit.names]
        ran = [place for place in binding if not told.units[place].typing]
        for place in ran or (binding if name not in told.homes else []):
            unit = told.units[place]
            if name in unit.imports:
                self.load_import(*unit.imports[name])
                if unit.imports[name] == (module, name):  # a package that imports a module of its own
                    self.reach(f"{module}.{name}", "", rest, asked)
                else:
                    self.reach(*unit.imports[name], rest, asked)
            elif asked and unit.bases is not None and not unit.effect and not rest:
                for base in unit.bases:  # what is an instance was made where its own class is named
                    self.name(module, unit, base, asked)
            else:
                self.nodes.add((module, place))
        if ran:
            return
        if name in told.homes and not own:
            self.symbol(told.homes[name], chain, asked=asked)
        elif not own and f"{module}.{name}" in self.graph.files:
            self.load(f"{module}.{name}")
            self.reach(f"{module}.{name}", "", rest, asked)
        elif not own and not binding and "__getattr__" in self.bound(module) and not told.homes:
            self.all_of(module)

    def file(self, module: str) -> None:
        """Every statement of the file counts."""
        if module in self.graph.files:
            self.load(module)
            for place, unit in enumerate(self.graph.module(module).units):
                if not unit.typing:
                    self.nodes.add((module, place))

    def all_of(self, module: str) -> None:
        """Whatever can be had from the module counts: of a package, all that is in it."""
        if module in self._whole:
            return
        self._whole.add(module)
        self.file(module)
        for unit in self.graph.module(module).units:
            for alias, target in unit.imports.items() if not unit.typing else []:
                if alias in unit.names:
                    self.reach(*target, ())
        if self.graph.is_package(module):
            for inner in self.graph.below(module):
                self.all_of(inner)


def _names_file(text: str, path: Path, folders: bool) -> bool:
    """Whether `text` is the file's name, the end of one (`.js`, `*.js`), or, if so asked, a folder around it."""
    ending = text.removeprefix("*")
    if ending.startswith("."):
        return path.name.endswith(ending) and len(ending) > 1
    return path.as_posix().endswith(f"/{text}") or (folders and text in path.parts[-3:-1])
