"""The chapters of the book: which pages there are, what each executes, and where its executed notebook is kept.

jupyter-cache finds a page's outputs by the text of its cells alone, so it serves old numbers after attnkit has changed.
Here the key of a run also covers every definition of attnkit that the cells use, directly or not (see `symbols`), and
the versions of what they compute with.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import json
import platform
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from attnkit.authoring.notebook import EXECUTION_ENV, read_myst
from attnkit.authoring.pagetext import directives
from attnkit.authoring.symbols import SymbolGraph, Uses

# The guide: pages that run commands in a folder of their own, or read the clone. They are for a shell, so they have no
# twin for Colab, and need not quote a number from a cell, as a chapter does.
GUIDE = ("book/teach/", "book/labs/")
# What a chapter's numbers depend on besides its cells and attnkit.
COMPUTES_WITH = ("torch", "numpy", "matplotlib", "einops", "nbclient", "ipython")
# A cell with this tag shows what depends on the machine or on a training: nobody compares it with another run's.
VARIES = "varies"
TOC = "_toc.yml"
# A shell's cell, and the command of ours in it.
_SHELL = re.compile(r"^\s*(?:%%(?:bash|sh|script)\b|!)", re.M)
_DOOR = "attnkit.cli"
_COMMAND = re.compile(r"\battnkit[ \t]+([a-z][\w-]*)")


def pages(root: Path, toc: Path | None = None) -> list[Path]:
    """The source file of every page in `_toc.yml` (or in the table of contents `toc`), in reading order."""
    listed = yaml.safe_load((toc or root / TOC).read_text("utf-8"))
    names: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, dict):
            names.extend(str(node[key]) for key in ("root", "file") if key in node)
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(listed)
    found = [root / f"{name}.md" for name in names]
    missing = [str(path.relative_to(root)) for path in found if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{(toc or root / TOC).name} lists {', '.join(missing)}, which does not exist: write it or unlist it"
        )
    return found


def is_notebook(page: Path) -> bool:
    """Whether `page` has cells to execute: its front matter names a kernel."""
    text = page.read_text("utf-8")
    return text.startswith("---") and "kernelspec:" in text.split("\n---", 1)[0]


@dataclass(frozen=True)
class Chapter:
    """One page with cells. `root` is the clone that it belongs to."""

    path: Path
    root: Path
    graph: SymbolGraph

    @property
    def name(self) -> str:
        """Its path below the root without suffix; what Sphinx calls a docname."""
        return self.path.relative_to(self.root).with_suffix("").as_posix()

    @property
    def is_guide(self) -> bool:
        """Whether it is a page of the guide and no chapter."""
        return self.name.startswith(GUIDE)

    @cached_property
    def notebook(self) -> NotebookNode:
        """The page as a notebook without outputs."""
        return read_myst(self.path)

    @property
    def cells(self) -> list[NotebookNode]:
        """The code cells, in order."""
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @cached_property
    def uses(self) -> Uses:
        """The definitions of attnkit that its cells use, directly or not, and the files that those read."""
        sources = [cell.source for cell in self.cells]
        symbols = self._commands()
        found = self.graph.uses(sources, symbols)
        if "attnkit.lab.bank" in found.loaded:  # it loads each lab's questions by path
            found = self.graph.uses([*sources, *(path.read_text("utf-8") for path in self._questions())], symbols)
        return found

    @cached_property
    def inputs(self) -> dict[str, str]:
        """What its outputs depend on besides its cells: a check sum for each file, of the parts that count."""
        parts: dict[Path, list[str]] = {}
        whole = any("raises-exception" in cell.metadata.get("tags", []) for cell in self.cells)
        for module, place in sorted(self.uses.units):
            parts.setdefault(self.graph.files[module], []).append(self.graph.unit(module, place).digest)
        others = [*self.uses.data, *(self._questions() if "attnkit.lab.bank" in self.uses.loaded else [])]
        others += self._masters() if "attnkit.authoring.labs" in self.uses.loaded else []
        others += [self.graph.files[_DOOR]] if self._commands() else []
        for path in [*others, *(parts if whole else [])]:  # a shown traceback quotes lines by number
            parts.setdefault(path, []).append(hashlib.sha256(path.read_bytes()).hexdigest()[:16])
        named = {path.relative_to(self.root).as_posix(): found for path, found in parts.items()}
        return {name: _short_hash(*named[name]) for name in sorted(named)}

    @property
    def dependencies(self) -> list[Path]:
        """The files that `inputs` speaks of."""
        return [self.root / name for name in self.inputs]

    @cached_property
    def key(self) -> str:
        """Changes whenever the outputs might: with the cells, the code behind them, or the versions."""
        cells = (f"{cell.source}\0{cell.metadata.get('tags', [])}" for cell in self.cells)
        return _short_hash(_environment(), *cells, json.dumps(self.inputs))

    def _commands(self) -> list[str]:
        """Where the commands `attnkit NAME` are defined that its shell cells call, as the front door's table has it."""
        shell = [cell.source for cell in self.cells if _SHELL.search(cell.source)]
        text = self.graph.files[_DOOR].read_text("utf-8") if _DOOR in self.graph.files else ""
        known = dict(re.findall(r'"([\w-]+)": \("([\w.]+:\w+)"', text))
        called = {name for source in shell for name in _COMMAND.findall(source)}
        return sorted(known.values() if called - known.keys() else {known[name] for name in called})

    def _questions(self) -> list[Path]:
        return sorted((self.root / "labs").glob("*/questions.py"))

    def _masters(self) -> list[Path]:
        return sorted((self.root / "labs").glob("*/*.md"))

    @property
    def executed_path(self) -> Path:
        """Where its executed notebook is kept; the key is in the name, so a stale one is never read."""
        return self.root / ".cache" / "chapters" / f"{self.name.replace('/', '-')}.{self.key}.ipynb"

    @property
    def is_current(self) -> bool:
        """Whether an executed notebook for exactly this code exists."""
        return self.executed_path.is_file()

    def executed(self) -> NotebookNode:
        """The page as it is now, with the outputs of its run; `attnkit.authoring.execution.refresh` makes them.

        Only the outputs come from the run: prose may have changed since, and changes no key.
        """
        if not self.is_current:
            raise FileNotFoundError(f"{self.name} has not been executed as it is now. Run: attnkit book build")
        run = nbformat.read(self.executed_path, as_version=4)
        nb = copy.deepcopy(self.notebook)
        nb.metadata["attnkit"] = run.metadata.get("attnkit", NotebookNode())
        cells = [[cell for cell in book.cells if cell.cell_type == "code"] for book in (nb, run)]
        for cell, executed in zip(*cells, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        return nb


def load_chapters(root: Path, toc: Path | None = None) -> list[Chapter]:
    """Every page of the book (or of the table of contents `toc`) that has cells, in reading order."""
    graph = SymbolGraph(root, cache=root / ".cache" / "symbols")
    return [Chapter(path, root, graph) for path in pages(root, toc) if is_notebook(path)]


def running_order(nb: NotebookNode) -> list[int]:
    """The places of the code cells in the order in which they run: solutions come after everything else.

    That is the order of the notebook twin, where solutions stand at the end, and of a reader who leaves them folded.
    """
    first: list[int] = []
    last: list[int] = []
    inside = False
    for place, cell in enumerate(nb.cells):
        if cell.cell_type == "code":
            (last if inside else first).append(place)
            continue
        for directive in directives(cell.source):
            if directive.name in ("solution-start", "solution-end"):
                inside = directive.name == "solution-start"
    return first + last


def _short_hash(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:20]


def _environment() -> str:
    versions = {}
    for name in COMPUTES_WITH:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return repr((platform.python_version_tuple()[:2], sorted(versions.items()), sorted(EXECUTION_ENV.items())))
