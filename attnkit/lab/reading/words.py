"""Answers in words: found in the text cells of a notebook.

A text answer is a Markdown cell that holds a line `<!-- question: NAME -->`, which readers do not see; a cell that
starts with `**Question: NAME**` counts too. Metadata is not looked at, since Colab loses it. The answer is what
follows the marker, up to the next one or the end of the cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attnkit.lab.reading.notebook import TextCell

MAX_ANSWER = 20_000
MAX_ATTACHMENTS = 20
MAX_PIECES = 50  # of one answer: more are a mistake or an attack
_MARKER = re.compile(r"^[ \t]*<!--[ \t]*question:[ \t]*(?P<a>\w+)[ \t]*-->[ \t]*$", re.MULTILINE | re.IGNORECASE)
_HEADED = re.compile(r"\A\s*\*\*Question:[ \t]*(?P<a>\w+)[ \t]*\*\*", re.IGNORECASE)
# What a student notebook says where the answer goes.
_STUB = re.compile(
    r"[*_\s]*(write |type )?your answer( goes)? here(,? (in|below|above|and|instead) [^\n]{0,40})?[.…*_\s]*",
    re.IGNORECASE,
)
_INLINE_DATA = re.compile(r"data:(?P<kind>[\w.+-]{1,40}/[\w.+-]{1,40})?[\w;=-]{0,60},[A-Za-z0-9+/=%]{64,}")


def find_answer(cells: Sequence[TextCell], name: str) -> tuple[str, tuple[str, ...]]:
    """The text that answers `name`, and the names of its attachments. Copies of a cell count once, parts are joined."""
    texts: dict[str, None] = {}
    extra: dict[str, None] = {}
    for cell in cells:
        for marked, text in _marked(cell.text.replace("\r\n", "\n")):
            if marked != name or len(texts) >= MAX_PIECES:
                continue
            text, images = _without_data(text)
            tidy = _tidy(text)
            if tidy:
                texts[tidy] = None
            if tidy or cell.attachments:
                extra |= dict.fromkeys(map(_name, (*cell.attachments[:MAX_ATTACHMENTS], *images[:MAX_ATTACHMENTS])))
    text = "\n\n".join(texts)
    if len(text) > MAX_ANSWER:
        text = f"{text[:MAX_ANSWER]}\n[cut here: the answer has {len(text)} characters, {MAX_ANSWER} are kept]"
    return text, tuple(extra)[:MAX_ATTACHMENTS]


def _marked(text: str) -> list[tuple[str, str]]:
    """(name, text) for each marker of a cell."""
    found = list(_MARKER.finditer(text))
    if not found and (headed := _HEADED.match(text)):
        found = [headed]
    if not found:
        return []
    ends = [match.start() for match in found[1:]] + [len(text)]
    return [(match["a"], text[match.end() : end]) for match, end in zip(found, ends, strict=True)]


def _without_data(text: str) -> tuple[str, list[str]]:
    """The text without pictures that are written into it, and what these were."""
    found = [f"{match['kind'] or 'data'} in the text" for match in _INLINE_DATA.finditer(text)]
    return _INLINE_DATA.sub("[data]", text), found


def _tidy(text: str) -> str:
    """Plain text: no comments, no control characters, no stub."""
    text = _without_comments(text).replace("\t", "    ")
    text = "".join(c if c.isprintable() or c == "\n" else " " for c in text)
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(line.rstrip() for line in text.splitlines())).strip()
    return "" if len(text) < 200 and _STUB.fullmatch(text) else text


def _without_comments(text: str) -> str:
    """The text without `<!-- -->`. Not by a pattern: many openings and no end would take it quadratic time."""
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])


def _name(text: str) -> str:
    """A name that a student's file gives, made plain."""
    plain = "".join(c if c.isprintable() else " " for c in text).strip()
    return plain[:80] or "unnamed"
