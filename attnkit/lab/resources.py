"""Judging what an answer uses: memory and time at several lengths against a limit and against a rate of growth.

Pure: whoever measures hands the numbers in. The grader does it from outside the answer's process
(`attnkit.grading.usage`), the notebook's check in its own (`attnkit.lab.metering`). What a student is told depends on
the answer and not on the run: see `ResourceResult`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnkit.lab.outcome import CaseResult, Failure, Framework, Outcome, Reply, ResourceResult
from attnkit.lab.question import ORDINARY, Case, Question, Resource
from attnkit.lab.verdict import judged, wanted

MIB = 2**20
# What no measurement tells from nothing: pages that the libraries touch, the clock and what surrounds the call.
NOISE = {"memory": 2.0 * MIB, "time": 5e-4}
_WHAT = {"memory": "memory", "time": "time"}


@dataclass(frozen=True)
class Usage:
    """What one length took: bytes or seconds of processor time, of which `noise` may be the measurement's own.

    `why` says what is wrong with the answer there, in words that quote no input; `detail` may, for the instructor.
    """

    length: int
    value: float
    why: str = ""
    detail: str = ""
    noise: float = 0.0


Meter = Callable[[Resource, Framework], "Sequence[Usage] | str"]


def wrong(question: Question, case: Case, reply: Reply) -> tuple[str, str]:
    """What is wrong with a reply to `case`, for the student and in detail; two empty texts when nothing is."""
    if isinstance(reply, Failure):
        why = _FAILED.get(reply.kind, "it raises an exception")
        if reply.kind == "raised" and ("MemoryError" in reply.message or "allocate" in reply.message):
            why = "it runs out of memory"
        return why, f"{reply.kind}: {reply.message}"
    line = judged(question, case, wanted(question, case), reply).why
    return ("its result is wrong", line) if line else ("", "")


_FAILED = {
    "timeout": "it does not finish in time",
    "died": "its process ends before it answers",
    "malformed": "it returns no array",
}


def exponent(lengths: Sequence[int], values: Sequence[float], floor: float) -> float:
    """The p of the least-squares fit log(value) = p log(length) + c. What lies below `floor` counts as `floor`."""
    if len(lengths) < 2:
        raise ValueError(f"lengths: had {len(lengths)} of them; growth needs at least two")
    x, y = np.log(np.asarray(lengths, float)), np.log(np.maximum(np.asarray(values, float), floor))
    x -= x.mean()
    return float((x * (y - y.mean())).sum() / (x * x).sum())


def judge_resources(question: Question, outcome: Outcome, meter: Meter) -> Outcome:
    """`outcome` with the question's resources measured by `meter` and judged, and the points counted again.

    Nothing is measured, and nothing given, unless the ordinary part passes. A meter that cannot measure says why.
    """
    if not question.resources:
        return outcome
    ordinary = outcome.parts.get(ORDINARY, False)
    notes: list[str] = []
    found: list[ResourceResult] = []
    for resource in question.resources:
        usages = meter(resource, outcome.framework) if ordinary else "the ordinary cases come first"
        if isinstance(usages, str):
            found.append(_unmeasured(resource, usages))
            notes += [usages] if ordinary else []
        else:
            found.append(verdict(resource, usages))
    parts = {
        part: outcome.parts.get(part, True) and all(one.passed for one in found if one.part == part)
        for part in question.parts
    }
    earned = sum(question.parts[part] for part, passed in parts.items() if passed) if parts[ORDINARY] else 0.0
    return replace(
        outcome,
        points=earned,
        parts=parts,
        results=(*outcome.results, *(result for one in found for result in one.results)),
        notes=(*outcome.notes, *dict.fromkeys(notes)),
        resources=tuple(found),
    )


def _unmeasured(resource: Resource, why: str) -> ResourceResult:
    note = _note(resource, resource.lengths[-1])
    return ResourceResult(
        resource.part, resource.measure, False, (CaseResult(resource.part, note, False, f"not measured: {why}"),)
    )


def _note(resource: Resource, length: int) -> str:
    return f"its {_WHAT[resource.measure]} at length {length}"


def verdict(resource: Resource, usages: Sequence[Usage]) -> ResourceResult:
    """Judge one resource. `usages` are in the order of the resource's lengths, and may stop at one that went wrong."""
    results = [
        CaseResult(resource.part, _note(resource, one.length), not (w := _over(resource, one)), w) for one in usages
    ]
    for length in resource.lengths[len(usages) :]:
        results.append(CaseResult(resource.part, _note(resource, length), False, "not measured after that"))
    said = next((f"At length {one.length} your answer fails: {one.why}." for one in usages if one.why), "")
    if resource.growth is not None:
        grows = "" if said else _growth(resource, usages)
        note = f"how its {_WHAT[resource.measure]} grows"
        results.append(CaseResult(resource.part, note, not (said or grows), grows or ("not measured" if said else "")))
        said = said or grows
    if not said and any(not result.passed for result in results):
        said = f"Your answer takes more {_WHAT[resource.measure]} than it may."
    if not said:
        return ResourceResult(resource.part, resource.measure, True, tuple(results))
    table = _table(resource, usages)
    return ResourceResult(
        resource.part, resource.measure, False, tuple(results), said, table, resource.hint, resource.read
    )


def _over(resource: Resource, usage: Usage) -> str:
    if usage.why:
        return usage.detail or usage.why
    noise = max(NOISE[resource.measure], usage.noise)
    if resource.at_most is None or usage.value <= resource.at_most(usage.length) + noise:
        return ""
    return f"too much {_WHAT[resource.measure]}"


def _growth(resource: Resource, usages: Sequence[Usage]) -> str:
    """What is wrong with how the values grow, or ""."""
    assert resource.growth is not None
    # The same for all lengths: noise that itself grows must not look like growth.
    floor = max(NOISE[resource.measure], *(one.noise for one in usages))
    power = exponent([one.length for one in usages], [one.value for one in usages], floor)
    if power <= resource.growth:
        return ""
    told = f"The {_WHAT[resource.measure]} it takes grows faster than length^{resource.growth:g}"
    return told + (f", about as length^{round(power)}." if round(power) > resource.growth else ".")


def _table(resource: Resource, usages: Sequence[Usage]) -> tuple[tuple[str, ...], ...]:
    limited = resource.at_most is not None
    if resource.measure == "time" and not limited:
        return ()
    rows = [("length", *(("memory",) if resource.measure == "memory" else ()), *(("at most", "") if limited else ()))]
    for one in usages:
        size = (about(one.value) if not one.why else "-",) if resource.measure == "memory" else ()
        over = ""
        if resource.at_most is not None:
            most = resource.at_most(one.length)
            allowed = exact(most) if resource.measure == "memory" else f"{most:g} s"
            over = "wrong" if one.why else "too much" if _over(resource, one) else "fine"
            size = (*size, allowed, over)
        rows.append((str(one.length), *size))
    return tuple(rows)


def about(size: float | int) -> str:
    """Bytes as a power of two, the nearest: `about 64 MiB`; "little" for what cannot be told from nothing."""
    if size <= NOISE["memory"]:
        return "little"
    return "about " + exact(2.0 ** round(math.log2(size)))


def exact(size: float | int) -> str:
    """Bytes in words: `1.5 MiB`, `64 MiB`, `2 GiB`."""
    for unit, name in ((2**30, "GiB"), (MIB, "MiB"), (2**10, "KiB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} bytes"
