"""Answers in words: found in a notebook whatever happened to its metadata, shown plainly, marked and read back."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import Sheet
from attnkit.grading.identity import Student
from attnkit.grading.manual import MAX_ANSWER, answer_text, attachments, collected
from attnkit.grading.marking import answers, asked_in_words, code_of, marking_csv, marking_page
from attnkit.grading.marks_file import NewMark, read_marks, unread
from attnkit.grading.notebook import NotANotebook
from attnkit.grading.standing import Class
from attnkit.lab.question import Question, question
from tests.grading.given_class import ESSAY, a_class, ann, bo, cy, di, record, right, standing, words

KEY = b"k" * 32


@question(points=3, answer="essay")
class Essay:
    """Why do we scale?"""

    manual = True
    rubric = "1 point for variance"


def notebook(*cells: object) -> bytes:
    """A notebook of Markdown cells; each is a text, or a whole cell."""
    made = [cell if isinstance(cell, dict) else {"cell_type": "markdown", "source": cell} for cell in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 0, "cells": made}).encode()


def text_of(*cells: object) -> str:
    assert isinstance(Essay, Question)
    return answer_text(collected(Essay, notebook(*cells)))


MARKER = "<!-- question: essay -->\n"


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ([MARKER + "Because."], "Because."),
        (["  <!--Question:essay-->  \r\nBecause."], "Because."),
        (["## Task\n\n" + MARKER + "Because."], "Because."),
        (["**Question: essay**\n\nBecause."], "Because."),
        ([MARKER + "One.\n<!-- question: other -->\nTwo."], "One."),
        ([MARKER + "One.", MARKER + "Two."], "One.\n\nTwo."),
        ([MARKER + "One.", MARKER + "One. "], "One."),
        ([MARKER + "One <!-- not\nthis --> two."], "One  two."),
        ([MARKER + "*Write your answer here.*"], ""),
        ([MARKER + "YOUR ANSWER HERE"], ""),
        ([MARKER + "*Your answer goes here.*"], ""),
        ([MARKER + "Your answer here is what I gave: variance."], "Your answer here is what I gave: variance."),
        ([MARKER], ""),
        (["Because."], ""),
        (["a <!-- question: essay --> b"], ""),
        (["<!-- question: essays -->\nBecause."], ""),
        ([], ""),
        ([{"cell_type": "markdown", "source": ["<!-- question: essay -->\n", "Be", "cause."], "id": 7}], "Because."),
        ([{"cell_type": "code", "source": MARKER + "x"}, {"cell_type": "markdown", "source": 5}, 7], ""),
        ([MARKER + "a\x1b[31m\u202eb\ud800"], "a [31m b?"),
    ],
)
def test_the_answer_is_found_by_its_marker(cells: Sequence[object], text: str) -> None:
    assert text_of(*cells) == text


def test_it_waits_or_is_blank() -> None:
    assert isinstance(Essay, Question)
    given = collected(Essay, notebook(MARKER + "Because."), "seed")
    assert (given.status, given.points, given.max_points, given.seed) == ("waiting", 0.0, 3.0, "seed")
    blank = collected(Essay, notebook(MARKER))
    assert blank.status == "blank"
    assert blank.told == (("note", "Not answered."),)
    with pytest.raises(NotANotebook):
        collected(Essay, b"{}")


def test_attachments_are_named_and_never_shown() -> None:
    assert isinstance(Essay, Question)
    data = "iVBORw0KGgo" * 20
    cell = {
        "cell_type": "markdown",
        "source": f"{MARKER}See ![x](attachment:a.png) and <img src='data:image/png;base64,{data}'>",
        "attachments": {"a.png": {"image/png": data}, "\x00" * 300: 1, "c" * 300: {}},
    }
    given = collected(Essay, notebook(cell))
    assert attachments(given) == ["a.png", "unnamed", "c" * 80, "image/png in the text"]
    assert data not in repr(given)
    only = {"cell_type": "markdown", "source": MARKER, "attachments": {"a.png": {}}}
    assert collected(Essay, notebook(only)).status == "waiting", "a drawing is an answer"
    wrong_kind = {"cell_type": "markdown", "source": MARKER + "x", "attachments": [1]}
    assert attachments(collected(Essay, notebook(wrong_kind))) == []


def test_a_long_answer_is_cut_and_says_so() -> None:
    text = text_of(MARKER + "x" * (MAX_ANSWER + 50))
    assert text.startswith("x" * MAX_ANSWER + "\n[cut here")
    assert len(text) < MAX_ANSWER + 100


@pytest.mark.parametrize(
    "piece",
    ["<!--", "<!---->", "data:", "data:a/a;,", "*", "*_ ", "\n", "\t", MARKER + "{}", "**Question: essay**", " "],
)
def test_no_text_takes_long_to_look_through(piece: str) -> None:
    """As much of it as a notebook may hold. A pattern that looks back would take hours."""
    several = "".join(piece.format(i) for i in range(2**21 // (len(piece) + 8)))
    assert len(text_of(MARKER + several)) < MAX_ANSWER + 100
    assert len(text_of(*[MARKER + str(i) for i in range(2900)])) < MAX_ANSWER


# --- marking ---------------------------------------------------------------------------------------------------------


def same(count: int) -> Class:
    """So many students with the same answer, but for spaces."""
    everybody = [
        standing(
            Student(f"s{i}", f"Name {i}"), record(f"s{i}", words("Because  of it." if i % 2 else "Because of it."))
        )
        for i in range(count)
    ]
    return a_class(*everybody)


def lines(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_equal_answers_stand_together_under_codes() -> None:
    found = same(5)
    given = answers(found, "essay", KEY)
    html = marking_page(found, ESSAY, given)
    assert html.count("<h2>Answer") == 1
    assert "Answer 1 of 5 students" in html
    assert "Name" not in html
    assert "Name 3, s3" in marking_page(found, ESSAY, given, names=True)
    assert {row["group"] for row in lines(marking_csv(ESSAY, given))} == {"1"}
    assert "student_id" not in marking_csv(ESSAY, given)
    assert {row["student_id"] for row in lines(marking_csv(ESSAY, given, names=True))} == {f"s{i}" for i in range(5)}


def test_codes_are_stable_secret_and_no_numbers() -> None:
    code = code_of(KEY, "tiny", "essay", "1")
    assert code == code_of(KEY, "tiny", "essay", "1")
    assert re.fullmatch("[b-z]{12}", code)
    parts = [
        (KEY, "tiny", "essay", "2"),
        (KEY, "tiny", "other", "1"),
        (KEY, "large", "essay", "1"),
        (b"x", "tiny", "essay", "1"),
    ]
    assert len({code, *(code_of(*part) for part in parts)}) == 5


def test_the_page_has_the_rubric_and_what_is_marked_already() -> None:
    html = marking_page(a_class(), ESSAY, answers(a_class(), "essay", KEY))
    assert "2 for the consequence." in html
    assert "2.5 points by T. Marker. Good; the consequence is missing." in html
    assert "2 answers, 1 waits for a mark. 0 to 3 points." in html
    assert "image.png" in html
    assert "Ann" not in html


def test_a_mark_for_an_earlier_file_is_told() -> None:
    one = ann()
    marks = tuple(replace(m, override=replace(m.override, seen="older")) if m.override else m for m in one.marks)
    later = a_class(replace(one, marks=marks))
    assert "Another file was handed in since" in marking_page(later, ESSAY, answers(later, "essay", KEY))
    assert "since" not in marking_page(a_class(), ESSAY, answers(a_class(), "essay", KEY))


def filled(found: Class, **marks: tuple[str, str]) -> str:
    """The marks file with points and comments written in, by the student's id after an s."""
    given = answers(found, "essay", KEY)
    table = lines(marking_csv(ESSAY, given))
    for row, one in zip(table, given, strict=True):
        row["points"], row["comment"] = marks.get(f"s{one.standing.student.id}", (row["points"], row["comment"]))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(table[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()


def read(found: Class, text: str, question: str = "") -> tuple[list[NewMark], list[str]]:
    return read_marks(found, Sheet(text.encode(), "essay.csv", "FILE"), KEY, question)


def test_marks_come_back() -> None:
    assert read(a_class(), filled(a_class())) == ([], []), "nothing was written into it"
    new, wrong = read(a_class(), filled(a_class(), s2=("2,5", "=half")))
    assert wrong == []
    assert new == [NewMark("2", "essay", 2.5, "=half")]
    changed, _ = read(a_class(), filled(a_class(), s1=("3", "Better read again.")))
    assert changed == [NewMark("1", "essay", 3.0, "Better read again.")]


def test_a_file_from_a_spreadsheet_or_by_hand_is_read_too() -> None:
    by_hand = "\ufeffStudent_ID;Points;Comment\r\n2;1,5;ok\r\n;;\r\n"
    assert read(a_class(), by_hand, "essay") == ([NewMark("2", "essay", 1.5, "ok")], [])
    without_answer = "question,student_id,points\nessay,3,1\nessay,4,0\n"
    new, wrong = read(a_class(), without_answer)
    assert wrong == []
    assert [mark.student for mark in new] == ["3", "4"], "a person may mark what was handed in otherwise"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("question,code,points\nessay,bcdbcdbcdbcd,1\n", "line 2: code was 'bcdbcdbcdbcd'; no answer to essay has it"),
        ("question,student_id,points\nessay,77,1\n", "line 2: student_id was '77'; nobody in the class has it"),
        ("question,student_id,points\nessay,2,3.5\n", "line 2: points were '3.5'; essay gives 0 to 3"),
        ("question,student_id,points\nessay,2,-1\n", "points were '-1'"),
        ("question,student_id,points\nessay,2,nan\n", "points were 'nan'"),
        ("question,student_id,points\nessay,2,1e0\n", "points were '1e0'"),
        ("question,student_id,points\nsoftmax,2,1\n", "question was 'softmax'; these are answered in words: essay"),
        ("question,student_id,points\nessay,2,1\nessay,2,2\n", "line 3: the same answer as in line 2"),
        ("question,student_id,points,comment\nessay,2,,hm\n", "a comment without points"),
        ("question,student_id,points\nessay,,1\n", "neither code nor student_id"),
        ("question,student_id\nessay,1\n", "line 1: there is no column points"),
        ("question,points\nessay,1\n", "there is no column code (or student_id)"),
        ("student_id,points\n2,1\n", "there is no column question"),
    ],
)
def test_every_wrong_line_is_named(text: str, words: str) -> None:
    _, wrong = read(a_class(), text)
    assert len(wrong) == 1
    assert words in wrong[0]


def test_all_wrong_lines_are_named_at_once() -> None:
    new, wrong = read(a_class(), "question,student_id,points\nessay,2,9\nessay,2,1\nno,1,1\nessay,1,1\n")
    assert [line.split(":")[0] for line in wrong] == ["line 2", "line 3", "line 4"]
    assert new == [NewMark("1", "essay", 1.0, "")]


def test_a_code_and_an_id_must_agree() -> None:
    (one,) = [x for x in answers(a_class(), "essay", KEY) if x.standing.student.id == "2"]
    _, wrong = read(a_class(), f"question,code,student_id,points\nessay,{one.code},1,1\n")
    assert "is not the answer of student_id '1'" in wrong[0]


def test_a_mark_is_for_the_words_that_were_read() -> None:
    text = filled(a_class(), s2=("1", ""))
    newer = standing(Student("2", "Bo"), record("2", words("Something else.")))
    _, wrong = read(a_class(ann(), newer, cy(), di()), text)
    assert wrong == ["line 3: another answer was handed in since; run attnkit mark pages again"]


def test_marks_that_were_not_read_are_not_lost(tmp_path: Path) -> None:
    path = tmp_path / "essay.csv"
    assert unread(path, a_class(), KEY) == []
    path.write_text(filled(a_class()))
    assert unread(path, a_class(), KEY) == []
    path.write_text(filled(a_class(), s2=("1", "")))
    assert unread(path, a_class(), KEY) == ["1 mark that was not read yet"]
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in unread(path, a_class(), KEY)[0]


def test_only_questions_in_words_are_marked_this_way() -> None:
    assert asked_in_words(a_class()) == [ESSAY]
    with pytest.raises(GradingError, match="these are answered in words: essay"):
        asked_in_words(a_class(), "softmax")
    assert answers(a_class(bo()), "softmax", KEY) == []
    assert right(ESSAY).status == "full"
