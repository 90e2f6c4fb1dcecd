"""Finding a lab's questions: in the installed package, in a clone, or at a path."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnkit.lab.question import Question

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
_HERE = Path(__file__).resolve().parent
# A wheel holds the questions beside this file; a clone has them two levels up, beside the package.
_SHELVES = (_HERE / "bank", _HERE.parents[1] / "labs")


class LabNotFound(ValueError):
    """No lab of that name or at that path; the message lists those that there are."""


@dataclass(frozen=True)
class LabSpec:
    """A lab: its questions by name, in the order in which its file defines them."""

    name: str
    title: str
    questions: Mapping[str, Question]
    folder: Path

    @property
    def max_points(self) -> float:
        """The points of all questions together."""
        return sum(question.points for question in self.questions.values())


def lab_names() -> list[str]:
    """The labs that `load_lab` finds by name."""
    return sorted({file.parent.name for shelf in _SHELVES for file in shelf.glob("*/questions.py")})


def load_lab(name_or_path: str | Path) -> LabSpec:
    """The lab called `name_or_path`, or the one in that folder or `questions.py` file.

    `questions.py` is trusted: it is imported. Raises `LabNotFound`.
    """
    file = _find(name_or_path)
    folder = file.parent
    spec = importlib.util.spec_from_file_location(f"attnkit_lab_{folder.name.replace('-', '_')}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = [value for value in vars(module).values() if isinstance(value, Question)]
    if not found:
        raise LabNotFound(f"name_or_path: {file} defines no question; it should have classes marked with @question")
    title = (module.__doc__ or folder.name).strip().split("\n")[0].rstrip(".")
    return LabSpec(folder.name, title, {question.name: question for question in found}, folder)


def _find(name_or_path: str | Path) -> Path:
    name = str(name_or_path)
    if _NAME.fullmatch(name):
        for shelf in _SHELVES:
            file = shelf / name / "questions.py"
            if file.is_file():
                return file
    path = Path(name_or_path)
    file = path if path.suffix == ".py" else path / "questions.py"
    if file.is_file():
        return file.resolve()
    known = ", ".join(lab_names()) or "none"
    raise LabNotFound(f"name_or_path: was {name!r}; it should be one of: {known}; or a folder that holds questions.py")
