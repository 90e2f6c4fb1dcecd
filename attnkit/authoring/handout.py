"""`attnkit lab hand-out`: one notebook per student, with their id filled in and their own numbers shown."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from attnkit.authoring.labs import LabError, Master, student_notebook
from attnkit.authoring.notebook import dumps, execution_environment
from attnkit.authoring.project import Project
from attnkit.authoring.travelling import public_questions, travels
from attnkit.grading.identity import Student
from attnkit.lab.bank import load_lab
from attnkit.lab.variants import folded

INDEX = "hand-out.csv"


@dataclass(frozen=True)
class HandOut:
    """What to write for whom. Without `checks` no notebook uses `Lab`, and no questions are written."""

    master: Master
    project: Project
    students: Sequence[Student]
    out: Path
    checks: bool = True
    jobs: int = 2

    def write(self, told: Callable[[Student], None] = lambda student: None) -> Path:
        """Write OUT/ID/LAB.ipynb for each student, and OUT/hand-out.csv, which lists them with their numbers.

        The master is run once for each student, since its outputs may depend on their numbers. `told(student)` after
        each. Raises `LabError` before anything is written where a student's id can be no folder, or OUT holds
        something else than an earlier hand-out.
        """
        folders = folders_of(self.students)
        if self.out.exists() and any(self.out.iterdir()) and not (self.out / INDEX).is_file():
            raise LabError(f"--out: {self.out} holds other files; it should be empty or an earlier hand-out")
        self.out.mkdir(parents=True, exist_ok=True)
        index = self.out / INDEX
        with index.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "name", "file", "variant"])
            for student, row in zip(self.students, self._rows(folders), strict=True):
                rows.writerow(row)
                told(student)
        return index

    def _rows(self, folders: Sequence[str]) -> Iterator[list[str]]:
        # The environment is set once for all threads: each would otherwise put back what another still needs.
        with execution_environment(), ThreadPoolExecutor(max_workers=self.jobs) as pool:
            yield from pool.map(self._one, self.students, folders)

    def _one(self, student: Student, folder: str) -> list[str]:
        place = self.out / folder
        place.mkdir(exist_ok=True)
        nb = student_notebook(self.master, self.project, student.id, self.checks)
        file = place / self.master.student_path.name
        file.write_text(dumps(nb), "utf-8")
        if self.checks and travels(self.master.path.parent):
            (place / self.master.questions_path.name).write_text(public_questions(self.master.path.parent), "utf-8")
        spec = load_lab(self.master.path.parent).for_student(student.id)
        drawn = {name: dict(question.variant) for name, question in spec.questions.items() if question.variant}
        return [student.id, student.name, file.relative_to(self.out).as_posix(), json.dumps(drawn, sort_keys=True)]


def folders_of(students: Sequence[Student]) -> list[str]:
    """The folder of each student: the id, with `_` for what some system does not take in a file name.

    Raises `LabError` when two students would share a folder or a variant.
    """
    folders = [re.sub(r"[^\w.@+-]", "_", student.id).strip(".") for student in students]
    for what, names in (
        ("folder", [name.casefold() for name in folders]),
        ("variant", [folded(s.id) for s in students]),
    ):
        if twice := [students[i].id for i, name in enumerate(names) if names.index(name) != i or not name]:
            raise LabError(f"--roster: the id {twice[0]!r} gives the same {what} as another, or none")
    return folders
