"""`attnkit mark`: answers in words get their marks, and any question the points that a person decides on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from attnkit.grading.adapters.gradebook import marks_from_gradebook
from attnkit.grading.exports.csvfile import read_sheet
from attnkit.grading.given import ending, refuse, say
from attnkit.grading.ledger import LEDGER, Ledger
from attnkit.grading.links import find_links
from attnkit.grading.marking import answers, asked_in_words, course_key, marking_csv, marking_page
from attnkit.grading.marks_file import formgrader_marks, read_marks, unread
from attnkit.grading.pages import several
from attnkit.grading.records import Event
from attnkit.grading.report_commands import Json, Lab, Out, ledger_name
from attnkit.grading.reports import page_name, put_file, write_reports
from attnkit.grading.standing import Asked, Class, read_class
from attnkit.lab.feedback import points as points_in_words

app = typer.Typer(no_args_is_help=True, help="Mark answers in words; change points, with a reason; see what was done.")

Author = Annotated[str, typer.Option(help="Who decides; kept in the history and shown to the student.")]
Question = Annotated[str, typer.Option(help="Only this question.")]
_FOLDER = "marking"


@app.command()
def pages(
    out: Out,
    question: Question = "",
    names: Annotated[bool, typer.Option("--names", help="Show who wrote what; else each answer has a code.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Drop marks in the files that were not read.")] = False,
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Write a page to read answers from, and a CSV file to write marks into, for each question in words.

    OUT/marking/NAME.html has the rubric and all answers, equal ones together; OUT/marking/NAME.csv takes points and
    comments. Codes stay the same on every run.

    Exit code 0: written. Exit code 1: it could not start, and says why. Exit code 2: wrong options.
    Exit code 4: a file holds marks that were not read yet; nothing was written.
    """
    with ending("attnkit mark pages"):
        found = read_class(out, ledger_name(lab))
        chosen = asked_in_words(found, question)
        key = course_key(out)
        folder = out / _FOLDER
        stale = [
            f"{folder / page_name(asked.name, '.csv')}: {line}"
            for asked in chosen
            for line in unread(folder / page_name(asked.name, ".csv"), found, key)
        ]
        if stale and not overwrite:
            refuse("attnkit mark pages", "nothing was written: read these first, or say --overwrite", stale, as_json)
        made = [_written(found, asked, key, folder, names) for asked in chosen]
    told = [
        f"{one['question']}: {one['answers']} answers, {one['waiting']} wait for a mark: {one['page']}" for one in made
    ]
    say(as_json, {"pages": made}, told)


@app.command()
def read(
    out: Out,
    author: Author,
    file: Annotated[Path | None, typer.Argument(metavar="FILE", help="The CSV file with points and comments.")] = None,
    question: Annotated[str, typer.Option(help="The question, where the file has no such column.")] = "",
    nbgrader: Annotated[
        Path | None, typer.Option(metavar="FILE", help="In place of a CSV file: nbgrader's gradebook.db.")
    ] = None,
    assignment: Annotated[str, typer.Option(help="Its name in the gradebook; else the lab's.")] = "",
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Take over marks from a CSV file, or from nbgrader's formgrader: all of them, or none when one is wrong.

    Columns: points, comment; code or student_id; question (or --question). Lines without points stay waiting.

    Exit code 0: taken over. Exit code 1: it could not start, and says why. Exit code 2: wrong options.
    Exit code 4: a line is wrong; each is listed, and nothing was written.
    """
    source = nbgrader or file
    if source is None or (nbgrader and file):
        raise typer.BadParameter("give a CSV file, or --nbgrader gradebook.db", param_hint="FILE")
    with ending("attnkit mark read"):
        found = read_class(out, ledger_name(lab))
        if nbgrader:
            new, wrong = formgrader_marks(found, marks_from_gradebook(nbgrader, assignment or found.lab))
        else:
            new, wrong = read_marks(found, read_sheet(source, "FILE"), course_key(out), question)
        if wrong:
            several_wrong = several(len(wrong), "mark is", "marks are")
            refuse("attnkit mark read", f"{source}: {several_wrong} wrong; nothing was written", wrong, as_json)
        with Ledger(out / LEDGER) as ledger, ledger.together():
            for mark in new:
                ledger.override(mark.student, found.lab, mark.question, mark.points, mark.comment, author)
        waiting = _written_again(out, found.lab)
    told = f"{several(len(new), 'mark')} taken over from {source}; {several(waiting, 'answer waits', 'answers wait')}."
    say(as_json, {"written": True, "marks": len(new), "waiting": waiting}, [told])


@app.command("set")
def set_(
    out: Out,
    student: Annotated[str, typer.Option(help="The student's id.")],
    question: Annotated[str, typer.Option(help="The question.")],
    points: Annotated[float, typer.Option(help="The points that count from now on.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history and shown to the student.")],
    author: Author,
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Give a student these points for a question, whatever the grader says, now and after every rerun.

    Exit code 0: done, or so already. Exit code 1: it could not, and says why. Exit code 2: wrong options.
    """
    with ending("attnkit mark set"):
        with _opened(out, lab) as (name, ledger):
            changed = ledger.override(student, name, question, points, reason, author)
        _written_again(out, name)
    told = (
        f"{student}: {question} is {points_in_words(points)}." if changed else "It was so already; nothing was written."
    )
    say(as_json, {"changed": changed, "student": student, "question": question, "points": points}, [told])


@app.command()
def withdraw(
    out: Out,
    student: Annotated[str, typer.Option(help="The student's id.")],
    question: Annotated[str, typer.Option(help="The question.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the history.")],
    author: Author,
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Let the grader's points count again (or an answer in words wait for its mark). The history keeps both.

    Exit code 0: done. Exit code 1: it could not, and says why. Exit code 2: wrong options.
    """
    with ending("attnkit mark withdraw"):
        with _opened(out, lab) as (name, ledger):
            ledger.withdraw(student, name, question, reason, author)
        _written_again(out, name)
    say(
        as_json, {"withdrawn": True, "student": student, "question": question}, [f"{student}: {question} is withdrawn."]
    )


@app.command()
def history(
    out: Out,
    student: Annotated[str | None, typer.Option(help="Only this student's.")] = None,
    lab: Lab = "",
    as_json: Json = False,
) -> None:
    """Everything that happened, oldest first: gradings, marks, overrides, withdrawals, changed rules.

    Exit code 0: shown. Exit code 1: it could not, and says why. Exit code 2: wrong options.
    """
    with ending("attnkit mark history"), _opened(out, lab) as (name, ledger):
        events = ledger.history(student, name)
    lines = [_line(event) for event in events] or ["Nothing happened yet."]
    say(as_json, {"events": [vars(event) for event in events]}, lines)


@contextmanager
def _opened(out: Path, lab: str) -> Iterator[tuple[str, Ledger]]:
    """The name of the lab that was graded into `out`, and its ledger."""
    name = read_class(out, ledger_name(lab)).lab
    with Ledger(out / LEDGER) as ledger:
        yield name, ledger


def _line(event: Event) -> str:
    about = [event.at or "before", event.kind, event.student, event.question]
    points = event.data.get("points")
    about += [f"{points:g} points"] if isinstance(points, int | float) else []
    about += [f"by {event.author}"] if event.author else []
    about += [f"({event.reason})"] if event.reason else []
    return "  ".join(part for part in about if part)


def _written(found: Class, asked: Asked, key: bytes, folder: Path, names: bool) -> dict[str, Any]:
    """Write the page and the file of one question; what is in them."""
    given = answers(found, asked.name, key)
    page, table = folder / page_name(asked.name), folder / page_name(asked.name, ".csv")
    folder.mkdir(exist_ok=True)
    put_file(page, marking_page(found, asked, given, names))
    put_file(table, marking_csv(asked, given, names))
    waiting = sum(one.mark.waiting for one in given)
    return {"question": asked.name, "answers": len(given), "waiting": waiting, "page": str(page)}


def _written_again(out: Path, lab: str) -> int:
    """The reports as they are now; how many answers wait."""
    found = read_class(out, lab)
    write_reports(found, out, find_links())
    return sum(mark.waiting for one in found.standings for mark in one.marks)
