"""A batch ends, can be killed and repeated, and its results say how they came about."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from attnkit.cli import build_app
from attnkit.grading import command_runs, job
from attnkit.grading.batch import Batch
from attnkit.grading.errors import GradingError
from attnkit.grading.exports.per_question import grades_csv
from attnkit.grading.identity import Student, read_roster
from attnkit.grading.intake import take_in
from attnkit.grading.ledger import Ledger, key_of
from attnkit.grading.receipt import read_receipt, write_receipts
from attnkit.grading.repeat import repeat
from attnkit.grading.reports import page_name, write_reports
from attnkit.grading.seeds import course_key
from attnkit.grading.standing import Class, Standing
from attnkit.lab.bank import load_lab
from tests.grading.ledgers import exports
from tests.redteam.corpus import corpus, honest, make_class, mistaken

pytestmark = pytest.mark.slow  # jails, or notebooks that run

LAB = load_lab("attention")
GRADE = [sys.executable, "-c", "import typer; from attnkit.grading.commands import grade; typer.run(grade)"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, jailed: None) -> Path:
    """A folder `in` of fifteen quick submissions, graded once into `out`."""
    place = tmp_path_factory.mktemp("small")
    quick = [entry for entry in corpus() if entry.name in {e.name for e in (*honest()[:4], *mistaken())}]
    assert len(quick) == 15
    make_class(place / "in", quick)
    command = [*GRADE, str(place / "in"), "--lab", "attention", "--out", str(place / "out"), "--workers", "1"]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("[jail]") == 15
    return place


@pytest.mark.slow
def test_killed_anywhere_and_run_again_gives_the_same_bytes(small: Path, tmp_path: Path) -> None:
    """Between two submissions or inside one, once or several times: nothing is lost, nothing is graded twice."""
    draw = random.Random(0)
    out = tmp_path / "out"
    out.mkdir()
    shutil.copy(small / "out" / "course.key", out / "course.key")
    command = [*GRADE, str(small / "in"), "--lab", "attention", "--out", str(out), "--workers", "1"]
    done: list[int] = []
    for _ in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        before, deadline = count(out), time.monotonic() + 30
        wanted = before + draw.randint(1, 3)
        while count(out) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.1)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        done.append(count(out))
    assert 0 < done[0] <= done[-1] < 15 or len(set(done)) > 1, f"killed too late to mean anything: {done}"
    times = graded_at(out)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert count(out) == 15
    assert {key: graded_at(out)[key] for key in times} == times, "what was done is not graded again"
    assert exports(out) == exports(small / "out")


def count(out: Path) -> int:
    """How many submissions the ledger has, each with all its answers."""
    try:
        database = sqlite3.connect(f"file:{out / 'ledger.db'}?mode=ro", uri=True, timeout=5)
        answers = database.execute("SELECT count(*) FROM answer GROUP BY key").fetchall()
        (submissions,) = database.execute("SELECT count(*) FROM submission").fetchone()
        database.close()
    except sqlite3.OperationalError:  # not there yet
        return 0
    assert all(number == (3,) for number in answers)
    assert len(answers) == submissions
    return int(submissions)


def graded_at(out: Path) -> dict[str, int]:
    """The row that each submission has in the ledger: a second grading would get another."""
    database = sqlite3.connect(out / "ledger.db")
    rows = dict(database.execute("SELECT key, rowid FROM submission").fetchall())
    database.close()
    return rows


def test_a_rerun_grades_nothing_and_writes_the_same(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small / "out", tmp_path / "out")
    results = Batch(small / "in", LAB, tmp_path / "out").run()
    assert (results.graded, results.skipped) == (0, 15)
    write_reports(results.found, tmp_path / "out")
    write_receipts(results.found, tmp_path / "out", course_key(tmp_path / "out" / "course.key"))
    assert exports(tmp_path / "out") == exports(small / "out")


@pytest.mark.slow
def test_receipts_repeat_real_grades_bit_for_bit(small: Path, tmp_path: Path) -> None:
    """Of right answers and of mistaken ones, each in a jail of its own."""
    files = {found.where: found for found in take_in(small / "in").submissions}
    file, repeated = tmp_path / "a.ipynb", set()
    for path in sorted((small / "out" / "receipts").glob("*.json")):
        receipt = read_receipt(path)
        file.write_bytes(files[receipt.body["source"]].read())
        points = sum(answer["points"] for answer in receipt.body["answers"].values())
        if points not in repeated:
            assert repeat(receipt, file, LAB, "jail") == []
            repeated.add(points)
    assert len(repeated) > 1


def test_a_changed_file_is_graded_again_and_a_roster_adds_who_is_missing(small: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "roster.csv").write_text("id,name\n1,Ann Ames\n2,Bo Bee\n")
    source = next(path for path in (small / "in").rglob("attention.ipynb"))
    shutil.copy(source, tmp_path / "in" / "annames.ipynb")
    batch = Batch(tmp_path / "in", LAB, tmp_path / "out", read_roster(tmp_path / "roster.csv"))
    rows = batch.run().rows
    assert [(row.student.id, row.status) for row in rows] == [("1", "graded"), ("2", "nothing handed in")]
    text = source.read_text().replace("def softmax", "def other")
    (tmp_path / "in" / "annames.ipynb").write_text(text)
    again = batch.run()
    assert again.graded == 1
    assert again.rows[0].record is not None
    assert again.rows[0].record.points < 10


def test_without_a_jail_it_refuses_unless_told_and_then_every_result_says_so(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command_runs, "why_no_jail", lambda: "bubblewrap is not installed")
    source = next(path for path in (small / "in").rglob("attention.ipynb"))
    shutil.copy(source, tmp_path / "a.ipynb")
    arguments = ["grade", str(tmp_path / "a.ipynb"), "--lab", "attention", "--out", str(tmp_path / "out")]
    refused = CliRunner().invoke(build_app(), arguments)
    assert refused.exit_code == 1
    assert "--isolation none" in refused.output
    assert not (tmp_path / "out" / "grades.csv").exists()
    taken = CliRunner().invoke(build_app(), [*arguments, "--isolation", "none"])
    assert taken.exit_code == 0, taken.output
    assert "[none]" in taken.output
    assert ",none,graded" in (tmp_path / "out" / "grades.csv").read_text()
    assert "isolation: none" in (tmp_path / "out" / "feedback" / "a.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["nowhere", "--lab", "attention"], "nothing at"),
        ([".", "--lab", "no-such-lab"], "should be one of: attention"),
        ([".", "--lab", "attention", "--isolation", "hope"], "jail, uid"),
        ([".", "--lab", "attention", "--roster", "nowhere.csv"], "--roster"),
    ],
)
def test_what_cannot_start_says_why(arguments: list[str], word: str, tmp_path: Path, jailed: None) -> None:
    run = CliRunner().invoke(build_app(), ["grade", *arguments, "--out", str(tmp_path / "out")])
    assert run.exit_code == 1
    assert word in run.output


def test_an_error_of_the_grader_costs_one_student_their_row_only(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is skipped for good either: the next run grades them."""
    shutil.copy(next(path for path in (small / "in").rglob("attention.ipynb")), tmp_path / "a.ipynb")
    batch = Batch(tmp_path / "a.ipynb", LAB, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(job, "grade_question", lambda *_: 1 / 0)
        broken = batch.run()
    assert [problem.kind for problem in broken.problems if problem.kind == "grader error"] == ["grader error"]
    assert broken.rows[0].record is None
    mended = batch.run()
    assert mended.rows[0].status == "graded"
    assert not [problem for problem in mended.problems if problem.kind == "grader error"]


def test_a_ledger_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database" * 100)
    with pytest.raises(GradingError, match="cannot be used"):
        Ledger(tmp_path / "text.db")


def test_keys_tell_everything_apart() -> None:
    assert len({key_of(parts) for parts in (["a", "bc"], ["ab", "c"], ["abc"], ["a", "bc", 1], ["a", "bc", "1"])}) == 5


def test_names_from_outside_are_tame_in_files_and_spreadsheets(tmp_path: Path) -> None:
    names = ["../../x", "=HYPERLINK(1)", "a b", "", "é", "x" * 300, "CON", "a/b"]
    pages = [page_name(name) for name in names]
    assert len(set(pages)) == len(names)
    assert all("/" not in page and not page.startswith(".") and len(page) < 90 for page in pages)
    people = (Standing(Student("=1+1", "@evil"), "nothing handed in"),)
    table = grades_csv(Class("tiny", "Tiny", (), people, (), "jail"))
    assert table.splitlines()[1].startswith("'=1+1,'@evil,")


def test_the_trusted_process_stays_small_and_without_torch(small: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom attnkit.grading.batch import Batch\n"
        "from attnkit.lab.bank import load_lab\n"
        f"Batch(Path({str(small / 'in')!r}), load_lab('attention'), Path({str(tmp_path)!r}), workers=2).run()\n"
        "assert 'torch' not in sys.modules\n"
        # ru_maxrss would count what the parent, this test run, held when it forked
        "status = dict(line.split(':') for line in open('/proc/self/status'))\n"
        "print(int(status['VmHWM'].split()[0]) // 1024)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 300
