"""The whole class, honest, mistaken and hostile, graded at once: each gets what its answers deserve."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from attnkit.grading.batch import Batch, Results
from attnkit.grading.jail import Limits
from attnkit.grading.reports import page_name, write_reports
from attnkit.lab.bank import load_lab
from tests.grading.conftest import jailed  # noqa: F401  (a fixture)
from tests.redteam.corpus import Entry, corpus, make_class
from tests.redteam.make_class import as_table, read_points

CORPUS = corpus()
LAB = load_lab("attention")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, jailed: None) -> Path:  # noqa: F811  (the fixture)
    """The class graded once, with two workers and little patience; where its results lie."""
    place = tmp_path_factory.mktemp("class")
    (place / "host-secret").write_text("unchanged")
    make_class(place / "in", CORPUS)
    results = Batch(place / "in", LAB, place / "out", workers=2, limits=Limits(seconds=3.0, load_seconds=4.0)).run()
    assert isinstance(results, Results)
    assert results.graded == len(CORPUS)
    write_reports(results, LAB, place / "out")
    assert (place / "host-secret").read_text() == "unchanged"
    return place / "out"


@pytest.fixture(scope="module")
def rows(out: Path) -> dict[str, dict[str, str]]:
    with (out / "grades.csv").open(newline="") as file:
        return {row["student_id"]: row for row in csv.DictReader(file)}


def test_the_class_is_large_and_of_all_kinds() -> None:
    assert len(CORPUS) >= 24
    assert {entry.family for entry in CORPUS} == {"honest", "mistake", "hostile", "file"}
    assert len({entry.name for entry in CORPUS}) == len(CORPUS)


def test_nobody_is_missing_and_nobody_is_new(rows: dict[str, dict[str, str]]) -> None:
    assert set(rows) == {entry.number for entry in CORPUS}


@pytest.mark.parametrize("entry", CORPUS, ids=lambda entry: entry.name)
def test_each_gets_what_its_answers_deserve(rows: dict[str, dict[str, str]], entry: Entry) -> None:
    row = rows[entry.number]
    got = {question: float(row[question]) for question in entry.deserved}
    assert got == entry.deserved, entry.why
    assert float(row["total"]) == entry.total
    assert row["isolation"] == "jail"
    assert row["status"] == entry.status


def test_the_readme_shows_this_class_and_its_grades(out: Path) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    assert as_table(read_points(out)) in readme


def test_every_file_that_needs_a_look_is_listed(out: Path) -> None:
    with (out / "problems.csv").open(newline="") as file:
        problems = list(csv.DictReader(file))
    for entry in CORPUS:
        kinds = {problem["kind"] for problem in problems if f"_{entry.number}_" in problem["file"]}
        assert kinds == ({entry.problem} if entry.problem else set()), entry.name


def test_every_student_has_a_page_without_a_live_script(out: Path) -> None:
    pages = {path.name: path.read_text("utf-8") for path in (out / "feedback").iterdir()}
    assert set(pages) == {page_name(entry.number) for entry in CORPUS}
    assert not any("<script" in page.lower() or "<img" in page.lower() for page in pages.values())
    mistakes = [entry for entry in CORPUS if entry.family == "mistake" and entry.why == "a mistake with a name"]
    for entry in mistakes:
        assert "It looks as if" in " ".join(pages[page_name(entry.number)].split()), entry.name
