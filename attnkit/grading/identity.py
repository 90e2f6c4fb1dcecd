"""Who handed a file in: from the naming schemes of Moodle and Canvas, from a roster, or from the file's own name.

Moodle  `Firstname Lastname_12345_assignsubmission_file_/attention.ipynb`, or the same as one file name
        (mod/assign/classes/downloader.php: full name, participant number, plugin)
Canvas  `lastnamefirstname_LATE_12345_67890_attention-1.ipynb`: sortable name without spaces, user number, number of
        the upload, file name, which a resubmission extends by -1, -2, ... (lib/content_zipper.rb); anonymous
        submissions start with `anon_`
Else    the first folder below the one that is graded, or the file's name without its ending
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attnkit.grading.errors import GradingError

_MOODLE = re.compile(r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_(?P<kind>file|onlinetext)(?:_(?P<rest>.*))?")
_CANVAS = re.compile(
    r"(?P<name>[^\W\d_]\w*?)_(?P<late>LATE_)?(?P<number>\d+)_(?P<upload>\d+)_(?P<file>.+)", re.IGNORECASE
)
_ANONYMOUS = re.compile(r"(?P<late>LATE_)?anon_(?P<number>\w+?)_(?P<upload>\d+)_(?P<file>.+)")
_AGAIN = re.compile(r"-(\d{1,3})(?:\.\w+)?$")
COLUMNS = ("id", "name", "moodle", "canvas", "login", "email", "extension")


@dataclass(frozen=True)
class Claim:
    """What a path says about who handed it in. `order` sorts the files of one student, the one that counts last."""

    scheme: str  # moodle, canvas or name
    number: str
    name: str
    attempt: int = 1
    upload: int = 0
    late: bool = False

    @property
    def order(self) -> tuple[int, int]:
        """Later attempts after earlier ones, later uploads after earlier ones."""
        return (self.attempt, self.upload)


@dataclass(frozen=True)
class Student:
    """A student as the grades name them. `listed` says whether the roster has them (True without a roster).

    The others are the roster's columns, "" where it has none: exports for the system that gave them need them.
    """

    id: str
    name: str
    listed: bool = True
    moodle: str = ""
    canvas: str = ""
    login: str = ""
    email: str = ""
    extension: str = ""


def claim_of(parts: tuple[str, ...]) -> Claim:
    """What the path below the graded folder, split at its slashes, says."""
    for part in parts:
        if match := _MOODLE.fullmatch(part):
            return Claim("moodle", match["number"], " ".join(match["name"].split()))
    for part in reversed(parts):
        match = _ANONYMOUS.fullmatch(part) or _CANVAS.fullmatch(part)
        if match:
            again = _AGAIN.search(match["file"])
            return Claim(
                "canvas",
                match["number"],
                match.groupdict().get("name", ""),
                attempt=1 + (int(again[1]) if again else 0),
                upload=int(match["upload"]),
                late=bool(match["late"]),
            )
    own = parts[0] if len(parts) > 1 else Path(parts[0]).stem
    return Claim("name", "", own)


class Roster:
    """The students of a course, from a CSV file with a header.

    Columns: `id` and `name` (needed); `moodle` (participant number), `canvas` (user number), `login`, `email`,
    `extension` (a later deadline of this student's, or how much later: `2 days`).
    """

    def __init__(self, rows: Iterable[dict[str, str]]) -> None:
        self.students: list[Student] = []
        self._by_number: dict[tuple[str, str], Student] = {}
        self._by_word: dict[str, set[Student]] = {}
        for row in rows:
            others = (row.get(column, "") for column in COLUMNS[2:])
            student = Student(row["id"], row["name"] or row["id"], True, *others)
            self.students.append(student)
            for scheme in ("moodle", "canvas"):
                if row.get(scheme):
                    self._by_number[scheme, row[scheme]] = student
            words = [row["id"], row.get("login", ""), row.get("email", ""), row.get("email", "").split("@")[0]]
            for word in [*map(_folded, words), *_spellings(row["name"])]:
                if word:
                    self._by_word.setdefault(word, set()).add(student)

    def find(self, claim: Claim) -> Student | None:
        """The one student whom `claim` can mean; None when it is nobody or could be several."""
        if student := self._by_number.get((claim.scheme, claim.number)):
            return student
        for word in (_folded(claim.number), _folded(claim.name)):
            if word and len(found := self._by_word.get(word, set())) == 1:
                return next(iter(found))
        return None


def student_of(claim: Claim, roster: Roster | None) -> Student:
    """Whom a claim means; who is not in the roster stays as the claim has them."""
    found = roster.find(claim) if roster else None
    return found or Student(claim.number or claim.name, claim.name or claim.number, listed=roster is None)


def read_roster(path: Path) -> Roster:
    """The roster in a CSV file (comma, semicolon or tab; UTF-8). Raises `GradingError` saying what it should be."""
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise GradingError(f"--roster: {path} cannot be read as UTF-8 text ({error}).") from None
    head = text.partition("\n")[0]
    delimiter = max(",;\t", key=head.count)
    rows = []
    for number, row in enumerate(csv.DictReader(text.splitlines(), delimiter=delimiter), 2):
        clean = {(name or "").strip().lower(): (value or "").strip() for name, value in row.items() if name}
        if not {"id", "name"} <= clean.keys():
            raise GradingError(f"--roster: {path} has the columns {sorted(clean)}; it needs `id` and `name`.")
        if not clean["id"]:
            raise GradingError(f"--roster: {path}, line {number}: the id is empty.")
        rows.append(clean)
    ids = [row["id"] for row in rows]
    if twice := sorted({one for one in ids if ids.count(one) > 1}):
        raise GradingError(f"--roster: {path} has these ids more than once: {', '.join(twice[:5])}.")
    return Roster(rows)


def _folded(text: str) -> str:
    """Letters and digits only, without case or accents: what survives every export."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum())


def _spellings(name: str) -> set[str]:
    """A name's words joined in every rotation: Moodle writes the first name first, Canvas the last."""
    words = [_folded(word) for word in re.split(r"[\s,]+", name) if _folded(word)]
    return {"".join(words[i:] + words[:i]) for i in range(len(words))}
