"""The project's own settings, read from pyproject.toml: where it is published and which version it is."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

_ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


class ProjectError(ValueError):
    """A setting of the project is wrong; the message names it, what it was and what it should be."""


@dataclass(frozen=True)
class Project:
    """Where the sources lie and where they are published.

    `repository` is "" until somebody publishes the book: then nothing links to Colab or to an edit page.
    """

    root: Path
    version: str
    repository: str

    @property
    def slug(self) -> str:
        """`owner/name`, or "" when no repository is set."""
        return self.repository.removeprefix("https://github.com/")

    def colab_url(self, notebook: str, ref: str = "main") -> str | None:
        """The address that opens `notebook` (a path below the root) in Colab."""
        return f"https://colab.research.google.com/github/{self.slug}/blob/{ref}/{notebook}" if self.slug else None

    def install_target(self) -> str | None:
        """What pip installs in Colab: attnkit from the published repository."""
        return f"attnkit @ git+{self.repository}" if self.slug else None


def find_root(start: Path | str = ".") -> Path:
    """The folder at or above `start` whose pyproject.toml has a [tool.attnkit] table."""
    here = Path(start).resolve()
    for folder in (here, *here.parents):
        settings = folder / "pyproject.toml"
        if settings.is_file() and "attnkit" in tomllib.loads(settings.read_text("utf-8")).get("tool", {}):
            return folder
    raise ProjectError(f"start: no pyproject.toml with a [tool.attnkit] table at or above {here}; run inside a clone")


def load_project(start: Path | str = ".") -> Project:
    """Read and check the settings of the project that `start` lies in."""
    root = find_root(start)
    settings = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    repository = settings["tool"]["attnkit"].get("repository", "").strip().rstrip("/").removesuffix(".git")
    if repository and not _ADDRESS.fullmatch(repository):
        raise ProjectError(
            f"[tool.attnkit] repository: was {repository!r}; it should be empty or https://github.com/<owner>/<name>"
        )
    return Project(root=root, version=settings["project"]["version"], repository=repository)
