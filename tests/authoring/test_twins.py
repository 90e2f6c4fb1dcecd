"""Twins are in step with their chapters, hold text only, and show a Colab reader no raw directive."""

from __future__ import annotations

import json
import re

import nbformat
import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.execution import refresh
from attnkit.authoring.notebook import dumps
from attnkit.authoring.project import Project
from attnkit.authoring.twins import TwinError, make_twin, twin_path, write_twins

PUBLISHED = "https://github.com/someone/somewhere"


def twin_of(book, text: str, repository: str = ""):
    book.page("one", text)
    chapters = load_chapters(book.root)
    refresh(chapters, say=lambda _: None)
    return make_twin(chapters[0], Project(book.root, "0.1.0", repository))


def markdown(nb) -> str:
    return "\n\n".join(c.source for c in nb.cells if c.cell_type == "markdown")


@pytest.mark.slow
def test_committed_twins_are_in_step(root):
    assert write_twins(root, check=True, say=lambda _: None) == [], "run: attnkit book twins"


def test_every_chapter_has_a_clean_twin(root):
    chapters = [chapter for chapter in load_chapters(root) if not chapter.is_guide]
    assert chapters
    for chapter in chapters:
        nb = nbformat.read(twin_path(chapter), as_version=4)
        nbformat.validate(nb)
        text = markdown(nb)
        assert not re.search(r"```\{|:::|\{[\w:]+\}`|^\([\w-]+\)=$|\)=\n", text, re.M), chapter.name
        kinds = {kind for c in nb.cells for o in c.get("outputs", []) for kind in o.get("data", {})}
        assert kinds <= {"text/plain"}
        assert "import attnkit" in nb.cells[0].source or "import attnkit" in nb.cells[1].source
        assert len({c.id for c in nb.cells}) == len(nb.cells)
        assert not any("glue(" in c.source for c in nb.cells if c.cell_type == "code")


def test_glued_values_directives_and_roles_become_plain_text(book):
    (book.root / "book" / "references.bib").write_text(
        "@misc{one2017, author={One, Ann and Two, Bo and Three, Cy}, title={A {T}itle},"
        " year={2017}, eprint={1706.03762}}"
    )
    source = book.cell("from attnkit.viz import glue\nglue('x', f'{2:.2f}')\nprint('hello')") + (
        "(here)=\n# Title\n\nThe value is {glue:text}`x`, see {cite:t}`one2017`, {eq}`eq-a` and [back](#here).\n\n"
        "$$\na = b\n$$ (eq-a)\n\n```{note}\nMind $x$.\n```\n\n```{dropdown} Proof\nTrivial.\n```\n\n"
        "```{exercise} Do it\n:label: ex-a\n\nPlease.\n```\n\n"
        "```{solution-start} ex-a\n:class: dropdown\n```\nDone.\n\n"
    )
    source += book.cell("print('answer')") + "```{solution-end}\n```\n\nLast words.\n"
    nb = twin_of(book, source)
    text = markdown(nb)
    assert "The value is 2.00, see [One et al. (2017)](https://arxiv.org/abs/1706.03762), (1) and [back](#here)" in text
    assert '<a id="here"></a>' in text
    assert "a = b\n\\tag{1}\n$$" in text
    assert "> **Note**\n>\n> Mind $x$." in text
    assert "<details><summary>Proof</summary>\n\nTrivial.\n\n</details>" in text
    assert "**Exercise 1: Do it**" in text
    assert [c.source for c in nb.cells if c.cell_type == "code"][1:] == ["print('hello')", "print('answer')"]
    order = [text.index(part) for part in ("Please.", "Last words.", "## Solutions", "Done.", "## References")]
    assert order == sorted(order)  # solutions stand after everything else
    counts = [c.execution_count for c in nb.cells if c.cell_type == "code" and c.outputs]
    assert counts == [1, 2]


def test_images_and_html_are_dropped_and_text_kept(book):
    nb = twin_of(
        book,
        book.cell("from IPython.display import HTML, display\ndisplay(HTML('<b>x</b>'))")
        + book.cell("from attnkit.viz import table\ntable(['a', 'b'], [[1, 2]])"),
    )
    outputs = [o for c in nb.cells for o in c.get("outputs", [])]
    assert all(set(o.data) == {"text/plain"} for o in outputs)
    assert outputs[-1].data["text/plain"].split() == ["a", "b", "1", "2"]
    assert "base64" not in dumps(nb)


@pytest.mark.parametrize("markup", ["```{tabbed} x\n```", "{unheard}`of`", "[gone](#nowhere)", "{glue:text}`missing`"])
def test_what_has_no_plain_form_is_refused(book, markup):
    with pytest.raises(TwinError, match=r"one\.md"):
        twin_of(book, book.cell("x = 1") + markup + "\n")


def test_new_prose_reaches_the_twin_without_a_new_run(book):
    cell = book.cell("print(1)")
    twin_of(book, cell + "Old words.\n")
    runs = list((book.root / ".cache" / "chapters").iterdir())
    assert "New words." in markdown(twin_of(book, cell + "New words.\n"))
    assert list((book.root / ".cache" / "chapters").iterdir()) == runs


def test_the_same_source_gives_the_same_bytes(book):
    source = book.cell("print(1)") + "Text.\n\n" + book.cell("print(1)")
    first = dumps(twin_of(book, source))
    for path in (book.root / ".cache" / "chapters").iterdir():
        path.unlink()
    assert dumps(twin_of(book, source)) == first
    ids = [c["id"] for c in json.loads(first)["cells"]]
    assert len(set(ids)) == len(ids)


def test_links_lead_to_colab_only_when_published(book):
    source = book.cell("x = 1") + "Go to {lab}`attention`.\n"
    private, public = twin_of(book, source), twin_of(book, source, PUBLISHED)
    assert "colab" not in dumps(private)
    assert "colab.research.google.com/github/someone/somewhere/blob/main/book/one.ipynb" in public.cells[0].source
    assert "/blob/main/labs/attention/attention.ipynb" in markdown(public)
    assert f"attnkit[chapters] @ git+{PUBLISHED}" in public.cells[1].source


VARYING = "from attnkit.viz import glue\nimport time\nprint(time.perf_counter_ns())\nglue('t', time.perf_counter_ns())"
FIXED = "from attnkit.viz import glue\nglue('two', 1 + 1)\nprint(2)"


def page_that_varies(book, varying: str = VARYING, fixed: str = FIXED, tag: str = "hide-input, varies") -> None:
    """A page with a cell of each kind, and its twin up to date."""
    text = book.cell(varying, tag) + book.cell(fixed) + "It took {glue:text}`t`, not {glue:text}`two`.\n"
    book.page("one", text)


def run_anew(book) -> list[str]:
    """Forget the runs, execute again, and name the twins that are out of step."""
    for path in (book.root / ".cache" / "chapters").glob("*"):
        path.unlink()
    return write_twins(book.root, check=True, say=lambda _: None)


def test_what_varies_is_not_compared_and_the_rest_is_byte_for_byte(book):
    page_that_varies(book)
    write_twins(book.root, say=lambda _: None)
    path = book.root / "book" / "one.ipynb"
    before = path.read_text("utf-8")
    assert run_anew(book) == []
    assert write_twins(book.root, say=lambda _: None) == []
    assert path.read_text("utf-8") == before  # no churn
    varying = nbformat.read(path, as_version=4).cells[1]
    assert varying.metadata.tags == ["nbval-ignore-output"]
    assert varying.outputs[0].text.strip().isdigit()


@pytest.mark.parametrize(
    "change",
    [
        {"varying": VARYING + "\nx = 1"},
        {"varying": VARYING.replace("print(", "print(-")},
        {"fixed": FIXED.replace("print(2)", "print(3)")},
        {"fixed": FIXED.replace("1 + 1", "1 + 2")},
        {"tag": "hide-input"},
    ],
)
def test_a_change_of_anything_else_is_still_noticed(book, change):
    page_that_varies(book)
    write_twins(book.root, say=lambda _: None)
    page_that_varies(book, **change)
    assert run_anew(book) == ["book/one.ipynb"]


def test_an_output_that_varies_without_saying_so_is_noticed(book):
    page_that_varies(book, tag="hide-input")
    write_twins(book.root, say=lambda _: None)
    assert run_anew(book) == ["book/one.ipynb"]


@pytest.mark.parametrize(("old", "new"), [("not 2", "not 3"), ('"2\\n"', '"3\\n"'), ("nbval-ignore-output", "x")])
def test_a_twin_that_was_edited_is_noticed(book, old, new):
    page_that_varies(book)
    write_twins(book.root, say=lambda _: None)
    path = book.root / "book" / "one.ipynb"
    assert old in path.read_text("utf-8")
    path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")
    assert run_anew(book) == ["book/one.ipynb"]
