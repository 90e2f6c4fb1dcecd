"""The similarity report: a page with the most alike answers side by side, and a CSV file of all pairs.

Not for students: it shows their code and names. No script, all of it escaped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from attnkit.grading.exports.csvfile import rounded, safe_text, written
from attnkit.grading.fingerprints import Lines
from attnkit.grading.pages import Markup, document, several, share, table
from attnkit.grading.similarity import Pair, Shared

SHOWN = 30
MAX_LINES = 300
_ABOUT = (
    "<p>Alike is not copied: a short question has few right answers, and two who worked from the same page write the "
    "same code. Pieces that most of the class has count for nothing here, rare ones for much. Read both before you ask "
    "anybody. Marked lines are those in common.</p>"
)


def similarity_page(pairs: Sequence[Pair], answers: Mapping[str, Mapping[str, str]], title: str) -> str:
    """The report as HTML text. `answers` are the sources that `similar` was given; `title` names the lab."""
    shown = [pair for pair in pairs if pair.suspicious][:SHOWN] or list(pairs[:5])
    groups = {pair.cluster for pair in pairs if pair.cluster}
    header = (
        f"<h1>{escape(title)}: similar answers</h1>\n"
        f"<p>{several(len(answers), 'student')}, {several(sum(pair.suspicious for pair in pairs), 'pair')} to look at, "
        f"in {several(len(groups), 'group')}.</p>"
    )
    if not pairs:
        return document(f"{title}: similar answers", header, "<p>No two answers have anything rare in common.</p>")
    rows = [
        [f"{_plain(p.first)}, {_plain(p.second)}", share(p.suspicion, 1), share(p.share, 1), p.cluster or "-"]
        for p in shown
    ]
    head = ["students", "suspicion", "alike", "group"]
    parts = [_ABOUT, table("Most suspicious first", head, rows), *(_pair(pair, answers) for pair in shown)]
    footer = "<p>Not for students: it names them and shows their code.</p>"
    return document(f"{title}: similar answers", header, "\n".join(parts), footer, wide=True)


def similarity_csv(pairs: Sequence[Pair]) -> str:
    """All pairs as CSV text: students, suspicion, share, group, and the share of each question."""
    names = sorted({one.question for pair in pairs for one in pair.questions})
    head = ["first", "second", "suspicion", "share", "group", *(safe_text(name) for name in names)]
    rows = []
    for pair in pairs:
        by_name = {one.question: rounded(one.share, 3) for one in pair.questions}
        row = [safe_text(pair.first), safe_text(pair.second), rounded(pair.suspicion, 3), rounded(pair.share, 3)]
        rows.append([*row, str(pair.cluster or ""), *(by_name.get(name, "") for name in names)])
    return written(head, rows)


def _pair(pair: Pair, answers: Mapping[str, Mapping[str, str]]) -> str:
    parts = [f"<section><h2>{escape(_plain(pair.first))} and {escape(_plain(pair.second))}</h2>"]
    parts.append(f'<p class="soft">Suspicion {share(pair.suspicion, 1)}, alike {share(pair.share, 1)}.</p>')
    for one in pair.questions:
        first, second = (answers.get(who, {}).get(one.question, "") for who in (pair.first, pair.second))
        parts.append(f"<h3>{escape(one.question)}: {share(one.share, 1)} alike</h3>")
        row = [Markup(_code(first, _side(one, 0), pair.first)), Markup(_code(second, _side(one, 1), pair.second))]
        parts.append(_side_by_side(pair, one, row))
    return "\n".join([*parts, "</section>"])


def _side(shared: Shared, side: int) -> list[Lines]:
    return [piece[side] for piece in shared.lines]


def _side_by_side(pair: Pair, one: Shared, cells: list[Markup]) -> str:
    heads = "".join(f'<th scope="col">{escape(_plain(who))}</th>' for who in (pair.first, pair.second))
    columns = "".join(f"<td>{cell}</td>" for cell in cells)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(one.question)}, side by side"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody><tr>{columns}</tr></tbody></table></div>"
    )


def _code(source: str, marked: list[Lines], who: str) -> str:
    """Source with the lines in common marked, by more than colour: a bar before each."""
    lines = source.split("\n")
    common = {line for first, last in marked for line in range(first, min(last, first + MAX_LINES) + 1)}
    told = []
    for number, line in enumerate(lines[:MAX_LINES], 1):
        text = escape(_plain(line[:400]))
        told.append(f"<mark>| {text}</mark>" if number in common else f"  {text}")
    if len(lines) > MAX_LINES:
        told.append(f"  ... {len(lines) - MAX_LINES} more lines")
    body = "\n".join(told)
    return f'<pre tabindex="0" role="region" aria-label="{escape(_plain(who))}">{body}</pre>'


def _plain(text: str) -> str:
    """Without characters that change how others are shown."""
    return "".join(one if one.isprintable() else " " if one == "\t" else "�" for one in text)
