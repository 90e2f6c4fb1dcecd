"""`attnkit grade`: the instructor's command."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from attnkit.grading.command_runs import Wanted, grade_again, grade_class, grade_watching
from attnkit.grading.console import Screen
from attnkit.grading.errors import GradingError
from attnkit.lab.bank import LabNotFound

_LATE = 'What lateness costs: "10% per day, at most 50%", "2 points per hour after 1 hour", "0 after 3 days".'
_TIMES = "CSV of when work was handed in: columns id, handed_in (with offset) and, if there are several, attempt."
_ROSTER = "CSV of the course: columns id and name; moodle, canvas, login, email, extension if you have them."


def grade(
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="A folder of notebooks, a zip as Moodle or Canvas exports it, or both."),
    ],
    lab: Annotated[str, typer.Option(help="The lab's name, or the folder that holds its questions.py.")],
    out: Annotated[Path, typer.Option(help="Where the ledger, the course key, the tables and the feedback go.")] = Path(
        "grades"
    ),
    roster: Annotated[Path | None, typer.Option(help=_ROSTER)] = None,
    attempts: Annotated[str, typer.Option(help="Which of a student's files counts: last, or best.")] = "last",
    deadline: Annotated[str, typer.Option(help="Until when work is in time: 2026-11-20T23:59:00+01:00.")] = "",
    late: Annotated[str, typer.Option(help=_LATE)] = "",
    times: Annotated[Path | None, typer.Option(help=_TIMES)] = None,
    regrade: Annotated[
        list[str] | None,
        typer.Option(help="Grade only this question again where it changed; may be given more than once."),
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option(help="Grade the notebook DIR as this receipt says, and compare; nothing is written.")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on grading what arrives in DIR, until Ctrl-C.")] = False,
    isolation: Annotated[
        str,
        typer.Option(help="jail (bubblewrap), uid (in containers), or none: student code then runs unprotected."),
    ] = "jail",
    workers: Annotated[int, typer.Option(min=0, help="Submissions graded at once; 0: one for each core.")] = 0,
    scheduler: Annotated[
        str, typer.Option(help="Grade on the Dask cluster of this scheduler: tcp://127.0.0.1:8786.")
    ] = "",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds that one answer may take; a question may ask for more.")
    ] = 10.0,
    max_mb: Annotated[int, typer.Option(min=1, help="Largest notebook that is read, in MiB.")] = 10,
    as_json: Annotated[
        bool, typer.Option("--json", help="Write one JSON document to stdout; progress goes to stderr.")
    ] = False,
) -> None:
    """Grade a class; student code runs in a jail and can only answer with arrays.

    Run it again at any time, also after an interruption:
    what is graded already is not graded twice.

    Writes grades.csv, problems.csv, report.html, feedback/STUDENT.html and receipts/STUDENT.json
    to the folder --out. Keep its course.key: it makes grades repeatable,
    and tells who has it the inputs.

    Exit code 0: every submission was looked at; problems are listed
    (unreadable files, unknown names, second files of one student).
    Exit code 1: it could not start or go on, and says why.
    Exit code 2: the command line was wrong.
    Exit code 3: --receipt, and the grade is another one.
    Exit code 130: interrupted; what is graded is kept.
    """
    # Python warns of odd code that it parses; this code is the students'.
    warnings.simplefilter("ignore", SyntaxWarning)
    wanted = Wanted(
        *(folder, lab, out, roster, attempts, deadline, late, times, tuple(regrade or ()), isolation),
        *(workers, scheduler, seconds, max_mb),
    )
    screen = Screen(as_json)
    try:
        if receipt is not None:
            same = grade_again(wanted, receipt, screen)
            raise typer.Exit(0 if same else 3)
        (grade_watching if watch else grade_class)(wanted, screen)
    except (GradingError, LabNotFound) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(Text(f"attnkit grade: {error}"))
        screen.document({"error": str(error)})
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        screen.say("Interrupted. What is graded is kept; the same command goes on from here.")
        raise typer.Exit(130) from None
