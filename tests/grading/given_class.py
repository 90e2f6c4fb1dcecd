"""A class as the ledger gives it, made by hand: every thing that a page or an export can show happens to somebody."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from attnkit.grading.engine import Graded
from attnkit.grading.identity import Student
from attnkit.grading.intake import Problem
from attnkit.grading.records import Asked, Override, Record
from attnkit.grading.standing import Class, Mark, Standing

SOFTMAX = Asked("softmax", 3.0, "Softmax over the last axis.")
ATTENTION = Asked("attention", 4.0, "Attention under a mask.")
ESSAY = Asked("essay", 3.0, "Why do we scale?", manual=True, rubric="1 point for variance,\n2 for the consequence.")
ASKED = (SOFTMAX, ATTENTION, ESSAY)
HINT = "You normalised over queries: each row must sum to 1."
# What no student may ever read: hidden inputs, references, seeds.
SECRETS = ("SECRET-INPUT-4711", "SECRET-WANT-0815", "SECRET-GOT-42", "SECRET-WHY-7", "5ecre75eed", "5ecre7key")


def outcome(mistake: str = "", certain: bool = True, failure: str = "", invariant: str = "") -> dict[str, Any]:
    """An outcome as the judge stores it; it quotes inputs, so it is full of secrets."""

    def named(name: str) -> dict[str, Any] | None:
        return {"name": name, "hint": HINT, "read": "softmax#axis", "certain": certain} if name else None

    kind, _, message = failure.partition(":")
    return {
        "mistake": named(mistake),
        "invariant": named(invariant),
        "failure": {"kind": kind, "message": message + SECRETS[0], "where": ""} if failure else None,
        "results": [{"part": "ordinary", "note": "a row", "passed": False, "why": SECRETS[3]}],
        "counterexample": {"inputs": [["x", SECRETS[0]]], "want": SECRETS[1], "got": SECRETS[2], "why": SECRETS[3]},
    }


def right(asked: Asked, seconds: float = 0.1) -> Graded:
    """An answer with all points."""
    parts = (("ordinary", asked.points, True),)
    return Graded(
        asked.name, asked.points, asked.points, "full", "torch", SECRETS[4], parts, (), outcome(), seconds=seconds
    )


def wrong(asked: Asked, points: float = 0.0, **kwargs: Any) -> Graded:
    """An answer with the mistake `axis`, a counter-example, a place to read and something printed."""
    told = (
        ("failed", "1 of 4 cases pass. It fails on a row."),
        ("example", "Your answer fails on a row:\n  x = [1, 2]\n  your answer: [1]\n  expected:    [2]"),
        ("mistake", f"It looks as if the softmax runs over the wrong axis. {HINT}"),
        ("read", "Read in the book: softmax.html#axis"),
        ("printed", "<script>alert(1)</script>"),
    )
    parts = (("ordinary", asked.points / 2, bool(points)), ("extreme", asked.points / 2, False))
    found = outcome(**{"mistake": "the softmax runs over the wrong axis", **kwargs})
    status = "partial" if points else "wrong"
    return Graded(asked.name, points, asked.points, status, "torch", SECRETS[4], parts, told, found, seconds=0.5)


def words(text: str, *attachments: str) -> Graded:
    """An answer in words."""
    found = {"text": text, "attachments": list(attachments)}
    return Graded("essay", 0.0, 3.0, "waiting" if text or attachments else "blank", "", SECRETS[4], outcome=found)


def record(student: str, *answers: Graded, source: str = "", attempt: int = 1) -> Record:
    """A graded file."""
    source = source or f"{student}.ipynb"
    key = f"{SECRETS[5]}{student}{attempt}"
    return Record(key, "tiny", student, attempt, source, f"sha-{student}", "jail", "graded", "", answers)


def standing(student: Student, found: Record | None, **overrides: Override) -> Standing:
    """How a student stands with that record and these overrides."""
    answers = {one.question: one for one in found.answers} if found else {}
    marks = []
    for asked in ASKED:
        graded, over = answers.get(asked.name), overrides.get(asked.name)
        if over is not None:
            status = "marked" if asked.manual else "overridden"
            marks.append(Mark(asked.name, over.points, asked.points, status, graded, over))
        elif graded is None:
            marks.append(Mark(asked.name, 0.0, asked.points, "nothing handed in"))
        else:
            waiting = asked.manual and graded.status == "waiting"
            marks.append(Mark(asked.name, graded.points, asked.points, graded.status, graded, None, waiting))
    attempts = (found,) if found else ()
    return Standing(student, "graded" if found else "nothing handed in", found, tuple(marks), attempts)


def ann() -> Standing:
    """All right, marked, late, on the second attempt, with a variant and a flag."""
    first = record(
        "1", wrong(SOFTMAX), right(ATTENTION), words("By √d."), source="Ann Ames_101_assignsubmission_file_/a.ipynb"
    )
    softmax = replace(
        right(SOFTMAX, seconds=2.0), variant={"axis": -1, "sizes": [2, 3]}, flags=(("shortcut", "calls torch.softmax"),)
    )
    now = record("1", softmax, right(ATTENTION), words("Because of the *variance*.", "image.png"), attempt=2)
    given = Override(2.5, "Good; the consequence is missing.", "T. Marker", "2026-11-20T10:00:00+00:00")
    one = standing(Student("1", "Ann Ames", moodle="101", login="aames", email="ann@example.org"), now, essay=given)
    return replace(one, attempts=(first, now), penalty=1.0, late="2 days late: 1 point off")


def bo() -> Standing:
    """Half right, still waiting, with points that a person changed."""
    found = record("2", wrong(SOFTMAX, 1.5), wrong(ATTENTION, certain=False), words("because of the variance."))
    given = Override(2.0, "An off-by-one in our case.", "T. Marker", "2026-11-20T10:00:00+00:00", seen="older")
    return standing(Student("2", "Bee, Bo <b>", canvas="2002", login="bbee"), found, softmax=given)


def cy() -> Standing:
    """Nothing to judge: it raises, runs too long, and says nothing."""
    raised = wrong(SOFTMAX, mistake="", failure="raised:ValueError: shapes ")
    slow = wrong(ATTENTION, mistake="", failure="timeout:", invariant="each row sums to 1")
    return standing(Student("3", "Cy Cole", email="cy@example.org"), record("3", raised, slow, words("")))


def di() -> Standing:
    """In the roster only."""
    return standing(Student("4", "Di Dee"), None)


def a_class(*standings: Standing) -> Class:
    """The class of Ann, Bo, Cy and Di, or of these."""
    problems = (Problem("x.pdf", "", "ignored", "not a notebook"),)
    everybody = standings or (ann(), bo(), cy(), di())
    return Class("tiny", "A tiny lab", ASKED, everybody, problems, "jail", "The last attempt counts.")
