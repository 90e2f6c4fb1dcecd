"""Exports are what Canvas and Moodle import, and a filled template differs from what was downloaded in one column."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from dataclasses import replace

import pytest

from attnkit.grading.errors import GradingError
from attnkit.grading.exports.canvas import canvas_csv, fill_canvas
from attnkit.grading.exports.csvfile import Sheet, decimal, from_safe_text, rounded, safe_text
from attnkit.grading.exports.feedback_zip import feedback_zip
from attnkit.grading.exports.matching import known_of
from attnkit.grading.exports.moodle import fill_moodle, moodle_csv
from attnkit.grading.exports.per_question import grades_csv, problems_csv
from attnkit.grading.exports.points import Choice
from attnkit.grading.identity import Student
from attnkit.grading.standing import Class, Standing
from tests.grading.given_class import (
    ATTENTION,
    ESSAY,
    SOFTMAX,
    a_class,
    ann,
    bo,
    cy,
    di,
    record,
    right,
    standing,
    wrong,
)

LAB = "Lab 1: attention, part one (77)"
CANVAS = (
    f'Student,ID,SIS User ID,SIS Login ID,Section,Notes,"{LAB}",Other (78),Current Score\r\n'
    ",,,,,,Manual Posting,,\r\n"
    "    Points Possible,,,,,,10,5,(read only)\r\n"
    '"Ames, Ann",2001,1,aames,A and B,"said ""hi""",,3,90\r\n'
    '"Bee, Bo", 2002 ,2,bbee,A,,N/A,,\r\n'
    '"Cole, Cy",2003,3,cy@example.org,A,,7.00,4,\r\n'
    '"Zed, Zoe",2009,9,zzed,A,,1,,\r\n'
    '"Student, Test",2010,,0abc,A,,,,\r\n'
)
WORKSHEET = (
    'Identifier,"Full name","Email address",Status,Grade,"Maximum Grade","Grade can be changed",'
    '"Last modified (submission)","Last modified (grade)","Feedback comments"\n'
    '"Participant 101","Ann Ames",ann@example.org,"Submitted for grading - ",,10.00,Yes,"Monday, 2 June",-,"a, ""b"""\n'
    '"Participant 303","Cy Cole",cy@example.org,"No submission - ",5.00,10.00,No,-,-,\n'
    '"Participant 909","Zoe Zed",zoe@example.org,-,,10.00,Yes,-,-,\n'
)


def sheet(text: str) -> Sheet:
    return Sheet(text.encode(), "gradebook.csv", "--template")


def rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"))))


def canvas(found: Class | None = None, text: str = CANVAS, **choice: object):
    return fill_canvas(found or a_class(), sheet(text), Choice(assignment=LAB, **choice))


def changed(before: str, after: bytes) -> list[tuple[str, str]]:
    """Lines that differ."""
    return [(a, b) for a, b in zip(before.split("\n"), after.decode().split("\n"), strict=True) if a != b]


def test_a_canvas_gradebook_comes_back_with_our_column_only() -> None:
    filled = canvas()
    assert filled.written == 2
    assert changed(CANVAS, filled.data) == [
        (
            '"Ames, Ann",2001,1,aames,A and B,"said ""hi""",,3,90\r',
            '"Ames, Ann",2001,1,aames,A and B,"said ""hi""",8.5,3,90\r',
        ),
        ('"Cole, Cy",2003,3,cy@example.org,A,,7.00,4,\r', '"Cole, Cy",2003,3,cy@example.org,A,,0,4,\r'),
    ]
    assert filled.unmatched == []
    assert filled.strangers == ["Zed, Zoe"]
    assert [line.split(":")[0] for line in filled.left] == ["Bee, Bo <b> (2)", "Di Dee (4)"]
    assert "waits for a mark (essay)" in filled.left[0]
    assert "nothing handed in" in filled.left[1]


def test_what_is_excused_or_not_assigned_in_canvas_stays() -> None:
    filled = canvas(provisional=True)
    assert "Bee, Bo <b> (2): is not assigned there (N/A)" in filled.left
    excused = canvas(text=CANVAS.replace(",7.00,4,", ",EX,4,"))
    assert b",EX,4," in excused.data
    assert "Cy Cole (3): is excused there (EX)" in excused.left


def test_nobody_is_dropped_in_silence() -> None:
    lost = CANVAS.replace('"Cole, Cy",2003,3,cy@example.org', '"Cole, Cy",2003,33,cyc')
    filled = canvas(text=lost)
    assert filled.data == b""
    assert filled.unmatched == ["Cy Cole (3): no row has id 3, email cy@example.org"]
    partial = canvas(text=lost, partial=True)
    assert b"8.5" in partial.data
    assert partial.unmatched == filled.unmatched
    assert "Cole, Cy" in partial.strangers


def test_a_row_that_two_could_have_is_neithers() -> None:
    twin = standing(Student("x", "Twin", login="aames"), record("x", right(SOFTMAX), right(ATTENTION)))
    filled = canvas(a_class(ann(), twin), partial=True)
    assert filled.written == 0
    assert len(filled.unmatched) == 2
    assert all("could be that of Ann Ames (1) or Twin (x)" in line for line in filled.unmatched)


def test_a_student_whom_two_rows_fit_gets_neither() -> None:
    text = CANVAS.replace("2009,9,zzed", "2009,9,cy@example.org")
    assert canvas(text=text).unmatched == ["Cy Cole (3): could be any of Cole, Cy, Zed, Zoe"]


def test_canvas_numbers_are_no_sis_ids() -> None:
    """A student whose id of the roster is another's Canvas number must not get the other's row."""
    trap = standing(Student("2001", "Trap"), record("2001", right(SOFTMAX), right(ATTENTION)))
    filled = canvas(a_class(trap))
    assert filled.unmatched == ["Trap (2001): no row has id 2001"]


def test_without_a_roster_canvas_is_known_by_its_file_names() -> None:
    found = record("2003", right(SOFTMAX), source="colecy_LATE_2003_99_attention-1.ipynb")
    one = standing(Student("2003", "colecy"), found)
    assert known_of(one)["canvas"] == "2003"
    filled = canvas(a_class(one))
    assert filled.written == 1
    assert '"Cole, Cy",2003,3,cy@example.org,A,,3,4,' in filled.data.decode()


def test_a_number_of_one_system_identifies_nobody_elsewhere() -> None:
    """Without a roster the id is the number in a file's name: Canvas's 2003 is not who has the SIS id 2003."""
    one = standing(Student("2003", "colecy"), record("2003", right(SOFTMAX), source="colecy_2003_99_attention.ipynb"))
    gone = CANVAS.replace('"Cole, Cy",2003,3', '"Other, One",2999,2003')
    assert canvas(a_class(one), text=gone).unmatched == ["colecy (2003): no row has canvas 2003"]
    moodle = standing(Student("9", "Bo"), record("9", right(SOFTMAX), source="Bo_9_assignsubmission_file_/a.ipynb"))
    assert canvas(a_class(moodle)).unmatched == ["Bo (9): no row has moodle 9"]
    assert "nothing is known" in canvas_csv(a_class(moodle), Choice()).unmatched[0]
    assert "nothing is known" in moodle_csv(a_class(one), Choice()).unmatched[0]


@pytest.mark.parametrize("wanted", [LAB, "77", "Lab 1: attention, part one"])
def test_the_column_may_be_named_by_title_or_number(wanted: str) -> None:
    assert fill_canvas(a_class(), sheet(CANVAS), Choice(wanted)).written == 2


@pytest.mark.parametrize(
    ("wanted", "text", "words"),
    [
        ("", CANVAS, "say which column"),
        ("Lab 2", CANVAS, "no such column"),
        ("Current Score", CANVAS, "read only"),
        (LAB, CANVAS.replace(",10,5,", ",(read only),5,"), "read only"),
        (LAB, CANVAS.replace("Other (78)", f'"{LAB}"'), "several such columns"),
        (LAB, CANVAS.replace("Student,ID,", "Name,Number,"), "a Canvas gradebook starts"),
        (LAB, CANVAS.replace(",10,5,", ",100,5,"), "counts 100 points and the lab 10"),
        (LAB, "", "is empty"),
        (LAB, CANVAS + '"open', "ends inside a quoted cell"),
    ],
)
def test_what_cannot_be_filled_says_why(wanted: str, text: str, words: str) -> None:
    with pytest.raises(GradingError, match=words.replace("(", r"\(")):
        fill_canvas(a_class(), sheet(text), Choice(wanted))


def test_other_maxima_are_converted_only_when_asked() -> None:
    text = CANVAS.replace(",10,5,", ',"33,3",5,')
    assert b",28.31,3,90" in canvas(text=text, scale="column").data
    assert b",8.5,3,90" in canvas(text=text, scale="none").data


def test_semicolons_bom_and_first_names_survive() -> None:
    text = (
        "\ufeffLastName;FirstName;ID;SIS User ID;SIS Login ID;Section;Lab (7)\n"
        "    Points Possible;;;;;;10,0\n"
        'Ames;Ann;2001;1;aames;"A; B";\n'
        'O\'Hara;Zoe "Z";2009;9;zzed;A;1,5'
    )
    filled = fill_canvas(a_class(ann()), sheet(text), Choice("7"))
    assert filled.data.decode() == text.replace('"A; B";', '"A; B";8.5')
    assert filled.strangers == ['O\'Hara, Zoe "Z"']


def test_a_short_row_is_filled_up() -> None:
    text = CANVAS.replace('"Cole, Cy",2003,3,cy@example.org,A,,7.00,4,', '"Cole, Cy",2003,3')
    assert b'"Cole, Cy",2003,3,,,,0\r\n' in canvas(text=text).data


def test_filling_twice_changes_nothing_more() -> None:
    once = canvas().data
    assert canvas(text=once.decode()).data == once


def test_a_canvas_file_without_a_template() -> None:
    filled = canvas_csv(a_class(), Choice(zero=True))
    head, possible, *lines = list(csv.reader(io.StringIO(filled.data.decode())))
    assert head == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", "A tiny lab"]
    assert possible == ["    Points Possible", "", "", "", "", "10"]
    assert lines == [
        ["Ann Ames", "", "1", "aames", "", "8.5"],
        ["Cy Cole", "", "3", "cy@example.org", "", "0"],
        ["Di Dee", "", "4", "", "", "0"],
    ]
    assert any("new assignment" in note for note in filled.notes)
    assert not canvas_csv(a_class(), Choice("Lab (7)")).notes


def test_who_canvas_cannot_know_is_told() -> None:
    stranger = standing(Student("some name", "some name", listed=False), record("some name", right(SOFTMAX)))
    filled = canvas_csv(a_class(stranger), Choice())
    assert filled.data == b""
    assert "nothing is known" in filled.unmatched[0]


def test_a_moodle_worksheet_comes_back_with_our_column_only() -> None:
    filled = fill_moodle(a_class(ann(), cy()), sheet(WORKSHEET), Choice())
    assert changed(WORKSHEET, filled.data) == [
        (line := WORKSHEET.split("\n")[1], line.replace('- ",,10.00', '- ",8.5,10.00')),
    ]
    assert filled.left == ["Cy Cole (3): the grade is locked in Moodle"]
    assert filled.strangers == ["Zoe Zed"]


def test_what_moodle_would_skip_is_told() -> None:
    """It takes no grade above the maximum, and says nothing."""
    filled = fill_moodle(a_class(ann()), sheet(WORKSHEET.replace("10.00", '"5,00"')), Choice(scale="none"))
    assert filled.left == ["Ann Ames (1): 8.5 is above Moodle's maximum of 5, which skips it"]
    converted = fill_moodle(a_class(ann()), sheet(WORKSHEET.replace("10.00", '"5,00"')), Choice(scale="column"))
    assert b'- ",4.25,"5,00"' in converted.data


def test_a_worksheet_in_another_language_is_matched_by_its_numbers() -> None:
    text = (
        WORKSHEET.replace("Identifier", "ID").replace("Participant ", "Teilnehmer/in").replace(",Grade,", ",Bewertung,")
    )
    filled = fill_moodle(a_class(ann()), sheet(text), Choice("Bewertung"))
    assert filled.written == 1
    with pytest.raises(GradingError, match="--assignment: was 'Grade'"):
        fill_moodle(a_class(ann()), sheet(text), Choice())


def test_a_moodle_grade_export_is_matched_by_id_login_or_email() -> None:
    head = '"First name",Surname,"ID number","Email address","Assignment: Lab (Real)"'
    text = f"{head}\nAnn,Ames,,ANN@example.org,-\nCy,Cole,3,,-\n"
    filled = fill_moodle(a_class(ann(), cy()), sheet(text), Choice("Assignment: Lab (Real)"))
    assert filled.data.decode() == text.replace("ANN@example.org,-", "ANN@example.org,8.5").replace("3,,-", "3,,0")
    with pytest.raises(GradingError, match="one should be Identifier"):
        fill_moodle(a_class(), sheet("Name,Grade\nAnn,\n"), Choice())


def test_moodle_files_without_a_template() -> None:
    worksheet = rows(moodle_csv(a_class(ann()), Choice()).data)
    assert worksheet == [
        {
            "Identifier": "Participant 101",
            "Full name": "Ann Ames",
            "Grade": "8.5",
            "Maximum Grade": "10",
            "Last modified (grade)": "",
        }
    ]
    imported = rows(moodle_csv(a_class(), Choice("Lab")).data)
    assert [(row["ID number"], row["Username"], row["Email address"], row["Lab (of 10)"]) for row in imported] == [
        ("1", "aames", "ann@example.org", "8.5"),
        ("3", "", "cy@example.org", "0"),
    ]


# --- as the systems read it ------------------------------------------------------------------------------------------


def canvas_reads(data: bytes) -> dict[tuple[str, str, str], str]:
    """What Canvas finds in a file, {(ID, SIS id, login): grade}: lib/gradebook_importer.rb, rule by rule."""
    head, *body = csv.reader(io.StringIO(data.decode("utf-8-sig")))
    assert len(head) > 3
    assert "Student" in head[0]
    assert "ID" in head[1]
    assert re.match(r"SIS\s+User\s+ID", head[2])
    assert re.match(r"SIS\s+Login\s+ID", head[3])
    assert "Section" in head[4], "the last column about the student"
    assert re.fullmatch(r"(.*)\s\((\d+)\)", head[5]), "title_and_id"
    found = {}
    for row in body:
        if "Points Possible" in row[0]:
            assert row[5] == "10"
        elif not all(re.fullmatch(r"\s*(Muted|Manual Posting.*)?\s*", cell, re.IGNORECASE) for cell in row):
            found[row[1], row[2], row[3]] = row[5].strip()
    return found


def test_canvas_reads_what_is_written() -> None:
    canvas_student = standing(
        Student("2003", "colecy"), record("2003", right(SOFTMAX), source="colecy_2003_99_a.ipynb")
    )
    found = a_class(ann(), canvas_student)
    assert canvas_reads(canvas_csv(found, Choice("Lab (7)")).data) == {
        ("", "1", "aames"): "8.5",
        ("2003", "", ""): "3",
    }


def moodle_reads(data: bytes) -> dict[int, float]:
    """What the worksheet's importer finds, {participant: grade} (mod/assign/feedback/offline/importgradeslib.php)."""
    head, *body = csv.reader(io.StringIO(data.decode()))
    place, grade = head.index("Identifier"), head.index("Grade")
    assert "Last modified (grade)" in head, "or Moodle refuses the file"
    return {int(row[place][len("Participant ") :]): float(row[grade]) for row in body}


def test_moodle_reads_what_is_written() -> None:
    found = a_class(ann(), standing(Student("7", "Bo", moodle="202"), record("7", right(SOFTMAX))))
    assert moodle_reads(moodle_csv(found, Choice()).data) == {101: 8.5, 202: 3.0}


def moodle_takes(path: str) -> tuple[int, str] | None:
    """The participant and the file that Moodle's zip importer makes of a path (importziplib.php)."""
    parts = path.split("/")
    while parts:
        info = parts.pop(0).split("_", 4)
        if len(info) >= 4 and info[1].isdigit() and info[2:4] == ["assignsubmission", "file"]:
            return int(info[1]), "/".join([*info[4:], *parts]).lstrip("/")
    return None


def canvas_takes(path: str) -> list[str]:
    """The user's and the upload's number that Canvas makes of a file's name (infer_comment_context_from_filename)."""
    return [part for part in path.rsplit("/", 1)[-1].split("_") if part.isdigit()][:2]


def unzipped(data: bytes) -> dict[str, str]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_the_pages_reach_their_students() -> None:
    nasty = standing(Student("7", "../_9_assignsubmission_file_/x", moodle="202"), record("7", right(SOFTMAX)))
    everybody = a_class(ann(), nasty, di())
    pages = {one.student.id: f"page of {one.student.id}" for one in everybody.standings}
    filled = feedback_zip(everybody, pages, "moodle")
    assert {moodle_takes(path): text for path, text in unzipped(filled.data).items()} == {
        (101, "feedback.html"): "page of 1",
        (202, "feedback.html"): "page of 7",
    }
    assert filled.left == ["Di Dee (4): nothing handed in"]
    assert feedback_zip(everybody, pages, "moodle").data == filled.data
    assert all(".." not in path and path.count("/") == 1 for path in unzipped(filled.data))
    lost = feedback_zip(a_class(cy()), {"3": ""}, "moodle")
    assert "no Moodle number is known" in lost.unmatched[0]


def test_canvas_gets_pages_for_what_came_out_of_it() -> None:
    late = standing(Student("2003", "colecy"), record("2003", right(SOFTMAX), source="c/colecy_LATE_2003_99_a-1.ipynb"))
    digits = standing(Student("2004", "4 2"), record("2004", right(SOFTMAX), source="x1_2004_77_b.ipynb"))
    filled = feedback_zip(a_class(late, digits, ann()), {"2003": "a", "2004": "b", "1": "c"}, "canvas")
    assert {tuple(canvas_takes(path)): text for path, text in unzipped(filled.data).items()} == {
        ("2003", "99"): "a",
        ("2004", "77"): "b",
    }
    assert filled.unmatched == ["Ann Ames (1): no Canvas number is known for the student and the upload"]


def test_systems_round_as_they_do() -> None:
    assert [rounded(x, 2) for x in (2.675, 1.005, 2.0, 0.1 + 0.2, 10 / 3, -0.001, 100)] == [
        *("2.68", "1.01", "2", "0.3", "3.33", "0", "100")
    ]
    third = replace(right(SOFTMAX), points=10 / 3 - 2)
    found = a_class(standing(Student("1", "Ann Ames", moodle="101"), record("1", third)))
    assert rows(canvas(found).data)[2][LAB] == "1.33"
    assert rows(fill_moodle(found, sheet(WORKSHEET), Choice()).data)[0]["Grade"] == "1.33333"
    assert [decimal(text) for text in ("1,5", "1.5", "1.234,5", "1,234.5", "", "-", "(read only)")] == [
        *(1.5, 1.5, 1234.5, 1234.5, None, None, None)
    ]


@pytest.mark.parametrize("nasty", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "＝1", "\n=1"])
def test_no_cell_of_ours_is_a_formula(nasty: str) -> None:
    assert from_safe_text(safe_text(nasty)) == nasty.replace("\r", "\n")
    one = standing(Student(nasty, nasty, login=nasty, email=nasty), record("1", right(SOFTMAX), source=nasty))
    found = replace(a_class(one), title=nasty)
    for text in (
        grades_csv(found),
        canvas_csv(found, Choice()).data.decode(),
        moodle_csv(found, Choice()).data.decode(),
    ):
        cells = [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]
        assert any(nasty.replace("\r", "\n") in cell for cell in cells)
        assert not any(cell.startswith(tuple("=+-@\t\r\n＝")) for cell in cells)


def test_names_with_commas_quotes_and_newlines_stay_one_cell() -> None:
    name = 'Bee, "Bo"\nII; x'
    one = standing(Student("7", name), record("7", right(SOFTMAX)))
    assert next(csv.reader(io.StringIO(grades_csv(a_class(one)).split("\n", 1)[1])))[1] == name


def test_the_csv_for_people_says_what_happened() -> None:
    table = rows(grades_csv(a_class()).encode())
    first, second = table[:2]
    assert list(first)[:5] == ["student_id", "name", "softmax", "attention", "essay"]
    assert (first["total"], first["earned"], first["penalty"], first["out_of"]) == ("8.5", "9.5", "1", "10")
    assert (first["attempt"], first["attempts"], first["late"]) == ("2", "2", "2 days late: 1 point off")
    assert first["overridden"] == "essay: 2.5 by T. Marker (Good; the consequence is missing.)"
    assert first["flags"] == "softmax: shortcut: calls torch.softmax"
    assert (second["waiting"], second["total"]) == ("essay", "2")
    assert second["overridden"] == "softmax: 1.5 -> 2 by T. Marker (An off-by-one in our case.)"
    assert table[3]["status"] == "nothing handed in"
    assert rows(problems_csv(a_class()).encode())[0]["kind"] == "ignored"


def test_equal_classes_give_equal_bytes_whatever_the_machine_took() -> None:
    def slower(one: Standing) -> Standing:
        marks = tuple(replace(m, graded=replace(m.graded, seconds=99.0) if m.graded else None) for m in one.marks)
        return replace(one, marks=marks)

    one, other = a_class(), a_class(*(slower(one) for one in a_class().standings))
    for export in (
        grades_csv,
        problems_csv,
        lambda f: canvas_csv(f, Choice()).data,
        lambda f: moodle_csv(f, Choice()).data,
    ):
        assert export(one) == export(other)
    assert canvas(one).data == canvas(other).data


def test_the_class_is_the_one_that_these_tests_think_of() -> None:
    assert [one.total for one in (ann(), bo(), cy(), di())] == [8.5, 2.0, 0.0, 0.0]
    assert wrong(ESSAY).points == 0
