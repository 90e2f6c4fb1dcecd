"""Mends written HTML pages: what the theme loads in vain, and what it tells a screen reader wrongly.

Works on text with a few exact rules, each idempotent, so that a page that Sphinx did not write again stays as it is.
"""

from __future__ import annotations

import re
from pathlib import Path

# The theme ships its icons twice: as a web font, which the pages use, and as half a megabyte of JavaScript.
_ICON_SCRIPT = re.compile(r'[ \t]*<script[^>]*src="[^"]*fontawesome\.js[^"]*"[^>]*></script>\n?')
_ICON_PRELOAD = re.compile(r'[ \t]*<link[^>]*href="[^"]*fontawesome\.js[^"]*"[^>]*/?>\n?')


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
    text = _ICON_SCRIPT.sub("", text)
    return _ICON_PRELOAD.sub("", text)
