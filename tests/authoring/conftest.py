"""A small project of its own, so that tests can change sources without touching the clone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.tools import FRONT_MATTER


class Book:
    """A project in a temporary folder: a toc, pages, and whatever package the test puts in."""

    def __init__(self, root: Path):
        self.root = root
        (root / "pyproject.toml").write_text('[project]\nversion = "0.1.0"\n[tool.attnkit]\nrepository = ""\n')
        (root / "book").mkdir()
        (root / "book" / "references.bib").write_text("")
        self.names: list[str] = []

    def page(self, name: str, text: str) -> Path:
        """Write (or write again) the page book/`name`.md and list it."""
        path = self.root / "book" / f"{name}.md"
        path.write_text(FRONT_MATTER + text, "utf-8")
        if name not in self.names:
            self.names.append(name)
        listed = "".join(f"  - file: book/{n}\n" for n in self.names[1:])
        chapters = f"chapters:\n{listed}" if listed else ""
        (self.root / "_toc.yml").write_text(f"format: jb-book\nroot: book/{self.names[0]}\n{chapters}")
        return path

    def module(self, name: str, text: str) -> Path:
        """Write the file attnkit/`name`."""
        path = self.root / "attnkit" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        return path

    @staticmethod
    def cell(code: str, tags: str = "") -> str:
        """A code cell in MyST."""
        options = f":tags: [{tags}]\n\n" if tags else ""
        return f"```{{code-cell}} ipython3\n{options}{code}\n```\n\n"


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """An empty project."""
    return Book(tmp_path)


@pytest.fixture
def book_with_attnkit(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A project with its own copy of attnkit, which its kernels import."""
    made = Book(tmp_path)
    shutil.copytree(root / "attnkit", tmp_path / "attnkit", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return made
