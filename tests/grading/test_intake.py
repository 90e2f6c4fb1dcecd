"""Who handed what in, from messy folders and zips; nothing is read that should not be, nothing is passed over."""

from __future__ import annotations

import json
import stat
import zipfile
from pathlib import Path

import pytest

from attnkit.grading.archive import Refused, read_member
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Claim, claim_of, read_roster
from attnkit.grading.intake import Intake, take_in
from attnkit.grading.notebook import NotANotebook, code_sources
from tests.grading.conftest import notebook_bytes

GOOD = notebook_bytes("x = 1")


def put(folder: Path, name: str, data: bytes = GOOD) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def zip_of(path: Path, *members: tuple[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


def kinds(intake: Intake) -> list[str]:
    return [problem.kind for problem in intake.problems]


@pytest.mark.parametrize(
    ("path", "claim"),
    [
        ("Jane van Doe_4711_assignsubmission_file_/a.ipynb", Claim("moodle", "4711", "Jane van Doe")),
        ("Jane Doe_4711_assignsubmission_file/sub/a.ipynb", Claim("moodle", "4711", "Jane Doe")),
        ("Jane Doe_4711_assignsubmission_file_a_1_2_b.ipynb", Claim("moodle", "4711", "Jane Doe")),
        ("Participant_7_assignsubmission_file_/a.ipynb", Claim("moodle", "7", "Participant")),
        ("doejane_12_345_lab.ipynb", Claim("canvas", "12", "doejane", 1, 345)),
        ("doejane_LATE_12_345_my_lab_2-3.ipynb", Claim("canvas", "12", "doejane", 4, 345, True)),
        ("anon_Xy9_345_lab-1.ipynb", Claim("canvas", "Xy9", "", 2, 345)),
        ("müllerzoë_12_345_lab.ipynb", Claim("canvas", "12", "müllerzoë", 1, 345)),
        ("alice.ipynb", Claim("name", "", "alice")),
        ("alice/attention.ipynb", Claim("name", "", "alice")),
    ],
)
def test_naming_schemes(path: str, claim: Claim) -> None:
    assert claim_of(tuple(path.split("/"))) == claim


def test_folders_zips_and_files_side_by_side(tmp_path: Path) -> None:
    put(tmp_path, "Ann Ames_1_assignsubmission_file_/a.ipynb")
    put(tmp_path, "beebob_2_77_a.ipynb")
    zip_of(tmp_path / "class.zip", ("Cy Coe_3_assignsubmission_file_/a.ipynb", GOOD), ("deedan_4_78_a.ipynb", GOOD))
    put(tmp_path, ".ipynb_checkpoints/x.ipynb")
    put(tmp_path, "__MACOSX/x.ipynb")
    intake = take_in(tmp_path)
    assert [one.student.id for one in intake.submissions] == ["1", "2", "3", "4"]
    assert [one.read() for one in intake.submissions] == [GOOD] * 4
    assert not intake.problems
    assert [one.student.id for one in take_in(tmp_path / "class.zip").submissions] == ["3", "4"]


def test_the_highest_attempt_then_upload_then_path_counts_and_the_others_are_told(tmp_path: Path) -> None:
    put(tmp_path, "doe_1_90_a-2.ipynb", notebook_bytes("second"))
    put(tmp_path, "doe_1_95_a-1.ipynb")
    put(tmp_path, "roe_2_90_a.ipynb")
    put(tmp_path, "roe_2_95_a.ipynb")
    put(tmp_path, "Poe_3_assignsubmission_file_/a.ipynb")
    put(tmp_path, "Poe_3_assignsubmission_file_/b.ipynb")
    intake = take_in(tmp_path)
    assert [one.where for one in intake.submissions] == [
        "doe_1_90_a-2.ipynb",
        "roe_2_95_a.ipynb",
        "Poe_3_assignsubmission_file_/b.ipynb",
    ]
    assert kinds(intake) == ["not counted"] * 3


def test_two_students_under_one_number_are_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "Ann Ames_1_assignsubmission_file_/a.ipynb")
    put(tmp_path, "beebob_1_77_a.ipynb")
    intake = take_in(tmp_path)
    assert [one.student.id for one in intake.submissions] == ["1 Ann Ames", "1 beebob"]
    assert kinds(intake) == ["number used twice"] * 2


def test_a_broken_file_never_displaces_a_good_one(tmp_path: Path) -> None:
    put(tmp_path, "doe_1_90_a.ipynb")
    put(tmp_path, "doe_1_91_a-1.ipynb", b"%PDF")
    intake = take_in(tmp_path, readable=lambda data: "" if data == GOOD else "broken")
    assert [one.where for one in intake.submissions] == ["doe_1_90_a.ipynb"]
    assert kinds(intake) == ["unreadable"]


def test_a_student_who_handed_in_something_else_is_not_missing(tmp_path: Path) -> None:
    put(tmp_path, "Ann Ames_1_assignsubmission_file_/essay.pdf", b"%PDF")
    put(tmp_path, "notes.txt", b"mine")
    intake = take_in(tmp_path)
    assert [(one.student.id, bool(one.why_not)) for one in intake.submissions] == [("1", True)]
    assert sorted(kinds(intake)) == ["ignored", "unreadable"]


ROSTER = "id;name;canvas;login\ns1;Jane van Doe;12;jdoe\ns2;Zoë Müller;;zm\ns3;Sam Lee;;\ns4;Lee Sam;;\ns5;No Show;;\n"


def test_the_roster_says_who_is_who(tmp_path: Path) -> None:
    roster = read_roster(put(tmp_path, "roster.csv", ROSTER.encode("utf-8-sig")))
    found = {
        path: student.id if (student := roster.find(claim_of(tuple(path.split("/"))))) else None
        for path in (
            "xx_12_5_a.ipynb",  # Canvas number
            "müllerzoë_99_5_a.ipynb",  # Canvas writes the last name first
            "Zoe Mueller_7_assignsubmission_file_/a.ipynb",  # another spelling: nobody
            "Zoë Müller_7_assignsubmission_file_/a.ipynb",
            "jdoe.ipynb",
            "s1/attention.ipynb",
            "Sam Lee_8_assignsubmission_file_/a.ipynb",  # could be two students
        )
    }
    assert list(found.values()) == ["s1", "s2", None, "s2", "s1", "s1", None]


def test_unknown_and_missing_students_are_told(tmp_path: Path) -> None:
    roster = read_roster(put(tmp_path, "roster.csv", ROSTER.encode()))
    for name in ("jdoe", "zm", "s3", "s4", "stranger"):
        put(tmp_path, f"in/{name}.ipynb")
    intake = take_in(tmp_path / "in", roster)
    assert [one.student.id for one in intake.submissions] == ["s1", "s2", "s3", "s4", "stranger"]
    assert sorted(kinds(intake)) == ["nothing handed in", "unknown student"]
    assert [student.id for student in intake.missing] == ["s5"]


@pytest.mark.parametrize("text", ["", "name\nx\n", "id,name\n,x\n", "id,name\na,x\na,y\n"])
def test_a_bad_roster_is_refused_with_a_reason(tmp_path: Path, text: str) -> None:
    path = put(tmp_path, "roster.csv", text.encode())
    if not text:
        assert read_roster(path).students == []
        return
    with pytest.raises(GradingError, match="--roster"):
        read_roster(path)


def member(name: str, data: bytes = GOOD, mode: int = stat.S_IFREG | 0o644) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info, data


@pytest.mark.parametrize(
    ("evil", "word"),
    [
        (member("../../a.ipynb"), "leads out"),
        (member("/etc/a.ipynb"), "leads out"),
        (member("..\\..\\a.ipynb"), "leads out"),
        (member("C:\\a.ipynb"), "leads out"),
        (member("a.ipynb", b"/etc/passwd", stat.S_IFLNK | 0o777), "link"),
        (member("a.ipynb", b"", stat.S_IFCHR | 0o666), "link or a device"),
        (member("a.ipynb", bytes(5 * 2**20)), "zip bomb"),
        (member("a.ipynb", bytes(range(256)) * 50_000), "larger than 10 MiB"),
        (member("inner.zip", b"PK"), "not opened"),
    ],
)
def test_members_that_want_out_are_refused(tmp_path: Path, evil: tuple, word: str) -> None:
    inside = "Ann Ames_1_assignsubmission_file_"
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(*evil)
        archive.writestr(f"{inside}/good.ipynb", GOOD)
    before = set(tmp_path.rglob("*"))
    intake = take_in(tmp_path)
    assert [one.student.id for one in intake.submissions if not one.why_not] == ["1"]
    assert any(word in problem.message for problem in intake.problems)
    assert set(tmp_path.rglob("*")) == before, "nothing is extracted to disk"


def test_sizes_that_a_zip_lies_about_are_not_believed(tmp_path: Path) -> None:
    data = zip_of(tmp_path / "x.zip", ("a.ipynb", b"a" * 5000)).read_bytes()
    assert data.count((5000).to_bytes(4, "little")) == 2
    (tmp_path / "x.zip").write_bytes(data.replace((5000).to_bytes(4, "little"), (50).to_bytes(4, "little")))
    with pytest.raises(Refused):
        read_member(tmp_path / "x.zip", "a.ipynb", 100)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"PK\x05\x06" + b"\xff" * 18, b"not a zip", b"PK\x03\x04" * 99])
def test_a_broken_zip_is_a_problem(tmp_path: Path, data: bytes) -> None:
    put(tmp_path, "x.zip", data)
    assert kinds(take_in(tmp_path)) == ["unreadable"]


def test_links_and_big_files_on_disk_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    secret = put(tmp_path, "secret.ipynb", notebook_bytes("secret"))
    (tmp_path / "in" / "a.ipynb").symlink_to(secret)
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    with put(tmp_path, "in/b.ipynb").open("wb") as file:
        file.truncate(200 * 2**20)
    intake = take_in(tmp_path / "in")
    assert all(one.why_not for one in intake.submissions)
    assert [problem.kind for problem in intake.problems if problem.where == "folder"] == ["unreadable"]
    assert {one.where for one in intake.submissions} == {"a.ipynb", "b.ipynb"}


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(GradingError, match="nothing at"):
        take_in(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b'{"nbformat": 3, "worksheets": []}',
        b'{"nbformat": true, "cells": []}',
        b'{"nbformat": 4}',
        b'{"nbformat": 4, "cells": {}}',
        b"[" * 100_000,
        b'{"nbformat": ' + b"9" * 5000 + b"}",
        json.dumps({"nbformat": 4, "cells": [{}] * 3001}).encode(),
    ],
    ids=["empty", "binary", "list", "object", "v3", "bool", "no cells", "odd cells", "deep", "huge int", "many cells"],
)
def test_what_is_no_notebook_is_told(data: bytes) -> None:
    with pytest.raises(NotANotebook, match=r"not a notebook|format 3|at most 3000"):
        code_sources(data)


def test_a_notebook_is_its_code_cells_whatever_else_it_holds() -> None:
    cells = [
        {"cell_type": "markdown", "source": "# question: f"},
        {"cell_type": "code", "source": ["a\n", "b"], "id": 3, "metadata": None, "outputs": "evil"},
        {"cell_type": "code", "source": "c \ud800"},
        {"cell_type": "code", "source": {"no": "text"}},
        {"cell_type": "code"},
        "rubbish",
        None,
    ]
    data = json.dumps({"nbformat": 4, "nbformat_minor": 99, "cells": cells, "metadata": [1]}).encode()
    assert code_sources(b"\xef\xbb\xbf" + data) == ["a\nb", "c ?"]
