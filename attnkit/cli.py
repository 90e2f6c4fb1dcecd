"""`attnkit lab | grade | bench | book`: each command lives in the room that it is about; this is the front door."""

from __future__ import annotations

import sys


def build_app():
    """The typer application with every command mounted. Imports what the extra `grade` installs."""
    import typer

    from attnkit.authoring.book_commands import app as book
    from attnkit.authoring.lab_commands import app as lab
    from attnkit.bench.commands import bench
    from attnkit.grading.commands import grade

    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Build the book and the labs, grade a class, measure attention.",
    )
    app.command()(grade)
    app.command()(bench)
    app.add_typer(lab, name="lab", help="Build the student notebooks of the labs from their masters.")
    app.add_typer(book, name="book", help="Execute and build the book, and its notebook twins.")
    return app


def main() -> None:
    """Run the command line; a missing extra gives one sentence that says what to install."""
    try:
        app = build_app()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "attnkit":
            raise
        sys.exit(
            f"attnkit: this command needs the package {error.name!r}, which is not installed. "
            "To grade: pip install 'attnkit[grade]'. To build the book or the labs: run `make setup` in a clone."
        )
    app()


if __name__ == "__main__":
    main()
