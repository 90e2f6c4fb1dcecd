"""What the grader gives back, in a real browser: offline, in both colour schemes, on a phone, with a screen reader."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnkit.grading.identity import Student
from attnkit.grading.links import Links
from attnkit.grading.marking import answers, marking_page
from attnkit.grading.reports import write_reports
from tests.grading.given_class import ATTENTION, ESSAY, SOFTMAX, a_class, record, right, standing, words, wrong

pytestmark = pytest.mark.slow

BOOK = Links("https://example.org/", {"softmax": "book/idea/softmax.html"})
PHONE = [{"name": f"phone {theme}", "theme": theme, "width": 360, "axe": True} for theme in ("light", "dark")]
DESK = [{"name": f"desk {theme}", "theme": theme, "width": 1280, "axe": True} for theme in ("light", "dark")]


def many() -> list[Any]:
    """Names, words and tables as long as students make them."""
    told = (("table", "Memory by length\nlength\tbytes\n128\t100"), ("printed", "x" * 3000), ("resource", "It grows."))
    everybody = []
    for i in range(60):
        softmax = replace(wrong(SOFTMAX, 1.5) if i % 3 else right(SOFTMAX), told=told, flags=(("shortcut", "y" * 200),))
        found = record(f"s{i}", softmax, right(ATTENTION), words("Long " * 300 if i % 2 else "w" * 400, "a.png"))
        everybody.append(standing(Student(f"s{i}", "Ann-Sophie von und zu " * 4 + str(i)), found))
    return everybody


@pytest.fixture(scope="module")
def visited(tmp_path_factory: pytest.TempPathFactory, visit: Any) -> list[dict[str, Any]]:
    """One report per page and view."""
    place = tmp_path_factory.mktemp("given")
    for name, found in (("small", a_class()), ("large", a_class(*many()))):
        (place / name).mkdir()
        write_reports(found, place / name, BOOK)
        (place / name / "marking.html").write_text(marking_page(found, ESSAY, answers(found, "essay", b"k")))
    pages = [path for path in place.rglob("*.html") if path.parent.name != "feedback" or path.stem in "1 2 3 4 s0 s1"]
    start = f"{place.as_uri()}/"
    return visit([start + path.relative_to(place).as_posix() for path in sorted(pages)], [start], [*PHONE, *DESK])


def where(report: dict[str, Any]) -> str:
    return f"{'/'.join(report['address'].split('/')[-2:])} {report['view']}"


def test_every_page_was_visited_every_way(visited: list[dict[str, Any]]) -> None:
    assert len(visited) == 10 * 4
    assert {Path(report["address"]).name for report in visited} >= {"report.html", "marking.html", "1.html", "s1.html"}


def test_no_page_asks_for_anything_or_fails(visited: list[dict[str, Any]]) -> None:
    assert {where(r): (r["outside"], r["errors"]) for r in visited if r["outside"] or r["errors"]} == {}


def test_axe_finds_nothing(visited: list[dict[str, Any]]) -> None:
    assert {where(r): r["axe"] for r in visited if r["axe"]} == {}


def test_no_page_scrolls_sideways(visited: list[dict[str, Any]]) -> None:
    wide = {"phone light": 360, "phone dark": 360, "desk light": 1280, "desk dark": 1280}
    assert {where(r): (r["width"], r["tooWide"]) for r in visited if r["width"] > wide[r["view"]]} == {}
