"""Chapters run again exactly when their cells or the code behind them changed, and a fault names its cell."""

from __future__ import annotations

import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.execution import ChapterError, cell_fault, refresh, run_strictly


def quiet(text: str) -> None:
    """Say nothing."""


def stale(book) -> list[str]:
    return [chapter.name for chapter in load_chapters(book.root) if not chapter.is_current]


@pytest.mark.slow
def test_exactly_the_chapters_that_use_a_changed_function_run_again(book_with_attnkit):
    book = book_with_attnkit
    book.page("tables", book.cell("from attnkit.viz.tables import table\nprint(table(['a'], [[1]]))"))
    book.page("masks", book.cell("from attnkit.masks import Causal\nprint(type(Causal()).__name__)"))
    assert refresh(load_chapters(book.root), say=quiet)
    assert stale(book) == []

    unrelated = book.root / "attnkit" / "grading" / "__init__.py"
    unrelated.write_text(unrelated.read_text() + "\nUNRELATED = 1\n")
    assert stale(book) == []

    tables = book.root / "attnkit" / "viz" / "tables.py"
    before = tables.read_text()
    tables.write_text(before.replace('caption: str = "") -> Table:', 'caption: str = "changed") -> Table:'))
    assert tables.read_text() != before
    assert refresh(load_chapters(book.root), say=quiet) == ["book/tables"]
    shown = {c.name: c.executed().cells[-1].outputs[0].text for c in load_chapters(book.root)}
    assert shown["book/tables"].startswith("changed")  # the new code has run, not merely been noticed

    core = next((book.root / "attnkit" / "masks").glob("*.py"))
    core.write_text(core.read_text() + "\n# a change\n")
    assert sorted(stale(book)) == ["book/masks", "book/tables"]  # attnkit/__init__ loads masks, so both use it


def test_a_changed_cell_makes_only_its_chapter_stale(book):
    book.page("one", book.cell("print(1)"))
    book.page("two", book.cell("print(2)"))
    refresh(load_chapters(book.root), say=quiet)
    book.page("two", "New prose alone changes nothing.\n\n" + book.cell("print(2)"))
    assert stale(book) == []
    book.page("two", book.cell("print(3)"))
    assert stale(book) == ["book/two"]
    refresh(load_chapters(book.root), say=quiet)
    kept = sorted(path.name.split(".")[0] for path in (book.root / ".cache" / "chapters").iterdir())
    assert kept == ["book-one", "book-two"]  # the older run of two is forgotten


def test_a_failing_cell_is_named_with_line_source_and_remedy(book):
    path = book.page("one", "Some prose.\n\n" + book.cell("x = 1") + book.cell("y = x / 0"))
    line = path.read_text().split("\n").index("y = x / 0") + 1
    with pytest.raises(ChapterError) as caught:
        refresh(load_chapters(book.root), say=quiet)
    message = str(caught.value)
    for part in (f"one.md:{line}", "code cell 2", "y = x / 0", "ZeroDivisionError", "attnkit book build"):
        assert part in message
    assert stale(book) == ["book/one"]


@pytest.mark.parametrize(
    ("code", "tags", "fault"),
    [
        ("import sys\nprint('careful', file=sys.stderr)", "", "stderr"),
        ("import warnings\nwarnings.warn('old')", "", "stderr"),
        ("x = 1", "raises-exception", "raised nothing"),
    ],
)
def test_what_nbclient_lets_pass_is_a_fault(book, code, tags, fault):
    path = book.page("one", book.cell(code, tags))
    with pytest.raises(ChapterError, match=fault):
        run_strictly(path)


def test_an_expected_exception_is_no_fault(book):
    nb = run_strictly(book.page("one", book.cell("1 / 0", "raises-exception") + book.cell("print('on')")))
    assert [cell_fault(c) for c in nb.cells] == [""] * len(nb.cells)
    assert nb.cells[-1].outputs[0].text == "on\n"


def test_one_bad_chapter_does_not_keep_the_other_from_running(book):
    book.page("bad", book.cell("raise SystemError('no')"))
    book.page("good", book.cell("print(1)"))
    with pytest.raises(ChapterError, match=r"bad\.md"):
        refresh(load_chapters(book.root), say=quiet)
    assert stale(book) == ["book/bad"]


def test_a_listed_page_that_is_missing_is_named(book):
    book.page("one", book.cell("print(1)")).unlink()
    with pytest.raises(FileNotFoundError, match=r"book/one\.md"):
        load_chapters(book.root)
