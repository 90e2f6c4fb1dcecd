"""Every lab of this clone, and a class of tests for each: workers share classes out, so labs are tested in parallel."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from attnkit.authoring.labs import find_masters
from attnkit.lab.bank import LabSpec, lab_names, load_lab
from attnkit.lab.variants import PRACTICE

ROOT = Path(__file__).resolve().parents[2]
MASTERS = {master.name: master for master in find_masters(ROOT)}
# One without a master, or without questions, is no lab; the tests say so.
LABS = sorted({*MASTERS, *lab_names()})


def spec_of(lab: str) -> LabSpec:
    """The lab as its notebook has it."""
    return load_lab(lab).for_student(PRACTICE)


def _seconds(lab: str) -> float:
    """How long answers to the lab may take: a measure of how long it takes to test."""
    return sum(question.seconds for question in load_lab(lab).questions.values())


def class_each(base: type, labs: Iterable[str] = LABS) -> dict[str, type]:
    """A subclass of `base` for each lab, by its name, with the attribute `lab`; to be put among a module's globals."""
    longest_first = sorted(labs, key=_seconds, reverse=True)  # so that no worker waits for one that began last
    names = {lab: "Test" + "".join(word.capitalize() for word in lab.split("-")) for lab in longest_first}
    return {name: type(name, (base,), {"lab": lab, "__module__": base.__module__}) for lab, name in names.items()}
