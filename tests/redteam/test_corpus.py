"""The whole class, honest, mistaken and hostile, graded at once: each gets what its answers deserve.

So does every hostile notebook once more, without metadata and with its cells shuffled.
"""

from __future__ import annotations

import csv
import unicodedata
from pathlib import Path

import pytest

from attnkit.grading import zygote
from attnkit.grading.batch import Batch, Results
from attnkit.grading.jail import Limits
from attnkit.grading.reports import page_name, write_reports
from attnkit.lab.bank import load_lab
from tests.redteam.corpus import Entry, corpus, hostile, make_class, mangled, numbered
from tests.redteam.make_class import as_table, read_points

CORPUS = corpus()
AGAIN = numbered([mangled(entry) for entry in hostile()], 2000)
LAB = load_lab("attention")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def outs(tmp_path_factory: pytest.TempPathFactory, jailed: None) -> list[Path]:
    """The class graded by two workers; where its results lie. Whoever never answers is not waited for long."""
    place = tmp_path_factory.mktemp("class")
    (place / "host-secret").write_text("unchanged")
    found = []
    for name, patience in (("patient", 3.0), ("hopeless", 1.0)):
        entries = [entry for entry in (*CORPUS, *AGAIN) if entry.hopeless == (name == "hopeless")]
        make_class(place / name, entries)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(zygote, "CLEAR_SECONDS", patience)
            limits = Limits(seconds=patience, load_seconds=patience)
            results = Batch(place / name, LAB, place / f"{name}-out", workers=2, limits=limits).run()
        assert isinstance(results, Results)
        assert results.graded == len(entries)
        write_reports(results.found, place / f"{name}-out")
        found.append(place / f"{name}-out")
    assert (place / "host-secret").read_text() == "unchanged"
    return found


@pytest.fixture(scope="module")
def rows(outs: list[Path]) -> dict[str, dict[str, str]]:
    found = {}
    for out in outs:
        with (out / "grades.csv").open(newline="", encoding="utf-8-sig") as file:
            found |= {row["student_id"]: row for row in csv.DictReader(file)}
    return found


def test_the_class_is_large_and_of_all_kinds() -> None:
    assert sum(entry.family == "hostile" for entry in CORPUS) >= 50
    assert {entry.family for entry in CORPUS} == {"honest", "mistake", "hostile", "file"}
    assert len({entry.name for entry in (*CORPUS, *AGAIN)}) == len(CORPUS) + len(AGAIN)


def test_nobody_is_missing_and_nobody_is_new(rows: dict[str, dict[str, str]]) -> None:
    assert set(rows) == {entry.number for entry in (*CORPUS, *AGAIN)}


@pytest.mark.parametrize("entry", [*CORPUS, *AGAIN], ids=lambda entry: ascii(entry.name))
def test_each_gets_what_its_answers_deserve(rows: dict[str, dict[str, str]], entry: Entry) -> None:
    row = rows[entry.number]
    got = {question: float(row[question]) for question in entry.deserved}
    assert got == entry.deserved, entry.why
    assert float(row["total"]) == entry.total
    assert row["isolation"] == "jail"
    assert row["status"] == entry.status


def test_the_readme_shows_this_class_and_its_grades(outs: list[Path]) -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    assert as_table(read_points(*outs)) in readme


def test_every_file_that_needs_a_look_is_listed(outs: list[Path]) -> None:
    problems: list[dict[str, str]] = []
    for out in outs:
        with (out / "problems.csv").open(newline="", encoding="utf-8-sig") as file:
            problems += csv.DictReader(file)
    for entry in CORPUS:
        kinds = {problem["kind"] for problem in problems if f"_{entry.number}_" in problem["file"]}
        assert kinds == ({entry.problem} if entry.problem else set()), entry.name


def test_every_student_has_a_page_without_a_live_script(outs: list[Path]) -> None:
    pages = {path.name: path.read_text("utf-8") for out in outs for path in (out / "feedback").iterdir()}
    assert set(pages) == {page_name(entry.number) for entry in (*CORPUS, *AGAIN)}
    assert not any("<script" in page.lower() or "<img" in page.lower() for page in pages.values())
    mistakes = [entry for entry in CORPUS if entry.family == "mistake" and entry.why == "a mistake with a name"]
    for entry in mistakes:
        assert "It looks as if" in " ".join(pages[page_name(entry.number)].split()), entry.name


def test_nothing_that_is_given_back_commands_a_terminal_a_spreadsheet_or_the_direction_of_words(
    outs: list[Path],
) -> None:
    for out in outs:
        for path in (*out.glob("*.html"), *out.glob("*.csv"), *(out / "feedback").iterdir()):
            text = path.read_text("utf-8-sig")
            odd = {one for one in text if unicodedata.category(one) in ("Cc", "Cf", "Cs") and one not in "\n\r\t"}
            assert not odd, (path.name, sorted(map(ascii, odd)))
            if path.suffix == ".csv":
                with path.open(newline="", encoding="utf-8-sig") as file:
                    cells = [cell for row in csv.reader(file) for cell in row]
                assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))], path.name


def test_a_shortcut_is_flagged_for_a_person_and_told_to_the_student(outs: list[Path]) -> None:
    entry = next(entry for entry in CORPUS if entry.name == "the library's softmax, hidden")
    words = "torch.nn.functional.softmax is what this question asks for"
    assert any(words in (out / "report.html").read_text("utf-8") for out in outs)
    page = next(path for out in outs for path in (out / "feedback").iterdir() if path.name == page_name(entry.number))
    assert "not available when your answer is graded" in page.read_text("utf-8")
