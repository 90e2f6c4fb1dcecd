"""What a class gets on disk, all of it read from the ledger: grades.csv, problems.csv, feedback/*.html, report.html.

Equal ledgers give equal bytes in all but report.html, which also says how long the machine took.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from attnkit.grading.class_report import report_page
from attnkit.grading.exports.per_question import grades_csv, problems_csv
from attnkit.grading.feedback import feedback_page
from attnkit.grading.links import Links
from attnkit.grading.similarity import Pair
from attnkit.grading.standing import Class

__all__ = ["page_name", "put_file", "write_reports"]

_NO_LINKS = Links()


def write_reports(found: Class, out: Path, links: Links = _NO_LINKS, similar: Sequence[Pair] | None = None) -> None:
    """Write the tables, the class report and a page a student below `out`; pages of students who are gone go."""
    put_file(out / "grades.csv", grades_csv(found))
    put_file(out / "problems.csv", problems_csv(found))
    put_file(out / "report.html", report_page(found, links, similar))
    folder = out / "feedback"
    folder.mkdir(exist_ok=True)
    pages = {page_name(one.student.id): feedback_page(one, found, links) for one in found.standings}
    for name, page in pages.items():
        put_file(folder / name, page)
    for stale in folder.glob("*.html"):
        if stale.name not in pages:
            stale.unlink()


def page_name(name: str, ending: str = ".html") -> str:
    """A file name for a student or question: as it is where that is plain, else made plain and told apart by a hash."""
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", name)[:60]
    if plain != name or not plain:
        plain = f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{plain}{ending}"


def put_file(path: Path, content: str | bytes) -> None:
    """Write a file whole or not at all, however the process ends."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content.encode() if isinstance(content, str) else content)
    os.replace(temporary, path)
