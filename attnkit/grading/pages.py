"""What the grader's pages share: one style sheet, a policy that forbids all else, tables and bars.

Plain HTML, no script, no request; light and dark by the reader's own setting. Everything that comes from outside is
escaped, and the page's own policy forbids whatever might slip through. Colour says nothing alone.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2128; --soft: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --good: #116329; --some: #8a4600; --bad: #a40e26; --link: #0550ae; --bar: #4a6fa5; }
@media (prefers-color-scheme: dark) { :root { --paper: #0f1318; --ink: #e6edf3; --soft: #9da7b3; --line: #30363d;
  --card: #171c23; --good: #56d364; --some: #f0a04b; --bad: #ff8b85; --link: #79b8ff; --bar: #6f9bd8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 46rem; padding: 1.5rem 1rem 3rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
body.wide { max-width: 64rem; }
header { border-bottom: 1px solid var(--line); margin-bottom: 1.5rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.15rem; line-height: 1.4; margin: 0; }
h2.code { font: 600 1.1rem/1.4 ui-monospace, monospace; } h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .5rem 0; } .soft { color: var(--soft); font-size: .9rem; } a { color: var(--link); }
.total { font-size: 1.9rem; font-weight: 650; margin: .25rem 0; }
section { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; margin: 0 0 1rem;
  padding: 1rem; border-left: .3rem solid var(--line); }
section.full { border-left-color: var(--good); } section.partial { border-left-color: var(--some); }
section.waiting { border-left-color: var(--link); } section.none { border-left-color: var(--bad); }
.head { display: flex; flex-wrap: wrap; justify-content: space-between; gap: .25rem 1rem; align-items: baseline; }
.points { font-weight: 650; } .full .points { color: var(--good); } .partial .points { color: var(--some); }
.none .points { color: var(--bad); }
ul.parts { list-style: none; margin: .75rem 0; padding: 0; }
.parts li { display: flex; gap: .5rem; align-items: baseline; }
.parts li span:first-child { flex: 0 0 3.6rem; font-weight: 600; font-size: .85rem; }
.passed { color: var(--good); } .failed { color: var(--bad); }
.worth { color: var(--soft); margin-left: auto; white-space: nowrap; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: .35rem; margin: .5rem 0; padding: .75rem;
  overflow-x: auto; font: .85rem/1.45 ui-monospace, monospace; }
pre.words { white-space: pre-wrap; font: inherit; }
pre:focus-visible, .scroll:focus-visible, a:focus-visible { outline: 2px solid currentcolor; outline-offset: 2px; }
.mistake, .override, .note { border-left: .2rem solid var(--some); padding-left: .75rem; }
.override { border-left-color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: .5rem 0; }
dt { color: var(--soft); } dd { margin: 0; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%; overflow-wrap: normal; }
caption { text-align: left; color: var(--soft); padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td.long { min-width: 16rem; overflow-wrap: anywhere; }
figure { margin: .5rem 0; max-width: 46rem; } figure svg { display: block; }
.bar { display: grid; grid-template-columns: minmax(7rem, 2fr) 4fr; gap: 0 .6rem; align-items: center;
  font-size: .85rem; line-height: 1.3; padding: .1rem 0; }
svg text { fill: var(--ink); font: 13px system-ui, sans-serif; } svg rect { fill: var(--bar); }
"""
_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"
_DIGEST = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def document(title: str, header: str, main: str, footer: str = "", wide: bool = False) -> str:
    """A whole page. `title` is plain text; the other parts are HTML that is already escaped."""
    foot = f'<footer class="soft">\n{footer}\n</footer>\n' if footer else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY.format(_DIGEST)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body{' class="wide"' if wide else ""}>
<header>
{header}
</header>
<main>
{main}
</main>
{foot}</body>
</html>
"""


def preformatted(text: str, name: str, words: bool = False) -> str:
    """`text` as it is, in a box called `name`. A wide one scrolls inside the box, which the keyboard can reach."""
    kind = ' class="words"' if words else ""
    return f'<pre{kind} tabindex="0" role="region" aria-label="{escape(name)}">{escape(text)}</pre>'


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[object]], long: Sequence[str] = ()) -> str:
    """A table whose first column names its rows. Numbers stand right; `long` names the columns that hold sentences.

    A cell is text, a number, or `Markup`.
    """
    numeric = [i > 0 and bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(head))]
    top = "".join(
        f'<th scope="col"{_class("number" if n else "")}>{escape(name)}</th>'
        for name, n in zip(head, numeric, strict=True)
    )
    lines = []
    for row in rows:
        cells = [f'<th scope="row">{_cell(row[0])}</th>']
        for i, value in enumerate(row[1:], 1):
            kind = "number" if numeric[i] else "long" if head[i] in long else ""
            cells.append(f"<td{_class(kind)}>{_cell(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
        f"<table><caption>{escape(caption)}</caption><thead><tr>{top}</tr></thead>"
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


class Markup(str):
    """HTML that is already escaped, told apart from text."""

    __slots__ = ()


def bars(name: str, rows: Sequence[tuple[str, float]], unit: str = "") -> str:
    """Horizontal bars as SVG, drawn here so that equal numbers give equal bytes. Say what it shows in `name`.

    Lengths are in percent and letters in pixels: they stay readable however narrow the page.
    """
    most = max((value for _, value in rows), default=0.0) or 1.0
    lines = []
    for label, value in rows:
        long = round(80 * value / most, 2)
        lines.append(
            f'<div class="bar"><span>{escape(label)}</span><svg width="100%" height="20" aria-hidden="true">'
            f'<rect width="{long:g}%" height="16" y="2"/><text x="{long:g}%" dx="6" y="15">'
            f"{number(value)}{escape(unit)}</text></svg></div>"
        )
    return f'<figure role="img" aria-label="{escape(name)}">{"".join(lines)}</figure>'


def several(count: int, one: str, many: str = "") -> str:
    """`1 student`, `2 students`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def number(value: float | int) -> str:
    """Up to two decimals, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def share(part: float | int, whole: float | int) -> str:
    """A part as a percentage, `-` of nothing."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) or (isinstance(value, str) and value.rstrip(" %").replace(".", "").isdigit())


def _cell(value: object) -> str:
    if isinstance(value, Markup):
        return str(value)
    return escape(number(value) if isinstance(value, int | float) else str(value))
