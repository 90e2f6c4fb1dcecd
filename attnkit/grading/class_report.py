"""The class at a glance, for the instructor: totals, hardest questions, common mistakes, what wants a look, time.

One page without scripts; each plot has its table beside it. It quotes students' names and what the grader said of
their code, so it is not for students.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from attnkit.grading.exports.matching import who
from attnkit.grading.links import Links
from attnkit.grading.pages import Markup, bars, document, number, several, share, table
from attnkit.grading.similarity import Pair
from attnkit.grading.standing import Class, Mark, Standing
from attnkit.grading.tally import ENOUGH, MistakeTally, QuestionTally, Tally, UsageTally, tally

_NO_LINKS = Links()
_SHOWN = 12


def report_page(found: Class, links: Links = _NO_LINKS, similar: Sequence[Pair] | None = None) -> str:
    """The class report as HTML text. `similar` None: similarity was not looked at."""
    counted = tally(found)
    sections = [
        _totals(counted, found),
        _questions(counted),
        _mistakes(counted, links),
        _failures(counted),
        _flags(found),
        _people(found),
        _similar(similar),
        _problems(found),
        _usage(counted),
        _time(counted),
    ]
    header = (
        f"<h1>{escape(found.title)}: class report</h1>\n"
        f"<p>{several(counted.students, 'student')}, {counted.handed_in} handed in, {counted.graded} graded. "
        f"Isolation: {escape(found.isolation)}.{' ' + escape(found.rules) if found.rules else ''}</p>\n"
        f'<p class="total">Mean {number(counted.mean)} of {number(found.max_points)} points</p>'
    )
    footer = "<p>Made by attnkit from the ledger alone. Not for students: it names them.</p>"
    main = "\n".join(section for section in sections if section)
    return document(f"{found.title}: class report", header, main, footer, wide=True)


def as_data(found: Class, similar: Sequence[Pair] | None = None) -> dict[str, Any]:
    """The report as plain data, for `--json`."""
    counted = tally(found)
    return {
        "lab": found.lab,
        "title": found.title,
        "isolation": found.isolation,
        "max_points": found.max_points,
        **asdict(counted),
        "standings": [_standing_data(one) for one in found.standings],
        "similar": None if similar is None else [{**asdict(one), "suspicious": one.suspicious} for one in similar],
        "problems": [asdict(one) for one in found.problems],
    }


def _standing_data(one: Standing) -> dict[str, Any]:
    return {
        **{"student": one.student.id, "name": one.student.name, "status": one.status},
        **{"total": one.total, "earned": one.earned, "penalty": one.penalty, "late": one.late},
        "marks": [
            {"question": m.question, "points": m.points, "status": m.status, "waiting": m.waiting} for m in one.marks
        ],
        "flags": [list(flag) for flag in one.flags],
    }


def _section(title: str, *parts: str) -> str:
    return "\n".join(["<section>", f"<h2>{escape(title)}</h2>", *(part for part in parts if part), "</section>"])


def _totals(counted: Tally, found: Class) -> str:
    if not counted.graded:
        why = "None of the files could be read." if counted.handed_in else "Nobody handed anything in."
        return _section("Totals", f"<p>{why}</p>")
    facts = (
        f"<p>Median {number(counted.median)}, standard deviation {number(counted.deviation)}, of the "
        f"{counted.graded} who are graded, after lateness and with what people changed.</p>"
    )
    rows = [(f"{label} points", float(count)) for label, count in counted.distribution]
    plot = bars("How many students have which total; the table below has the same numbers", rows)
    lines = [[label, count, share(count, counted.graded)] for label, count in counted.distribution]
    waiting = sum(any(mark.waiting for mark in one.marks) for one in found.standings)
    note = (
        f'<p class="note">Provisional: {several(waiting, "student waits", "students wait")} for a mark.</p>'
        if waiting
        else ""
    )
    return _section("Totals", note, facts, plot, table("Students by total", ["points", "students", "share"], lines))


def _questions(counted: Tally) -> str:
    asked = sorted(counted.questions, key=lambda one: one.difficulty)
    if not asked or not counted.graded:
        return ""
    plot = bars(
        "Mean share of the points by question, hardest first; the table below has the same numbers",
        [(one.name, float(round(100 * one.difficulty))) for one in asked],
        unit=" %",
    )
    head = ["question", "points", "mean", "mean share", "full", "partial", "none", "not tried", "waiting"]
    enough = any(one.discrimination is not None for one in asked)
    lines = [_question_line(one) + ([_correlation(one)] if enough else []) for one in asked]
    note = (
        "Discrimination is how a question's points go with the points of the others (corrected item-total "
        "correlation): below 0.2 it hardly tells strong from weak students apart."
        if enough
        else f"Discrimination is told from {ENOUGH} students on."
    )
    head += ["discrimination"] if enough else []
    about = table("Questions, hardest first", head, lines)
    return _section("Questions, hardest first", plot, about, f'<p class="soft">{note}</p>')


def _question_line(one: QuestionTally) -> list[object]:
    marked = one.students - one.waiting
    counts: list[object] = [share(count, marked) for count in (one.full, one.partial, one.none)]
    mean_share = share(one.difficulty, 1) if marked else "-"
    mean: object = one.mean if marked else "-"
    return [one.name, one.points, mean, mean_share, *counts, share(one.untried, one.students), one.waiting]


def _correlation(one: QuestionTally) -> str:
    return "-" if one.discrimination is None else f"{one.discrimination:.2f}"


def _mistakes(counted: Tally, links: Links) -> str:
    named = [one for one in counted.mistakes if one.kind == "mistake"]
    broken = [one for one in counted.mistakes if one.kind == "invariant"]
    if not named and not broken:
        return _section("Common mistakes", "<p>No mistake was recognised.</p>") if counted.graded else ""
    parts = []
    if named:
        rows = [(f"{one.question}: {one.name}", float(one.count)) for one in named[:_SHOWN]]
        parts.append(bars("How many students made which mistake; the table below has them all", rows))
        parts.append(_mistake_table("Recognised mistakes, commonest first", named, counted, links))
        parts.append(
            '<p class="soft">Certain: the mistake gives the same answer as the student on every case. Otherwise it '
            "explains the first part that failed, and another may hide behind it.</p>"
        )
    if broken:
        parts.append(_mistake_table("What wrong answers break", broken, counted, links))
    return _section("Common mistakes", *parts)


def _mistake_table(caption: str, items: Sequence[MistakeTally], counted: Tally, links: Links) -> str:
    head = ["question", "it looks as if", "students", "share", "certain", "in part", "read", "who", "hint"]
    lines = [
        [
            *(one.question, one.name, one.count, share(one.count, counted.graded), one.certain, one.uncertain),
            *(Markup(links.place(one.read)) if one.read else "-", _some(one.students), " ".join(one.hint.split())),
        ]
        for one in items
    ]
    return table(caption, head, lines, long=("it looks as if", "hint"))


def _some(students: Sequence[str]) -> str:
    """The first few; --json has all."""
    more = f" and {len(students) - 8} more" if len(students) > 8 else ""
    return f"{', '.join(students[:8])}{more}"


def _failures(counted: Tally) -> str:
    if not counted.failures:
        return ""
    lines = [[one.question, one.kind, len(one.students), _some(one.students)] for one in counted.failures]
    return _section(
        "Answers that gave no result",
        table("By question and kind", ["question", "kind", "students", "who"], lines, long=("who",)),
    )


def _flags(found: Class) -> str:
    lines = [
        [question, kind, who(one), " ".join(text.split())]
        for one in found.standings
        for question, kind, text in one.flags
    ]
    if not lines:
        return ""
    lines.sort()
    note = "<p>These change no points. Look, and override where you must: attnkit mark set.</p>"
    about = table("Flags", ["question", "kind", "student", "what was seen"], lines, long=("what was seen",))
    return _section("For a person to look at", note, about)


def _people(found: Class) -> str:
    """Who waits for a mark, who was late, what was changed by hand."""
    waiting = [[who(one), ", ".join(m.question for m in one.marks if m.waiting)] for one in found.standings]
    waiting = [line for line in waiting if line[1]]
    late = [[who(one), one.late or "-", one.penalty, one.total] for one in found.standings if one.late or one.penalty]
    changed = [_changed(one, mark) for one in found.standings for mark in one.marks if mark.override]
    parts = []
    if waiting:
        parts.append(table("Waiting for a mark (attnkit mark pages)", ["student", "questions"], waiting))
    if late:
        parts.append(table("Handed in late", ["student", "lateness", "cost", "total"], late))
    if changed:
        head = ["student", "question", "points", "grader's", "by", "reason", "since then"]
        parts.append(table("Marked or changed by a person", head, changed, long=("reason",)))
    return _section("Marks, overrides, lateness", *parts) if parts else ""


def _changed(one: Standing, mark: Mark) -> list[object]:
    given = mark.override
    assert given is not None
    newer = bool(one.record and given.seen and given.seen != one.record.sha256)
    before: object = "-" if mark.graded is None or mark.status == "marked" else number(mark.graded.points)
    stale = "another file counts now" if newer else ""
    return [who(one), mark.question, given.points, before, given.author, given.reason, stale]


def _similar(similar: Sequence[Pair] | None) -> str:
    if similar is None:
        return ""
    suspicious = [one for one in similar if one.suspicious]
    if not suspicious:
        return _section("Similar answers", "<p>No two answers are suspiciously alike.</p>")
    lines = [
        [f"{one.first}, {one.second}", share(one.suspicion, 1), share(one.share, 1), one.cluster or "-"]
        for one in suspicious
    ]
    note = "<p>Alike is not copied: read both, side by side in similar.html, before you ask anybody.</p>"
    about = table("Most suspicious first", ["students", "suspicion", "alike", "group"], lines)
    return _section("Similar answers", note, about)


def _problems(found: Class) -> str:
    if not found.problems:
        return ""
    lines = [[one.where or "-", one.student or "-", one.kind, one.message] for one in found.problems]
    about = table(several(len(lines), "problem"), ["file", "student", "kind", "what"], lines, long=("what",))
    return _section("Problems with files", about)


def _usage(counted: Tally) -> str:
    if not counted.usage:
        return ""
    lines = [
        [
            one.question,
            one.part,
            one.measure,
            one.length,
            one.students,
            _taken(one, one.median),
            _taken(one, one.largest),
        ]
        for one in counted.usage
    ]
    head = ["question", "part", "what", "length", "students", "median", "largest"]
    return _section("What answers use", table("Measured on this machine, above an idle process", head, lines))


def _taken(one: UsageTally, value: float) -> str:
    return f"{value / 2**20:.1f} MiB" if one.measure == "memory" else f"{1000 * value:.1f} ms"


def _time(counted: Tally) -> str:
    if not counted.seconds:
        return ""
    slow = [[question, student, f"{seconds:.2f}"] for question, student, seconds in counted.slowest]
    total = f"<p>Grading the answers took {counted.seconds:.1f} seconds of this machine, all workers together.</p>"
    return _section("Time", total, table("Slowest answers", ["question", "student", "seconds"], slow))
