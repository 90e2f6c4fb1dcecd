"""Whatever points to a file of ours finds it: in the built pages, in the twins, in the guides for people."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
from bs4 import BeautifulSoup

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.site import page_names
from attnkit.authoring.twins import twin_path

_LINK = re.compile(r"(?<!`)!?\[[^\]\n]*\]\(([^)\s]+)\)|(?:href|src)=\"([^\"]+)\"")
_CODE = re.compile(r"^(`{3,}).*?^\1|`[^`\n]+`", re.M | re.S)
ATTRIBUTES = {
    "a": "href",
    "link": "href",
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "use": "href",
}


def gone(text: str, folder: Path, anchors: set[str]) -> list[str]:
    """The targets in Markdown that are not there: files beside it, and anchors in it."""
    found = []
    for match in _LINK.finditer(_CODE.sub("", text)):
        target = match[1] or match[2]
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            continue
        missing = parts.path and not (folder / unquote(parts.path)).exists()
        if missing or (not parts.path and parts.fragment and parts.fragment not in anchors):
            found.append(target)
    return found


def headings(text: str) -> set[str]:
    """The anchors that GitHub and notebooks make of headings, and those set by hand."""
    slugs = {
        re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).strip().replace(" ", "-")
        for line in text.splitlines()
        if line.startswith("#")
    }
    return slugs | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "attnkit/kernels/README.md"])
def test_guides_link_to_what_exists(root: Path, name: str) -> None:
    text = (root / name).read_text("utf-8")
    assert gone(text, (root / name).parent, headings(text)) == []


def test_twins_link_to_what_exists(root: Path) -> None:
    twins = {twin_path(chapter) for chapter in load_chapters(root) if not chapter.is_guide}
    anchors = {}
    for path in twins:
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
        anchors[path] = (cells, headings("\n".join(cells)))
    broken = {}
    for path, (cells, own) in anchors.items():
        lost = gone("\n\n".join(cells), path.parent, own)
        for target in _LINK.findall("\n\n".join(cells)):
            there, _, anchor = target[0].partition("#")
            other = (path.parent / there).resolve()
            if there and anchor and other in anchors and anchor not in anchors[other][1]:
                lost.append(target[0])
        if lost:
            broken[path.name] = lost
    assert broken == {}


@pytest.mark.slow
def test_pages_load_and_link_to_what_exists(root: Path, site: Path) -> None:
    """Every file that a page names in any way, and every anchor of our own pages."""
    names = [*page_names(root), "search.html", "genindex.html", "index.html"]
    pages = {(site / name).resolve(): BeautifulSoup((site / name).read_text("utf-8"), "html.parser") for name in names}
    ids = {path: {tag["id"] for tag in page.find_all(id=True)} for path, page in pages.items()}
    broken = []
    for path, page in pages.items():
        for tag in page.find_all(list(ATTRIBUTES)):
            parts = urlsplit(tag.get(ATTRIBUTES[tag.name]) or "")
            if parts.scheme or parts.netloc or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.exists() or (parts.fragment and target in ids and parts.fragment not in ids[target]):
                broken.append(f"{path.relative_to(site.resolve())}: {tag.name} {parts.geturl()}")
    assert broken == []


def test_a_link_to_nowhere_is_seen(tmp_path: Path) -> None:
    (tmp_path / "here.md").write_text("")
    text = "# A title\n[a](here.md) [b](gone.md) [c](#a-title) [d](#nowhere) `[e](code.md)` [f](https://x.y)"
    assert gone(text, tmp_path, headings(text)) == ["gone.md", "#nowhere"]
