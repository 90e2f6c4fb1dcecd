"""A student's page: points, what was wrong, the mistake by name with its hint, a counter-example, where to read.

Plain HTML with one style sheet: no script, no link, no request. Everything that comes from outside is escaped, and the
page's own policy forbids whatever might slip through.
"""

from __future__ import annotations

import base64
import hashlib
import textwrap
from html import escape

from attnkit.grading.batch import Row
from attnkit.grading.engine import Graded
from attnkit.lab.bank import LabSpec

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --good: #116329; --some: #8a4600; --bad: #a40e26; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1318; --ink: #e6edf3; --soft: #9da7b3; --line: #30363d;
  --card: #171c23; --good: #56d364; --some: #f0a04b; --bad: #ff8b85; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font: 600 1.1rem/1.4 ui-monospace, monospace; margin: 0; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .9rem; }
.total { font-size: 1.9rem; font-weight: 650; margin: .25rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1rem;
  padding: 1rem; border-left: .3rem solid var(--line); }
section.full { border-left-color: var(--good); } section.partial { border-left-color: var(--some); }
section.none { border-left-color: var(--bad); }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; align-items: baseline; }
.points { font-weight: 650; } .full .points { color: var(--good); } .partial .points { color: var(--some); }
.none .points { color: var(--bad); }
ul { list-style: none; margin: .75rem 0; padding: 0; }
li { display: flex; gap: .5rem; align-items: baseline; }
li span:first-child { flex: 0 0 3.6rem; font-weight: 600; font-size: .85rem; }
.passed { color: var(--good); } .failed { color: var(--bad); }
.worth { color: var(--soft); margin-left: auto; white-space: nowrap; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: .35rem; margin: .5rem 0; padding: .75rem;
  overflow-x: auto; font: .85rem/1.45 ui-monospace, monospace; }
pre:focus-visible { outline: 2px solid currentcolor; outline-offset: 2px; }
.mistake { border-left: .2rem solid var(--some); padding-left: .75rem; }
"""
_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
_HEADINGS = {"example": "The smallest practice case that fails", "printed": "What your code printed"}


def feedback_page(row: Row, spec: LabSpec, isolation: str) -> str:
    """The page of one student as HTML text."""
    digest = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    title = f"{escape(spec.title)}: {escape(row.student.name)}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(digest)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{title}</title>
<style>{_STYLE}</style>
</head>
<body>
{_header(row, spec)}
<main>
{_body(row, spec)}
</main>
<footer class="soft">
{_footer(row, isolation)}
</footer>
</body>
</html>
"""


def _header(row: Row, spec: LabSpec) -> str:
    earned = row.record.points if row.record else 0.0
    same = row.student.id == row.student.name
    who = escape(row.student.name) + ("" if same else f" ({escape(row.student.id)})")
    return (
        f"<header>\n<h1>{escape(spec.title)}</h1>\n<p>{who}</p>\n"
        f'<p class="total">{earned:g} of {spec.max_points:g} points</p>\n</header>'
    )


def _body(row: Row, spec: LabSpec) -> str:
    if row.record is None:
        return f"<p>{escape(row.status)}.</p>"
    if row.record.status == "unreadable":
        return (
            f'<section class="none"><h2>The file could not be graded</h2>\n<p>{escape(row.record.source)}: '
            f"{escape(row.record.message)}.</p></section>"
        )
    return "\n".join(_question(answer, spec) for answer in row.record.answers)


def _question(answer: Graded, spec: LabSpec) -> str:
    level = "full" if answer.status == "full" else "partial" if answer.points else "none"
    doc = spec.questions[answer.question].doc if answer.question in spec.questions else ""
    blocks = [_block(kind, text) for kind, text in answer.told]
    return "\n".join(
        [
            f'<section class="{level}">',
            f'<div class="head"><h2>{escape(answer.question)}</h2>'
            f'<span class="points">{answer.points:g} of {answer.max_points:g}</span></div>',
            f'<p class="soft">{escape(doc)}</p>',
            _parts(answer),
            *(["<p>All cases pass.</p>"] if answer.status == "full" else []),
            *blocks,
            "</section>",
        ]
    )


def _parts(answer: Graded) -> str:
    if answer.status in ("blank", "not-implemented", "unreadable"):
        return ""
    lines = [
        f'<li><span class="{"passed" if passed else "failed"}">{"passed" if passed else "failed"}</span>'
        f'<span>{escape(part)}</span><span class="worth">{worth:g} {"point" if worth == 1 else "points"}</span></li>'
        for part, worth, passed in answer.parts
    ]
    first = answer.parts[0][2] if answer.parts else True
    note = "" if first or not any(p for _, _, p in answer.parts) else _FIRST.format(escape(answer.parts[0][0]))
    return f"<ul>{''.join(lines)}</ul>{note}"


_FIRST = '<p class="soft">Points are given once the {} cases pass.</p>'


def _block(kind: str, text: str) -> str:
    if kind in _HEADINGS:
        heading = _HEADINGS[kind]
        first, _, rest = text.partition("\n") if kind == "example" else ("", "", text)
        sentence = f"<p>{escape(first)}</p>\n" if first else ""
        # A wide array scrolls inside its own box, which the keyboard can reach.
        box = f'<pre tabindex="0" role="region" aria-label="{heading}">{escape(textwrap.dedent(rest))}</pre>'
        return f"<h3>{heading}</h3>\n{sentence}{box}"
    # These were wrapped for a terminal; a page wraps by itself.
    words = escape(" ".join(text.split()))
    return f'<p class="mistake">{words}</p>' if kind == "mistake" else f"<p>{words}</p>"


def _footer(row: Row, isolation: str) -> str:
    how = (
        "Graded with isolation: jail. Functions are called on inputs drawn for you."
        if isolation == "jail"
        else "Graded with isolation: none (practice; answers did not run in a jail)."
    )
    which = f"<p>File {escape(row.record.source)}, attempt {row.record.attempt}.</p>\n" if row.record else ""
    return f"{which}<p>{how}</p>"
