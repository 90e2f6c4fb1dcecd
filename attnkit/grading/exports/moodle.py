"""Moodle's CSV files: fills our points into a downloaded grading worksheet, or writes a file for its import.

The worksheet is that of an assignment (github.com/moodle/moodle, mod/assign/feedback/offline/importgradeslib.php;
docs.moodle.org, "Assignment settings", Offline grading worksheet): `Identifier` (`Participant 123`), `Full name`,
`Email address`, `Status`, `Grade`, `Maximum Grade`, `Grade can be changed`, `Last modified (submission)`,
`Last modified (grade)`, `Feedback comments`, the names in the site's language. On import Moodle reads Identifier, Grade
and Last modified (grade), skips who was graded there since, and grades above the maximum.

The gradebook's own import (grade/import/csv/classes/load_data.php; docs.moodle.org, "Grade import") takes any columns:
one of them identifies the user (ID number, username or email address) and is chosen on the import page. It stops at
the first user whom it does not know. Grades are stored with five decimals, and a decimal point is read in any language.
"""

from __future__ import annotations

from attnkit.grading.errors import GradingError
from attnkit.grading.exports.csvfile import Sheet, decimal, rounded, safe_text, written
from attnkit.grading.exports.matching import Filled, Rows, known_of, numbered, who
from attnkit.grading.exports.points import Choice, exported, only, refused, scaled
from attnkit.grading.standing import Class, Standing

DECIMALS = 5
_WAYS = (("moodle", "participant"), ("id", "id"), ("login", "login"), ("id", "login"), ("email", "email"))
# English names of the columns that say who somebody is; in other languages the identifier comes first.
_ABOUT = {"id": ("ID number",), "login": ("Username",), "email": ("Email address",)}


def moodle_csv(found: Class, choice: Choice) -> Filled:
    """A file that Moodle imports: a worksheet where all have a participant number, else one for the gradebook."""
    filled = Filled()
    ready = exported(found, choice, filled)
    if ready and all("moodle" in known_of(standing) for standing, _ in ready):
        return _worksheet(found, ready, choice, filled)
    return _import_file(found, ready, choice, filled)


def _worksheet(found: Class, ready: list[tuple[Standing, float]], choice: Choice, filled: Filled) -> Filled:
    head = ["Identifier", "Full name", "Grade", "Maximum Grade", "Last modified (grade)"]
    most = rounded(found.max_points, DECIMALS)
    rows = [
        [f"Participant {known_of(one)['moodle']}", safe_text(one.student.name), rounded(total, DECIMALS), most, ""]
        for one, total in ready
    ]
    filled.written = len(rows)
    filled.data = written(head, rows).encode()
    filled.notes.append(
        "A grading worksheet: in the assignment choose Submissions, Upload grading worksheet, and tick 'Allow updating "
        "records that have been modified more recently' if anybody has a grade there."
    )
    return filled


def _import_file(found: Class, ready: list[tuple[Standing, float]], choice: Choice, filled: Filled) -> Filled:
    title = f"{choice.assignment or found.title} (of {rounded(found.max_points, DECIMALS)})"
    head = ["ID number", "Username", "Email address", "Full name", safe_text(title)]
    rows = []
    for standing, total in ready:
        student, known = standing.student, known_of(standing)
        number = known.get("id", "") if student.listed else ""
        if not (number or student.login or student.email):
            filled.unmatched.append(f"{who(standing)}: nothing is known by which Moodle's gradebook would find them")
            continue
        texts = [number, student.login, student.email, student.name]
        rows.append([*map(safe_text, texts), rounded(total, DECIMALS)])
    filled.written = len(rows)
    filled.data = b"" if refused(filled, choice) else written(head, rows).encode()
    filled.notes.append(
        "For the gradebook: Grades, Import, CSV file; map ID number (or username, or email address) to the user and "
        f"{title!r} to the grade item."
    )
    return filled


def fill_moodle(found: Class, sheet: Sheet, choice: Choice) -> Filled:
    """The downloaded worksheet with our points in the column `choice.assignment` (Grade), all else as it was.

    A grade export of the gradebook is filled in the same way, by ID number, username or email address.
    Raises `GradingError` when nothing in `sheet` says who somebody is, or the column is not there.
    """
    head = sheet.head
    column = only(
        [i for i, name in enumerate(head) if name == (choice.assignment or "Grade")],
        f"--assignment: was {choice.assignment or 'Grade'!r}",
        head,
    )
    filled, rows = Filled(), _rows(sheet, head)
    locked = _where(head, "Grade can be changed")
    maximum = _where(head, "Maximum Grade")
    matched = rows.match(found.standings, _WAYS)
    for standing, total in exported(found, choice, filled):
        row = matched[standing.student.id]
        if isinstance(row, str):
            filled.unmatched.append(f"{who(standing)}: {row}")
            continue
        if sheet.value(row, locked).casefold() == "no":
            filled.left.append(f"{who(standing)}: the grade is locked in Moodle")
            continue
        where, most = f"--assignment: the column {head[column]!r}", decimal(sheet.value(row, maximum))
        text = scaled(total, found, most, choice, where, DECIMALS)
        if most is not None and float(text) > most:
            filled.left.append(f"{who(standing)}: {text} is above Moodle's maximum of {most:g}, which skips it")
            continue
        sheet.put(row, column, text)
        filled.written += 1
    filled.strangers = rows.free(matched)
    filled.data = b"" if refused(filled, choice) else sheet.data()
    return filled


def _rows(sheet: Sheet, head: list[str]) -> Rows:
    """Who each row is. A worksheet's first column ends in the participant number, in whatever language."""
    columns = {kind: _where(head, *names) for kind, names in _ABOUT.items()}
    body = range(1, len(sheet.rows))
    first = _where(head, "Identifier")
    if first is None and head[0] not in {name for names in _ABOUT.values() for name in names}:
        first = 0 if body and all(numbered(sheet.value(row, 0)) for row in body) else None
    if first is None and all(column is None for column in columns.values()):
        raise GradingError(
            f"--template: the columns are {', '.join(head)}; one should be Identifier (a grading worksheet), or ID "
            "number, Username or Email address (a grade export)."
        )
    name = _where(head, "Full name")
    rows = Rows()
    for row in body:
        marks = {kind: sheet.value(row, column) for kind, column in columns.items()}
        marks["participant"] = numbered(sheet.value(row, first))
        if any(marks.values()):
            rows.add(row, sheet.value(row, name) or next(value for value in marks.values() if value), marks)
    return rows


def _where(head: list[str], *names: str) -> int | None:
    return next((i for i, name in enumerate(head) if name.casefold() in [one.casefold() for one in names]), None)
