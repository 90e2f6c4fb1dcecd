"""Every page as a reader meets it: offline, in both colour schemes, on a phone, with a screen reader, on a slow line.

One file, since all of it looks at the same visits: a second worker would only wait for them.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from attnkit.authoring.site import page_names

pytestmark = pytest.mark.slow

# Kilobytes. A page that JupyterBook builds by default loads 830 without and 1,140 with formulas.
WITH_MATHS, WITHOUT = 650, 400


def where(report) -> str:
    return f"{report['way']} {report['address'].rsplit('/', 1)[1]} {report['view']}"


def of_chapters(reports):
    return [r for r in reports if r["address"].rsplit("/", 1)[1] in ("softmax.html", "scaled-dot-product.html")]


def test_every_page_was_visited_every_way(reports, root):
    for way in ("http", "file"):
        assert len({r["address"] for r in reports if r["way"] == way}) == len(page_names(root)) + 1
    assert {(r["way"], r["view"]) for r in reports} == {
        ("http", "light"),
        ("file", "light"),
        ("file", "dark"),
        ("file", "phone"),
    }


def test_no_page_asks_another_host_for_anything(reports):
    assert {where(r): r["outside"] for r in reports if r["outside"]} == {}


def test_nothing_fails_in_the_console(reports):
    assert {where(r): r["errors"] for r in reports if r["errors"]} == {}


def test_every_formula_is_rendered_with_its_fonts(reports):
    chapters = of_chapters(reports)
    assert len(chapters) == 8
    for r in chapters:
        assert r["formulas"] > 50, where(r)
        assert r["rendered"] == r["formulas"], where(r)
        assert r["mathFonts"] >= 3, where(r)
    assert {where(r): r["broken"] for r in reports if r["broken"]} == {}


def test_axe_finds_nothing(reports):
    checked = [r for r in reports if "axe" in r]
    assert checked
    assert {where(r): r["axe"] for r in checked if r["axe"]} == {}


def test_no_page_scrolls_sideways_on_a_phone(reports):
    phones = [r for r in reports if r["view"] == "phone"]
    assert phones
    assert {where(r): (r["width"], r["tooWide"]) for r in phones if r["width"] > 360} == {}


def test_the_dark_view_is_dark(reports):
    assert {r["theme"] for r in reports if r["view"] == "dark"} == {"dark"}


def test_no_markup_is_left_raw(reports):
    assert {where(r): r["raw"] for r in reports if r["raw"]} == {}


def test_no_page_scrolls_sideways_on_a_desk(reports):
    assert {where(r): (r["width"], r["tooWide"]) for r in reports if r["view"] != "phone" and r["width"] > 1280} == {}


def test_figures_have_names(reports):
    chapters = of_chapters(reports)
    assert all(r["figures"] >= 3 for r in chapters)
    assert {where(r): r["unnamedFigures"] for r in reports if r["unnamedFigures"]} == {}


@pytest.fixture(scope="module")
def broken_reports(tmp_path_factory, visit):
    """A page with one of each fault."""
    site = tmp_path_factory.mktemp("broken")
    (site / "bad.html").write_text(
        "<!doctype html><html><head><title>bad</title></head><body><article>{glue:text}`x`"
        '<figure><svg width="10" height="10"></svg></figure><div style="width:900px">wide</div>'
        '<span class="math">x</span><img src="https://example.org/a.png">'
        "<script>console.error('trouble')</script></article></body></html>"
    )
    start = f"{site.as_uri()}/"
    return visit([start + "bad.html"], [start], [{"name": "phone", "theme": "dark", "width": 360, "axe": True}])


def test_the_visit_sees_each_fault_when_there_is_one(broken_reports):
    """A check that cannot fail proves nothing: here everything that the tests above look for is wrong."""
    (r,) = broken_reports
    assert r["outside"] == ["https://example.org/a.png"]
    assert any("trouble" in line for line in r["errors"])
    assert r["formulas"] == 1
    assert r["rendered"] == 0
    assert r["width"] > 360
    assert r["raw"]
    assert r["unnamedFigures"]
    assert {v["id"] for v in r["axe"]} >= {"html-has-lang", "image-alt"}


# What a page costs on a slow line: all that it loads, as sent with gzip.


def sent(path: Path) -> int:
    """The bytes of a file on the line; what is compressed already is sent as it is."""
    raw = path.read_bytes()
    return min(len(raw), len(gzip.compress(raw, 6)))


def weighed(report: dict[str, Any], site: Path) -> dict[str, int]:
    """Kilobytes by file, for one visit over http."""
    paths = {unquote(urlsplit(url).path).lstrip("/") for url in report["loaded"] if url.startswith("http")}
    return {path: sent(site / path) // 1000 for path in sorted(paths)}


@pytest.fixture(scope="module")
def weights(reports: list[dict[str, Any]], site: Path) -> dict[str, tuple[bool, dict[str, int]]]:
    """For each page, whether it has formulas, and what it loads."""
    visits = [r for r in reports if r["way"] == "http"]
    return {r["address"].rsplit("/", 1)[1]: (r["formulas"] > 0, weighed(r, site)) for r in visits}


def test_no_page_is_heavier_than_it_may_be(weights, record_property):
    """The message shows where the weight is."""
    for page, (maths, parts) in weights.items():
        record_property(page, sum(parts.values()))
        heaviest = sorted(parts.items(), key=lambda part: -part[1])[:6]
        assert sum(parts.values()) < (WITH_MATHS if maths else WITHOUT), (page, heaviest)


def test_the_scales_see_the_heavy_parts(weights):
    """A check that cannot fail proves nothing: with formulas there is MathJax and its fonts, without there is not."""
    assert {maths for maths, _ in weights.values()} == {True, False}
    for page, (maths, parts) in weights.items():
        assert any("mathjax" in path and size > 200 for path, size in parts.items()) is maths, page
        assert any("fontawesome" in path for path in parts), "icons are a font"
        assert any(path.endswith(".html") for path in parts)
