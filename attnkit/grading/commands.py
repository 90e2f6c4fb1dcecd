"""`attnkit grade`: the instructor's command."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from attnkit.grading.batch import Batch, Results, Row
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import read_roster
from attnkit.grading.jail import Limits, why_no_jail
from attnkit.grading.reports import write_reports
from attnkit.lab.bank import LabNotFound, LabSpec, load_lab


def grade(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of notebooks, a zip as Moodle or Canvas exports it, or both."),
    ],
    lab: Annotated[str, typer.Option(help="The lab's name, or the folder that holds its questions.py.")],
    out: Annotated[Path, typer.Option(help="Where the ledger, the course key, the tables and the feedback go.")] = Path(
        "grades"
    ),
    roster: Annotated[
        Path | None,
        typer.Option(help="CSV of the course: columns id and name; moodle, canvas, login, email if you have them."),
    ] = None,
    isolation: Annotated[
        str, typer.Option(help="jail (bubblewrap), or none: student code then runs unprotected on this machine.")
    ] = "jail",
    workers: Annotated[int, typer.Option(min=0, help="Submissions graded at once; 0: one for each core.")] = 0,
    seconds: Annotated[float, typer.Option(min=0.1, help="Time that one answer may take, in seconds.")] = 10.0,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest notebook that is read, in MiB.")] = 10,
) -> None:
    """Grade a class; student code runs in a jail and can only answer with arrays.

    Run it again at any time, also after an interruption:
    what is graded already is not graded twice.

    Writes grades.csv, problems.csv and feedback/STUDENT.html to the folder --out.
    Keep its course.key: it makes grades repeatable, and tells who has it the inputs.

    Exit code 0: every submission was looked at; problems are listed
    (unreadable files, unknown names, second files of one student).
    Exit code 1: it could not start, and says why.
    """
    # Python warns of odd code that it parses; this code is the students'.
    warnings.simplefilter("ignore", SyntaxWarning)
    console = Console(highlight=False, soft_wrap=True)
    try:
        results, spec = _run(console, folder, lab, out, roster, isolation, workers, Limits(seconds, seconds), max_mb)
    except (GradingError, LabNotFound) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"attnkit grade: {error}"))
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        console.print(Text("Interrupted. What is graded is kept; the same command goes on from here."))
        raise typer.Exit(130) from None
    _summary(console, results, spec, out)


def _run(
    console: Console,
    folder: Path,
    lab: str,
    out: Path,
    roster: Path | None,
    isolation: str,
    workers: int,
    limits: Limits,
    max_mb: int,
) -> tuple[Results, LabSpec]:
    if isolation not in ("jail", "none"):
        raise GradingError(f"--isolation: was {isolation!r}; it should be jail or none.")
    if sys.platform != "linux":
        raise GradingError(f"grading needs Linux (on Windows: WSL); this is {sys.platform}.")
    if isolation == "jail" and (reason := why_no_jail()):
        raise GradingError(
            f"no jail: {reason}. Student code would run unprotected, and could read your files and forge grades. "
            "To do that all the same, for practice, say --isolation none; every result will say so."
        )
    spec = load_lab(lab)
    batch = Batch(
        source=folder,
        spec=spec,
        out=out,
        roster=read_roster(roster) if roster else None,
        roster_file=roster,
        isolation="jail" if isolation == "jail" else "none",
        workers=workers or len(os.sched_getaffinity(0)),
        limits=limits,
        max_bytes=max_mb * 2**20,
    )
    console.print(
        Text(f"{spec.title}: {len(spec.questions)} questions, {spec.max_points:g} points. Isolation: {isolation}.")
    )
    with _progress(console) as progress:
        task = progress.add_task("grading", total=None)

        def told(row: Row, done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)
            console.print(summary_line(row, spec, isolation))

        results = batch.run(told)
    write_reports(results, spec, out)
    return results, spec


def _progress(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def summary_line(row: Row, spec: LabSpec, isolation: str) -> Text:
    """One line a student: who, points by question, total, isolation."""
    line = Text(f"{_short(row.student.name, 28):<28} ")
    if row.record is None or row.record.status != "graded":
        message = row.record.message if row.record else row.status
        line.append(f"{0:>5g} of {spec.max_points:g}  not graded: {message}", style="yellow")
        return line.append(f"  [{isolation}]", style="dim")
    style = "green" if row.record.points == spec.max_points else "red" if not row.record.points else "yellow"
    line.append(f"{row.record.points:>5g} of {spec.max_points:g}  ", style=style)
    told = [f"{a.question} {a.points:g}/{a.max_points:g}{_why(a.status)}" for a in row.record.answers]
    return line.append("  ".join(told)).append(f"  [{isolation}]", style="dim")


def _why(status: str) -> str:
    return "" if status in ("full", "partial") else f" ({status})"


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _summary(console: Console, results: Results, spec: LabSpec, out: Path) -> None:
    if results.problems:
        console.print(Text(f"\nProblems ({len(results.problems)})"))
    for problem in results.problems:
        who = f"{problem.student}: " if problem.student else ""
        console.print(Text(f"  {problem.kind:<17} ").append(f"{who}{problem.where or '-'}: {problem.message}"))
    records = [row.record for row in results.rows if row.record and row.record.status == "graded"]
    mean = sum(record.points for record in records) / len(records) if records else 0.0
    unread = sum(row.record is None or row.record.status != "graded" for row in results.rows)
    again = f" ({results.skipped} were graded before)" if results.skipped else ""
    console.print(
        Text(
            f"\n{len(results.rows)} students: {len(records)} graded{again}, {unread} not. "
            f"Mean {mean:.2f} of {spec.max_points:g}. Isolation: {results.isolation}."
        )
    )
    console.print(Text(f"{out / 'grades.csv'}, {out / 'problems.csv'}, {out / 'feedback'}{os.sep}"))
