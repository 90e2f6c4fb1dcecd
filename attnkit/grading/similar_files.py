"""Where the answers that are compared come from: the files that count, found again in the folder that was graded."""

from __future__ import annotations

import hashlib
from pathlib import Path

from attnkit.grading.errors import GradingError
from attnkit.grading.intake import take_in
from attnkit.grading.similarity import Pair, similar
from attnkit.grading.sources import sources_of
from attnkit.grading.standing import Class
from attnkit.lab.bank import LabSpec
from attnkit.lab.reading.notebook import NotANotebook


def compared(found: Class, source: Path, spec: LabSpec, out: Path) -> tuple[list[Pair], dict[str, dict[str, str]], int]:
    """The pairs of answers that are alike, the answers by student and question, and how many files are not there.

    A file is known by its bytes, so it may have moved below `source`. Raises `GradingError` when `source` does not
    exist.
    """
    there = {}
    for one in take_in(source, skip=(out,), every=True).submissions:
        data = b"" if one.why_not else one.read()
        there[hashlib.sha256(data).hexdigest()] = data
    answers: dict[str, dict[str, str]] = {}
    missing = 0
    for standing in found.standings:
        record = standing.record
        if record is None or record.status != "graded":
            continue
        if record.sha256 not in there:
            missing += 1
            continue
        try:
            answers[standing.student.id] = sources_of(there[record.sha256], spec)
        except NotANotebook:
            missing += 1
    if missing and not answers:
        raise GradingError(f"--similar: none of the graded files is below {source}; it should be what was graded.")
    return similar(answers), answers, missing
