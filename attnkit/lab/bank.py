"""Finding a lab's questions: in the installed package, in a clone, at a path, or in a file beside the notebook."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from attnkit.lab.question import Question
from attnkit.lab.variants import drawn_for

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_HERE = Path(__file__).resolve().parent
# A wheel holds the questions beside this file; a clone has them two levels up, beside the package.
_SHELVES = (_HERE / "bank", _HERE.parents[1] / "labs")
# What an instructor's lab is checked by when it is not among them: `rotary_questions.py` beside the notebook.
TRAVELS_AS = "_questions.py"


class LabNotFound(ValueError):
    """No lab of that name or at that path; the message lists those that there are."""


@dataclass(frozen=True)
class LabSpec:
    """A lab: its questions by name, in the order in which its file defines them.

    `student` is the id of the student whose variant it is; "" before one is drawn.
    """

    name: str
    title: str
    questions: Mapping[str, Question]
    folder: Path
    student: str = ""

    @property
    def max_points(self) -> float:
        """The points of all questions together."""
        return sum(question.points for question in self.questions.values())

    @property
    def has_variants(self) -> bool:
        """Whether any question differs from student to student."""
        return any(question.draw is not None for question in self.questions.values())

    def for_student(self, student_id: str) -> LabSpec:
        """The lab with each question as this student has it; the same id always gives the same lab.

        Raises `ValueError` for an id without characters, `QuestionError` where a variant is written wrongly.
        """
        drawn = {name: drawn_for(question, self.name, student_id) for name, question in self.questions.items()}
        return replace(self, questions=drawn, student=student_id)


def lab_names() -> list[str]:
    """The labs that `load_lab` finds by name."""
    return sorted({file.parent.name for shelf in _SHELVES for file in shelf.glob("*/questions.py")})


def load_lab(name_or_path: str | Path) -> LabSpec:
    """The lab called `name_or_path`, or the one in that folder or `questions.py` file.

    A name that is no lab of ours may be that of a file NAME_questions.py in the current folder, which an instructor
    hands out beside the notebook. `questions.py` is trusted: it is imported. Raises `LabNotFound`.
    """
    file = _find(name_or_path)
    folder = file.parent
    name = file.name.removesuffix(TRAVELS_AS) if file.name.endswith(TRAVELS_AS) else folder.name
    called = f"attnkit_lab_{name.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(called, file, loader=_AsItIs(called, str(file)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, Question)]
    if not found:
        raise LabNotFound(f"name_or_path: {file} defines no question; it should have classes marked with @question")
    title = (module.__doc__ or name).strip().split("\n")[0].rstrip(".")
    return LabSpec(name, title, {question.name: question for question in found}, folder)


class _AsItIs(importlib.machinery.SourceFileLoader):
    """Compiles the file as it is now, and leaves no bytecode beside it.

    Python takes bytecode for a file's own by size and second: after a quick edit it would grade by the old questions.
    """

    def get_code(self, fullname: str) -> types.CodeType:
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


def _find(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    if _NAME.fullmatch(name):
        for shelf in _SHELVES:
            file = shelf / name / "questions.py"
            if file.is_file():
                return file
        if (beside := Path(name + TRAVELS_AS)).is_file():
            return beside.resolve()
    path = Path(name_or_path)
    file = path if path.suffix == ".py" else path / "questions.py"
    if file.is_file():
        return file.resolve()
    known = ", ".join(lab_names()) or "none"
    file_name = f"; or {name}{TRAVELS_AS} should lie beside the notebook" if _NAME.fullmatch(name) else ""
    raise LabNotFound(
        f"name_or_path: was {name!r}; it should be one of: {known}; or a folder that holds questions.py{file_name}"
    )
