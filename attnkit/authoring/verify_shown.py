"""What `attnkit lab` shows in a terminal: the tables of verifications, and a bar while notebooks are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from attnkit.authoring.verify import Asked, Verification

_NOT_TRIED = "-"
_WIDTH = 110


def show(found: Verification) -> None:
    """The table of a lab's questions with a line for all of them, what is wrong, and the verdict."""
    console = _console()
    table, timed = _table(console, f"Lab {found.lab}, {found.points:g} points", "question")
    for one in found.questions:
        verdict = "FAULTS" if one.faults else "warnings" if one.warnings else "right"
        table.add_row(escape(one.name), *_numbers([one], one.seconds, timed), verdict)
    table.add_section()
    table.add_row("all", *_numbers(found.questions, found.seconds, timed), _verdict(found))
    console.print(table)
    for line in _sampled(found):
        console.print(Text(line))
    for label, lines in (("Fault", _told(found, "faults")), ("Warning", _told(found, "warnings"))):
        for line in lines:
            console.print(Text(f"{label}: {line}"))
    for one in found.questions:
        for alive in one.mutants.alive if one.mutants else []:
            console.print(Text(f"Mutant: {one.name}: {alive}  gets full marks"))
    verdict = "can be handed out" if found.passed else "is not ready to be handed out"
    console.print(Text(f"The lab {found.lab} {verdict}."))


def show_all(every: Sequence[Verification], seconds: float) -> None:
    """A table of several labs, a line each, after `seconds` of waiting."""
    console = _console()
    table, timed = _table(console, f"{len(every)} labs", "lab")
    for found in every:
        table.add_row(escape(found.lab), *_numbers(found.questions, found.seconds, timed), _verdict(found))
    table.add_section()
    questions = [one for found in every for one in found.questions]
    good = "right" if all(found.passed for found in every) else "FAULTS"
    table.add_row("all", *_numbers(questions, seconds, timed), good)
    console.print(table)


def _console() -> Console:
    """Where it goes; what is piped has no width."""
    console = Console(highlight=False, soft_wrap=True)
    return console if console.is_terminal else Console(highlight=False, soft_wrap=True, width=_WIDTH)


def _table(console: Console, title: str, first: str) -> tuple[Table, bool]:
    """An empty table, and whether it has times: they are for who is waiting, what is piped is the same each time."""
    timed = console.is_terminal
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column(first, no_wrap=True)
    names = ("points", "cases", "mistakes caught", "mutants killed", "rate", "equivalent")
    for name in (*names, *(("seconds",) if timed else ())):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    return table, timed


def _numbers(questions: Sequence[Asked], seconds: float, timed: bool) -> list[str]:
    """The columns in the middle, summed over some questions; those that were not looked at have a dash."""
    judged = [one for one in questions if one.cases]
    cells = [f"{sum(one.points for one in questions):g}"]
    if judged:
        caught, named = sum(one.caught for one in judged), sum(one.mistakes for one in judged)
        cells += [f"{sum(one.cases for one in judged)}", f"{caught} of {named}"]
    else:
        cells += [_NOT_TRIED, _NOT_TRIED]
    tried = [one.mutants for one in judged if one.mutants is not None and not one.mutants.problem]
    if tried:
        killed, counted = sum(one.killed for one in tried), sum(one.counted for one in tried)
        # Never rounded up: 100 % means all.
        rate = f"{100 * killed // counted} %" if counted else _NOT_TRIED
        cells += [f"{killed} of {counted}", rate, f"{sum(one.equivalent for one in tried)}"]
    else:
        cells += [_NOT_TRIED] * 3
    return [*cells, f"{seconds:.1f}"] if timed else cells


def _verdict(found: Verification) -> str:
    if not found.passed:
        return "FAULTS"
    return "warnings" if _told(found, "warnings") else "right"


def _told(found: Verification, what: str) -> list[str]:
    """The faults or warnings of a lab and then of its questions, these with their name in front."""
    return [*getattr(found, what), *(f"{one.name}: {text}" for one in found.questions for text in getattr(one, what))]


def _sampled(found: Verification) -> Iterator[str]:
    for one in found.questions:
        tried = one.mutants
        if tried is not None and not tried.problem and tried.run < tried.of:
            yield f"{one.name} takes long: {tried.run} of its {tried.of} mutants were tried, always the same ones."


@contextmanager
def progress(total: int) -> Iterator[Callable[[], None]]:
    """A bar with the time left, on a terminal; the function that it yields moves it on by one."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)
