"""`attnkit lab | grade | bench | kernels | book`: each command lives in its own room; this is the front door."""

from __future__ import annotations

import importlib
import importlib.util
import sys

# command: (where it lives, what it does, the extra that installs what it needs)
COMMANDS = {
    "grade": ("attnkit.grading.commands:grade", "Grade a folder of submissions.", "grade"),
    "bench": ("attnkit.bench.commands:bench", "Measure speed and memory beside a peer, in one run.", "grade"),
    "kernels": ("attnkit.kernels.commands:kernels", "What the fused kernels ask of a chip.", "grade"),
    "lab": ("attnkit.authoring.lab_commands:app", "Build the student notebooks of the labs.", "book"),
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

    app = typer.Typer(
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Build the book and the labs, grade a class, measure attention.",
    )
    for name, (place, text, extra) in COMMANDS.items():
        command = _load(place, extra)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, help=text)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """Run the command line."""
    if importlib.util.find_spec("typer") is None:
        sys.exit("attnkit: the commands need typer, which is not installed. Run: pip install 'attnkit[grade]'")
    build_app()()


if __name__ == "__main__":
    main()
