"""The lint finds each kind of fault, and lets the pages that we publish pass."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from attnkit.authoring import lint
from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.execution import refresh
from attnkit.authoring.references import faults, read_works

EXERCISE = "```{exercise}\n:label: ex-a\nDo.\n```\n"
SOLUTION = "```{solution} ex-a\nDone.\n```\n"


def test_exercises_and_solutions_come_in_pairs():
    assert lint.exercise_faults(EXERCISE + SOLUTION) == []
    assert lint.exercise_faults(EXERCISE) == ["exercise 'ex-a' has no solution"]
    assert lint.exercise_faults(SOLUTION) == ["solution 'ex-a' belongs to no exercise"]
    nested = "::::{note}\n" + EXERCISE + "::::\n"
    assert lint.exercise_faults(nested) == ["exercise 'ex-a' has no solution"]


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ("The weight is 0.665.", ["0.665"]),
        ("It took 12345 steps.", ["12345"]),
        ("In a note:\n```{note}\nabout 3.5\n```", ["3.5"]),
        ("The value is $x = 2.72$.", ["2.72"]),
        ("The value is {glue:text}`x`, of 64 keys.", []),
        ("`x = 0.5` and\n\n```python\ny = 0.25\n```\n", []),
        ("From 4 to 1024, or 16000 tokens.", []),
        ("Text: CC BY 4.0.", []),
        ("[arXiv](https://arxiv.org/abs/1706.03762)", []),
    ],
)
def test_typed_results_are_found_and_chosen_sizes_are_not(text, typed):
    assert [fault.split()[2] for fault in lint.number_faults(text)] == typed


def figure(html: str = "", **data: str):
    bundle = {"text/html": html, **data} if html else data
    return new_notebook(cells=[new_code_cell("x", outputs=[new_output("display_data", data=bundle)])])


ALT = "a long line that climbs from left to right"


@pytest.mark.parametrize(
    ("nb", "fault"),
    [
        (figure(**{"image/png": "x"}), "image without alt"),
        (figure("<svg></svg>"), "says too little"),
        (figure('<img src="a" alt="plot">'), "says too little"),
        (figure(f'<svg aria-label="Heat map: {ALT}"></svg>'), "without a table"),
    ],
)
def test_figures_without_words_are_found(nb, fault):
    assert any(fault in found for found in lint.figure_faults(nb))


def test_figures_with_words_pass():
    good = figure(f'<svg aria-label="Heat map: {ALT}"></svg><table></table>')
    named = figure(**{"image/png": "x"})
    named.cells[0].metadata["mystnb"] = {"image": {"alt": ALT}}
    assert lint.figure_faults(good) == lint.figure_faults(named) == []


def test_glue_is_quoted_and_quotes_are_glued(book):
    cell = book.cell("from attnkit.viz import glue\nglue('a', 1)\nglue('b', 2)")
    book.page("one", cell + "{glue:text}`a` {glue:text}`c`")
    chapters = load_chapters(book.root)
    refresh(chapters, say=lambda _: None)
    assert lint.glue_faults(chapters[0]) == ["'c' is quoted but no cell glues it", "'b' is glued but never quoted"]


def test_references_must_be_complete_and_used(book):
    bib = book.root / "book" / "references.bib"
    bib.write_text("@misc{bare, title={T}}\n@misc{idle, author={A, B}, title={T}, year={2000}, doi={10.1000/2}}")
    assert faults(read_works(bib)) == [
        "bare has no authors and no year",
        "bare has neither doi nor eprint (arXiv): give one, looked up and not recalled",
    ]
    found = lint.reference_faults(book.root, "{cite:t}`bare,gone`")
    assert "idle is cited nowhere" in found
    assert "gone is cited but not there" in found


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ("year={2000}, doi={10.1007/b12345}", ""),
        ("year={2000}, eprint={1706.03762}", ""),
        ("year={2000}, eprint={math/0309136}", ""),
        ("year={2000}, doi={https://doi.org/10.1007/b12345}", "no proper identifier"),
        ("year={2000}, doi={10.1/2}", "no proper identifier"),
        ("year={2000}, eprint={170603762}", "no proper identifier"),
        ("year={20}, eprint={1706.03762}", "no proper year"),
    ],
)
def test_identifiers_have_the_form_that_leads_to_a_work(tmp_path, fields, fault):
    bib = tmp_path / "references.bib"
    bib.write_text(f"@misc{{key, author={{A, B}}, title={{T}}, {fields}}}")
    found = faults(read_works(bib))
    assert [f for f in found if fault in f] if fault else found == []


def test_a_work_that_stands_there_twice_is_found(tmp_path):
    bib = tmp_path / "references.bib"
    entry = "@misc{%s, author={A, B}, title={%s}, year={2000}, eprint={%s}}\n"
    bib.write_text(entry % ("a", "One {T}itle", "1706.00001") + entry % ("b", "One title", "1706.00002"))
    assert faults(read_works(bib)) == ["a and b are the same work"]
    bib.write_text(entry % ("a", "One", "1706.00001") + entry % ("b", "Two", "1706.00001"))
    assert faults(read_works(bib)) == ["a and b are the same work"]


def test_cells_that_ask_not_to_be_run_are_found():
    skipped = new_notebook(cells=[new_code_cell("x", metadata={"tags": ["skip-execution"]}), new_code_cell("y")])
    assert lint.skip_faults(skipped) == ["a cell has the tag skip-execution: every cell of the book runs"]


@pytest.mark.slow
def test_the_book_has_no_fault(root):
    chapters = load_chapters(root)
    refresh(chapters, say=lambda _: None)
    assert lint.lint(root) == []
