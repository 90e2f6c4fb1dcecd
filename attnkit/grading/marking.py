"""Marks for answers in words: a page to read them from, and a CSV file to write marks into.

Answers stand under a code in place of a name, the same one on every run and another for each question, so that whoever
marks sees neither who wrote it nor what else they wrote. The code is made with the course key: without it nobody can
tell a name from a code.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from attnkit.grading import seeds
from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import safe_text, written
from attnkit.grading.manual import answer_text, attachments
from attnkit.grading.pages import document, number, preformatted, several
from attnkit.grading.standing import Asked, Class, Mark, Standing
from attnkit.lab.feedback import points

HEAD = ("question", "code", "group", "answer", "attachments", "points", "comment", "version")
_LETTERS = "bcdfghjkmnpqrstvwxz"  # no digits: a spreadsheet would read 12e45678 as a number


@dataclass(frozen=True)
class Answer:
    """A student's answer in words and how it is marked so far."""

    standing: Standing
    mark: Mark
    code: str
    text: str
    attachments: tuple[str, ...]

    @property
    def version(self) -> str:
        """Changes with the answer: a mark is for the words that were read."""
        return _letters(hashlib.sha256(json.dumps([self.text, *self.attachments]).encode()).digest())

    @property
    def outdated(self) -> bool:
        """Whether the mark was given before the file that counts now was handed in."""
        over, record = self.mark.override, self.standing.record
        return bool(over and record and over.seen and over.seen != record.sha256)

    @property
    def given(self) -> tuple[str, str]:
        """Points and comment as the CSV file has them, empty before there is a mark."""
        over = self.mark.override
        return ("", "") if over is None else (number_text(over.points), over.reason)


def answers(found: Class, question: str, key: bytes) -> list[Answer]:
    """All answers to `question`, the blank ones left out, equal ones together and otherwise in the order of codes."""
    given = []
    for standing in found.standings:
        for mark in standing.marks:
            if mark.question == question and mark.graded is not None:
                text, extra = answer_text(mark.graded), tuple(attachments(mark.graded))
                if text or extra:
                    code = code_of(key, found.lab, question, standing.student.id)
                    given.append(Answer(standing, mark, code, text, extra))
    first: dict[str, str] = {}
    for one in sorted(given, key=lambda one: one.code):
        first.setdefault(_folded(one), one.code)
    return sorted(given, key=lambda one: (first[_folded(one)], one.code))


def code_of(key: bytes, lab: str, question: str, student: str) -> str:
    """The code of a student's answer: twelve letters."""
    message = json.dumps(["marking", lab, question, student], ensure_ascii=False).encode()
    return _letters(hmac.new(key, message, hashlib.sha256).digest())


def asked_in_words(found: Class, question: str = "") -> list[Asked]:
    """The questions that a person marks, or the one called `question`. Raises `GradingError` naming those there are."""
    manual = [one for one in found.questions if one.manual]
    if not manual:
        raise GradingError(f"The lab {found.lab} has no question that is answered in words.")
    if not question:
        return manual
    chosen = [one for one in manual if one.name == question]
    if not chosen:
        names = ", ".join(one.name for one in manual)
        raise GradingError(f"--question: was {question!r}; these are answered in words: {names}.")
    return chosen


def marking_page(found: Class, asked: Asked, given: Sequence[Answer], names: bool = False) -> str:
    """The answers to one question with its rubric, as HTML text."""
    groups = _grouped(given)
    waiting = sum(one.mark.waiting for one in given)
    count = f"{several(len(given), 'answer')}, {several(waiting, 'waits', 'wait')} for a mark"
    header = (
        f"<h1>{escape(found.title)}: {escape(asked.name)}</h1>\n<p>{escape(asked.doc)}</p>\n"
        f"<p>{count}. 0 to {number(asked.points)} points.</p>"
    )
    rubric = preformatted(asked.rubric, "Rubric", words=True) if asked.rubric else "<p>The question has no rubric.</p>"
    sections = [f"<section>\n<h2>Rubric</h2>\n{rubric}\n</section>"]
    sections += [_group(i, group, names) for i, group in enumerate(groups, 1)]
    footer = f"<p>Write marks into {escape(asked.name)}.csv beside this page, then: attnkit mark read.</p>"
    return document(f"{found.title}: {asked.name}", header, "\n".join(sections), footer)


def _group(place: int, group: Sequence[Answer], names: bool) -> str:
    first = group[0]
    who = ", ".join(f"{one.code} ({_name(one)})" if names else one.code for one in group)
    shared = f" of {len(group)} students" if len(group) > 1 else ""
    words = preformatted(first.text, f"Answer {place}", words=True) if first.text else "<p>No text.</p>"
    extra = ", ".join(first.attachments)
    note = f'<p class="note">Has an attachment, to be seen in the notebook only: {escape(extra)}.</p>' if extra else ""
    marks = "".join(_given(one, len(group) > 1) for one in group if one.mark.override is not None)
    level = "waiting" if any(one.mark.waiting or one.outdated for one in group) else "full"
    return (
        f'<section class="{level}">\n<h2>Answer {place}{shared}</h2>\n<p class="soft">{escape(who)}</p>\n'
        f"{words}\n{note}{marks}</section>"
    )


def _given(one: Answer, with_code: bool) -> str:
    over = one.mark.override
    assert over is not None
    code = f"{one.code}: " if with_code else ""
    comment = f" {over.reason}" if over.reason else ""
    again = " Another file was handed in since: read it again." if one.outdated else ""
    return f'<p class="override">{escape(f"{code}{points(over.points)} by {over.author}.{comment}{again}")}</p>\n'


def marking_csv(asked: Asked, given: Sequence[Answer], names: bool = False) -> str:
    """The file to write marks into: a line an answer. Only `points` and `comment` are read back."""
    groups = {one.code: i for i, group in enumerate(_grouped(given), 1) for one in group}
    head = [*HEAD, *(("student_id", "name") if names else ())]
    rows = []
    for one in given:
        student = one.standing.student
        worth, comment = one.given
        row = [asked.name, one.code, str(groups[one.code]), safe_text(one.text), safe_text(", ".join(one.attachments))]
        row += [worth, safe_text(comment), one.version]
        rows.append([*row, *((safe_text(student.id), safe_text(student.name)) if names else ())])
    return written(head, rows)


def course_key(out: Path) -> bytes:
    """The key that codes are made with. Raises `GradingError` where `attnkit grade` left none."""
    path = out / seeds.KEY
    if not path.is_file():
        raise GradingError(f"There is no {path}; codes are made with it. Put back the one that attnkit grade wrote.")
    return seeds.course_key(path)


def number_text(points: float | int) -> str:
    """Points as they stand in the file."""
    return f"{points:.6f}".rstrip("0").rstrip(".")


def _grouped(given: Sequence[Answer]) -> list[list[Answer]]:
    groups: dict[str, list[Answer]] = {}
    for one in given:
        groups.setdefault(_folded(one), []).append(one)
    return list(groups.values())


def _folded(one: Answer) -> str:
    """Equal answers have equal ones: spaces make no difference, an attachment does."""
    own = one.code if one.attachments else ""
    return json.dumps([" ".join(one.text.split()), own])


def _name(one: Answer) -> str:
    student = one.standing.student
    return student.name if student.name == student.id else f"{student.name}, {student.id}"


def _letters(digest: bytes) -> str:
    value = int.from_bytes(digest[:16], "big")
    return "".join(_LETTERS[value // len(_LETTERS) ** i % len(_LETTERS)] for i in range(12))
