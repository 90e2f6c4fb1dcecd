"""The project's own settings, read from pyproject.toml: where it is published and which version it is.

A lab in a folder of its own, outside a clone, belongs to a project that is published nowhere; its notebooks install
attnkit from where it was installed here.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_ADDRESS = re.compile(r"https://github\.com/[\w.-]+/[\w.-]+")


class ProjectError(ValueError):
    """A setting of the project is wrong; the message names it, what it was and what it should be."""


@dataclass(frozen=True)
class Project:
    """Where the sources lie and where they are published.

    `repository` is "" until somebody publishes the book: then nothing links to Colab or to an edit page. `install` is
    what pip is told in place of the repository, for notebooks that do not belong to the book; `is_clone` is False for
    the folder of a lab by itself.
    """

    root: Path
    version: str
    repository: str
    install: str = ""
    is_clone: bool = True

    @property
    def slug(self) -> str:
        """`owner/name`, or "" when no repository is set."""
        return self.repository.removeprefix("https://github.com/")

    def colab_url(self, notebook: str, ref: str = "main") -> str | None:
        """The address that opens `notebook` (a path below the root) in Colab."""
        return f"https://colab.research.google.com/github/{self.slug}/blob/{ref}/{notebook}" if self.slug else None

    def install_target(self, extra: str = "") -> str | None:
        """What pip installs in Colab: attnkit from the published repository, with one of its extras if need be."""
        target = self.install or (f"attnkit @ git+{self.repository}" if self.slug else None)
        return target.replace("attnkit", f"attnkit[{extra}]", 1) if target and extra else target


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


def project_of(folder: Path) -> Project:
    """The project that the lab in `folder` belongs to: the clone in whose `labs` it lies, or one of its own."""
    try:
        root = find_root(folder)
    except ProjectError:
        root = None
    if root is not None and folder.resolve().parent == root / "labs":
        return load_project(root)
    return Project(folder.resolve(), importlib.metadata.version("attnkit"), "", installed_from() or "", is_clone=False)


def page_files(root: Path) -> dict[str, Path]:
    """The sources of the book's pages in the clone at `root`, by every name that a lab may use in `read`.

    That is `idea/softmax`, and `softmax` for short where no other part of the book has a page of that name.
    """
    book, found, short = root / "book", dict[str, Path](), dict[str, list[Path]]()
    for path in sorted(book.rglob("*.md")):
        found[path.relative_to(book).with_suffix("").as_posix()] = path
        short.setdefault(path.stem, []).append(path)
    return {name: paths[0] for name, paths in short.items() if len(paths) == 1} | found


def installed_from() -> str | None:
    """What to tell pip to get the attnkit that runs here: an index, a repository, or None for a local copy.

    pip notes where a package came from in direct_url.json (PEP 610); there is none for a package from an index.
    """
    noted = importlib.metadata.distribution("attnkit").read_text("direct_url.json")
    if noted is None:
        return "attnkit"
    origin = json.loads(noted)
    if "vcs_info" in origin:
        revision = origin["vcs_info"].get("requested_revision")
        return f"attnkit @ {origin['vcs_info']['vcs']}+{origin['url']}" + (f"@{revision}" if revision else "")
    if not origin["url"].startswith("file:"):
        return f"attnkit @ {origin['url']}"
    clone = Path(url2pathname(urlsplit(origin["url"]).path))
    try:
        return load_project(clone).install_target()  # an editable install: where that clone is published
    except (ProjectError, OSError):
        return None
