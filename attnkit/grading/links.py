"""Where to read, as an address: a place in the book, `page#heading`, becomes a link when the book is published.

The address is `--book`'s, or else that of GitHub Pages for the repository in pyproject.toml's [tool.attnkit]
(https://docs.github.com/en/pages/getting-started-with-github-pages: `https://<owner>.github.io/<repository>/`),
where .github/workflows/publish.yml puts the book. Without either, the place is told in words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from urllib.parse import quote

from attnkit.authoring.project import ProjectError, load_project, page_files
from attnkit.grading.errors import GradingError

_ADDRESS = re.compile(r"https?://[\w.-]+(:\d+)?(/[\w.~%/-]*)?", re.ASCII)
_TOLD = "Read in the book: "


@dataclass(frozen=True)
class Links:
    """`book` is the address of the book's first page, "" when there is none; `pages` its pages by name."""

    book: str = ""
    pages: dict[str, str] = field(default_factory=dict)

    def address(self, place: str) -> str:
        """The address of `page#heading` (or `page.html#heading`), or "" when it has none."""
        if place.startswith("https://") and not re.search(r"[\s\"'<>]", place):
            return place
        page, _, heading = place.partition("#")
        path = self.pages.get(page.removesuffix(".html"))
        if not self.book or path is None:
            return ""
        return f"{self.book}{path}" + (f"#{quote(heading)}" if heading else "")

    def html(self, told: str) -> str:
        """The sentence that tells where to read, as a link when there is an address. `told` is plain text."""
        words = " ".join(told.split())
        place = words.removeprefix(_TOLD)
        return f"{_TOLD}{self.place(place)}" if place != words else escape(words)

    def place(self, place: str) -> str:
        """`page#heading` as a link when it has an address."""
        address = self.address(place)
        if not address:
            return escape(place)
        return f'<a href="{escape(address)}" rel="noreferrer">{escape(place)}</a>'


def find_links(book: str = "", start: Path | str = ".") -> Links:
    """The links of the project that `start` lies in, to the book at `book`. Raises `GradingError` for a bad address."""
    if book and not _ADDRESS.fullmatch(book):
        raise GradingError(f"--book: was {book!r}; it should be an address such as https://example.org/book/.")
    try:
        project = load_project(start)
    except ProjectError:
        return Links(book and book.rstrip("/") + "/")
    if not book and project.slug:
        owner, _, name = project.slug.partition("/")
        book = f"https://{owner.lower()}.github.io/{name}/"
    found = page_files(project.root)
    pages = {name: path.relative_to(project.root).with_suffix(".html").as_posix() for name, path in found.items()}
    return Links(book and book.rstrip("/") + "/", pages)
