"""Feedback in words: plain text first, which is what screen readers read and nbval compares, and a small HTML view.

Nothing here depends on time, addresses or the order of sets: the same outcome always gives the same text.
"""

from __future__ import annotations

import html
import textwrap
from collections.abc import Iterable
from typing import Any

import numpy as np

from attnkit.lab.outcome import Failure, Outcome, Recognised
from attnkit.lab.question import Case

WIDTH = 88
# Larger arrays are described by their shape and the first value that differs.
SHOWN = 32


def number(value: Any, digits: int = 4) -> str:
    """A number as a person writes it: 0.5, 1000, nan; small and huge ones with an exponent."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if not isinstance(value, int | float | np.integer | np.floating):
        return str(value)[:20]
    value = float(value)
    if not np.isfinite(value):
        return str(value)
    if value != 0 and not 10.0 ** (1 - digits) <= abs(value) < 1e6:
        return f"{value:.{digits - 1}g}"
    text = f"{value:.{digits}f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def array(value: Any, digits: int = 4) -> str:
    """An array as text, one row a line; a large one only by its shape."""
    value = np.asarray(value)
    if value.ndim == 0:
        return number(value[()], digits)
    if value.size == 0 or value.size > SHOWN:
        return f"an array of shape {value.shape}"
    return np.array2string(
        value, separator=", ", max_line_width=WIDTH - 6, formatter={"all": lambda one: number(one, digits)}
    )


def show_inputs(names: list[str], case: Case) -> tuple[tuple[str, str], ...]:
    """The arguments of a call as (name, text) pairs."""
    pairs = [*zip(names, case.args, strict=False), *case.kwargs.items()]
    return tuple((name, _argument(value)) for name, value in pairs)


def show_arrays(arrays: Iterable[tuple[str, Any]]) -> tuple[tuple[str, str], ...]:
    """The arrays that a script names, as (name, text) pairs."""
    return tuple((name, _argument(value)) for name, value in arrays)


def _argument(value: Any) -> str:
    return array(value) if isinstance(value, np.ndarray) else repr(value)


def show_answer(got: Any, want: Any) -> tuple[str, str]:
    """The answer and what it should have been, as texts that show where they differ. `got` is None without one."""
    if isinstance(want, tuple) or isinstance(got, tuple):
        return _several(got), _several(want)
    want = np.asarray(want)
    if got is None:
        return "", array(want)
    got = np.asarray(got)
    if got.dtype.kind not in "fiub" or got.shape != want.shape or want.size <= SHOWN:
        texts = array(got), array(want)
        return texts if texts[0] != texts[1] else (array(got, 8), array(want, 8))
    with np.errstate(invalid="ignore"):
        gap = np.abs(got.astype(float) - want.astype(float))
    # nan compares false with everything: it would hide from argmax
    place = np.unravel_index(np.argmax(np.where(np.isnan(gap), np.inf, gap)), gap.shape)
    index = f"[{', '.join(str(int(i)) for i in place)}]"
    first, second = (f"{array(one)} with {number(one[place])} at {index}" for one in (got, want))
    return first, second


def _several(value: Any) -> str:
    if isinstance(value, tuple):
        more = ", ..." if len(value) > 4 else ""
        return "(" + ", ".join(array(one) for one in value[:4]) + more + ")"
    return "" if value is None else array(value)


def points(value: float) -> str:
    """`1 point`, `2.5 points`."""
    return f"{value:g} point" if value == 1 else f"{value:g} points"


def as_text(outcome: Outcome) -> str:
    """The whole feedback on one answer."""
    blocks = [_headline(outcome)]
    if not _unwritten(outcome):
        blocks.append(_parts(outcome))
    blocks += [_aligned(text) if kind == "table" else text for kind, text in sections(outcome)]
    return "\n\n".join(block for block in blocks if block)


def _unwritten(outcome: Outcome) -> bool:
    return outcome.failure is not None and outcome.failure.kind in ("not-implemented", "missing")


def _headline(outcome: Outcome) -> str:
    score = f"{outcome.question}: {outcome.points:g} of {points(outcome.max_points)}"
    if outcome.passed:
        return f"{score}. All cases pass."
    if outcome.failure and outcome.failure.kind == "missing":
        return f"{score}. There is no function called {outcome.question}."
    if _unwritten(outcome):
        return f"{score}. Not written yet."
    return f"{score}."


def _parts(outcome: Outcome) -> str:
    width = max(len(part) for part in outcome.parts)
    lines = []
    for part, passed in outcome.parts.items():
        results = [result for result in outcome.results if result.part == part]
        good = sum(result.passed for result in results)
        verdict = "passed" if passed else "FAILED"
        lines.append(f"  {verdict}  {part:<{width}}  {good} of {len(results)} cases, {points(outcome.worth[part])}")
    first = next(iter(outcome.parts))
    if not outcome.parts[first] and any(outcome.parts.values()):
        lines.append(f"  (points are given once the {first} cases pass)")
    return "\n".join(lines)


def sections(outcome: Outcome) -> list[tuple[str, str]]:
    """The parts of the feedback that explain, as (kind, text) pairs; kinds name CSS classes.

    A "table" is its caption, then a line a row with tabs between the cells, the header first.
    """
    found: list[tuple[str, str]] = []
    if outcome.counterexample and not _unwritten(outcome):
        found.append(("example", _example(outcome)))
    for kind, item in (("mistake", outcome.mistake), ("mistake", outcome.invariant)):
        if item is not None:
            found.append((kind, _explanation(item, named=item is outcome.mistake)))
    failed = [one for one in outcome.resources if one.said]
    for one in failed:
        found.append(("resource", _fill(f"{one.said} {one.hint}")))
        if one.table:
            caption = f"{one.measure.capitalize()} by length"
            found.append(("table", "\n".join([caption, *("\t".join(row) for row in one.table)])))
    found += [("note", _fill("Note: " + note)) for note in outcome.notes]
    explained = (outcome.mistake, outcome.invariant, *failed)
    read = next((item.read for item in explained if item and item.read), outcome.read)
    if read and not outcome.passed:
        found.append(("read", f"Read in the book: {read.replace('#', '.html#')}"))
    return found


def _aligned(table: str) -> str:
    """A table of `sections` with its columns set by spaces."""
    caption, *lines = table.split("\n")
    rows = [line.split("\t") for line in lines]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join([f"{caption}:", *(f"  {line}".rstrip() for line in padded)])


def _example(outcome: Outcome) -> str:
    example = outcome.counterexample
    assert example is not None
    lines = [f"Your answer fails on {example.note}:"]
    lines += [_labelled(f"{name} =", text) for name, text in example.inputs]
    lines += [f"  {line}".replace("\n", "\n  ") for line in example.script]
    if outcome.failure is not None:
        lines += [_fill(line, "  ") for line in _failure(outcome.failure)]
    else:
        lines += [_labelled("your answer:", example.got), _labelled("expected:   ", example.want)]
        lines.append(_fill(f"({example.why})", "  "))
    return "\n".join(lines)


def _labelled(label: str, text: str) -> str:
    head = f"  {label} "
    return head + text.replace("\n", "\n" + " " * len(head))


def _failure(failure: Failure) -> list[str]:
    told = {
        "timeout": "Your function did not finish in time. Is there a loop that never ends?",
        "died": "The process that ran your function ended before it answered.",
    }.get(failure.kind, failure.message or failure.kind)
    if failure.step:
        told = f"Its last line fails. {told}"
    return [told, *([f"Where: {failure.where}"] if failure.where else [])]


def _explanation(item: Recognised, named: bool) -> str:
    if not named:
        return _fill(f"What is broken: {item.name}. {item.hint}")
    start = f"It looks as if {item.name}." if item.certain else f"One thing at least: it looks as if {item.name}."
    return _fill(f"{start} {item.hint}")


def _fill(text: str, indent: str = "") -> str:
    return textwrap.fill(
        text, WIDTH, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


_STYLE = (
    "border-left:4px solid {colour};padding:0.3em 0.8em;margin:0.3em 0;font-family:monospace;white-space:pre-wrap;"
    "color:inherit;background:transparent"
)


def as_html(outcome: Outcome) -> str:
    """The same words with a coloured edge: no script, no link, and everything escaped. Colour says nothing alone."""
    colour = "#1a7f37" if outcome.passed else "#bc4c00" if outcome.points else "#cf222e"
    head, _, rest = as_text(outcome).partition("\n")
    body = f"<strong>{html.escape(head)}</strong>" + (f"\n{html.escape(rest)}" if rest else "")
    return f'<div role="status" style="{_STYLE.format(colour=colour)}">{body}</div>'
