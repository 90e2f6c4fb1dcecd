"""What the commands that give results back share: how they end, and how they say it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

from attnkit.grading.errors import GradingError

CANNOT, REFUSED = 1, 4


@contextmanager
def ending(command: str) -> Iterator[None]:
    """Turns a `GradingError` into its sentence on stderr and exit code 1."""
    try:
        yield
    except GradingError as error:
        print(f"{command}: {error}", file=sys.stderr)
        raise typer.Exit(CANNOT) from None
    except OSError as error:
        print(f"{command}: {error.filename or 'a file'}: {error.strerror or error}.", file=sys.stderr)
        raise typer.Exit(CANNOT) from None


def say(as_json: bool, data: dict[str, Any], lines: Sequence[str]) -> None:
    """The result on stdout, as JSON or in lines."""
    if as_json:
        print(json.dumps(data, indent=1))
    for line in () if as_json else lines:
        print(_shown(line, sys.stdout.encoding))


def refuse(command: str, why: str, lines: Sequence[str] = (), as_json: bool = False) -> NoReturn:
    """Ends with exit code 4: something could not be matched or merged, and nothing was written."""
    if as_json:
        print(json.dumps({"written": False, "why": why, "lines": list(lines)}, indent=1))
    for line in (f"{command}: {why}", *(f"  {line}" for line in lines)):
        print(_shown(line, sys.stderr.encoding), file=sys.stderr)
    raise typer.Exit(REFUSED)


def _shown(line: str, encoding: str | None) -> str:
    """A name may hold anything: a terminal should not act on it, and one that lacks its letters should not fail."""
    plain = "".join(c if c.isprintable() else "?" for c in line)
    return plain.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")
