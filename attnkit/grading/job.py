"""One submission to grade, as plain data: what a thread here and a machine elsewhere are handed, and what they do.

Nothing in a job is secret beyond its own submission: it holds the seeds of one student's inputs, never the course key.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.manual import collected
from attnkit.grading.records import Record
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec
from attnkit.lab.question import Question
from attnkit.lab.reading.cells import Cell


class Changed(Exception):
    """The file is not the one that the job was made for."""


@dataclass(frozen=True)
class Job:
    """A file of a student to grade.

    `seeds` are those of the inputs, by question. `variant` is the id whose parameters the questions get. `carried`
    are answers that are taken over instead of being graded. `made` is what the record says of its making.
    """

    key: str
    lab: str
    student: str
    attempt: int
    source: str
    sha256: str
    isolation: Isolation
    seeds: Mapping[str, str]
    why_not: str = ""
    variant: str = ""
    limits: Limits = field(default_factory=Limits)
    carried: Mapping[str, Graded] = field(default_factory=dict)
    made: Mapping[str, Any] = field(default_factory=dict)


def grade_job(zygote: Zygote, spec: LabSpec, job: Job, data: bytes) -> Record:
    """Grade the bytes of a file as `job` says. Raises `Changed` when they are not the job's."""
    if hashlib.sha256(data).hexdigest() != job.sha256:
        raise Changed(f"{job.source} has changed since the grader looked at it first; run it again")
    cells = [] if job.why_not else read_submission(data)
    questions = spec.for_student(job.variant).questions if job.variant and spec.has_variants else spec.questions
    answers = tuple(_answer(zygote, question, job, data, cells) for question in questions.values())
    return Record(
        key=job.key,
        lab=job.lab,
        student=job.student,
        attempt=job.attempt,
        source=job.source,
        sha256=job.sha256,
        isolation=job.isolation,
        status="unreadable" if job.why_not else "graded",
        message=job.why_not,
        answers=answers,
        made=job.made,
    )


def _answer(zygote: Zygote, question: Question, job: Job, data: bytes, cells: list[Cell]) -> Graded:
    seed = job.seeds[question.name]
    if job.why_not:
        return Graded(question.name, 0.0, question.points, "unreadable", "", seed)
    if question.name in job.carried:
        return job.carried[question.name]
    start = time.monotonic()
    graded = collected(question, data, seed) if question.manual else grade_question(zygote, question, cells, seed)
    return replace(graded, seconds=time.monotonic() - start, variant=dict(question.variant))
