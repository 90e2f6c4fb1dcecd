"""The gradebook CSV of Canvas: fills our column into a downloaded one, or writes a minimal one.

The format is that of Canvas's own exporter and importer (github.com/instructure/canvas-lms, lib/gradebook_exporter.rb
and lib/gradebook_importer.rb; guide: community.canvaslms.com, "How do I import grades in the Gradebook?"):
the header starts `Student,ID` (or `LastName,FirstName,ID`), may go on with `SIS User ID`, `SIS Login ID`,
`Integration ID` and `Root Account`, ends its student columns with `Section`, then has a column `Title (id)` for each
assignment. A row of `Manual Posting` may come next, then `    Points Possible`, which says `(read only)` for computed
columns. Cells: points, `EX` (excused), `N/A` (not assigned). Canvas finds students by ID, SIS User ID, SIS Login ID;
it shows and compares two decimals, and reads comma or semicolon files, decimal point or comma.
"""

from __future__ import annotations

import re

from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import Sheet, decimal, rounded, safe_text, written
from attnkit.grading.exports.matching import Filled, Rows, known_of, who
from attnkit.grading.exports.points import Choice, exported, only, refused, scaled
from attnkit.grading.standing import Class

DECIMALS = 2
_ABOUT = ("Student", "LastName", "FirstName", "ID", "SIS User ID", "SIS Login ID", "Integration ID", "Root Account")
_HIDDEN = re.compile(r"\s*(Muted|Manual Posting.*)?\s*", re.IGNORECASE)
_COMPUTED = re.compile(r"(Current|Final) (Score|Points|Grade)|Override (Score|Grade|Status)")
_NOT_POINTS = {"EX": "is excused there", "N/A": "is not assigned there"}
_TEST_STUDENT = "Student, Test"  # Canvas's own, in every course
# (what we know of a student, the column): Canvas's user number is no SIS id, even where the digits agree.
_WAYS = (
    *(("canvas", "ID"), ("id", "SIS User ID"), ("id", "SIS Login ID"), ("login", "SIS Login ID")),
    *(("login", "SIS User ID"), ("email", "SIS Login ID"), ("id", "Integration ID")),
)


def canvas_csv(found: Class, choice: Choice) -> Filled:
    """A file that Canvas imports. Without an id in `choice.assignment`, `Title (id)`, Canvas makes a new assignment."""
    filled = Filled()
    title = choice.assignment or found.title
    rows = []
    for standing, total in exported(found, choice, filled):
        known = known_of(standing)
        student = standing.student
        sis = known.get("id", "") if student.listed else ""
        login = student.login or student.email
        if not (known.get("canvas") or sis or login):
            filled.unmatched.append(f"{who(standing)}: nothing is known by which Canvas would find them")
            continue
        texts = [student.name, known.get("canvas", ""), sis, login, ""]
        rows.append([*map(safe_text, texts), rounded(total, DECIMALS)])
    filled.written = len(rows)
    possible = ["    Points Possible", "", "", "", "", rounded(found.max_points, DECIMALS)]
    head = ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", safe_text(title)]
    filled.data = b"" if refused(filled, choice) else written(head, [possible, *rows]).encode()
    if not re.search(r" \(\d+\)$", title):
        filled.notes.append(
            f"Canvas will offer to make a new assignment {title!r}. To fill one that is there, download the gradebook "
            "and say --template FILE --assignment 'Title (id)'."
        )
    return filled


def fill_canvas(found: Class, sheet: Sheet, choice: Choice) -> Filled:
    """The downloaded gradebook with our points in the column `choice.assignment`, all else as it was.

    Raises `GradingError` when `sheet` is no gradebook, or the column is not there, or it is read-only.
    """
    head = sheet.head
    _check_head(head)
    column = _column(head, choice.assignment)
    filled = Filled()
    rows, possible = Rows(), None
    for number in range(1, len(sheet.rows)):
        first = sheet.value(number, 0)
        if first.startswith("Points Possible"):
            possible = _possible(sheet.value(number, column), head[column])
        elif not all(_HIDDEN.fullmatch(cell.value) for cell in sheet.rows[number]):
            marks = {name: sheet.value(number, i) for i, name in enumerate(head) if name in _ABOUT}
            rows.add(number, _name(head, marks), marks)
    where = f"--assignment: the column {head[column]!r}"
    matched = rows.match(found.standings, _WAYS)
    for standing, total in exported(found, choice, filled):
        row = matched[standing.student.id]
        if isinstance(row, str):
            filled.unmatched.append(f"{who(standing)}: {row}")
        elif (there := sheet.value(row, column).upper()) in _NOT_POINTS:
            filled.left.append(f"{who(standing)}: {_NOT_POINTS[there]} ({there})")
        else:
            sheet.put(row, column, scaled(total, found, possible, choice, where, DECIMALS))
            filled.written += 1
    filled.strangers = [name for name in rows.free(matched) if name != _TEST_STUDENT]
    filled.data = b"" if refused(filled, choice) else sheet.data()
    return filled


def _check_head(head: list[str]) -> None:
    plain = head[:2] == ["Student", "ID"] or head[:3] == ["LastName", "FirstName", "ID"]
    if not plain or "Section" not in head:
        raise GradingError(
            f"--template: the first row starts {', '.join(head[:4])!r}; a Canvas gradebook starts Student, ID, ... and "
            "has a column Section. Download it in Canvas under Grades, Export."
        )


def _column(head: list[str], wanted: str) -> int:
    """The assignment's column, by `Title (id)`, by the title or by the id alone."""
    assignments = range(head.index("Section") + 1, len(head))
    names = [head[i] for i in assignments if not _COMPUTED.search(head[i])]
    if not wanted:
        raise GradingError(f"--assignment: say which column to fill; the file has these: {', '.join(names)}.")
    if _COMPUTED.search(wanted) and wanted in head:
        raise GradingError(f"--assignment: the column {wanted!r} is computed by Canvas (read only); choose another.")

    def matching(i: int) -> bool:
        title, _, number = head[i].rpartition(" (")
        return wanted in (head[i], title, number.rstrip(")"))

    exact = [i for i in assignments if head[i] == wanted]
    return only(exact or [i for i in assignments if matching(i)], f"--assignment: was {wanted!r}", names)


def _possible(text: str, column: str) -> float | None:
    if "read only" in text.lower():
        raise GradingError(f"--assignment: the column {column!r} is {text}; Canvas would ignore it. Choose another.")
    return decimal(text)


def _name(head: list[str], marks: dict[str, str]) -> str:
    return marks.get("Student") or f"{marks.get('LastName', '')}, {marks.get('FirstName', '')}"
