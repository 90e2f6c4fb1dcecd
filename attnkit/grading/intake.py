"""Finds what was handed in: notebooks in folders and in zips as Moodle and Canvas export them; who each is from.

Nothing is passed over in silence: what is not graded becomes a `Problem`, and so does each choice between files.
Of several files of one student the one with the highest attempt is last (Canvas appends -1, -2, ... to it), then the
one with the highest upload number, then the last by path; one that cannot be read never displaces one that can.
The last one is taken, or all that can be read, in that order.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

from attnkit.grading.archive import Refused, members, read_member
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Claim, Roster, Student, claim_of, student_of

MAX_NOTEBOOK = 10 * 2**20
MAX_ZIP = 4 * 2**30
_JUNK = re.compile(r"^(\.|__MACOSX$|Thumbs\.db$|desktop\.ini$|~\$)", re.IGNORECASE)


@dataclass(frozen=True, order=True)
class Problem:
    """Something the instructor should know. `where` is a path below the graded folder, or a student."""

    where: str
    student: str
    kind: str
    message: str


@dataclass(frozen=True)
class Found:
    """A file that somebody handed in. `why_not` says why it is not read, when it is not."""

    where: str
    claim: Claim
    student: Student
    read: Callable[[], bytes] = field(compare=False, default=bytes)
    why_not: str = ""


@dataclass
class Intake:
    """What was found: the files that are graded, sorted by student and the last of each last, and the problems."""

    submissions: list[Found]
    problems: list[Problem]
    missing: list[Student]


def take_in(
    source: Path,
    roster: Roster | None = None,
    skip: tuple[Path, ...] = (),
    max_bytes: int = MAX_NOTEBOOK,
    readable: Callable[[bytes], str] = lambda data: "",
    every: bool = False,
) -> Intake:
    """Look through `source` (folder, zip or notebook), leaving out the paths in `skip`.

    `readable` says why a file's bytes are no notebook, or "". `every` takes all files of a student that can be read
    instead of the last. Raises `GradingError` when `source` does not exist.
    """
    if not source.exists():
        raise GradingError(f"DIR: there is nothing at {source}; it should be a folder, a zip file or a notebook.")
    problems: list[Problem] = []
    found = _told_apart([_identified(one, roster) for one in _walk(source, skip, max_bytes, problems)], problems)
    for one in found:
        problems += _about_name(one, roster)
    chosen = []
    for student in sorted({one.student for one in found}, key=lambda s: (s.id, s.name)):
        chosen += _choose([one for one in found if one.student == student], readable, problems, every)
    handed_in = {one.student.id for one in chosen}
    missing = [one for one in roster.students if one.id not in handed_in] if roster else []
    problems += [Problem("", one.id, "nothing handed in", f"{one.name} is in the roster") for one in missing]
    return Intake(chosen, sorted(problems), missing)


def _identified(found: Found, roster: Roster | None) -> Found:
    return replace(found, student=student_of(found.claim, roster))


def _told_apart(found: list[Found], problems: list[Problem]) -> list[Found]:
    """Moodle's and Canvas's numbers may coincide: two students under one number get their names into their ids."""
    names: dict[str, set[str]] = {}
    for one in found:
        names.setdefault(one.student.id, set()).add(one.student.name)
    apart = []
    for one in found:
        if len(names[one.student.id]) > 1:
            message = f"also the number of {', '.join(sorted(names[one.student.id] - {one.student.name}))}"
            problems.append(Problem(one.where, one.student.id, "number used twice", message))
            one = replace(one, student=replace(one.student, id=f"{one.student.id} {one.student.name}"))
        apart.append(one)
    return apart


def _about_name(found: Found, roster: Roster | None) -> list[Problem]:
    if not found.student.listed:
        message = (
            f"{found.claim.name or found.claim.number!r} is not in the roster, or could be several; graded as such"
        )
        return [Problem(found.where, found.student.id, "unknown student", message)]
    if roster is None and found.claim.scheme == "name":
        message = "neither Moodle's nor Canvas's naming; the name is taken from the file or folder"
        return [Problem(found.where, found.student.id, "name from the path", message)]
    return []


def _choose(files: list[Found], readable: Callable[[bytes], str], problems: list[Problem], every: bool) -> list[Found]:
    """The files of a student that are graded; one with the reason why it cannot be read if none can."""
    files = sorted(files, key=lambda one: (one.claim.order, one.where))
    checked = [_checked(one, readable) for one in files]
    good = [one for one in checked if not one.why_not]
    # A file that is no notebook at all (a PDF beside it) is no second submission.
    notebooks = [one for one in checked if one.where.lower().endswith(".ipynb")]
    last = good[-1] if good else (notebooks or checked)[-1]
    for one in checked:
        if one is not last and one in good:
            kind, message = (
                ("another attempt", f"graded too; {last.where} is later, and the better one counts")
                if every
                else ("not counted", f"a second file of the same student; {last.where} is later and counts")
            )
            problems.append(Problem(one.where, one.student.id, kind, message))
        elif one.why_not:
            problems.append(Problem(one.where, one.student.id, "unreadable", one.why_not))
    return good if every and good else [last]


def _checked(found: Found, readable: Callable[[bytes], str]) -> Found:
    if found.why_not:
        return found
    try:
        why_not = readable(found.read())
    except (Refused, OSError) as error:
        why_not = str(error)
    return replace(found, why_not=why_not)


def _walk(source: Path, skip: tuple[Path, ...], max_bytes: int, problems: list[Problem]) -> Iterator[Found]:
    if not source.is_dir():
        yield from _file(source, source.name, max_bytes, problems)
        return
    skipped = {path.resolve() for path in skip}
    for folder, folders, files in os.walk(source):
        folders[:] = sorted(
            name for name in folders if not _JUNK.match(name) and (Path(folder) / name).resolve() not in skipped
        )
        for name in [*folders, *sorted(files)]:
            path = Path(folder) / name
            where = path.relative_to(source).as_posix()
            if path.is_symlink():
                yield from _unread(where, _claim(where), "a link; only files are read", problems)
            elif name in files and not _JUNK.match(name) and path.resolve() not in skipped:
                yield from _file(path, where, max_bytes, problems)


def _file(path: Path, where: str, max_bytes: int, problems: list[Problem]) -> Iterator[Found]:
    """What one file on disk holds: a notebook, or a zip of them."""
    ending = path.suffix.lower()
    if not path.is_file():
        problems.append(Problem(_shown(where), "", "ignored", "not a regular file"))
    elif ending == ".zip":
        yield from _zip(path, where, max_bytes, problems)
    elif path.stat().st_size > max_bytes:
        yield _refused(where, _too_large(path.stat().st_size, max_bytes))
    elif ending == ".ipynb":
        yield Found(_shown(where), _claim(where), Student("", ""), lambda: _read(path, max_bytes))
    else:
        yield from _other(where, problems)


def _zip(path: Path, where: str, max_bytes: int, problems: list[Problem]) -> Iterator[Found]:
    outer = _claim(where)
    try:
        if path.stat().st_size > MAX_ZIP:
            raise Refused(f"a zip larger than {MAX_ZIP >> 30} GiB; split it")
        listed = list(members(path, max_bytes))
    except (Refused, OSError) as error:
        yield from _unread(where, outer, str(error), problems)
        return
    for name, why_not in sorted(listed):
        parts = PurePosixPath(name.replace("\\", "/")).parts
        if any(_JUNK.match(part) for part in parts if part != ".."):
            continue
        inside = f"{where}/{name}"
        # A zip in a student's own folder is theirs; one at the top holds a class, and its members say whose they are.
        claim = outer if outer.scheme != "name" else _claim(name)
        if name.lower().endswith(".ipynb") and not why_not:
            yield Found(_shown(inside), claim, Student("", ""), partial(read_member, path, name, max_bytes))
        elif why_not:
            yield from _unread(inside, claim, why_not, problems)
        elif name.lower().endswith(".zip"):
            yield from _unread(inside, claim, "a zip inside a zip is not opened", problems)
        else:
            yield from _other(inside, problems, claim)


def _unread(where: str, claim: Claim, why_not: str, problems: list[Problem]) -> Iterator[Found]:
    """A file that is refused: a student's, when its name says whose; else only a problem."""
    inside = ".." not in PurePosixPath(where).parts  # a path that climbs says nothing about whose it is
    if inside and (claim.scheme != "name" or where.lower().endswith(".ipynb")):
        yield Found(_shown(where), claim, Student("", ""), why_not=why_not)
    else:
        problems.append(Problem(_shown(where), "", "unreadable", why_not))


def _refused(where: str, why_not: str) -> Found:
    return Found(_shown(where), _claim(where), Student("", ""), why_not=why_not)


def _too_large(size: int, max_bytes: int) -> str:
    return f"{size >> 20} MiB, and at most {max_bytes >> 20} MiB are read; clear its outputs, save it, hand that in"


def _other(where: str, problems: list[Problem], claim: Claim | None = None) -> Iterator[Found]:
    claim = claim or _claim(where)
    if claim.scheme == "name":
        problems.append(Problem(_shown(where), "", "ignored", "not a notebook (.ipynb)"))
    else:  # the system says that a student handed this in, so they must not be missing from the grades
        yield Found(_shown(where), claim, Student("", ""), why_not="not a notebook (.ipynb)")


def _read(path: Path, max_bytes: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise Refused(f"larger than {max_bytes >> 20} MiB")
    return data


def _claim(where: str) -> Claim:
    return claim_of(PurePosixPath(_shown(where).replace("\\", "/")).parts)


def _shown(where: str) -> str:
    """A path that can be printed: a hostile one may hold control characters or broken Unicode."""
    text = where.encode("utf-8", "replace").decode("utf-8")
    return "".join(c if c.isprintable() else "?" for c in text)[:300]
