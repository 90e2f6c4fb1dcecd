"""A notebook is put in order for nbgrader by its sources alone; no nbgrader needed."""

from __future__ import annotations

import copy

import pytest
from nbformat import NotebookNode, from_dict
from nbformat.v4 import new_code_cell, new_markdown_cell, new_raw_cell

from attnkit.grading.adapters.gradebook import HandMark
from attnkit.grading.adapters.nbgrader_cells import Wanted, cleaned

STUB = "# question: double\ndef double(x):\n    raise NotImplementedError()"
CHECK = "lab.check(double)"
WANTED = [
    Wanted("double-answer", "code", STUB, "c1", True, None),
    Wanted("double", "code", CHECK, "c2", False, 3.0),
    Wanted("essay", "markdown", "<!-- question: essay -->\nYOUR ANSWER HERE", "c3", True, 2.0),
]
RIGHT = "# question: double\ndef double(x):\n    return 2 * x"
WORDS = "<!-- question: essay -->\nBecause."


def ordered(*cells: NotebookNode) -> list[tuple[str, str]]:
    """(grade_id or "", source) of the cells that come out."""
    nb = cleaned(NotebookNode(cells=list(cells)), WANTED)
    return [(cell.metadata.get("nbgrader", {}).get("grade_id", ""), cell.source) for cell in nb.cells]


PROPER = [("double-answer", RIGHT), ("double", CHECK), ("essay", WORDS)]


def handed_in() -> list[NotebookNode]:
    return [new_code_cell(RIGHT), new_code_cell(CHECK), new_markdown_cell(WORDS)]


def test_cells_get_the_gradebooks_metadata() -> None:
    nb = cleaned(NotebookNode(cells=handed_in()), WANTED)
    answer, check, essay = (cell.metadata["nbgrader"] for cell in nb.cells)
    assert (answer["grade"], answer["solution"], answer["locked"]) == (False, True, False)
    assert (check["grade"], check["solution"], check["locked"], check["points"]) == (True, False, True, 3.0)
    assert (essay["grade"], essay["solution"], essay["points"], essay["checksum"]) == (True, True, 2.0, "c3")
    assert "points" not in answer
    assert all(one["schema_version"] == 3 for one in (answer, check, essay))


@pytest.mark.parametrize("keep", [{0, 1, 2}, {0, 2}, {0}, {0, 1}])
def test_what_is_missing_is_put_back_where_it_belongs(keep: set[int]) -> None:
    got = ordered(*[cell for number, cell in enumerate(handed_in()) if number in keep])
    assert [name for name, _ in got] == ["double-answer", "double", "essay"]
    assert got[0][1] == RIGHT


def test_an_answer_that_is_not_there_is_the_stub_again() -> None:
    assert ordered(new_markdown_cell("Hello")) == [
        *((one.grade_id, one.source) for one in WANTED),
        ("", "Hello"),
    ]


def test_each_cell_of_the_assignment_is_there_once() -> None:
    twice = [*handed_in(), *copy.deepcopy(handed_in())]
    got = ordered(*twice)
    assert [name for name, _ in got if name] == ["double-answer", "double", "essay"]
    assert [source for name, source in got if not name] == [RIGHT, WORDS], "the earlier copies are kept, as plain cells"


def test_a_stub_beside_the_answer_does_not_take_its_place() -> None:
    got = dict(ordered(new_code_cell(RIGHT), new_code_cell(STUB)))
    assert got["double-answer"] == RIGHT


def test_a_check_that_was_changed_is_a_plain_cell_beside_the_assignments_own() -> None:
    cell = new_code_cell("3.0", metadata={"nbgrader": {"grade_id": "double", "grade": True, "points": 99}})
    got = ordered(new_code_cell(RIGHT), cell)
    assert ("", "3.0") in got
    assert ("double", CHECK) in got


def test_an_answer_pasted_into_the_check_is_not_lost() -> None:
    cell = new_code_cell(RIGHT, metadata={"nbgrader": {"grade_id": "double", "grade": True}})
    assert ordered(new_code_cell(STUB), cell)[1:3] == [("double-answer", RIGHT), ("double", CHECK)]


def test_words_are_found_by_their_comment_or_by_what_is_left_of_the_metadata() -> None:
    marked = new_markdown_cell("Why?\n\n<!--  question:  essay -->\nMine")
    assert ("essay", marked.source) in ordered(marked, new_markdown_cell("other"))
    claimed = new_markdown_cell("Mine, comment deleted", metadata={"nbgrader": {"grade_id": "essay"}})
    assert ("essay", claimed.source) in ordered(claimed)


def test_nothing_else_of_the_students_file_stays() -> None:
    nb = from_dict({"cells": [*handed_in(), new_raw_cell("raw")], "metadata": {"kernelspec": {"name": "evil"}, "x": 1}})
    nb.cells[0].outputs = [{"output_type": "stream", "name": "stderr", "text": "x"}]
    nb.cells[0].metadata["nbgrader"] = ["not", "a", "mapping"]
    out = cleaned(nb, WANTED)
    assert out.metadata["kernelspec"]["name"] == "python3"
    assert "x" not in out.metadata
    assert not any(cell.get("outputs") for cell in out.cells)
    assert [cell.source for cell in out.cells][-1] == "raw"


@pytest.mark.parametrize("source", [["# question: double\n", "def double(x):\n", "    return 2 * x"], 7, None])
def test_a_source_of_another_kind_is_read_or_left(source: object) -> None:
    cell = new_code_cell("")
    cell["source"] = source
    got = dict(ordered(cell))
    assert got["double-answer"] == (RIGHT if isinstance(source, list) else STUB)


def test_a_score_of_a_question_that_gives_other_points_there_is_its_share() -> None:
    assert HandMark("1", "essay", 3.0, "", out_of=6.0).scaled(2.0) == 1.0
    assert HandMark("1", "essay", 1.5, "").scaled(2.0) == 1.5
