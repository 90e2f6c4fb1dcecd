"""`attnkit report` and `attnkit export` on a ledger: what they write, how they end, that a rerun changes no byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attnkit.cli import COMMANDS, build_app
from attnkit.grading import seeds
from tests.grading.ledgers import small_class

GRADEBOOK = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lab (7)\n    Points Possible,,,,,5\n"
    '"Ames, Ann",91,1,a,X,\n"Bee, Bo",92,2,b,X,\n"Zed, Zoe",93,9,z,X,\n'
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(build_app(), [*map(str, arguments)])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    seeds.course_key(folder / seeds.KEY)
    small_class(folder).close()
    return folder


@pytest.fixture
def gradebook(tmp_path: Path) -> Path:
    path = tmp_path / "gradebook.csv"
    path.write_text(GRADEBOOK)
    return path


def files(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.suffix in (".csv", ".html")}


def test_report_writes_everything_and_the_same_again(out: Path) -> None:
    done = run("report", out)
    assert done.exit_code == 0, done.output
    assert "A tiny lab: 3 students, 2 handed in, 2 graded." in done.output
    first = files(out)
    assert first.keys() == {
        *("report.html", "grades.csv", "problems.csv", "feedback/1.html", "feedback/2.html", "feedback/3.html")
    }
    data = json.loads(run("report", out, "--json").stdout)
    assert data["questions"][0]["name"] == "softmax"
    assert files(out) == first


def test_report_links_to_the_book(out: Path) -> None:
    assert run("report", out, "--book", "javascript:x").exit_code == 1
    assert run("report", out, "--book", "https://example.org/b").exit_code == 0


def test_export_fills_a_template(out: Path, gradebook: Path, tmp_path: Path) -> None:
    target = tmp_path / "filled.csv"
    command = ("export", out, "--to", "canvas", "--template", gradebook, "--assignment", "Lab (7)", "--file", target)
    done = run(*command, "--provisional")
    assert done.exit_code == 0, done.output
    assert target.read_text() == GRADEBOOK.replace("1,a,X,", "1,a,X,3").replace("2,b,X,", "2,b,X,1")
    assert "In the gradebook, but not in this class (1):\n  Zed, Zoe" in done.output
    assert "Cy Cole (3): nothing handed in" in done.output
    told = json.loads(run(*command, "--json").stdout)
    assert told["students"] == 0
    assert len(told["left"]) == 3
    assert "waits for a mark (essay)" in told["left"][0]


def test_export_writes_nothing_when_somebody_is_lost(out: Path, gradebook: Path, tmp_path: Path) -> None:
    gradebook.write_text(GRADEBOOK.replace("92,2,b", "92,22,bb"))
    target = tmp_path / "filled.csv"
    command = ("export", out, "--to", "canvas", "--template", gradebook, "--assignment", "7", "--provisional")
    refused = run(*command, "--file", target)
    assert refused.exit_code == 4
    assert "Bo Bee (2): no row has id 2" in refused.output
    assert not target.exists()
    assert json.loads(run(*command, "--file", target, "--json").stdout)["written"] is False
    assert run(*command, "--file", target, "--partial").exit_code == 0
    assert "1,a,X,3" in target.read_text()


@pytest.mark.parametrize("system", ["csv", "canvas", "moodle"])
def test_export_without_a_template_gives_equal_bytes(out: Path, system: str) -> None:
    path = out / ("grades.csv" if system == "csv" else f"{system}.csv")
    assert run("export", out, "--to", system, "--provisional").exit_code == 0
    first = path.read_bytes()
    assert run("export", out, "--to", system, "--provisional").exit_code == 0
    assert path.read_bytes() == first
    assert b"Ann Ames" in first


def test_the_pages_go_back_as_a_zip(out: Path) -> None:
    refused = run("export", out, "--to", "moodle-feedback")
    assert refused.exit_code == 4
    assert "Ann Ames (1): no Moodle number is known" in refused.output
    assert not (out / "moodle-feedback.zip").exists()
    assert run("export", out, "--to", "canvas-feedback", "--partial").exit_code == 0
    assert (out / "canvas-feedback.zip").read_bytes()[:2] == b"PK"


def test_usage_and_what_is_not_there(out: Path, gradebook: Path, tmp_path: Path) -> None:
    assert run("export", out).exit_code == 2
    assert run("export", out, "--to", "blackboard").exit_code == 2
    assert run("export", out, "--to", "csv", "--template", gradebook).exit_code == 2
    assert run("export", out, "--to", "nbgrader").exit_code == 2, "it needs the gradebook's place"
    for command in (("report", tmp_path), ("export", tmp_path, "--to", "csv")):
        done = run(*command)
        assert done.exit_code == 1
        assert "there is no ledger" in done.output
    missing = run("export", out, "--to", "moodle", "--template", tmp_path / "no.csv")
    assert missing.exit_code == 1
    assert "--template:" in missing.output
    nowhere = run("export", out, "--to", "csv", "--file", tmp_path / "no" / "where.csv")
    assert nowhere.exit_code == 1
    assert "Traceback" not in nowhere.output


def test_similar_answers_are_looked_for_in_what_was_graded(out: Path, tmp_path: Path) -> None:
    refused = run("report", out, "--similar", tmp_path, "--lab", "tiny")
    assert refused.exit_code == 1
    assert "--lab" in refused.output, "the ledger's lab is none that attnkit knows"


@pytest.mark.parametrize("command", ["report", "export"])
def test_each_help_documents_its_exit_codes(command: str) -> None:
    text = " ".join(run(command, "--help").output.split())
    assert all(f"code {code}:" in text for code in (0, 1, 2))


def test_the_front_door_lists_all_and_opens_one() -> None:
    """`attnkit --help` loads no command: it stays quick however many there are."""
    code = (
        "import sys\nsys.argv = ['attnkit', '--help']\nfrom attnkit.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([n for n in sys.modules if n.startswith(('attnkit.grading', 'attnkit.bench', 'numpy', 'torch'))])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(name in shown for name in COMMANDS)
    assert shown.strip().endswith("[]")
    assert run("nope").exit_code == 2
