"""A receipt repeats a grade bit for bit, cannot be made up, and names what is different."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from attnkit.cli import build_app
from attnkit.grading import digest
from attnkit.grading.errors import GradingError
from attnkit.grading.receipt import FOLDER, read_receipt
from attnkit.grading.seeds import course_key
from tests.grading.tiny import QUESTIONS, hand_in, submission, tiny_lab

pytestmark = pytest.mark.usefixtures("pretend")


def attnkit_grade(*arguments: str | Path) -> Result:
    """`attnkit grade` with these arguments, without a jail: the engine is a stand-in."""
    return CliRunner().invoke(build_app(), ["grade", *map(str, arguments), "--isolation", "none"])


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """A folder whose `in` is graded into `out` by the lab in `tiny`."""
    hand_in(tmp_path / "in", "ann", 1.0, 2.0)
    hand_in(tmp_path / "in", "bo", 2.0, 3.0)
    tiny_lab(tmp_path)
    run = attnkit_grade(tmp_path / "in", "--lab", tmp_path / "tiny", "--out", tmp_path / "out")
    assert run.exit_code == 0, run.output
    return tmp_path


def repeat(place: Path, receipt: str = "ann", file: str = "ann", *more: str | Path) -> Result:
    """`attnkit grade --receipt` on a file of `place`."""
    paths = (place / "in" / f"{file}.ipynb", "--receipt", place / "out" / FOLDER / f"{receipt}.json")
    return attnkit_grade(*paths, "--lab", place / "tiny", "--out", place / "out", *more)


def test_the_same_file_gives_the_same_and_nothing_is_written(graded: Path) -> None:
    before = {path: path.read_bytes() for path in (graded / "out").rglob("*") if path.is_file()}
    run = repeat(graded)
    assert run.exit_code == 0, run.output
    assert "The signature is the course's." in run.output
    assert "the same, bit for bit. Isolation: none." in run.output
    assert {path: path.read_bytes() for path in (graded / "out").rglob("*") if path.is_file()} == before


def test_what_it_holds(graded: Path) -> None:
    body = json.loads((graded / "out" / FOLDER / "ann.json").read_text())
    assert (body["lab"], body["student"], body["attempt"], body["isolation"]) == ("tiny", "ann", 1, "none")
    assert body["answers"]["one"]["points"] == 1.0
    assert set(body["made"]["versions"]) == {"engine", "python", "numpy", "torch"}
    assert len({answer["seed"] for answer in body["answers"].values()}) == 2
    assert "drawn" not in json.dumps(body), "the outcome, which quotes inputs, is there as a hash only"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda body: body["answers"]["one"].update(points=2.0), "one: points was 2.0, is 1.0"),
        (lambda body: body["answers"]["two"].update(seed="ff"), "two: other outcome"),
        (lambda body: body.update(student="bo"), "the signature"),
    ],
)
def test_a_changed_receipt_is_known_by_its_signature_and_by_what_differs(
    change: object, words: str, graded: Path
) -> None:
    path = graded / "out" / FOLDER / "ann.json"
    body = json.loads(path.read_text())
    assert callable(change)
    change(body)
    path.write_text(json.dumps(body))
    run = repeat(graded)
    assert run.exit_code == 3
    assert "not that of this course's key" in run.output
    assert words in run.output


def test_without_the_key_it_says_that_the_signature_is_not_checked(graded: Path) -> None:
    (graded / "out" / "course.key").rename(graded / "elsewhere.key")
    run = repeat(graded)
    assert run.exit_code == 0, "the seeds are in the receipt"
    assert "The signature is not checked: there is no course key at" in run.output
    assert not (graded / "out" / "course.key").exists()


def test_another_course_did_not_sign_it(graded: Path) -> None:
    (graded / "out" / "course.key").unlink()
    course_key(graded / "out" / "course.key")
    assert repeat(graded).exit_code == 3


def test_another_file_and_changed_questions_are_named(graded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = repeat(graded, "ann", "bo")
    assert other.exit_code == 3
    assert "the file is another one: sha256" in other.output
    assert "one: points was 1.0, is 2.0" in other.output
    tiny_lab(graded, QUESTIONS.replace("Twice", "Two times"))
    changed = repeat(graded)
    assert changed.exit_code == 3
    assert "the questions changed since" in changed.output
    assert "one: other outcome" in changed.output
    tiny_lab(graded)
    versions = {**digest.versions(), "numpy": "0.1"}
    monkeypatch.setattr("attnkit.grading.repeat.versions", lambda: versions)
    monkeypatch.setattr("attnkit.grading.repeat.engine_digest", lambda: "other")
    engine = repeat(graded)
    assert engine.exit_code == 3
    assert f"the grader changed since (numpy {digest.versions()['numpy']} -> 0.1)" in engine.output


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no receipt"),
        ("[" * 100_000, "is no receipt"),
        ("{}", "is no receipt"),
        ('{"format": "attnkit receipt 1"}', "is not whole: lab, student"),
        ("\xff", "is no receipt"),
    ],
)
def test_what_is_no_receipt_is_told(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(GradingError, match=words):
        read_receipt(path)


@pytest.mark.parametrize("seed", ["", "0x1", "-5", "cafe "])
def test_a_seed_that_is_none_is_told(seed: str, graded: Path) -> None:
    path = graded / "out" / FOLDER / "ann.json"
    body = json.loads(path.read_text())
    body["answers"]["one"]["seed"] = seed
    path.write_text(json.dumps(body))
    run = repeat(graded)
    assert run.exit_code == 1
    assert "should be hexadecimal digits" in run.output


def test_receipts_of_students_who_are_gone_go(graded: Path) -> None:
    (graded / "in" / "bo.ipynb").unlink()
    attnkit_grade(graded / "in", "--lab", graded / "tiny", "--out", graded / "out")
    assert [path.name for path in (graded / "out" / FOLDER).iterdir()] == ["ann.json"]


def test_an_unreadable_file_has_no_grade_to_repeat(graded: Path) -> None:
    (graded / "in" / "cy.ipynb").write_text("no notebook")
    attnkit_grade(graded / "in", "--lab", graded / "tiny", "--out", graded / "out")
    run = repeat(graded, "cy", "cy")
    assert run.exit_code == 1
    assert "there is no grade to repeat" in run.output


def test_json_is_one_document_on_stdout(graded: Path) -> None:
    run = repeat(graded, "ann", "bo", "--json")
    document = json.loads(run.stdout)
    assert (document["same"], document["signed"], document["student_id"]) == (False, True, "ann")
    (graded / "in" / "cy.ipynb").write_bytes(submission(0.0, 0.0))
    whole = attnkit_grade(graded / "in", "--lab", graded / "tiny", "--out", graded / "out", "--json")
    document = json.loads(whole.stdout)
    assert [row["total"] for row in document["rows"]] == [3.0, 5.0, 0.0]
    assert document["counts"] == {
        **{"students": 3, "graded": 3, "not_graded": 0, "mean": 2.666667},
        **{"files_graded_now": 1, "files_graded_before": 2},
    }
    assert document["isolation"] == "none"
    assert document["problems"][0]["kind"] == "name from the path"
    assert "ann" in whole.stderr


def test_a_key_that_others_can_read_is_a_problem(graded: Path) -> None:
    (graded / "out" / "course.key").chmod(0o644)
    run = attnkit_grade(graded / "in", "--lab", graded / "tiny", "--out", graded / "out")
    assert run.exit_code == 0
    assert "everybody on this machine can read course.key" in run.output
    assert "chmod 600" in (graded / "out" / "problems.csv").read_text()
