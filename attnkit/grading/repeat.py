"""Grades the file of a receipt again, with the receipt's seeds, and says what differs."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from attnkit.grading import seeds
from attnkit.grading.digest import engine_digest, questions_digest, versions
from attnkit.grading.errors import GradingError
from attnkit.grading.intake import MAX_NOTEBOOK
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.job import Job, grade_job
from attnkit.grading.receipt import Receipt, body_of, differences
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec
from attnkit.lab.reading.notebook import NotANotebook, code_sources

# The seed of a question that the receipt does not know: it cannot be repeated, only named.
_NO_SEED = "0"


def repeat(
    receipt: Receipt, file: Path, spec: LabSpec, isolation: Isolation, private: tuple[Path, ...] = ()
) -> list[str]:
    """What is different when `file` is graded again as `receipt` says; [] when all is the same, bit for bit.

    Compares points, parts, what was told, outcomes and flags; not times. Raises `GradingError` when the file cannot
    be read, or the receipt is of one that could not.
    """
    if receipt.body["status"] != "graded":
        raise GradingError(f"--receipt: there is no grade to repeat: {receipt.body.get('message') or 'not graded'}.")
    data = _read(file)
    job = _job(receipt, spec, data, isolation)
    with Zygote(isolation, job.limits, private) as zygote:
        again = body_of(grade_job(zygote, spec, job, data))
    return differences(receipt.body, again)


def checked_signature(receipt: Receipt, key_file: Path) -> tuple[bool | None, str]:
    """Whether the course signed the receipt (None: its key is not here), and that in words."""
    if not key_file.is_file():
        return None, f"The signature is not checked: there is no course key at {key_file}."
    if receipt.signed_by(seeds.read_key(key_file)):
        return True, "The signature is the course's."
    return False, "The signature is not that of this course's key: the receipt was made or changed by somebody else."


def _job(receipt: Receipt, spec: LabSpec, data: bytes, isolation: Isolation) -> Job:
    body = receipt.body
    limits = _limits(body["made"].get("limits"))
    made = {
        **{"questions": questions_digest(spec), "engine": engine_digest()},
        **{"versions": versions(), "limits": asdict(limits)},
    }
    given = {name: answer["seed"] for name, answer in body["answers"].items()}
    for name, seed in given.items():
        if not seed or not set(seed) <= set("0123456789abcdef"):
            raise GradingError(f"--receipt: the seed of {name} was {seed[:80]!r}; it should be hexadecimal digits.")
    return Job(
        key="",
        lab=spec.name,
        student=body["student"],
        attempt=body["attempt"],
        source=body["source"],
        sha256=hashlib.sha256(data).hexdigest(),
        isolation=isolation,
        seeds={name: given.get(name, _NO_SEED) for name in spec.questions},
        variant=str(body["made"].get("variant", "")),
        limits=limits,
        made=made,
    )


def _limits(given: Any) -> Limits:
    """The receipt's limits; the usual ones where it names none."""
    known = {field.name for field in fields(Limits)}
    if not isinstance(given, dict) or not set(given) <= known:
        return Limits()
    if not all(type(value) in (int, float) and 0 < value < 2**48 for value in given.values()):
        raise GradingError(f"--receipt: its limits were {given}; they should be positive numbers.")
    return Limits(**given)


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_NOTEBOOK + 1)
    except OSError as error:
        raise GradingError(
            f"DIR: with --receipt it should be the notebook; {file} cannot be read ({error.strerror})."
        ) from None
    try:
        code_sources(data)
    except NotANotebook as error:
        raise GradingError(f"DIR: with --receipt it should be the notebook; {file}: {error}.") from None
    return data
