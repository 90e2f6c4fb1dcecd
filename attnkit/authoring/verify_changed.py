"""A master's solutions, one by one, each with the cells that it leans on, to be changed in one place and tried."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from attnkit.authoring.labs import BEGIN, END, Master, completed_notebook, prepared, question_of
from attnkit.authoring.mutants import Mutant, mutants
from attnkit.authoring.project import Project
from attnkit.authoring.verify_solutions import run_leaning
from attnkit.grading.cells import Statement, plan, read_cells
from attnkit.lab.bank import load_lab
from attnkit.lab.question import Question
from attnkit.lab.variants import PRACTICE

STUDENTS, VARIANTS = 20, 6  # among so many students, at most so many are sought whose numbers differ


class Unusable(Exception):
    """Why a solution has no mutants that would say anything."""


@dataclass(frozen=True)
class Solution:
    """A question with its solution: what it leans on, its own statements, and the lines that a student writes."""

    question: Question
    before: tuple[Statement, ...]
    own: tuple[Statement, ...]
    lines: frozenset[int]

    def names(self) -> dict[str, Any]:
        """The names that its cells find: what stands in other cells has been run, as the grader runs it."""
        names: dict[str, Any] = {"__name__": "__main__"}
        run_leaning([one.text for one in self.before], names)
        return names

    def mutants(self) -> list[tuple[Mutant, tuple[str, ...]]]:
        """Each mutant with the statements of its cell."""
        texts = tuple(statement.text for statement in self.own)
        found = []
        for place, statement in enumerate(self.own):
            # A statement's lines are counted from its own first one.
            inside = {line - statement.line + 1 for line in self.lines}
            for one in mutants(statement.text, inside):
                told = dataclasses.replace(one, line=one.line + statement.line - 1)
                found.append((told, (*texts[:place], one.source, *texts[place + 1 :])))
        return found


def solutions(master: Master, project: Project, student: str = "") -> dict[str, Solution]:
    """Every question that is answered in code, with the master's answer to it and the numbers of `student`."""
    spec = load_lab(master.path.parent).for_student(student or PRACTICE)
    nb = prepared(master, project, student, checks=False)
    marked = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    nb = completed_notebook(master, project, student, checks=False)
    cells = read_cells(cell.source for cell in nb.cells if cell.cell_type == "code")
    found = {}
    for question in spec.questions.values():
        how = plan(cells, question.name)
        if question.manual or not how.attempts:
            continue
        statements = how.attempts[0]
        source = next(source for source in marked if question_of(source) == question.name)
        found[question.name] = Solution(
            question,
            tuple(one for one in statements if not one.own),
            tuple(one for one in statements if one.own),
            frozenset(_solution_lines(source)),
        )
    return found


def differing_students(master: Master, name: str) -> list[str]:
    """Students who between them have all numbers that many draw, or nearly: one branch of a solution may be theirs."""
    spec, seen, chosen = load_lab(master.path.parent), set[str](), list[str]()
    if spec.questions[name].draw is None:
        return []
    for student in (PRACTICE, *(f"student {number}" for number in range(STUDENTS))):
        pairs = {repr(pair) for pair in spec.for_student(student).questions[name].variant.items()}
        if pairs - seen and len(chosen) <= VARIANTS:
            chosen.append(student)
            seen |= pairs
    return chosen[1:]  # the practice variant is looked at in any case


def _solution_lines(source: str) -> Iterator[int]:
    """The lines between the markers, counted as they are once the markers are gone."""
    inside, number = False, 0
    for line in source.split("\n"):
        if line.strip() in (BEGIN, END):
            inside = line.strip() == BEGIN
            continue
        number += 1
        if inside:
            yield number
