"""A student's page: points, what was wrong, the mistake by name with its hint, a counter-example, where to read.

And what people and dates did to it: marks and overrides with their reason, what lateness cost, the other attempts.
It is made of what a `Standing` tells the student (`Graded.told`) and never of `Graded.outcome`, which quotes inputs;
except a text answer, which is the student's own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from html import escape
from typing import Any

from attnkit.grading.engine import Graded
from attnkit.grading.ledger import Record
from attnkit.grading.links import Links
from attnkit.grading.manual import answer_text, attachments
from attnkit.grading.pages import document, number, preformatted, table
from attnkit.grading.standing import Asked, Class, Mark, Override, Standing
from attnkit.lab.feedback import number as precise
from attnkit.lab.feedback import points

_HEADINGS = {"example": "The smallest practice case that fails", "printed": "What your code printed"}
_UNTRIED = ("blank", "not-implemented", "unreadable", "waiting")
_NO_LINKS = Links()


def feedback_page(standing: Standing, found: Class, links: Links = _NO_LINKS) -> str:
    """The page of one student as HTML text."""
    title = f"{found.title}: {standing.student.name}"
    return document(title, _header(standing, found), _body(standing, found, links), _footer(standing, found))


def _header(standing: Standing, found: Class) -> str:
    who = escape(standing.student.name)
    if standing.student.id != standing.student.name:
        who += f" ({escape(standing.student.id)})"
    lines = [f"<h1>{escape(found.title)}</h1>", f"<p>{who}</p>"]
    waiting = [mark.question for mark in standing.marks if mark.waiting]
    so_far = " so far" if waiting else ""
    lines.append(f'<p class="total">{number(standing.total)} of {number(found.max_points)} points{so_far}</p>')
    if waiting:
        lines.append(f"<p>Still to be marked by a person: {escape(', '.join(waiting))}.</p>")
    if standing.late or standing.penalty:
        late = standing.late or f"late: {points(standing.penalty)} off"
        before = f" Without that it would be {points(standing.earned)}." if standing.penalty else ""
        lines.append(f'<p class="note">{escape(late[:1].upper() + late[1:])}.{before}</p>')
    return "\n".join(lines)


def _body(standing: Standing, found: Class, links: Links) -> str:
    parts = []
    record = standing.record
    if record is None:
        parts.append(f"<p>{escape(standing.status[:1].upper() + standing.status[1:])}.</p>")
    elif record.status == "unreadable":
        parts.append(
            f'<section class="none"><h2>The file could not be graded</h2>\n<p>{escape(record.source)}: '
            f"{escape(record.message)}.</p></section>"
        )
    asked = {question.name: question for question in found.questions}
    unread = record is None or record.status == "unreadable"
    shown = [mark for mark in standing.marks if not unread or mark.override is not None]
    parts += [_question(mark, asked.get(mark.question), links) for mark in shown]
    return "\n".join([*parts, _attempts(standing)])


def _question(mark: Mark, asked: Asked | None, links: Links) -> str:
    level = "waiting" if mark.waiting else "full" if mark.points >= mark.max_points else "none"
    level = "partial" if level == "none" and mark.points else level
    earned = f"waits for a mark, of {number(mark.max_points)}" if mark.waiting else _out_of(mark)
    graded = mark.graded
    blocks = [_override(mark, mark.override)] if mark.override else []
    if graded is not None:
        blocks += [_variant(graded.variant), _parts(graded), _own_words(graded)]
        if graded.status == "full" and not (asked and asked.manual):
            blocks.append("<p>All cases pass.</p>")
        blocks += [_block(mark.question, kind, text, links) for kind, text in graded.told]
    return "\n".join(
        [
            f'<section class="{level}">',
            f'<div class="head"><h2 class="code">{escape(mark.question)}</h2>'
            f'<span class="points">{earned}</span></div>',
            *([f'<p class="soft">{escape(asked.doc)}</p>'] if asked and asked.doc else []),
            *(block for block in blocks if block),
            "</section>",
        ]
    )


def _out_of(mark: Mark) -> str:
    return f"{number(mark.points)} of {number(mark.max_points)}"


def _override(mark: Mark, given: Override) -> str:
    """What a person decided, and why: a mark of a text answer, or points in place of the grader's."""
    by = f"{given.author}, {given.at[:10]}" if given.at else given.author
    if mark.graded is None or mark.status == "marked":
        sentence = f"Marked by {by}."
    else:
        sentence = f"Changed by {by}: {number(given.points)} in place of the grader's {number(mark.graded.points)}."
    comment = preformatted(given.reason, f"Comment on {mark.question}", words=True) if given.reason else ""
    return f'<div class="override"><p>{escape(sentence)}</p>{comment}</div>'


def _variant(variant: Mapping[str, Any]) -> str:
    if not variant:
        return ""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(_plain(value))}</dd>" for name, value in variant.items())
    return f'<h3>Your variant of the question</h3>\n<dl class="variant">{pairs}</dl>'


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return precise(value, digits=6) if isinstance(value, float) else str(value)


def _parts(answer: Graded) -> str:
    if answer.status in _UNTRIED or not answer.parts:
        return ""
    lines = [
        f'<li><span class="{"passed" if passed else "failed"}">{"passed" if passed else "failed"}</span>'
        f'<span>{escape(part)}</span><span class="worth">{points(worth)}</span></li>'
        for part, worth, passed in answer.parts
    ]
    first = answer.parts[0][2]
    note = "" if first or not any(p for _, _, p in answer.parts) else _FIRST.format(escape(answer.parts[0][0]))
    return f'<ul class="parts">{"".join(lines)}</ul>{note}'


_FIRST = '<p class="soft">Points are given once the {} cases pass.</p>'


def _own_words(answer: Graded) -> str:
    """A text answer, as it was read: so the student sees which words were marked."""
    text, extra = answer_text(answer), attachments(answer)
    note = f'<p class="soft">With an attachment that is not shown: {escape(", ".join(extra))}.</p>' if extra else ""
    if not text:
        return note
    return f"<h3>Your answer</h3>\n{preformatted(text, f'Your answer to {answer.question}', words=True)}{note}"


def _block(question: str, kind: str, text: str, links: Links) -> str:
    if kind in _HEADINGS:
        heading = _HEADINGS[kind]
        first, _, rest = text.partition("\n") if kind == "example" else ("", "", text)
        sentence = f"<p>{escape(first)}</p>\n" if first else ""
        return f"<h3>{heading}</h3>\n{sentence}{preformatted(textwrap.dedent(rest), f'{question}: {heading}')}"
    if kind == "table":
        return _told_table(question, text)
    if kind == "read":
        return f"<p>{links.html(text)}</p>"
    # These were wrapped for a terminal; a page wraps by itself.
    words = escape(" ".join(text.split()))
    return f'<p class="mistake">{words}</p>' if kind in ("mistake", "resource") else f"<p>{words}</p>"


def _told_table(question: str, text: str) -> str:
    """A table told as text: its caption, then a line a row with tabs between the cells, the header first."""
    caption, *lines = text.splitlines() or [""]
    rows = [line.split("\t") for line in lines]
    if len(rows) < 2 or len({len(row) for row in rows}) != 1:
        return preformatted(text, f"{question}: measurements")
    return table(f"{question}: {caption}", rows[0], rows[1:])


def _attempts(standing: Standing) -> str:
    if len(standing.attempts) < 2:
        return ""
    rows = [_attempt(record, standing.record) for record in standing.attempts]
    return table("Your attempts, with the grader's points", ["attempt", "points", "counts", "file"], rows)


def _attempt(record: Record, counts: Record | None) -> list[str]:
    graded = number(record.points) if record.status == "graded" else "could not be read"
    here = counts is not None and record.key == counts.key
    return [str(record.attempt), graded, "yes" if here else "no", record.source]


def _footer(standing: Standing, found: Class) -> str:
    record = standing.record
    how = (
        "Graded with isolation: {}. Functions are called on inputs drawn for you."
        if (isolation := record.isolation if record else found.isolation) != "none"
        else "Graded with isolation: {} (practice; answers did not run in a jail)."
    )
    which = f"<p>File {escape(record.source)}, attempt {record.attempt}.</p>\n" if record else ""
    rules = f"<p>{escape(found.rules)}</p>\n" if found.rules else ""
    return f"{which}{rules}<p>{escape(how.format(isolation))}</p>"
