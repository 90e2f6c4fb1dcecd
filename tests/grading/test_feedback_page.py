"""A student's page says what happened to their points, and holds nothing that is secret or runs."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from attnkit.grading import seeds
from attnkit.grading.errors import GradingError
from attnkit.grading.exports.canvas import canvas_csv
from attnkit.grading.exports.moodle import moodle_csv
from attnkit.grading.exports.points import Choice
from attnkit.grading.feedback import feedback_page
from attnkit.grading.identity import Student
from attnkit.grading.links import Links, find_links
from attnkit.grading.marking import answers, marking_csv, marking_page
from attnkit.grading.reports import page_name, write_reports
from attnkit.grading.standing import Standing
from tests.grading.given_class import (
    ATTENTION,
    ESSAY,
    HINT,
    SECRETS,
    SOFTMAX,
    a_class,
    ann,
    bo,
    cy,
    di,
    record,
    right,
    standing,
    words,
    wrong,
)

BOOK = Links("https://example.org/book/", {"softmax": "book/idea/softmax.html"})


def page(one: Standing, links: Links = BOOK) -> str:
    return feedback_page(one, a_class(one), links)


def words_of(html: str) -> str:
    """What a reader reads."""
    body = html.split("</head>")[1]
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())


def test_it_says_what_was_wrong_and_where_to_read() -> None:
    html = page(bo())
    text = words_of(html)
    assert "It fails on a row." in text
    assert f"It looks as if the softmax runs over the wrong axis. {HINT}" in text
    assert "your answer: [1] expected: [2]" in text
    assert 'href="https://example.org/book/book/idea/softmax.html#axis"' in html
    assert "What your code printed &lt;script&gt;alert(1)&lt;/script&gt;" in text


def test_without_an_address_the_place_is_told_in_words() -> None:
    html = page(bo(), Links())
    assert "Read in the book: softmax.html#axis" in words_of(html)
    assert "<a " not in html
    assert "<a " not in page(bo(), Links("https://example.org/", {"other": "other.html"}))


def test_it_says_what_people_and_dates_did() -> None:
    text = words_of(page(ann()))
    assert "8.5 of 10 points 2 days late: 1 point off. Without that it would be 9.5 points." in text
    assert "Marked by T. Marker, 2026-11-20. Good; the consequence is missing. Your answer Because of the" in text
    assert "With an attachment that is not shown: image.png." in text
    assert "axis -1 sizes 2, 3" in text
    assert "Your attempts, with the grader&#x27;s points attempt points counts file 1 4 no" in text
    assert "The last attempt counts." in text
    text = words_of(page(bo()))
    assert "2 of 10 points so far" in text
    assert "Still to be marked by a person: essay." in text
    assert "Changed by T. Marker, 2026-11-20: 2 in place of the grader&#x27;s 1.5. An off-by-one in our case." in text


def test_who_handed_in_nothing_and_whose_file_is_unreadable_hears_so() -> None:
    assert "Nothing handed in." in words_of(page(di()))
    unread = replace(record("9", wrong(SOFTMAX)), status="unreadable", message="not a notebook: the file is empty")
    text = words_of(page(standing(Student("9", "Ed"), unread)))
    assert "The file could not be graded 9.ipynb: not a notebook: the file is empty." in text
    assert "wrong axis" not in text


def test_a_flag_is_not_the_students() -> None:
    assert "torch.softmax" not in page(ann())


def test_a_table_that_is_told_becomes_one() -> None:
    told = (("table", "Memory by length\nlength\tbytes\n128\t100\n256\t400"), ("table", "odd\na\tb\nc"))
    html = page(standing(Student("1", "A"), record("1", replace(wrong(SOFTMAX), told=told))))
    assert '<th scope="row">256</th><td class="number">400</td>' in html
    assert 'aria-label="softmax: measurements">odd\na\tb\nc</pre>' in html


# The elements that our pages are made of.
_OURS = [
    "section",
    "div",
    "span",
    "ul",
    "li",
    "pre",
    "h2",
    "h3",
    "dl",
    "dt",
    "dd",
    "table",
    "caption",
    "thead",
    "tbody",
]
_OURS += ["tr", "th", "td"]
NASTY = "<script>alert(1)</script>\"' onerror=x style=y &amp; ]]> --> </pre></style>"


def test_nothing_of_a_student_is_markup() -> None:
    """Whatever comes from outside stands escaped: names, sources, printed text, answers, variants, comments."""
    printed = replace(wrong(SOFTMAX), told=(("printed", NASTY), ("failed", NASTY), (NASTY, NASTY), ("read", NASTY)))
    found = record("1", replace(printed, variant={NASTY: NASTY}), words(NASTY, NASTY), source=NASTY)
    one = replace(standing(Student(NASTY, NASTY), found), attempts=(found, found), late=NASTY)
    plain = page(standing(Student("1", "A"), None))
    for html in (page(one), marking_page(a_class(one), ESSAY, answers(a_class(one), "essay", b"k"), names=True)):
        assert "<script" not in html
        tags = set(re.findall(r"<(/?\w+)", html))
        assert tags <= set(re.findall(r"<(/?\w+)", plain)) | {f"{a}{b}" for a in ("", "/") for b in _OURS}
        assert not re.search(r"<[^>]*\s(on\w+|style)=", re.sub(r'"[^"]*"', '""', html))


def test_the_policy_names_the_style_that_is_there() -> None:
    html = page(ann())
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in html


def test_links_are_found_where_the_project_says(tmp_path: Path) -> None:
    settings = '[project]\nversion = "1"\n[tool.attnkit]\nrepository = "{}"\n'
    (tmp_path / "book" / "idea").mkdir(parents=True)
    (tmp_path / "book" / "idea" / "softmax.md").write_text("# Softmax")
    (tmp_path / "pyproject.toml").write_text(settings.format("https://github.com/Someone/attn"))
    links = find_links(start=tmp_path)
    assert links.address("softmax#a b") == "https://someone.github.io/attn/book/idea/softmax.html#a%20b"
    assert links.address("softmax.html#x") == "https://someone.github.io/attn/book/idea/softmax.html#x"
    assert links.address("nowhere#x") == ""
    (tmp_path / "book" / "museum").mkdir()
    (tmp_path / "book" / "museum" / "softmax.md").write_text("# Softmax, wrong")
    links = find_links(start=tmp_path)
    assert links.address("softmax#x") == "", "two pages have this name"
    assert links.address("museum/softmax#x") == "https://someone.github.io/attn/book/museum/softmax.html#x"
    (tmp_path / "book" / "museum" / "softmax.md").unlink()
    assert links.address("https://example.org/own") == "https://example.org/own"
    assert links.address('https://example.org/"onclick') == ""
    assert find_links("https://b.org/x", tmp_path).address("softmax") == "https://b.org/x/book/idea/softmax.html"
    (tmp_path / "pyproject.toml").write_text(settings.format(""))
    assert find_links(start=tmp_path).address("softmax") == ""
    with pytest.raises(GradingError, match="--book: was 'javascript:x'"):
        find_links("javascript:x", tmp_path)


@pytest.fixture
def everything(tmp_path: Path) -> dict[str, bytes]:
    """Every byte that any export of a class holds."""
    key = seeds.course_key(tmp_path / "elsewhere" / seeds.KEY)
    found = a_class()
    out = tmp_path / "out"
    out.mkdir()
    write_reports(found, out, BOOK)
    given = answers(found, "essay", key)
    (out / "essay.html").write_text(marking_page(found, ESSAY, given))
    (out / "essay.csv").write_text(marking_csv(ESSAY, given))
    (out / "canvas.csv").write_bytes(canvas_csv(found, Choice(provisional=True, partial=True)).data)
    (out / "moodle.csv").write_bytes(moodle_csv(found, Choice(provisional=True, partial=True)).data)
    files = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {"grades.csv", "report.html", "1.html", "4.html"} <= files.keys()
    files["the key"] = (tmp_path / "elsewhere" / seeds.KEY).read_bytes().strip()
    return files


def test_no_export_holds_a_secret(everything: dict[str, bytes]) -> None:
    """Inputs, references, seeds, keys: the ledger has them all, and nothing that is given back has any."""
    key = everything.pop("the key")
    stored = repr(a_class()).encode()
    for secret in SECRETS:
        assert secret.encode() in stored, "the class does hold it"
        assert [name for name, data in everything.items() if secret.encode() in data] == []
    assert [name for name, data in everything.items() if key in data or bytes.fromhex(key.decode()) in data] == []


def test_pages_of_who_is_gone_are_removed_and_names_are_tame(tmp_path: Path) -> None:
    write_reports(a_class(), tmp_path)
    write_reports(a_class(ann()), tmp_path)
    assert [path.name for path in (tmp_path / "feedback").iterdir()] == ["1.html"]
    assert page_name("../x") != page_name(".._x")
    assert "/" not in page_name("../x")


def test_equal_classes_give_equal_pages() -> None:
    assert [page(one) for one in (ann(), bo(), cy(), di())] == [page(one) for one in (ann(), bo(), cy(), di())]
    slower = record("1", right(SOFTMAX, seconds=9.0), right(ATTENTION))
    quicker = record("1", right(SOFTMAX), right(ATTENTION))
    assert page(standing(Student("1", "A"), slower)) == page(standing(Student("1", "A"), quicker))
