"""One submission outside a batch: graded as a batch grades it, and its feedback as plain text."""

from __future__ import annotations

import hashlib

from attnkit.grading import seeds
from attnkit.grading.engine import Graded
from attnkit.grading.job import Job, grade_job
from attnkit.grading.records import Record
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec

_HEADINGS = {"printed": "What your code printed:\n"}


def grade_one(zygote: Zygote, spec: LabSpec, data: bytes, student: str, attempt: int, key: bytes) -> Record:
    """The record of one notebook, whose bytes are `data`, on inputs drawn from the course key `key`.

    Raises `NotANotebook`.
    """
    job = Job(
        key="",
        lab=spec.name,
        student=student,
        attempt=attempt,
        source="",
        sha256=hashlib.sha256(data).hexdigest(),
        isolation=zygote.isolation,
        seeds={name: seeds.seed(key, spec.name, name, student, attempt) for name in spec.questions},
        variant=student,
        limits=zygote.limits,
    )
    return grade_job(zygote, spec, job, data)


def is_marked_by_hand(graded: Graded) -> bool:
    """Whether the points are a person's to give."""
    return graded.status == "waiting"


def as_plain_text(graded: Graded) -> str:
    """What the student may read of one question, without the points."""
    blocks = ["All cases pass."] if graded.status == "full" else []
    if graded.status not in ("blank", "unreadable", "not-implemented"):
        blocks += [
            f"{'passed' if passed else 'FAILED'}  {part} ({worth:g} {'point' if worth == 1 else 'points'})"
            for part, worth, passed in graded.parts
        ]
    text = "\n".join(blocks)
    told = [_HEADINGS.get(kind, "") + words for kind, words in graded.told]
    return "\n\n".join(block for block in (text, *told) if block)
