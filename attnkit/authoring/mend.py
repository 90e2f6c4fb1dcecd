"""Mends written HTML pages: what the theme loads in vain, and what it tells a screen reader wrongly.

Works on text with a few exact rules, each idempotent, so that a page that Sphinx did not write again stays as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

# What to mend, why, and how: the theme's markup as it is written, and as it should be.
_RULES: tuple[tuple[str, re.Pattern[str], str], ...] = (
    (
        "icons come twice, as a web font that pages use and as half a megabyte of script",
        re.compile(r'[ \t]*<(?:script|link)[^>]*(?:src|href)="[^"]*fontawesome\.js[^"]*"[^>]*>(?:</script>)?\n?'),
        "",
    ),
    (
        "a button that shows 'Search Ctrl+K' must not be called otherwise",
        re.compile(r'(<button class="btn search-button-field[^>]*?) aria-label="[^"]*"'),
        r"\1",
    ),
    (
        "the summary of a folded cell says 'Show code cell source'; the label would hide that",
        re.compile(r'<summary aria-label="Toggle hidden content">'),
        "<summary>",
    ),
    (
        "the logo and search in the sidebar belong to a landmark",
        re.compile(r'(<div id="pst-primary-sidebar" class="bd-sidebar-primary bd-sidebar[^"]*")>'),
        r'\1 role="complementary" aria-label="Book">',
    ),
    (
        "doc-biblioentry is deprecated and may not stand in a list; listitem may",
        re.compile(r'(<div class="citation"[^>]*) role="doc-biblioentry"'),
        r'\1 role="listitem"',
    ),
)
_FORMULA = re.compile(r'class="[^"]*\bmath\b')
_MATHJAX = re.compile(r"[ \t]*<script[^>]*(?:>window\.MathJax = .*?|mathjax/[^>]*>)</script>\n?")


def mend(site: Path) -> int:
    """Mend every page below `site`; return how many changed."""
    count = 0
    for page in sorted(site.rglob("*.html")):
        if "_static" in page.relative_to(site).parts:
            continue
        text = page.read_text("utf-8")
        better = mend_page(text)
        if better != text:
            page.write_text(better, "utf-8")
            count += 1
    return count


def mend_page(text: str) -> str:
    """One page, mended."""
    for _, found, better in _RULES:
        text = found.sub(better, text)
    # Sphinx counts a formula in the title of another page as one of this page's; MathJax is half of what a page weighs.
    return text if _FORMULA.search(text) else _MATHJAX.sub("", text)
