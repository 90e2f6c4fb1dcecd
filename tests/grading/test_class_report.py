"""The class report counts what is there, and says what it does not know."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from attnkit.grading.class_report import as_data, report_page
from attnkit.grading.identity import Student
from attnkit.grading.links import Links
from attnkit.grading.similarity import Pair
from attnkit.grading.standing import Class, Standing
from attnkit.grading.tally import ENOUGH, tally
from tests.grading.given_class import (
    ATTENTION,
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

BOOK = Links("https://example.org/", {"softmax": "book/idea/softmax.html"})


def words_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html.split("</head>")[1]).split())


def many(count: int) -> Class:
    """A class in which the strong have softmax right; all have attention right."""
    everybody = []
    for i in range(count):
        softmax = right(SOFTMAX) if i % 2 else wrong(SOFTMAX, 0.0)
        essay = words("x")
        one = standing(Student(f"s{i:03}", f"Student {i}"), record(f"s{i:03}", softmax, right(ATTENTION), essay))
        everybody.append(one)
    return a_class(*everybody)


def test_totals_are_of_who_handed_in() -> None:
    counted = tally(a_class())
    assert (counted.students, counted.handed_in) == (4, 3)
    assert (counted.mean, counted.median) == (3.5, 2.0)
    assert sum(count for _, count in counted.distribution) == 3
    assert dict(counted.distribution)["8 to below 9"] == 1


def test_the_distribution_keeps_everybody_whatever_the_points() -> None:
    for most in (0.5, 3.0, 20.0, 33.0, 100.0):
        asked = replace(SOFTMAX, points=most)
        everybody = [
            standing(Student(str(i), ""), record(str(i), replace(right(asked), points=most * i / 7))) for i in range(8)
        ]
        found = replace(a_class(*everybody), questions=(asked,))
        counted = tally(found)
        assert sum(count for _, count in counted.distribution) == 8, most
        assert counted.distribution[-1][1] >= 1, "who has all"
        assert len(counted.distribution) <= 21


def test_questions_count_who_is_marked() -> None:
    softmax, attention, essay = tally(a_class()).questions
    assert (softmax.full, softmax.partial, softmax.none) == (1, 1, 1)
    assert (attention.full, attention.partial, attention.none) == (1, 0, 2)
    assert (essay.waiting, essay.untried, essay.partial, essay.none) == (1, 1, 1, 1)
    assert essay.mean == 1.25, "who waits has no mean yet"


def test_mistakes_are_counted_by_question_and_say_how_certain() -> None:
    mistakes = [one for one in tally(a_class()).mistakes if one.kind == "mistake"]
    assert [(one.question, one.count, one.certain, one.uncertain) for one in mistakes] == [
        ("softmax", 1, 1, 0),
        ("attention", 1, 0, 1),
    ]
    assert mistakes[0].students == ("2",)
    broken = [one for one in tally(a_class()).mistakes if one.kind == "invariant"]
    assert [(one.name, one.students) for one in broken] == [("each row sums to 1", ("3",))]


def test_failures_are_counted_by_kind_without_the_students_words() -> None:
    failures = {(one.question, one.kind): one.students for one in tally(a_class()).failures}
    assert failures == {
        ("softmax", "raised ValueError"): ("3",),
        ("attention", "did not end in time"): ("3",),
        ("essay", "not written"): ("3",),
    }


def test_discrimination_is_told_of_classes_that_are_large_enough() -> None:
    assert tally(many(ENOUGH - 1)).questions[0].discrimination is None
    softmax, attention, _ = tally(many(ENOUGH)).questions
    assert softmax.discrimination is None, "all others are the same for everybody"
    assert attention.discrimination is None
    varied = [
        standing(
            Student(str(i), ""),
            record(
                str(i), right(SOFTMAX) if i > 9 else wrong(SOFTMAX), right(ATTENTION) if i > 9 else wrong(ATTENTION)
            ),
        )
        for i in range(ENOUGH)
    ]
    found = tally(a_class(*varied)).questions
    assert found[0].discrimination is not None
    assert abs(found[0].discrimination - 1.0) < 1e-9
    assert "discrimination 1.00" not in words_of(report_page(a_class(*varied)))
    assert re.search(r"softmax 3 1\.5 .* 1\.00", words_of(report_page(a_class(*varied))))


def test_the_hardest_question_stands_first() -> None:
    text = words_of(report_page(a_class()))
    table = text[text.index("question points mean") :]
    assert table.index("attention") < table.index("softmax")


def test_the_page_says_who_wants_a_look() -> None:
    html = report_page(a_class(), BOOK)
    text = words_of(html)
    assert "shortcut Ann Ames (1) calls torch.softmax" in text
    assert "Bee, Bo &lt;b&gt; (2) essay" in text, "who waits"
    assert "Ann Ames (1) 2 days late: 1 point off 1 8.5" in text
    assert "An off-by-one in our case. another file counts now" in text, "a file that came after the override"
    assert "x.pdf - ignored not a notebook" in text
    assert "Grading the answers took 4.1 seconds" in text
    assert "softmax 1 2.00" in text, "the slowest answer"
    assert 'href="https://example.org/book/idea/softmax.html#axis"' in html


def test_each_plot_has_a_name_and_a_table_with_the_same_numbers() -> None:
    html = report_page(a_class())
    figures = re.findall(r'<figure role="img" aria-label="([^"]+)"', html)
    assert len(figures) == 3
    assert all("table below" in name for name in figures)
    assert html.count("<table>") > len(figures)
    assert "<script" not in html
    assert "style=" not in html


def test_similarity_is_shown_when_it_was_looked_at() -> None:
    assert "Similar answers" not in report_page(a_class(), similar=None)
    assert "No two answers" in report_page(a_class(), similar=[Pair("1", "2", 0.3, 0.9, ())])
    pair = Pair("1", "2", 0.75, 0.914, (), 1)
    assert "1, 2 75 % 91 % 1" in words_of(report_page(a_class(), similar=[pair]))
    assert as_data(a_class(), [pair])["similar"][0]["suspicious"]


def test_a_file_that_cannot_be_read_is_no_wrong_answer() -> None:
    """As `attnkit grade` counts: the mean is of what was graded, and a problem is listed."""
    unread = replace(
        record("9", *(replace(wrong(x), status="unreadable") for x in (SOFTMAX, ATTENTION))), status="unreadable"
    )
    found = a_class(ann(), standing(Student("9", "Ed"), unread))
    counted = tally(found)
    assert (counted.handed_in, counted.graded, counted.mean) == (2, 1, 8.5)
    assert counted.failures == ()
    assert "None of the files could be read." in report_page(a_class(standing(Student("9", "Ed"), unread)))


def test_an_empty_class_has_a_report() -> None:
    nobody = replace(a_class(di()), problems=())
    assert "Nobody handed anything in." in report_page(nobody)
    assert "0 students" in words_of(report_page(replace(nobody, standings=())))
    assert as_data(replace(nobody, standings=(), questions=()))["mean"] == 0


def test_the_data_is_json_and_complete() -> None:
    data = json.loads(json.dumps(as_data(a_class())))
    assert [one["student"] for one in data["standings"]] == ["1", "2", "3", "4"]
    assert data["standings"][0]["total"] == 8.5
    assert data["mistakes"][0]["hint"].startswith("You normalised")
    assert data["seconds"] > 4
    assert data["similar"] is None


def test_a_large_class_makes_a_page_that_can_be_read() -> None:
    html = report_page(many(200))
    assert len(html) < 100_000
    assert "and 92 more" in html


def test_answers_that_were_taken_over_took_no_time() -> None:
    carried = replace(right(SOFTMAX), seconds=5.0, carried="key")
    one: Standing = standing(Student("1", "A"), record("1", carried))
    assert tally(a_class(one)).seconds == 0
    assert tally(a_class(ann(), bo(), cy())).seconds > 4


def test_what_answers_use_is_for_the_instructor() -> None:
    readings = ({"part": "lean", "measure": "memory", "by": "pages", "values": {"64": 2.0**20, "128": 3 * 2.0**20}},)
    found = a_class(
        *(
            standing(Student(str(i), ""), record(str(i), replace(right(SOFTMAX), measured=readings if i else ())))
            for i in range(3)
        )
    )
    assert [(one.length, one.students, one.median) for one in tally(found).usage] == [
        (64, 2, 2.0**20),
        (128, 2, 3 * 2.0**20),
    ]
    assert "softmax lean memory 128 2 3.0 MiB 3.0 MiB" in words_of(report_page(found))
