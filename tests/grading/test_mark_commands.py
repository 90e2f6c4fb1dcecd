"""`attnkit mark`: pages out, marks in, all or nothing, and a history of it."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attnkit.cli import build_app
from attnkit.grading import given, mark_commands, seeds
from attnkit.grading.adapters.gradebook import HandMark
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.standing import read_class
from tests.grading.ledgers import record, small_class


def mark(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), ["mark", *map(str, arguments)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A graded class of two with an essay each, which waits."""
    folder = tmp_path / "out"
    seeds.course_key(folder / seeds.KEY)
    records = []
    for key, student, text in (("a", "1", "Because."), ("b", "2", "=Because I say so")):
        one = record(key, student)
        *first, essay = one.answers
        records.append(replace(one, answers=(*first, replace(essay, outcome={"text": text, "attachments": []}))))
    small_class(folder, None, *records).close()
    return folder


def table(out: Path) -> list[dict[str, str]]:
    with (out / "marking" / "essay.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def write(out: Path, rows: list[dict[str, str]]) -> Path:
    path = out / "marking" / "essay.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def state(out: Path) -> dict[str, tuple[float, bool]]:
    """Essay points and whether it waits, by student who handed in."""
    return {
        one.student.id: (mark.points, mark.waiting)
        for one in read_class(out).standings
        for mark in one.marks
        if mark.question == "essay" and one.record
    }


def test_pages_out_marks_in(out: Path) -> None:
    done = mark("pages", out)
    assert done.exit_code == 0, done.output
    assert "essay: 2 answers, 2 wait for a mark" in done.output
    page = (out / "marking" / "essay.html").read_text()
    assert "Because." in page
    assert "Ann" not in page
    rows = table(out)
    assert {row["answer"] for row in rows} == {"Because.", "'=Because I say so"}
    for row in rows:
        row["points"], row["comment"] = ("1,5", "good") if row["answer"] == "Because." else ("", "")
    read = mark("read", out, write(out, rows), "--author", "T. Marker", "--json")
    assert read.exit_code == 0, read.output
    assert json.loads(read.stdout) == {"written": True, "marks": 1, "waiting": 1}
    assert state(out)["1"] == (1.5, False)
    assert state(out)["2"] == (0.0, True)
    assert "Marked by T. Marker" in (out / "feedback" / "1.html").read_text(), "the pages are written again"
    again = mark("read", out, out / "marking" / "essay.csv", "--author", "Another")
    assert "0 marks taken over" in again.output
    assert "good" in (out / "marking" / "essay.csv").read_text()


def test_pages_twice_give_the_same_bytes_and_lose_no_marks(out: Path) -> None:
    mark("pages", out)
    before = {path.name: path.read_bytes() for path in (out / "marking").iterdir()}
    assert mark("pages", out).exit_code == 0
    assert before == {path.name: path.read_bytes() for path in (out / "marking").iterdir()}
    rows = table(out)
    rows[0]["points"] = "1"
    write(out, rows)
    refused = mark("pages", out)
    assert refused.exit_code == 4
    assert "1 mark that was not read yet" in refused.output
    assert table(out)[0]["points"] == "1"
    assert mark("pages", out, "--overwrite").exit_code == 0
    assert table(out)[0]["points"] == ""


def test_one_wrong_line_and_nothing_counts(out: Path) -> None:
    mark("pages", out)
    rows = table(out)
    rows[0]["points"], rows[1]["points"] = "1", "99"
    refused = mark("read", out, write(out, rows), "--author", "T")
    assert refused.exit_code == 4
    assert "line 3: points were '99'; essay gives 0 to 2" in refused.output
    assert set(state(out).values()) == {(0.0, True)}
    told = mark("read", out, out / "marking" / "essay.csv", "--author", "T", "--json")
    assert told.exit_code == 4
    assert json.loads(told.stdout)["written"] is False


def test_marks_count_together_or_not_at_all(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may end between two of them."""
    mark("pages", out)
    rows = table(out)
    for row in rows:
        row["points"] = "1"
    real, calls = Ledger.override, []

    def ends(self: Ledger, *arguments: object) -> bool:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(Ledger, "override", ends)
    assert mark("read", out, write(out, rows), "--author", "T").exit_code != 0
    assert len(calls) == 2
    assert set(state(out).values()) == {(0.0, True)}


def formgrader(out: Path, monkeypatch: pytest.MonkeyPatch, *marks: HandMark) -> Result:
    """`mark read --nbgrader` of a gradebook with these; tests/grading/test_nbgrader.py has the real one."""
    monkeypatch.setattr(mark_commands, "marks_from_gradebook", lambda file, assignment: list(marks))
    return mark("read", out, "--nbgrader", "gradebook.db", "--author", "T")


def test_marks_of_formgrader_come_in_as_well(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    essay, code = HandMark("1", "essay", 1.5, "good"), HandMark("2", "softmax", 2.0, "")
    done = formgrader(out, monkeypatch, essay, code)
    assert done.exit_code == 0, done.output
    assert "2 marks taken over" in done.output
    assert state(out)["1"] == (1.5, False)
    assert "Marked in formgrader." in (out / "feedback" / "2.html").read_text()
    assert "0 marks taken over" in formgrader(out, monkeypatch, essay, code).output
    assert "1 mark taken over" in formgrader(out, monkeypatch, HandMark("1", "essay", 1.5, "better")).output
    refused = formgrader(out, monkeypatch, HandMark("1", "essay", 2.0, ""), HandMark("9", "essay", 1.0, ""))
    assert refused.exit_code == 4
    assert "9, essay: no such student or question" in refused.output
    assert state(out)["1"] == (1.5, False)
    assert "essay: 3 points; it gives 0 to 2" in formgrader(out, monkeypatch, HandMark("1", "essay", 3.0, "")).output
    assert mark("read", out, "--author", "T").exit_code == 2
    assert mark("read", out, "a.csv", "--nbgrader", "b.db", "--author", "T").exit_code == 2


def test_set_withdraw_and_history(out: Path) -> None:
    common = ("--student", "1", "--question", "softmax", "--author", "T. Marker")
    done = mark("set", out, *common, "--points", "1", "--reason", "Agreed in class")
    assert done.exit_code == 0, done.output
    assert "1: softmax is 1 points." in done.output or "1: softmax is 1 point." in done.output
    assert "so already" in mark("set", out, *common, "--points", "1", "--reason", "Agreed in class").output
    assert "Agreed in class" in (out / "feedback" / "1.html").read_text()
    assert mark("withdraw", out, *common, "--reason", "A slip").exit_code == 0
    assert "Agreed in class" not in (out / "feedback" / "1.html").read_text()
    events = json.loads(mark("history", out, "--student", "1", "--json").stdout)["events"]
    assert [event["kind"] for event in events] == ["graded", "override", "withdrawn"]
    text = mark("history", out).output
    assert re.search(r"override +1 +softmax +1 points +by T\. Marker +\(Agreed in class\)", text)
    assert len(text.strip().splitlines()) == 4, "both gradings, the override, the withdrawal"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--student", "9", "--question", "softmax", "--points", "1"), "nobody in the last run"),
        (("--student", "1", "--question", "nope", "--points", "1"), "has these: softmax, essay"),
        (("--student", "1", "--question", "softmax", "--points", "7"), "gives 0 to 3"),
        (("--student", "1", "--question", "softmax", "--points", "nan"), "gives 0 to 3"),
    ],
)
def test_what_cannot_be_set_says_why(out: Path, arguments: tuple[str, ...], words: str) -> None:
    done = mark("set", out, *arguments, "--reason", "r", "--author", "a")
    assert done.exit_code == 1
    assert words in done.output
    assert "Traceback" not in done.output


def test_usage_and_what_is_not_there(out: Path, tmp_path: Path) -> None:
    assert mark("set", out).exit_code == 2
    assert mark("pages", tmp_path / "nowhere").exit_code == 1
    assert "there is no ledger" in mark("pages", tmp_path / "nowhere").output
    assert "was 'softmax'" in mark("pages", out, "--question", "softmax").output
    assert mark("read", out, tmp_path / "no.csv", "--author", "T").exit_code == 1
    assert "the ledger has these: tiny" in mark("history", out, "--lab", "other").output
    (out / seeds.KEY).unlink()
    assert "There is no" in mark("pages", out).output
    assert not (out / seeds.KEY).exists(), "a new key would change everybody's inputs"


@pytest.mark.parametrize("command", ["pages", "read", "set", "withdraw", "history"])
def test_each_help_documents_its_exit_codes(command: str) -> None:
    text = " ".join(mark(command, "--help").output.split())
    assert all(f"Exit code {code}" in text or f"code {code}:" in text for code in (0, 1, 2))


def test_the_history_survives_in_the_ledger(out: Path) -> None:
    mark("set", out, "--student", "1", "--question", "softmax", "--points", "2", "--reason", "r", "--author", "a")
    with Ledger(out / LEDGER) as ledger:
        assert [event.author for event in ledger.history("1")] == ["", "a"]


def test_a_terminal_without_a_letter_still_hears(capsys: pytest.CaptureFixture[str]) -> None:
    assert given._shown("Zoë\x1b[2J\u202e", "ascii") == "Zo??[2J?"
    assert given._shown("Zoë", None) == "Zoë"
    given.say(True, {"name": "Zoë"}, [])
    assert json.loads(capsys.readouterr().out) == {"name": "Zoë"}
