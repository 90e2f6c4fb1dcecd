"""The chapters of the book: which pages there are, what each executes, and where its executed notebook is kept.

jupyter-cache finds a page's outputs by the text of its cells alone, so it serves old numbers after attnkit has changed.
Here the key of a run also covers every attnkit module that the cells import, directly or not, and the versions of
what they compute with.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.metadata
import platform
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

from attnkit.authoring.imports import ImportGraph
from attnkit.authoring.notebook import EXECUTION_ENV, read_myst

# The instructor's guide: pages that run commands in a folder of their own. They are for a shell, so they have no twin
# for Colab, and need not quote a number from a cell, as a chapter does.
GUIDE = "book/teach/"
# What a chapter's numbers depend on besides its cells and attnkit.
COMPUTES_WITH = ("torch", "numpy", "matplotlib", "einops", "nbclient", "ipython")


def pages(root: Path) -> list[Path]:
    """The source file of every page in `_toc.yml`, in reading order."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf-8"))
    names: list[str] = []

    def visit(node: object) -> None:
        if isinstance(node, dict):
            names.extend(str(node[key]) for key in ("root", "file") if key in node)
            for value in node.values():
                visit(value)
        elif isinstance(node, list):
            for value in node:
                visit(value)

    visit(toc)
    found = [root / f"{name}.md" for name in names]
    missing = [str(path.relative_to(root)) for path in found if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"_toc.yml lists {', '.join(missing)}, which does not exist: write it or unlist it")
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
    graph: ImportGraph

    @property
    def name(self) -> str:
        """Its path below the root without suffix; what Sphinx calls a docname."""
        return self.path.relative_to(self.root).with_suffix("").as_posix()

    @property
    def is_guide(self) -> bool:
        """Whether it is a page of the instructor's guide and no chapter."""
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
    def dependencies(self) -> list[Path]:
        """The attnkit files that its cells import, directly or not, and the templates beside them."""
        files = self.graph.closure(cell.source for cell in self.cells)
        folders = sorted({path.parent / "templates" for path in files})
        return [*files, *(path for folder in folders for path in sorted(folder.glob("*.txt")))]

    @cached_property
    def key(self) -> str:
        """Changes whenever the outputs might: with the cells, the code behind them, or the versions."""
        digest = hashlib.sha256()
        for part in (_environment(), *(f"{cell.source}\0{cell.metadata.get('tags', [])}" for cell in self.cells)):
            digest.update(part.encode() + b"\0")
        for path in self.dependencies:
            digest.update(path.relative_to(self.root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
        return digest.hexdigest()[:20]

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
        cells = [[cell for cell in book.cells if cell.cell_type == "code"] for book in (nb, run)]
        for cell, executed in zip(*cells, strict=True):
            cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        return nb


def load_chapters(root: Path) -> list[Chapter]:
    """Every page of the book that has cells, in reading order."""
    graph = ImportGraph(root)
    return [Chapter(path, root, graph) for path in pages(root) if is_notebook(path)]


def _environment() -> str:
    versions = {}
    for name in COMPUTES_WITH:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "absent"
    return repr((platform.python_version_tuple()[:2], sorted(versions.items()), sorted(EXECUTION_ENV.items())))
