"""Chapters run again exactly when their cells or the code behind them changed, and a fault names its cell."""

from __future__ import annotations

import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.execution import ChapterError, by_duration, cell_fault, durations, refresh, run_strictly


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

    tables = book.root / "attnkit" / "viz" / "tables.py"
    before = tables.read_text()
    tables.write_text(before.replace('caption: str = "") -> Table:', 'caption: str = "changed") -> Table:'))
    assert tables.read_text() != before
    assert refresh(load_chapters(book.root), say=quiet) == ["book/tables"]
    shown = {c.name: c.executed().cells[-1].outputs[0].text for c in load_chapters(book.root)}
    assert shown["book/tables"].startswith("changed")  # the new code has run, not merely been noticed


EDITS = {
    # what is edited: file, what stands there, what is put in its place; and who uses it
    "ALiBi alone": ("positions/alibi.py", "def alibi_slopes(", "def alibi_slopes(  # edited\n    ", {"alibi"}),
    "a rotation": ("positions/rotary.py", "class Rotary(", "class Rotary(  # edited\n    ", {"rope"}),
    "the figures' base": ("viz/figure.py", "class Figure:", "class Figure:  # edited", {"alibi", "figures"}),
    "one kind of figure": ("viz/lines.py", "def lines(", "def lines(  # edited\n    ", {"figures"}),
    "the base of encodings": (
        "positions/base.py",
        "class Position(",
        "class Position(  # edited\n    ",
        {"alibi", "rope"},
    ),
    "the grader": ("grading/__init__.py", "", "UNRELATED = 1\n", set()),
    "a comment between definitions": (
        "positions/alibi.py",
        "def alibi_slopes(",
        "# A remark.\ndef alibi_slopes(",
        set(),
    ),
    "a statement that acts": (
        "positions/alibi.py",
        "def alibi_slopes(",
        "print()\n\n\ndef alibi_slopes(",
        {"alibi", "heads"},
    ),
}


@pytest.fixture
def encodings(book_with_attnkit):
    """Four pages, each with its own part of the library, none of them executed."""
    book = book_with_attnkit
    book.page("alibi", book.cell("from attnkit.positions import ALiBi\nfrom attnkit.viz import heatmap\nALiBi(2)"))
    book.page("rope", book.cell("import attnkit.positions as p\np.Rotary(8)"))
    book.page("figures", book.cell("from attnkit import viz\nviz.lines"))
    book.page("heads", book.cell("from attnkit.nn import MultiHeadAttention\nMultiHeadAttention(8, 2)"))
    return book


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_the_library_makes_stale_who_uses_what_was_edited(encodings, edit):
    file, old, new, users = EDITS[edit]
    before = {chapter.name: chapter.key for chapter in load_chapters(encodings.root)}
    path = encodings.root / "attnkit" / file
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1) if old else text + new, "utf-8")
    after = {chapter.name: chapter.key for chapter in load_chapters(encodings.root)}
    assert {name.removeprefix("book/") for name in after if after[name] != before[name]} == users


def test_a_page_that_shows_a_traceback_depends_on_whole_files(encodings):
    """A traceback quotes line numbers, which move with every line above."""
    encodings.page("rope", encodings.cell("from attnkit.positions import Rotary\nRotary(7)", "raises-exception"))
    before = {chapter.name: chapter.key for chapter in load_chapters(encodings.root)}
    rotary = encodings.root / "attnkit" / "positions" / "rotary.py"
    rotary.write_text("# A line more.\n" + rotary.read_text("utf-8"), "utf-8")
    after = {chapter.name: chapter.key for chapter in load_chapters(encodings.root)}
    assert [name for name in after if after[name] != before[name]] == ["book/rope"]


def test_a_shell_cell_depends_on_the_command_that_it_calls(book_with_attnkit):
    book = book_with_attnkit
    book.page("shell", book.cell("%%bash\nattnkit lab verify x"))
    book.page("echo", book.cell("%%bash\necho attnkit"))
    shell, echo = load_chapters(book.root)
    assert {"attnkit/cli.py", "attnkit/authoring/verify.py", "attnkit/lab/judge.py"} <= shell.inputs.keys()
    assert "attnkit/bench/commands.py" not in shell.inputs
    assert echo.inputs == {}


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


def test_solutions_run_last_as_in_the_twin(book):
    """A reader leaves them folded, and Colab's reader finds them at the end: nothing may rest on them."""
    solution = "```{solution-start} ex\n```\n\n" + book.cell("x = 'changed'") + "```{solution-end}\n```\n\n"
    exercise = "```{exercise}\n:label: ex\nDo.\n```\n\n"
    nb = run_strictly(book.page("one", book.cell("x = 'given'") + exercise + solution + book.cell("print(x)")))
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == [1, 3, 2]
    assert code[-1].outputs[0].text == "given\n"


def test_the_longest_chapter_starts_first_and_its_time_is_kept(book):
    for name, seconds in (("quick", 0), ("long", 0.3), ("new", 0)):
        book.page(name, book.cell(f"import time\ntime.sleep({seconds})"))
    refresh([c for c in load_chapters(book.root) if c.name != "book/new"], say=quiet)
    kept = durations(book.root)
    assert kept["book/long"] > kept["book/quick"] > 0
    for chapter in load_chapters(book.root):
        if chapter.is_current:
            assert chapter.executed().metadata["attnkit"]["seconds"] > 0
    assert [c.name for c in by_duration(load_chapters(book.root))] == ["book/new", "book/long", "book/quick"]
    (book.root / ".cache" / "durations.json").write_text("{")  # half-written
    assert durations(book.root) == {}


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
