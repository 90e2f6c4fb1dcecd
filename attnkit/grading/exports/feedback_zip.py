"""All students' pages as one zip, named so that Moodle or Canvas hands each to its student.

Moodle (mod/assign/feedback/file/importziplib.php; "Upload multiple feedback files in a zip") reads the participant
number from the folder's name, `Full name_123_assignsubmission_file`, and keeps what follows as the file.
Canvas ("Upload submissions" of an assignment; Assignment#infer_comment_context_from_filename) takes the first two
numbers between underscores in a file's name: the user's, and that of the upload which is commented on. So it takes
pages only for files that came out of Canvas.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import PurePath
from typing import Literal

from attnkit.grading.exports.matching import Filled, known_of, who
from attnkit.grading.identity import claim_of
from attnkit.grading.standing import Class, Standing

_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say: equal pages give equal bytes
_MOODLE = "Unzip nothing: in the assignment choose Submissions, Upload multiple feedback files in a zip."
_CANVAS = "Unzip nothing: on the assignment's page choose Upload Submissions. Each page becomes a comment's attachment."


def feedback_zip(found: Class, pages: Mapping[str, str], system: Literal["moodle", "canvas"]) -> Filled:
    """The zip for `system` as `Filled.data`. `pages` are the students' pages by their ids."""
    filled = Filled(notes=[_MOODLE if system == "moodle" else _CANVAS])
    place = _moodle_place if system == "moodle" else _canvas_place
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for standing in found.standings:
            path = place(standing)
            if path:
                info = zipfile.ZipInfo(path, _LONG_AGO)
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, pages[standing.student.id].encode())
                filled.written += 1
            elif standing.record is None:
                filled.left.append(f"{who(standing)}: {standing.status}")
            else:
                filled.unmatched.append(f"{who(standing)}: no {system.title()} number is known for {_what[system]}")
    filled.data = data.getvalue()
    return filled


_what = {"moodle": "the student (roster column moodle)", "canvas": "the student and the upload"}


def _moodle_place(standing: Standing) -> str:
    number = known_of(standing).get("moodle", "")
    return f"{_plain(standing.student.name)}_{number}_assignsubmission_file_/feedback.html" if number else ""


def _canvas_place(standing: Standing) -> str:
    claims = [claim_of(PurePath(standing.record.source).parts)] if standing.record else []
    return next(
        (
            f"{_plain(claim.name).replace(' ', '')}_{claim.number}_{claim.upload}_feedback.html"
            for claim in claims
            if claim.scheme == "canvas" and claim.number.isdigit() and claim.upload
        ),
        "",
    )


def _plain(name: str) -> str:
    """A name that may stand in a path: no separators, no underscore (both systems split there), no bare number."""
    plain = " ".join(re.sub(r"[\W_]+", " ", name).split())[:60]
    return plain if plain and not plain.replace(" ", "").isdigit() else "student"
