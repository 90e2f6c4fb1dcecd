"""`attnkit report` and `attnkit export`: what a class gets, written again from the ledger alone."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from attnkit.grading.adapters.gradebook import points_into_gradebook
from attnkit.grading.class_report import as_data
from attnkit.grading.errors import GradingError
from attnkit.grading.exports.canvas import canvas_csv, fill_canvas
from attnkit.grading.exports.csvfile import Sheet, read_sheet
from attnkit.grading.exports.feedback_zip import feedback_zip
from attnkit.grading.exports.matching import Filled
from attnkit.grading.exports.moodle import fill_moodle, moodle_csv
from attnkit.grading.exports.per_question import grades_csv
from attnkit.grading.exports.points import Choice
from attnkit.grading.feedback import feedback_page
from attnkit.grading.given import ending, refuse, say
from attnkit.grading.links import Links, find_links
from attnkit.grading.pages import several
from attnkit.grading.reports import put_file, write_reports
from attnkit.grading.similar_files import compared
from attnkit.grading.similarity import Pair
from attnkit.grading.similarity_page import similarity_csv, similarity_page
from attnkit.grading.standing import Class, read_class
from attnkit.grading.tally import tally
from attnkit.lab.bank import LabNotFound, load_lab

Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder that attnkit grade wrote: it holds ledger.db.")]
Lab = Annotated[str, typer.Option(help="The lab, where the ledger has several; else the one graded last.")]
Book = Annotated[str, typer.Option(help="The book's address; pages then link to what to read.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


_SYSTEMS = (
    "csv (a line a student, for people), canvas, moodle, nbgrader; or the students' pages as one zip to upload: "
    "moodle-feedback, canvas-feedback."
)


class System(StrEnum):
    """What an export is for."""

    csv = "csv"
    canvas = "canvas"
    moodle = "moodle"
    nbgrader = "nbgrader"
    moodle_feedback = "moodle-feedback"
    canvas_feedback = "canvas-feedback"


_NAMES = {
    System.csv: "grades.csv",
    System.moodle_feedback: "moodle-feedback.zip",
    System.canvas_feedback: "canvas-feedback.zip",
}


class Scale(StrEnum):
    """How points become those of a gradebook's column."""

    column = "column"
    none = "none"


def report(
    out: Out,
    lab: Lab = "",
    similar: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Look for answers that are alike; DIR is what was graded.")
    ] = None,
    book: Book = "",
    as_json: Json = False,
) -> None:
    """Write report.html, the tables and the feedback again, from the ledger alone.

    Needs neither the lab nor what was handed in; only --similar reads both (--lab may then be
    the lab's folder), and writes similar.html and similar.csv. With --json the class in
    numbers is printed.

    Exit code 0: written. Exit code 1: it could not start, and says why. Exit code 2: wrong options.
    """
    with ending("attnkit report"):
        found = read_class(out, ledger_name(lab))
        alike, notes = _alike(found, similar, lab, out) if similar else (None, [])
        write_reports(found, out, find_links(book), alike)
    counted = tally(found)
    lines = [
        f"{found.title}: {several(counted.students, 'student')}, {counted.handed_in} handed in, "
        f"{counted.graded} graded. Mean {counted.mean:.2f} of {found.max_points:g}.",
        *(f"  {one.count:>4}  {one.question}: it looks as if {one.name}" for one in counted.mistakes[:5]),
        *notes,
        f"{out / 'report.html'}, {out / 'grades.csv'}, {out / 'problems.csv'}, {out / 'feedback'}/",
    ]
    say(as_json, as_data(found, alike), lines)


def export(
    out: Out,
    to: Annotated[System, typer.Option(help=_SYSTEMS)],
    file: Annotated[
        Path | None,
        typer.Option(help="Where to write; else grades.csv, SYSTEM.csv or .zip in OUT. For nbgrader its gradebook.db."),
    ] = None,
    template: Annotated[
        Path | None,
        typer.Option(help="A gradebook downloaded from Canvas, or a grading worksheet from Moodle, to fill in."),
    ] = None,
    assignment: Annotated[
        str, typer.Option(help="The column to fill: Canvas 'Lab 1 (1234)'; Moodle 'Grade' if not said.")
    ] = "",
    scale: Annotated[
        Scale | None, typer.Option(help="Where the column counts other points: convert, or write them as they are.")
    ] = None,
    provisional: Annotated[bool, typer.Option(help="Also totals that wait for a mark.")] = False,
    zero: Annotated[bool, typer.Option(help="0 points to who handed in nothing; else their cell stays.")] = False,
    partial: Annotated[bool, typer.Option(help="Write the file although somebody found no place in it.")] = False,
    book: Book = "",
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Write grades for another system, or as CSV; or into nbgrader's gradebook.

    With --template only our column changes, every other byte stays; students are found by
    Canvas ID, SIS id, login, participant number or email, never by name. Canvas gets two
    decimals, Moodle five. Students not found on either side are listed.

    Exit code 0: written. Exit code 1: it could not start, and says why. Exit code 2: wrong options.
    Exit code 4: somebody found no place (see --partial); nothing was written.
    """
    if template and to not in (System.canvas, System.moodle):
        raise typer.BadParameter(f"fills a gradebook of Canvas or Moodle; --to {to} has none", param_hint="--template")
    if to is System.nbgrader:
        _into_nbgrader(out, file, ledger_name(lab), assignment, as_json)
        return
    choice = Choice(assignment, provisional, zero, scale.value if scale else "", partial)
    with ending("attnkit export"):
        found = read_class(out, ledger_name(lab))
        sheet = read_sheet(template, "--template") if template else None
        filled = _filled(found, to, sheet, choice, find_links(book))
    if filled.unmatched and not partial:
        lost = several(len(filled.unmatched), "student")
        why = f"{lost} found no place; nothing was written (see --partial)"
        refuse("attnkit export", why, filled.unmatched, as_json)
    target = file or out / _NAMES.get(to, f"{to.value}.csv")
    with ending("attnkit export"):
        put_file(target, filled.data)
    say(as_json, {"written": True, "file": str(target), **_as_data(filled)}, _told(filled, target, template))


def _into_nbgrader(out: Path, file: Path | None, lab: str, assignment: str, as_json: bool) -> None:
    if file is None:
        raise typer.BadParameter("say where nbgrader's gradebook.db is", param_hint="--file")
    with ending("attnkit export"):
        done = points_into_gradebook(out, file, lab, assignment)
    kept = [f"{student}: {question}" for student, question in done.kept]
    told = [f"The mark of formgrader stayed ({len(kept)}):", *(f"  {one}" for one in kept)] if kept else []
    data = {"written": True, "file": str(file), "students": done.students, "left": kept}
    say(as_json, data, [*told, f"{file}: points of {several(done.students, 'student')}."])


def _filled(found: Class, to: System, sheet: Sheet | None, choice: Choice, links: Links) -> Filled:
    if to is System.csv:
        data = grades_csv(found).encode()
        return Filled(data, len(found.standings))
    if to in (System.moodle_feedback, System.canvas_feedback):
        pages = {one.student.id: feedback_page(one, found, links) for one in found.standings}
        return feedback_zip(found, pages, "moodle" if to is System.moodle_feedback else "canvas")
    if to is System.canvas:
        return fill_canvas(found, sheet, choice) if sheet else canvas_csv(found, choice)
    return fill_moodle(found, sheet, choice) if sheet else moodle_csv(found, choice)


def _as_data(filled: Filled) -> dict[str, object]:
    lists = {name: getattr(filled, name) for name in ("unmatched", "left", "strangers", "notes")}
    return {"students": filled.written, **lists}


def _told(filled: Filled, target: Path, template: Path | None) -> list[str]:
    lines = []
    for title, names in (
        ("No place for them", filled.unmatched),
        ("Left as they are", filled.left),
        ("In the gradebook, but not in this class", filled.strangers),
    ):
        if names:
            lines += [f"{title} ({len(names)}):", *(f"  {name}" for name in names)]
    lines += filled.notes
    same = f"; all else as in {template}" if template else ""
    return [*lines, f"{target}: {several(filled.written, 'student')}{same}."]


def _alike(found: Class, source: Path, lab: str, out: Path) -> tuple[list[Pair], list[str]]:
    """The pairs that are alike, and in words what was written about them."""
    try:
        spec = load_lab(lab or found.lab)
    except LabNotFound as error:
        raise GradingError(f"--lab: {error}") from None
    pairs, answers, missing = compared(found, source, spec, out)
    put_file(out / "similar.html", similarity_page(pairs, answers, found.title))
    put_file(out / "similar.csv", similarity_csv(pairs))
    count = sum(pair.suspicious for pair in pairs)
    notes = [f"{several(missing, 'graded file is', 'graded files are')} not below {source}."] if missing else []
    return pairs, [*notes, f"{several(count, 'pair')} of answers to read side by side: {out / 'similar.html'}"]


def ledger_name(lab: str) -> str:
    """A lab's name in the ledger: --lab may be its folder."""
    return Path(lab).resolve().name if lab and Path(lab).is_dir() else lab
