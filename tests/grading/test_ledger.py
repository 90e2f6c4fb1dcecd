"""The ledger keeps what it is given: across schemas, reruns, and what people decide."""

from __future__ import annotations

import sqlite3
from dataclasses import fields, replace
from pathlib import Path

import pytest

from attnkit.grading import schema
from attnkit.grading.engine import Graded
from attnkit.grading.errors import GradingError
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.records import Event, Run
from attnkit.grading.standing import read_class
from tests.grading.ledgers import SCHEMA_1, answer, first_ledger, record, small_class


def dump(path: Path) -> list[str]:
    """Everything in a database, as SQL."""
    database = sqlite3.connect(path)
    try:
        return [*database.iterdump(), str(database.execute("PRAGMA user_version").fetchone())]
    finally:
        database.close()


def test_schema_1_opens_and_nothing_is_lost(tmp_path: Path) -> None:
    path = first_ledger(tmp_path)
    database = sqlite3.connect(path)
    old = {table: database.execute(f"SELECT * FROM {table}").fetchall() for table in ("submission", "answer")}
    database.close()
    with Ledger(path) as ledger:
        for row in old["submission"]:
            found = ledger.read(row[0])
            assert found is not None
            assert tuple(vars(found)[name] for name in list(vars(found))[:9]) == row
            answers = sorted(one for one in old["answer"] if one[0] == row[0])
            assert sorted((found.key, i, a.question, a.points, a.max_points, a.status, a.framework, a.seed)
                          for i, a in enumerate(found.answers)) == [one[:8] for one in answers]  # fmt: skip
        assert [event.kind for event in ledger.history()] == ["graded"] * 6
    database = sqlite3.connect(path)
    assert database.execute("PRAGMA user_version").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()


def test_a_class_can_be_read_from_schema_1_before_anything_is_graded_again(tmp_path: Path) -> None:
    first_ledger(tmp_path)
    found = read_class(tmp_path)
    assert (found.lab, found.isolation, found.max_points) == ("attention", "jail", 10.0)
    assert [asked.name for asked in found.questions] == ["softmax", "attention", "masked_attention"]
    assert [standing.total for standing in found.standings] == [10.0, 10.0, 9.0, 9.0, 7.0, 0.0]
    assert found.standings[-1].status == "unreadable"


def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    first_ledger(tmp_path / "old")
    for place in ("old", "new"):
        Ledger(tmp_path / place / LEDGER).close()
    described = []
    for place in ("old", "new"):
        database = sqlite3.connect(tmp_path / place / LEDGER)
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master ORDER BY name")]
        described.append({name: database.execute(f"PRAGMA table_info({name})").fetchall() for name in names})
        database.close()
    assert described[0] == described[1]


def test_an_interrupted_migration_leaves_schema_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its statements is the last that is done."""
    whole = dump(first_ledger(tmp_path / "whole"))
    statements = schema._statements(schema._SECOND + schema._FROM_FIRST)
    assert len(statements) > 15
    for number in range(len(statements)):
        path = first_ledger(tmp_path / str(number))
        broken = [*statements[:number], "this is no SQL;", *statements[number:]]
        with monkeypatch.context() as patch:
            patch.setattr(schema, "_statements", lambda _, broken=broken: broken)
            with pytest.raises(GradingError, match="cannot be used"):
                Ledger(path)
        assert dump(path) == whole
        with Ledger(path) as ledger:
            assert len(ledger.history()) == 6


def test_a_newer_ledger_is_refused_in_words_and_left_alone(tmp_path: Path) -> None:
    path = first_ledger(tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 3")
    database.close()
    before = path.read_bytes()
    with pytest.raises(GradingError, match=r"schema 3, which a newer attnkit wrote; this one knows 2\. Update"):
        Ledger(path)
    assert path.read_bytes() == before


def test_the_fixture_is_what_schema_1_says_of_itself() -> None:
    """Else the tests above would migrate something that never was."""
    text = SCHEMA_1.read_text("utf-8")
    for statement in schema._statements(schema._FIRST):
        assert " ".join(statement.split()) in " ".join(text.split())


def test_a_record_comes_back_as_it_went_in(tmp_path: Path) -> None:
    with small_class(tmp_path) as ledger:
        found = ledger.read("a")
        assert found == record("a", "1", 3.0)
        assert found is not None
        assert found.graded_at
        assert ledger.read("other") is None
        ledger.write(replace(record("a", "1"), source="other.ipynb"))  # the first of two stays
        assert ledger.read("a") == record("a", "1", 3.0)
        twice = record("c", "1")
        with pytest.raises(sqlite3.Error):  # the second answer breaks the key: then the first is not kept either
            ledger.write(replace(twice, answers=(twice.answers[0], twice.answers[0])))
        assert not ledger.has("c")
        assert len(ledger.history()) == 2


def test_overrides_outlive_reruns_and_can_be_withdrawn(tmp_path: Path) -> None:
    with small_class(tmp_path) as ledger:
        assert ledger.override("2", "tiny", "softmax", 2.5, "right idea, wrong axis", "Dr. Ames")
        assert not ledger.override("2", "tiny", "softmax", 2.5, "right idea, wrong axis", "Dr. Ames")
    with small_class(tmp_path, None, record("a", "1"), record("b2", "2", 0.0)) as ledger:  # graded again
        assert [event.kind for event in ledger.history("2")] == ["graded", "override", "graded"]
    marks = read_class(tmp_path).standings[1].marks
    assert (marks[0].points, marks[0].status) == (2.5, "overridden")
    assert marks[0].override is not None
    assert marks[0].graded is not None
    assert (marks[0].override.author, marks[0].override.seen, marks[0].graded.points) == ("Dr. Ames", "sha-b", 0.0)
    with Ledger(tmp_path / LEDGER) as ledger:
        ledger.withdraw("2", "tiny", "softmax", "it was a copy", "Dr. Ames")
        assert ledger.overrides("tiny") == {}
        with pytest.raises(GradingError, match="no override to withdraw"):
            ledger.withdraw("2", "tiny", "softmax", "again", "Dr. Ames")
        assert [event.kind for event in ledger.history()][-1] == "withdrawn"
    assert read_class(tmp_path).standings[1].total == 0.0


def test_a_manual_question_waits_until_a_person_marks_it(tmp_path: Path) -> None:
    with small_class(tmp_path) as ledger:
        waiting = [[mark.question for mark in one.marks if mark.waiting] for one in read_class(tmp_path).standings]
        assert waiting == [["essay"], ["essay"], []]
        ledger.override("1", "tiny", "essay", 2, "complete", "Dr. Ames")
        assert ledger.history("1")[-1].kind == "manual mark"
    first = read_class(tmp_path).standings[0]
    assert (first.total, first.marks[1].waiting, first.marks[1].status) == (5.0, False, "marked")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"student": "9"}, "student: was '9'"),
        ({"lab": "other"}, "the ledger has these: tiny"),
        ({"question": "sofmax"}, "tiny has these: softmax, essay"),
        ({"points": 3.5}, "points: were 3.5; softmax of tiny gives 0 to 3"),
        ({"points": -1.0}, "points: were -1"),
        ({"points": float("nan")}, "points: were nan"),
        ({"reason": " "}, "reason: was empty"),
        ({"author": ""}, "author: was empty"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(changed: dict[str, object], words: str, tmp_path: Path) -> None:
    right = {"student": "1", "lab": "tiny", "question": "softmax", "points": 1.0, "reason": "r", "author": "a"}
    with small_class(tmp_path) as ledger:
        with pytest.raises(GradingError, match=words):
            ledger.override(**{**right, **changed})
        assert ledger.overrides("tiny") == {}


def test_history_is_never_rewritten(tmp_path: Path) -> None:
    with small_class(tmp_path) as ledger:
        ledger.note(Event("2026-11-21T10:00:00+00:00", "policy", "tiny"))
        for statement in ("UPDATE event SET author = 'me'", "DELETE FROM event"):
            with pytest.raises(sqlite3.Error, match="never rewritten"):
                ledger._database.execute(statement)
        assert len(ledger.history()) == 3


def test_a_changed_policy_is_an_event(tmp_path: Path) -> None:
    small_class(tmp_path, Run("jail")).close()
    small_class(tmp_path, Run("jail")).close()
    with small_class(tmp_path, Run("jail", "best", "2026-11-20T23:59:00+01:00", "10% per day")) as ledger:
        changes = [event.data for event in ledger.history() if event.kind == "policy"]
    assert [(one["from"]["attempts"], one["to"]["attempts"]) for one in changes] == [("last", "best")]


def test_without_a_ledger_it_says_where_one_was_expected(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="there is no ledger at"):
        read_class(tmp_path)
    small_class(tmp_path).close()
    with pytest.raises(GradingError, match="the ledger has these: tiny"):
        read_class(tmp_path, "other")


def test_two_processes_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    one, other = Ledger(tmp_path / LEDGER), Ledger(tmp_path / LEDGER)
    one.write(record("a", "1"))
    assert other.has("a")
    one.close()
    other.close()


def test_the_answer_of_these_tests_fills_every_field() -> None:
    """So that a new field of an answer cannot be forgotten by the ledger: it would come back empty."""
    plain = Graded("softmax", 3.0, 3.0, "full", "torch", "ab")
    one = answer(3.0)
    for field in fields(Graded)[6:]:
        assert getattr(one, field.name) != getattr(plain, field.name), field.name
