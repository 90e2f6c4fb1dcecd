"""`attnkit lab new | build | verify | hand-out | rehearse | nbgrader`: an instructor's labs, and the book's own."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from attnkit.authoring.labs import LabError, Master, build, clone, find_master, find_masters
from attnkit.authoring.nbgrader_export import nbgrader_command
from attnkit.authoring.project import Project, ProjectError, project_of
from attnkit.grading.errors import GradingError
from attnkit.lab.bank import LabNotFound
from attnkit.lab.question import QuestionError

app = typer.Typer(no_args_is_help=True)
app.command("nbgrader")(nbgrader_command)

_WRONG = (LabError, ProjectError, LabNotFound, QuestionError, GradingError)
_Lab = Annotated[str, typer.Argument(metavar="LAB", help="The lab's folder, or its name inside a clone.")]
_Public = Annotated[
    Literal["questions", "none"],
    typer.Option(help="What students get to check themselves with: the public questions, or nothing."),
]


@app.callback()
def labs() -> None:
    """Write, build, verify and hand out labs."""


def _stop(error: Exception) -> typer.Exit:
    typer.echo(f"attnkit lab: {error}", err=True)
    return typer.Exit(1)


@app.command("new")
def new_command(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits, _ and -.")],
    folder: Annotated[Path, typer.Option(help="Where to make the lab's own folder.")] = Path("."),
) -> None:
    """Write a lab of your own from a template: it works as it stands, and every line of it is yours to change.

    Never overwrites anything.
    """
    from attnkit.authoring.lab_new import new_lab

    try:
        made = new_lab(name, folder)
        build(*find_master(str(made)))
    except _WRONG as error:
        raise _stop(error) from None
    typer.echo(f"{made}: written and built.")
    typer.echo(f"Read {made / 'README.md'}, then change {name}.md and questions.py, and run: attnkit lab verify {made}")


@app.command("build")
def build_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[LAB]", help="A lab's folder, or its name in a clone; all of a clone without it."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a notebook is out of step.")] = False,
    public: _Public = "questions",
) -> None:
    """Run each master in an empty folder and write the student's notebook beside it.

    For a lab of your own, LAB_questions.py goes with it:
    the questions without those that are private.
    """
    try:
        stale = [
            master for master, project in _masters(name) if _build_one(master, project, check, public == "questions")
        ]
    except _WRONG as error:
        raise _stop(error) from None
    if check and stale:
        typer.echo("Out of step with their masters; run: attnkit lab build", err=True)
        raise typer.Exit(1)


def _masters(name: str | None) -> list[tuple[Master, Project]]:
    """The lab called `name`; without one those of the clone."""
    if name is not None:
        return [find_master(name)]
    return [(master, project_of(master.path.parent)) for master in find_masters(clone())]


def _build_one(master: Master, project: Project, check: bool, checks: bool) -> bool:
    changed = build(master, project, check, checks)
    state = ("out of step" if changed else "in step") if check else ("written" if changed else "unchanged")
    here, file = Path.cwd(), master.student_path
    typer.echo(f"{file.relative_to(here) if file.is_relative_to(here) else file}: {state}")
    return changed


@app.command("verify")
def verify_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[LAB]", help="The lab's folder, or its name inside a clone."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every lab of the clone.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Only the questions: try no mutants, build and run no notebook.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    jobs: Annotated[int, typer.Option(min=1, help="How many processes work at once.")] = 2,
) -> None:
    """Find what is wrong with a lab before a class does.

    References and your own answers pass, in both frameworks;
    stubs get nothing; each mistake is caught with its own hint;
    small changes to your answers, mutants, lose points;
    the notebook builds, always the same, without a solution;
    every place to read exists; variants work for twenty students.

    Exit code 0: the lab can be handed out. Exit code 1: it cannot; the faults are listed.
    """
    from attnkit.authoring.verify import verify_all
    from attnkit.authoring.verify_shown import show, show_all

    if (name is None) is not every:
        raise typer.BadParameter("name one lab, or pass --all")
    start = time.perf_counter()
    found = []
    try:
        for one in verify_all(_masters(name), quick, jobs):
            found.append(one)
            if not as_json:
                show(one)
    except _WRONG as error:
        raise _stop(error) from None
    if as_json:
        typer.echo(json.dumps([one.as_dict() for one in found], indent=1, ensure_ascii=False))
    elif every:
        show_all(found, time.perf_counter() - start)
    if not all(one.passed for one in found):
        raise typer.Exit(1)


@app.command("hand-out")
def hand_out_command(
    name: _Lab,
    roster: Annotated[Path, typer.Option(help="CSV of the course, as `attnkit grade` takes it: columns id and name.")],
    out: Annotated[Path, typer.Option(help="Where the notebooks go: OUT/ID/LAB.ipynb and OUT/hand-out.csv.")],
    public: _Public = "questions",
    jobs: Annotated[int, typer.Option(min=1, help="How many notebooks are made at once.")] = 2,
) -> None:
    """Make one notebook for each student: their id is filled in, and the numbers are theirs."""
    from attnkit.authoring.handout import HandOut
    from attnkit.authoring.verify_shown import progress
    from attnkit.grading.identity import read_roster

    try:
        students = read_roster(roster).students
        master, project = find_master(name)
        with progress(len(students)) as step:
            index = HandOut(master, project, students, out, public == "questions", jobs).write(lambda _: step())
    except _WRONG as error:
        raise _stop(error) from None
    typer.echo(f"{len(students)} notebooks in {out}, listed in {index}")


@app.command("rehearse")
def rehearse_command(
    name: _Lab,
    handed_out: Annotated[Path, typer.Option(help="What `attnkit lab hand-out` wrote.")],
    out: Annotated[Path, typer.Option(help="Where the class hands in: an empty folder.")] = Path("submissions"),
) -> None:
    """Have a class that never was hand the lab in, to try grading before a real one does.

    One student after the other: everything right, wrong answers, half,
    code that cannot be read, another's file, nothing; then again.
    """
    from attnkit.authoring.rehearse import rehearse

    try:
        master, _ = find_master(name)
        told = rehearse(master, handed_out, out)
    except _WRONG as error:
        raise _stop(error) from None
    for student, words in told.items():
        typer.echo(f"{student}: {words}")
