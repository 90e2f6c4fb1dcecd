"""Questions in words: the model answer stays at home, the student has a place to write, the grader finds it."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from attnkit.authoring.labs import (
    LabError,
    Master,
    completed_notebook,
    leaks,
    manual_question_of,
    question_of,
    solution_lines,
    student_notebook,
    student_text,
)
from attnkit.authoring.notebook import dumps, read_myst
from attnkit.authoring.project import Project
from attnkit.grading.manual import find_answer
from attnkit.grading.notebook import text_cells

pytestmark = pytest.mark.slow  # jails, or notebooks that run

HEAD = "---\nkernelspec:\n  name: python3\n  display_name: Python 3\n  language: python\n---\n\n"
CELL = "```{code-cell} ipython3\nprint('hello')\n```\n\n"
ANSWER = "A model answer of two lines,\nwhich nobody but us should read."
QUESTION = (
    f"Say why.\n\n+++\n\n<!-- question: why -->\n\n### BEGIN SOLUTION\n{ANSWER}\n### END SOLUTION\n\n+++\n\nGo on.\n"
)


@pytest.fixture
def lab(tmp_path: Path) -> tuple[Master, Project]:
    """A lab with one question in words."""
    path = tmp_path / "words" / "words.md"
    path.parent.mkdir()
    path.write_text(HEAD + CELL + QUESTION, "utf-8")
    return Master(path), Project(path.parent, "1", "", is_clone=False)


def test_the_student_has_the_marker_and_a_place_to_write_and_no_model_answer(lab):
    nb = student_notebook(*lab)
    cells = [cell.source for cell in nb.cells if manual_question_of(cell.source)]
    assert cells == ["<!-- question: why -->\n\n*Your answer goes here.*"]
    assert "model answer" not in dumps(nb)
    assert [cell.source for cell in nb.cells][-1] == "Go on."
    assert question_of(cells[0]) is None, "a text cell answers no question in code"


def test_the_completed_notebook_holds_the_model_answer_where_the_grader_looks(lab):
    data = dumps(completed_notebook(*lab)).encode()
    assert find_answer(text_cells(data), "why")[0] == ANSWER


def test_the_untouched_place_counts_as_no_answer(lab):
    nb = student_notebook(*lab)
    assert find_answer(text_cells(dumps(nb).encode()), "why") == ("", ())
    for written, found in (
        ("<!-- question: why -->\n\nMy words.", "My words."),
        ("<!-- question: why -->\n\n*Your answer goes here.*\n\nMy words.", "My words."),
    ):
        for cell in nb.cells:
            if manual_question_of(cell.source):
                cell.source = written
        assert found in find_answer(text_cells(dumps(nb).encode()), "why")[0]


def test_metadata_does_not_matter(lab):
    """Colab loses it; ids, too."""
    nb = json.loads(dumps(completed_notebook(*lab)))
    for cell in nb["cells"]:
        cell.pop("id")
        cell["metadata"] = {}
    assert find_answer(text_cells(json.dumps(nb).encode()), "why")[0] == ANSWER


def test_a_model_answer_that_leaks_stops_the_build(lab):
    master, project = lab
    text = master.path.read_text("utf-8").replace("print('hello')", f"print({ANSWER.splitlines()[0]!r})")
    master.path.write_text(text, "utf-8")
    with pytest.raises(LabError, match="lines of a solution"):
        student_notebook(master, project)


def test_leaks_know_the_lines_of_a_model_answer(lab):
    lines = solution_lines(read_myst(lab[0].path))
    assert lines == ANSWER.splitlines()
    other = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"> {lines[1]}")])
    assert leaks(other, lines) == [lines[1]]


REGION = "### BEGIN SOLUTION\nYes.\n### END SOLUTION"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (f"Why?\n\n{REGION}", "names no question; it needs a line `<!-- question: <name> -->`"),
        (
            f"<!-- question: why -->\n\nWhy is that?\n\n{REGION}",
            "and nothing else: it would be taken for the student's",
        ),
        (f"<!-- question: why -->\n\n{REGION}\n\nAnd then?", "and nothing else"),
        ("<!-- question: why -->\n\nWhy?", "should stand one model answer"),
        ("<!-- question: why -->\n\n### BEGIN SOLUTION\nYes.", "should stand one model answer"),
        (f"<!-- question: why -->\n\n{REGION}\n\n{REGION}", "should stand one model answer"),
        (f"### END SOLUTION\n\n<!-- question: why -->\n\n{REGION}", "should come in pairs"),
    ],
)
def test_cells_that_are_written_wrongly_are_refused(source, says):
    with pytest.raises(LabError, match=says):
        student_text(source)


def test_other_text_is_left_alone():
    for source in ("Plain.", "<!-- a comment -->", "See `# question: x`."):
        assert student_text(source) == source


def test_what_is_asked_may_stand_in_the_same_cell_above_the_comment():
    assert student_text(f"Why?\n\n<!-- question: why -->\n\n{REGION}") == (
        "Why?\n\n<!-- question: why -->\n\n*Your answer goes here.*"
    )
