"""`attnkit grade` as typed: options, exit codes, one run at a time."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attnkit.cli import build_app
from attnkit.grading.command_runs import LOCK
from tests.grading.tiny import QUESTIONS, hand_in, submission, tiny_lab

pytestmark = pytest.mark.usefixtures("pretend")
DUE = "2026-11-20T23:59:00+01:00"


def typed(place: Path, *arguments: str) -> Result:
    """`attnkit grade` of `place`/in by the tiny lab, without a jail: the engine is a stand-in."""
    where = [str(place / "in"), "--lab", str(place / "tiny"), "--out", str(place / "out")]
    return CliRunner().invoke(build_app(), ["grade", *where, "--isolation", "none", *arguments])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with the tiny lab and two students' files."""
    tiny_lab(tmp_path)
    hand_in(tmp_path / "in", "ann", 1.0, 2.0)
    hand_in(tmp_path / "in", "bo", 2.0, 3.0)
    return tmp_path


def test_the_help_says_what_the_exit_codes_mean() -> None:
    text = CliRunner().invoke(build_app(), ["grade", "--help"]).output
    for code in (0, 1, 2, 3, 130):
        assert f"Exit code {code}:" in text
    for option in ("--attempts", "--deadline", "--late", "--times", "--regrade", "--receipt", "--watch", "--scheduler"):
        assert option in text


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--workers", "-1"], 2, "--workers"),
        (["--seconds", "soon"], 2, "--seconds"),
        (["--nonsense"], 2, "--nonsense"),
        (["--attempts", "first"], 1, "it should be last or best"),
        (["--late", "lots"], 1, "10% per day, at most 50%"),
        (["--deadline", "2026-11-20"], 1, "with its offset from UTC"),
        (["--times", "nowhere.csv"], 1, "--times: nowhere.csv cannot be read"),
        (["--regrade", "three"], 1, "tiny has these questions: one, two"),
        (["--receipt", "nowhere.json"], 1, "--receipt: nowhere.json cannot be read"),
        (["--isolation", "hope"], 1, "jail, uid"),
    ],
)
def test_what_is_wrong_is_said_with_its_exit_code(arguments: list[str], code: int, words: str, place: Path) -> None:
    run = typed(place, *arguments)
    assert run.exit_code == code
    assert words in " ".join(run.output.split())
    assert not (place / "out" / "grades.csv").exists()
    if code == 1:
        as_json = typed(place, *arguments, "--json")
        assert words in json.loads(as_json.stdout)["error"]


def test_attempts_lateness_and_times_reach_the_grades(place: Path) -> None:
    (place / "in" / "ann").mkdir()
    (place / "in" / "ann" / "first.ipynb").write_bytes(submission(2.0, 3.0))
    (place / "times.csv").write_text(
        "id,handed_in,attempt\nann,2026-11-22T23:00:00+01:00,1\nbo,2026-11-21T00:00:00Z,\n"
    )
    options = ["--attempts", "best", "--deadline", DUE, "--late", "10% per day", "--times", str(place / "times.csv")]
    document = json.loads(typed(place, *options, "--json").stdout)
    rows = {row["student_id"]: row for row in document["rows"]}
    assert (rows["ann"]["total"], rows["ann"]["attempts"], rows["ann"]["late"]) == (5.0, 2, "")
    assert (rows["bo"]["earned"], rows["bo"]["penalty"], rows["bo"]["total"]) == (5.0, 0.5, 4.5)
    assert document["rules"].startswith("The best attempt counts. Due 2026-11-20T22:59:00+00:00. Late: 10% per day.")


def test_regrade_says_what_was_taken_over_and_when_there_is_nothing_to_do(place: Path) -> None:
    assert typed(place).exit_code == 0
    tiny_lab(place, QUESTIONS.replace("Thrice", "Three times"))
    run = typed(place, "--regrade", "two")
    assert run.exit_code == 0
    assert "one 1/2 (as before)  two 2/3  [none]" in run.output
    assert "2 students: 2 graded, 0 not." in run.output
    again = typed(place, "--regrade", "two")
    assert "--regrade two: nothing changed since it was graded." in again.output


def test_two_runs_at_once_are_refused(place: Path) -> None:
    (place / "out").mkdir()
    with (place / "out" / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused = typed(place)
        assert refused.exit_code == 1
        assert "another `attnkit grade` is at work" in refused.output
    assert typed(place).exit_code == 0
