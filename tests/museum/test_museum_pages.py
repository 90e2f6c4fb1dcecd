"""The museum's pages: each specimen has its place, its code is shown from its source, and every link finds it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from attnkit.museum import ROOMS, SPECIMENS, Specimen

BOOK = Path(__file__).resolve().parents[2] / "book"
ROOM_PAGES = {room: (BOOK / "museum" / f"{room}.md") for room in ROOMS}
EVERY = pytest.mark.parametrize("kept", SPECIMENS.values(), ids=list(SPECIMENS))


@pytest.fixture(scope="module")
def sections() -> dict[str, tuple[str, str]]:
    """By slug: the room whose page it is on, and the text of its section."""
    found = {}
    for room, page in ROOM_PAGES.items():
        for part in re.split(r"^(?=\(museum-[\w-]+\)=$)", page.read_text("utf-8"), flags=re.M)[1:]:
            slug = part.split(")=", 1)[0].removeprefix("(museum-")
            assert slug not in found, f"{slug} has two sections"
            found[slug] = (room, part)
    return found


def test_pages_and_register_hold_the_same(sections: dict[str, tuple[str, str]]) -> None:
    assert list(sections) == list(SPECIMENS), "in the order of the tour"


@EVERY
def test_its_section_shows_its_code_and_visits_it(kept: Specimen, sections: dict[str, tuple[str, str]]) -> None:
    room, text = sections[kept.slug]
    assert room == kept.room
    assert f"## {kept.title}\n" in text
    source = f"../../{kept.home.__module__.replace('.', '/')}.py"
    for part in ("wrong", "catches"):
        shown = f"```{{literalinclude}} {source}\n:language: python\n:pyobject: {kept.home.__name__}.{part}\n"
        assert shown in text, f"{part} is not shown"
    assert f'visit("{kept.slug}")' in text
    assert "It hides because" in text
    for place in re.findall(r"`[\w.-]+/[\w.-]+#\d+`", " ".join(kept.seen)):
        assert place in text, f"{place} is not named"


def test_every_link_into_the_museum_finds_its_specimen() -> None:
    wanted = {
        (page.relative_to(BOOK).as_posix(), slug)
        for page in BOOK.rglob("*.md")
        for slug in re.findall(r"\(#museum-([\w-]+)\)", page.read_text("utf-8"))
    }
    assert not sorted((page, slug) for page, slug in wanted if slug not in SPECIMENS)


@EVERY
def test_the_chapter_that_explains_it_exists(kept: Specimen) -> None:
    page, _, label = kept.chapter.partition("#")
    text = (BOOK / f"{page}.md").read_text("utf-8")
    assert not label or f"({label})=" in text
