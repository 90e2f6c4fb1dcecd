"""Copies MathJax from node_modules into the book, so that a page asks no other host for anything."""

from __future__ import annotations

import shutil
from pathlib import Path

# The combined TeX component, and the fonts that its CommonHTML output asks for.
MATHJAX = ("tex-mml-chtml.js", "output/chtml/fonts/woff-v2")


class VendorError(RuntimeError):
    """Something to vendor is not installed; the message says what to run."""


def vendor(root: Path) -> bool:
    """Put MathJax into `book/assets/vendor/mathjax`; return whether anything was copied."""
    source = root / "node_modules" / "mathjax" / "es5"
    target = root / "book" / "assets" / "vendor" / "mathjax"
    wanted = [source / part for part in MATHJAX]
    if all((target / part).exists() for part in MATHJAX) and not source.is_dir():
        return False
    missing = [path for path in wanted if not path.exists()]
    if missing:
        raise VendorError(
            f"MathJax is not installed ({missing[0].relative_to(root)} is missing), and without it the equations of an "
            "offline page stay raw TeX. Run: npm ci"
        )
    changed = False
    for path in wanted:
        for file in [path] if path.is_file() else sorted(path.iterdir()):
            copy = target / file.relative_to(source)
            if copy.is_file() and copy.read_bytes() == file.read_bytes():
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            changed = True
    return changed
