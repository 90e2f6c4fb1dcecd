"""The book on paper, in a sample of two pages: text, numbers, outline and links are there, and nothing is cut off."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pypdf import PdfReader
from typer.testing import CliRunner

from attnkit.authoring import pdf
from attnkit.authoring.book_commands import app
from attnkit.authoring.project import load_project
from tests.tools import need

pytestmark = pytest.mark.slow

SAMPLE = ["book/index", "book/idea/softmax"]
A4 = (595, 842)  # in points


@pytest.fixture(scope="module")
def printed(root: Path, site: Path, tmp_path_factory: pytest.TempPathFactory) -> list[pdf.Printed]:
    """The sample, printed into a folder of its own."""
    need(shutil.which("chromium") or shutil.which("chromium-browser"), "chromium")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pdf, "pdf_folder", lambda _: tmp_path_factory.getbasetemp() / "pdf")
        return pdf.print_pages(root, SAMPLE)


@pytest.fixture(scope="module")
def bound(root: Path, printed: list[pdf.Printed], tmp_path_factory: pytest.TempPathFactory) -> PdfReader:
    """The sample as one book."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pdf, "pdf_folder", lambda _: tmp_path_factory.getbasetemp() / "pdf")
        return PdfReader(pdf.print_book(root, printed))


def text(reader: PdfReader) -> str:
    return "\n".join(page.extract_text() for page in reader.pages).replace("\ufb01", "fi").replace("\ufb02", "fl")


def test_a_page_is_printed_whole_from_its_title_to_its_last_words(printed):
    softmax = printed[1]
    assert softmax.title == "2. Softmax: from scores to weights"
    said = " ".join(text(PdfReader(softmax.path)).split())
    order = [
        said.index(part) for part in (softmax.title[3:], "By hand", "What people get wrong", "Where to go from here")
    ]
    assert order == sorted(order)
    assert "Skip to main content" not in said
    assert "Show code cell source" not in said


def test_solutions_are_printed_and_code_that_only_draws_is_not(printed, root):
    source = (root / "book" / "idea" / "softmax.md").read_text("utf-8")
    said = text(PdfReader(printed[1].path))
    titles = [line for line in said.splitlines() if line.strip() == "Solution"]
    assert len(titles) == source.count("{solution-start}") + source.count("```{solution}")
    assert "The maximum is" in said  # words of a solution
    assert "by_hand = [math.exp(2)" not in said  # a cell tagged hide-input


def test_nothing_is_wider_than_the_paper(printed):
    assert {page.name: page.too_wide for page in printed if page.too_wide} == {}
    for page in printed:
        reader = PdfReader(page.path)
        for number, sheet in enumerate(reader.pages):
            assert [float(sheet.mediabox.width), float(sheet.mediabox.height)] == pytest.approx(A4, abs=1.5)
            assert max(starts_of_text(sheet), default=0) < A4[0] - pdf.SIDE * 72 / 25.4, (page.name, number)


def starts_of_text(sheet: Any) -> list[float]:
    """How far from the left edge of the paper each piece of text begins, in points."""
    found: list[float] = []

    def note(words: str, place: list[float], at: list[float], *_: object) -> None:
        if words.strip():
            found.append(at[4] * place[0] + at[5] * place[2] + place[4])

    sheet.extract_text(visitor_text=note)
    return found


def test_too_wide_is_seen_when_it_is_there(root, tmp_path):
    """A check that cannot fail proves nothing."""
    wide = tmp_path / "wide.html"
    wide.write_text('<!doctype html><title>w</title><article><h1>w</h1><div style="width:900px">x</div></article>')
    (report,) = pdf.print_html(root, {wide.as_uri(): tmp_path / "wide.pdf"})
    assert report["tooWide"]


def test_the_outline_has_every_page_and_leads_to_it(printed, bound):
    entries = {entry.title: bound.get_destination_page_number(entry) for entry in bound.outline}
    assert list(entries) == ["Contents", *(page.title for page in printed)]
    lengths = [len(PdfReader(page.path).pages) for page in printed]
    front = len(bound.pages) - sum(lengths)
    assert [entries[page.title] for page in printed] == [front, front + lengths[0]]
    for page in printed:
        assert page.title.split(":")[0] in bound.pages[entries[page.title]].extract_text()


def test_title_page_contents_and_page_numbers(bound, printed, root):
    assert load_project(root).version in bound.pages[0].extract_text()
    contents = bound.pages[1].extract_text()
    start = len(bound.pages) - len(PdfReader(printed[1].path).pages)
    assert f"{printed[1].title} {start + 1}" in contents
    for number, page in enumerate(bound.pages[start:], start=start + 1):
        assert str(number) in page.extract_text().split()[-8:] or f"\n{number}" in page.extract_text()


def test_links_stay_inside_the_book_or_lead_to_the_web(bound):
    links: list[Any] = [link.get_object() for page in bound.pages for link in page.get("/Annots") or []]
    addresses = [str(link["/A"]["/URI"]) for link in links if "/A" in link]
    assert all(address.startswith("http") for address in addresses)
    inside = [link for link in links if "/Dest" in link]
    assert inside
    pages = {page.indirect_reference.idnum for page in bound.pages}
    assert all(link["/Dest"][0].idnum in pages for link in inside)


def test_a_page_that_is_not_there_is_named(root, site):
    with pytest.raises(pdf.PdfError, match=r"book/nowhere is not in the built site.*book/idea/softmax"):
        pdf.print_pages(root, ["book/nowhere"])


def test_the_command_tells_what_to_install_where_there_is_no_browser(root, site, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr("attnkit.authoring.pdf.shutil.which", lambda _: None)
    monkeypatch.delenv("CHROMIUM", raising=False)
    run = CliRunner().invoke(app, ["pdf", "--page", "book/index"])
    assert run.exit_code == 1
    assert "Install chromium" in run.output
