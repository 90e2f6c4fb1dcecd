"""`attnkit grade | report | export | mark | lab | bench | kernels | book`: each command lives in its own room.

This is the front door. A room is opened when its command is called, so that `attnkit --help` is quick.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys

# command: (where it lives, what it does, the extra that installs what it needs)
COMMANDS = {
    "grade": ("attnkit.grading.commands:grade", "Grade a folder of submissions.", "grade"),
    "report": ("attnkit.grading.report_commands:report", "Write a class's report and feedback again.", "grade"),
    "export": ("attnkit.grading.report_commands:export", "Write grades for Canvas, Moodle, or as CSV.", "grade"),
    "mark": ("attnkit.grading.mark_commands:app", "Mark answers in words, and change points.", "grade"),
    "gradescope": ("attnkit.grading.adapters.gradescope:gradescope", "Write an autograder for Gradescope.", "grade"),
    "bench": ("attnkit.bench.commands:bench", "Measure speed and memory beside a peer, in one run.", "grade"),
    "kernels": ("attnkit.kernels.commands:kernels", "What the fused kernels ask of a chip.", "grade"),
    "lab": ("attnkit.authoring.lab_commands:app", "Write, build, verify and hand out labs.", "book"),
    "book": ("attnkit.authoring.book_commands:app", "Execute and build the book and its notebook twins.", "book"),
}


def _load(place: str, extra: str):
    """The command at `module:name`, or a stand-in that says what to install when it is called."""
    module, name = place.split(":")
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.split(".")[0] == "attnkit":
            raise

        def tell() -> None:
            """Not available: a package is missing."""
            sys.exit(f"attnkit: this needs {missing!r}, which is not installed. Run: pip install 'attnkit[{extra}]'")

        return tell


def build_app():
    """The typer application with every command mounted."""
    import typer
    from typer.core import TyperGroup

    class Doors(TyperGroup):
        """Lists every command by its line in the table and loads the one that is called."""

        def resolve_command(self, ctx, args):
            name, _, rest = super().resolve_command(ctx, args)  # ends where there is no such command
            return name, _opened(str(name)), rest

    app = typer.Typer(
        cls=Doors,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Build the book and the labs, grade a class, measure attention.",
    )
    for name, (_, text, _) in COMMANDS.items():
        app.command(name, help=text)(_closed)
    return app


def _closed() -> None:
    """Stands for a command in the list until it is called."""


def _opened(name: str):
    """The command called `name`, as click has it."""
    import typer

    place, text, extra = COMMANDS[name]
    command = _load(place, extra)
    if isinstance(command, typer.Typer):
        app = typer.Typer(pretty_exceptions_enable=False)
        app.add_typer(command, name=name, help=text)
        return typer.main.get_group(app).commands[name]
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command(name)(command)
    return typer.main.get_command(app)


def main() -> None:
    """Run the command line."""
    if importlib.util.find_spec("typer") is None:
        sys.exit("attnkit: the commands need typer, which is not installed. Run: pip install 'attnkit[grade]'")
    build_app()()


if __name__ == "__main__":
    main()
