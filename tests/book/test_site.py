"""The site on disk: the anchors that labs point to, links that lead somewhere, nothing foreign, little weight."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

from attnkit.authoring import site as building
from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.lint import glued
from attnkit.authoring.project import load_project
from attnkit.authoring.site import page_names

pytestmark = pytest.mark.slow

# The paragraphs that a lab's feedback names. Renaming one means renaming it there.
ANCHORS = {
    "softmax": [
        "softmax-overflow",
        "softmax-max-shift",
        "softmax-minimum",
        "softmax-axis",
        "softmax-temperature",
    ],
    "scaled-dot-product": [
        "attention-formula",
        "attention-scale",
        "attention-values",
        "attention-mask",
        "attention-causal",
        "attention-masked-row",
    ],
}


def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text("utf-8"), "html.parser")


@pytest.fixture(scope="module")
def html(root: Path, site: Path) -> dict[Path, BeautifulSoup]:
    """Every written page."""
    return {site / name: soup(site / name) for name in [*page_names(root), "search.html", "index.html"]}


@pytest.mark.parametrize("page", ANCHORS)
def test_the_paragraphs_that_labs_name_exist(site, page):
    ids = {tag["id"] for tag in soup(site / "book" / "idea" / f"{page}.html").find_all(id=True)}
    assert set(ANCHORS[page]) <= ids


def test_every_place_that_a_lab_tells_students_to_read_exists(root, site):
    """The questions name places as page#heading; each must be in a built page."""
    places = set()
    for questions in sorted((root / "labs").glob("*/questions.py")):
        places |= set(re.findall(r'"([\w-]+)#([\w-]+)"', questions.read_text("utf-8")))
    assert places
    pages = {path.stem: {tag["id"] for tag in soup(path).find_all(id=True)} for path in (site / "book").rglob("*.html")}
    assert {f"{page}#{anchor}" for page, anchor in places if anchor not in pages.get(page, set())} == set()


def test_every_link_leads_somewhere(html, site):
    ids = {path.resolve(): {tag["id"] for tag in page.find_all(id=True)} for path, page in html.items()}
    broken = []
    for path, page in html.items():
        for link in page.find_all("a", href=True):
            parts = urlsplit(link["href"])
            if parts.scheme or not (parts.path or parts.fragment):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            if not target.exists() or (parts.fragment and target in ids and parts.fragment not in ids[target]):
                broken.append(f"{path.relative_to(site)}: {link['href']}")
    assert broken == []


def test_no_page_loads_anything_from_another_host(html):
    loads = {"script": "src", "link": "href", "img": "src", "iframe": "src", "source": "src", "object": "data"}
    foreign = [
        tag[attribute]
        for page in html.values()
        for name, attribute in loads.items()
        for tag in page.find_all(name)
        if tag.get(attribute, "").startswith(("http", "//")) and tag.get("rel") != ["canonical"]
    ]
    assert foreign == []


def test_pages_carry_no_dead_weight(html):
    for path, page in html.items():
        scripts = [tag["src"] for tag in page.find_all("script", src=True)]
        assert not [src for src in scripts if re.search(r"fontawesome|thebe|require|html-manager", src)], path
        assert len(gzip.compress(path.read_bytes())) < 120_000, path


def test_links_to_colab_and_to_edit_pages_exist_exactly_when_published(html, root):
    published = bool(load_project(root).repository)
    text = "".join(str(page) for page in html.values())
    assert ("colab.research.google.com" in text) is published


def test_numbers_in_the_text_are_those_of_the_cells(root, site):
    quoting = 0
    for chapter in (chapter for chapter in load_chapters(root) if not chapter.is_guide):
        page = soup(site / f"{chapter.name}.html")
        shown = [tag.get_text() for tag in page.select("span.pasted-text")]
        values = glued(chapter.executed()).values()
        assert set(shown) == set(values), chapter.name
        assert shown or not chapter.name.startswith(("book/idea/", "book/transformer/")), chapter.name
        quoting += bool(shown)
    assert quoting >= 15  # a page of the museum may quote nothing, a chapter must


def test_each_lab_can_be_downloaded_from_the_site(html, site, root):
    copies = {path.name: path for path in (site / "_downloads").rglob("*.ipynb")}
    assert copies
    for path in copies.values():
        assert path.read_bytes() == (root / "labs" / path.stem / path.name).read_bytes()


def test_a_plain_jupyter_book_build_is_clean_too(root, site, tmp_path):
    """No step of ours is needed before it: whoever knows Jupyter Book can build the book as usual."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", str(root)]
    command += ["-n", "-W", "--keep-going", "--path-output", str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    built = tmp_path / "_build" / "html"
    for name in page_names(root):
        assert _unstamped(built / name) == _unstamped(site / name), f"{name} differs between builds"


def _unstamped(path: Path) -> str:
    """A page without the check sums that Sphinx appends to style sheets once it has copied them."""
    return re.sub(r"\?v=[0-9a-f]{8}", "", path.read_text("utf-8"))


def test_a_warning_stops_the_build_and_is_named(root, site, tmp_path):
    """A copy of the book with a link that leads nowhere."""
    for name in ("_config.yml", "_toc.yml", "pyproject.toml", "book", "labs", "attnkit", ".cache"):
        source = root / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.lock", "site.key")
            shutil.copytree(source, tmp_path / name, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / name)
    index = tmp_path / "book" / "index.md"
    index.write_text(index.read_text("utf-8") + "\nSee [nothing](#no-such-place).\n", "utf-8")
    with pytest.raises(building.BuildError, match="no-such-place"):
        building.build(tmp_path, say=lambda _: None)
    assert not (tmp_path / ".cache" / "site.key").exists()
