"""Which definitions of attnkit a piece of code depends on, transitively, read from the sources without importing them.

The unit is a statement at the top of a file: a function, a class, an assignment. Code depends on the definitions that
it names, those on the ones that they name, and so on; on every statement with an effect in each module that is loaded
on the way; and on the other files (templates, scripts, weights) that those definitions name.

The answer errs on the side of too much. An import inside a function counts, a string that spells a module counts, and
where a name is put together as the program runs, as in `import_module(f"attnkit.backends.{name}")`, the whole package
counts. A module that is handed around as a value counts whole.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnkit.authoring.definitions import Module, Unit, read_cells, read_module
from attnkit.authoring.uses import LOADED, Step

# What a file reads off itself to find what lies beside it.
_BESIDE = {"__file__", "files", "resources"}
_SKIPPED = {"__pycache__", ".pyc"}


@dataclass(frozen=True)
class Uses:
    """What code depends on: definitions, as (module, place among the statements of its file), and other files."""

    units: frozenset[tuple[str, int]]
    loaded: frozenset[str]
    data: tuple[Path, ...]


class SymbolGraph:
    """The definitions of `package` below the folder `root`, and who uses whom.

    `cache` is a folder in which what was read of each file is kept, by the file's content.
    """

    def __init__(self, root: Path | str, package: str = "attnkit", cache: Path | None = None):
        self.root, self.package = Path(root), package
        everything = [
            p for p in sorted((self.root / package).rglob("*")) if p.is_file() and not _SKIPPED & set(p.parts)
        ]
        self.files = {_module_name(path, self.root): path for path in everything if path.suffix == ".py"}
        self.data = [path for path in everything if path.suffix not in (".py", ".pyc")]
        self._modules: dict[str, Module] = {}
        self._steps: dict[tuple[str, int], Step] = {}
        self._beside: dict[str, list[Path]] = {}
        self._cache = cache

    def uses(self, cells: Sequence[str] = (), symbols: Iterable[str] = ()) -> Uses:
        """What running `cells` (Python text, one name space) may depend on, and each `module:name` of `symbols`."""
        start = Step(self)
        if cells:
            start.follow("", read_cells(cells))
        for symbol in symbols:
            start.spelled(symbol, dynamic=False)
        seen, waiting, data = set(start.nodes), list(start.nodes), set(start.data)
        while waiting:
            step = self.step(waiting.pop())
            data |= step.data
            waiting += step.nodes - seen
            seen |= step.nodes
        units = frozenset(node for node in seen if node[1] != LOADED)
        return Uses(units, frozenset(module for module, place in seen if place == LOADED), tuple(sorted(data)))

    def step(self, node: tuple[str, int]) -> Step:
        """What one statement, or the loading of one module, brings with it."""
        if node not in self._steps:
            step = self._steps[node] = Step(self)
            module, place = node
            if place == LOADED:
                step.run(module)
            else:
                step.follow(module, self.unit(module, place))
        return self._steps[node]

    def module(self, name: str) -> Module:
        """What the file of module `name` defines."""
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def unit(self, module: str, place: int) -> Unit:
        """One statement."""
        return self.module(module).units[place]

    def named(self, uses: Uses) -> set[str]:
        """The definitions in `uses` as `module.name`, for people."""
        return {f"{m}.{name}" for m, place in uses.units for name in self.unit(m, place).names}

    def is_package(self, name: str) -> bool:
        """Whether `name` is a package of ours."""
        return name in self.files and self.files[name].name == "__init__.py"

    def below(self, package: str) -> list[str]:
        """Every module inside `package`."""
        return [name for name in self.files if name.startswith(package + ".")]

    def beside(self, name: str) -> list[Path]:
        """The files that are no Python in the folder of module `name` and below."""
        if name not in self._beside:
            folder = self.files[name].parent if name in self.files else None
            self._beside[name] = [path for path in self.data if folder in path.parents]
        return self._beside[name]

    def opens(self, name: str) -> bool:
        """Whether the file of module `name` asks where it lies, as one does that reads what is beside it."""
        units = self.module(name).units if name in self.files else []
        return any(_BESIDE & set(chain) for unit in units for chain in unit.chains)

    def _read(self, name: str) -> Module:
        path = self.files[name]
        text = path.read_bytes()
        kept = (
            self._cache / f"{name}.{hashlib.sha256(_version() + text).hexdigest()[:16]}.json" if self._cache else None
        )
        if kept and kept.is_file():
            try:
                return Module.from_json(json.loads(kept.read_text("utf-8")))
            except (ValueError, KeyError, TypeError):
                kept.unlink(missing_ok=True)
        module = read_module(text.decode("utf-8"), name, self.is_package(name))
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            for old in kept.parent.glob(f"{name}.????????????????.json"):
                old.unlink(missing_ok=True)
            part = kept.with_suffix(".part")
            part.write_text(json.dumps(module.as_json()), "utf-8")
            part.replace(kept)
        return module


@functools.cache
def _version() -> bytes:
    """Changes with the way in which files are read."""
    return b"".join(Path(__file__).with_name(name).read_bytes() for name in ("definitions.py", "effects.py"))


def _module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
