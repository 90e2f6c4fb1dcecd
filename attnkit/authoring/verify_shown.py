"""What `attnkit lab` shows in a terminal: the table of a verification, and a bar while notebooks are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from attnkit.authoring.verify import Verification


def show(found: Verification) -> None:
    """The table of a lab's questions, what is wrong, and the verdict."""
    console = Console(highlight=False, soft_wrap=True)
    title = f"Lab {found.lab}, {found.points:g} points"
    table = Table("question", "kind", title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    # Times are for who is waiting: what is piped into a file is the same each time.
    timed = ("seconds",) if console.is_terminal else ()
    for name in ("points", "cases", "mistakes", "caught", *timed):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for one in found.questions:
        judged = one.cases > 0
        numbers = [f"{number}" if judged else "-" for number in (one.cases, one.mistakes, one.caught)]
        numbers += [f"{one.seconds:.1f}"] if timed else []
        verdict = "FAULTS" if one.faults else "warnings" if one.warnings else "right"
        table.add_row(escape(one.name), one.kind, f"{one.points:g}", *numbers, verdict)
    console.print(table)
    faults = [("", fault) for fault in found.faults] + [(q.name, fault) for q in found.questions for fault in q.faults]
    warnings = [("", text) for text in found.warnings] + [
        (q.name, text) for q in found.questions for text in q.warnings
    ]
    for label, lines in (("Fault", faults), ("Warning", warnings)):
        for name, text in lines:
            console.print(Text(f"{label}: {name + ': ' if name else ''}{text}"))
    verdict = "can be handed out" if found.passed else "is not ready to be handed out"
    console.print(Text(f"The lab {found.lab} {verdict}."))


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left, on a terminal; the function that it yields moves it on by one."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
