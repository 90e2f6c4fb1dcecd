"""How students stand: attempts, lateness, times, and questions that are graded again. The engine is a stand-in."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnkit.grading.batch import Batch, Results
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import read_roster
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.records import Run
from attnkit.grading.standing import Standing, read_class
from attnkit.grading.times import read_times
from tests.grading.tiny import QUESTIONS, hand_in, submission, tiny_batch, tiny_lab

DUE = "2026-11-20T23:59:00+01:00"


def kinds(results: Results) -> list[str]:
    """The kinds of the problems, without those that only say where a name is from."""
    return [problem.kind for problem in results.problems if problem.kind != "name from the path"]


def three_attempts(folder: Path) -> None:
    """Canvas's names of three uploads by one student; the second is the best."""
    folder.mkdir()
    (folder / "amesann_12_901_attention.ipynb").write_bytes(submission(0.5, 0.5))
    (folder / "amesann_LATE_12_902_attention-1.ipynb").write_bytes(submission(2.0, 3.0))
    (folder / "amesann_LATE_12_903_attention-2.ipynb").write_bytes(submission(1.0, 1.0))


@pytest.mark.usefixtures("pretend")
def test_the_last_attempt_counts_or_the_best(tmp_path: Path) -> None:
    three_attempts(tmp_path / "in")
    last = tiny_batch(tmp_path).run()
    assert (last.graded, last.rows[0].total, len(last.rows[0].attempts)) == (1, 2.0, 1)
    assert kinds(last) == ["not counted", "not counted"]
    best = tiny_batch(tmp_path, run_as=Run("jail", "best")).run()
    assert (best.graded, best.skipped) == (2, 1), "the last one is graded already"
    assert [attempt.points for attempt in best.rows[0].attempts] == [1.0, 5.0, 2.0]
    assert best.rows[0].total == 5.0
    assert best.rows[0].record is not None
    assert best.rows[0].record.attempt == 2
    assert kinds(best) == ["another attempt", "another attempt"]


@pytest.mark.usefixtures("pretend")
def test_of_equally_good_attempts_the_later_counts_and_lateness_is_weighed(tmp_path: Path) -> None:
    three_attempts(tmp_path / "in")
    table = tmp_path / "times.csv"
    table.write_text(
        "id,attempt,handed_in\n12,1,2026-11-20T20:00:00+01:00\n"
        "12,2,2026-11-23T20:00:00+01:00\n12,3,2026-11-22T01:00:00+01:00\n"
    )
    run = Run("jail", "best", DUE, "2 points per day")
    late = tiny_batch(tmp_path, run_as=run, times=read_times(table)).run().rows[0]
    # 1 in time; 5 - 3 * 2 is nothing; 2 - 2 * 2 is nothing
    assert (late.total, late.penalty) == (1.0, 0.0)
    (tmp_path / "in" / "amesann_LATE_12_903_attention-2.ipynb").write_bytes(submission(2.0, 3.0))
    equal = tiny_batch(tmp_path, run_as=Run("jail", "best")).run().rows[0]
    assert equal.record is not None
    assert (equal.total, equal.record.attempt) == (5.0, 3)


@pytest.mark.usefixtures("pretend")
def test_an_override_counts_for_each_attempt_and_lateness_after_it(tmp_path: Path) -> None:
    hand_in(tmp_path / "in", "ann", 0.0, 3.0)
    (tmp_path / "times.csv").write_text("id;handed_in\nann;2026-11-21T00:00:00+01:00\n")
    times = read_times(tmp_path / "times.csv")
    batch = tiny_batch(tmp_path, run_as=Run("jail", "last", DUE, "20% per day"), times=times)
    batch.run()
    with Ledger(tmp_path / "out" / LEDGER) as ledger:
        ledger.override("ann", "tiny", "one", 2.0, "right after all", "Dr. Ames")
    again = batch.run()
    assert (again.graded, again.skipped) == (0, 1)
    row = again.rows[0]
    assert (row.earned, row.penalty, row.total) == (5.0, 1.0, 4.0)
    assert row.late == "1 minute late: 1 point off (20% per day)"
    assert row.record is not None
    assert row.record.points == 3.0, "what was graded stays as it was"


@pytest.mark.usefixtures("pretend")
@pytest.mark.parametrize(
    ("rule", "extension", "penalty", "words"),
    [
        ("10% per day", "", 0.0, "nothing is taken off"),
        ("1 point, 10% per day", "", 1.0, "only the fixed part of '1 point, 10% per day' is taken off"),
        ("1 point", "2 days", 0.0, "they have an extension, so nothing is taken off"),
    ],
)
def test_late_by_canvas_without_a_time_is_a_problem(
    rule: str, extension: str, penalty: float, words: str, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "amesann_LATE_12_902_attention.ipynb").write_bytes(submission())
    (tmp_path / "roster.csv").write_text(f"id,name,canvas,extension\na,Ann Ames,12,{extension}\n")
    run = Run("jail", "last", DUE, rule)
    results = tiny_batch(tmp_path, run_as=run, roster=read_roster(tmp_path / "roster.csv")).run()
    assert [(p.kind, words in p.message) for p in results.problems] == [("late, time unknown", True)]
    assert results.rows[0].penalty == penalty


@pytest.mark.usefixtures("pretend")
def test_what_the_times_do_not_say_is_listed(tmp_path: Path) -> None:
    for name in ("ann", "bo"):
        hand_in(tmp_path / "in", name)
    (tmp_path / "times.csv").write_text("id,handed_in\nann,2026-11-20T20:00:00Z\ncy,2026-11-20T20:00:00Z\n")
    run = Run("jail", "last", DUE, "1 point")
    with_times = tiny_batch(tmp_path, run_as=run, times=read_times(tmp_path / "times.csv")).run()
    assert sorted(kinds(with_times)) == ["time of nobody", "time unknown"]
    assert kinds(tiny_batch(tmp_path, run_as=run).run()) == ["times unknown"]
    assert kinds(tiny_batch(tmp_path).run()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,when\n1,2\n", "needs `id` and `handed_in`"),
        ("id,handed_in\n1,2026-11-20T20:00:00\n", r"line 2: was .* with its offset"),
        ("id,handed_in,attempt\n1,2026-11-20T20:00:00Z,first\n", "line 2: attempt was 'first'"),
        ("id,handed_in\n1,2026-11-20T20:00:00Z\n1,2026-11-20T21:00:00Z\n", "line 3: 1 has a time already"),
    ],
)
def test_a_table_of_times_that_makes_no_sense_names_its_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "times.csv").write_text(text)
    with pytest.raises(GradingError, match=words):
        read_times(tmp_path / "times.csv")


def test_times_may_name_students_as_the_roster_knows_them(tmp_path: Path) -> None:
    (tmp_path / "roster.csv").write_text("id,name,login,canvas\nA1,Ann Ames,aames,12\n")
    roster = read_roster(tmp_path / "roster.csv")
    for name in ("A1", "aames", "12", "Ann Ames"):
        (tmp_path / "times.csv").write_text(f"id,handed_in\n{name},2026-11-20T20:00:00Z\n")
        assert read_times(tmp_path / "times.csv", roster) == {("A1", 0): "2026-11-20T20:00:00+00:00"}


def changed(place: Path) -> None:
    """Another questions.py: both questions ask for something else now."""
    tiny_lab(place, QUESTIONS.replace("Twice", "Two times").replace("Thrice", "Three times"))


def seeds_of(row: Standing) -> dict[str, str]:
    """The seeds of the answers that count."""
    return {mark.question: mark.graded.seed for mark in row.marks if mark.graded}


def test_only_the_question_named_is_graded_again_the_others_are_taken_over(
    tmp_path: Path, pretend: list[tuple[str, str]]
) -> None:
    for name in ("ann", "bo"):
        hand_in(tmp_path / "in", name, 1.0, 2.0)
    before = tiny_batch(tmp_path).run()
    changed(tmp_path)
    pretend.clear()
    batch = tiny_batch(tmp_path, regrade=("two",), author="Dr. Ames")
    again = batch.run()
    assert [name for name, _ in pretend] == ["two", "two"]
    assert again.graded == 2
    for was, row in zip(before.rows, again.rows, strict=True):
        assert was.record is not None
        one, two = (mark.graded for mark in row.marks)
        assert one is not None
        assert two is not None
        assert (one.carried, two.carried) == (was.record.key, "")
        assert one.outcome == was.record.answers[0].outcome
        assert two.outcome != was.record.answers[1].outcome
        assert seeds_of(row) == seeds_of(was), "the same inputs"
    with Ledger(tmp_path / "out" / LEDGER) as ledger:
        events = ledger.history("ann")
        assert [event.kind for event in events] == ["graded", "regraded"]
        assert (events[1].question, events[1].author) == ("two", "Dr. Ames")
        assert events[1].data["points"] == {"two": [2.0, 2.0]}
        assert events[1].data["carried"] == ["one"]
    bytes_before = (tmp_path / "out" / LEDGER).read_bytes()
    pretend.clear()
    assert (batch.run().graded, pretend) == (0, [])
    assert read_class(tmp_path / "out").standings == again.rows
    assert len(Ledger(tmp_path / "out" / LEDGER).history()) == 4
    assert bytes_before


def test_without_regrade_a_change_regrades_all(tmp_path: Path, pretend: list[tuple[str, str]]) -> None:
    hand_in(tmp_path / "in", "ann")
    tiny_batch(tmp_path).run()
    changed(tmp_path)
    pretend.clear()
    assert tiny_batch(tmp_path).run().graded == 1
    assert [name for name, _ in pretend] == ["one", "two"]


def test_what_means_something_else_now_is_not_taken_over(tmp_path: Path, pretend: list[tuple[str, str]]) -> None:
    """A question that is worth other points, a file that is another, an answer that ran without a jail."""
    path = hand_in(tmp_path / "in", "ann")
    tiny_batch(tmp_path).run()
    tiny_lab(tmp_path, QUESTIONS.replace("points=2", "points=4"))
    pretend.clear()
    tiny_batch(tmp_path, regrade=("two",)).run()
    assert [name for name, _ in pretend] == ["one", "two"]
    path.write_bytes(submission(1.0, 1.0))
    pretend.clear()
    tiny_batch(tmp_path, regrade=("two",)).run()
    assert [name for name, _ in pretend] == ["one", "two"]
    pretend.clear()
    tiny_batch(tmp_path, regrade=("two",), isolation="none").run()
    assert [name for name, _ in pretend] == ["one", "two"]


@pytest.mark.usefixtures("pretend")
def test_a_regrade_that_fails_on_the_way_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo", "cy"):
        hand_in(tmp_path / "in", name)
    tiny_batch(tmp_path).run()
    changed(tmp_path)
    batch = tiny_batch(tmp_path, regrade=("two",))
    real, calls = Ledger.write, []

    def write(ledger: Ledger, record: object, event: object = None) -> None:
        calls.append(record)
        if len(calls) == 2:
            raise KeyboardInterrupt
        real(ledger, record, event)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "write", write)
        with pytest.raises(KeyboardInterrupt):
            batch.run()
    assert [row.status for row in read_class(tmp_path / "out").standings].count("not graded yet") == 2
    assert batch.run().graded == 2
    assert [event.kind for event in Ledger(tmp_path / "out" / LEDGER).history()].count("regraded") == 3


def test_an_unknown_question_or_policy_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    hand_in(tmp_path / "in", "ann")
    for options, words in (
        ({"regrade": ("three",)}, "--regrade: was three; tiny has these questions: one, two"),
        ({"run_as": Run("jail", "first")}, "--attempts: was 'first'"),
        ({"run_as": Run("jail", "last", "noon")}, "--deadline: was 'noon'"),
        ({"run_as": Run("jail", "last", "", "lots")}, "--late: was 'lots'"),
    ):
        with pytest.raises(GradingError, match=words):
            tiny_batch(tmp_path, **options).run()
        assert not (tmp_path / "out").exists()


VARIED = QUESTIONS.replace('"""Twice x."""', '"""Axis {axis}."""').replace(
    "    def reference(self, x):\n        return 2 * x",
    "    def variant(self, rng):\n        return {'axis': int(rng.integers(1000000))}\n\n"
    "    def reference(self, x):\n        return self.axis * x",
)


@pytest.mark.usefixtures("pretend")
@pytest.mark.parametrize(
    ("named", "roster", "drawn_for", "problems"),
    [
        ("", True, "A1", []),
        ("A1", True, "A1", []),
        ("aames", True, "aames", []),
        ("B2", True, "A1", ["made for another"]),
        ("annames", False, "annames", []),
        ("B2", False, "B2", ["named in notebook"]),
    ],
)
def test_each_student_is_graded_with_numbers_of_their_own(
    named: str, roster: bool, drawn_for: str, problems: list[str], tmp_path: Path
) -> None:
    lab = tiny_lab(tmp_path, VARIED)
    (tmp_path / "in").mkdir()
    cell = [f'STUDENT = "{named}"'] if named else []
    (tmp_path / "in" / "annames.ipynb").write_bytes(submission(2.0, 3.0, *cell))
    (tmp_path / "roster.csv").write_text("id,name,login\nA1,Ann Ames,aames\n")
    known = read_roster(tmp_path / "roster.csv") if roster else None
    results = Batch(tmp_path / "in", lab, tmp_path / "out", roster=known).run()
    graded = results.rows[0].marks[0].graded
    assert graded is not None
    assert graded.variant == lab.for_student(drawn_for).questions["one"].variant
    assert kinds(results) == problems
