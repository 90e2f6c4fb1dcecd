"""`attnkit lab build`: the student notebooks from their masters."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from attnkit.authoring.labs import LabError, build, find_masters
from attnkit.authoring.project import ProjectError, load_project

app = typer.Typer(no_args_is_help=True)


@app.callback()
def labs() -> None:
    """Build the student notebooks of the labs."""


@app.command("build")
def build_command(
    name: Annotated[Optional[str], typer.Argument(help="The lab to build; all of them without it.")] = None,  # noqa: UP045  # typer reads the annotation at run time
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail when a notebook is out of step.")] = False,
) -> None:
    """Run each master in an empty folder and write the student's notebook beside it."""
    try:
        project = load_project()
        stale = [m for m in find_masters(project.root, name) if _build_one(m, project, check)]
    except (LabError, ProjectError) as error:
        typer.echo(f"attnkit lab: {error}", err=True)
        raise typer.Exit(1) from None
    if check and stale:
        typer.echo("Out of step with their masters; run: attnkit lab build", err=True)
        raise typer.Exit(1)


def _build_one(master, project, check: bool) -> bool:
    changed = build(master, project, check)
    state = ("out of step" if changed else "in step") if check else ("written" if changed else "unchanged")
    typer.echo(f"labs/{master.name}/{master.student_path.name}: {state}")
    return changed
