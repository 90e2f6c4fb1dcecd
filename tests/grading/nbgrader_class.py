"""A small lab with a question in code and one in words, and a class of submissions for nbgrader's course folder."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from tests.tools import FRONT_MATTER

NAME = "tiny"
QUESTIONS = '''"""A tiny lab."""
from attnkit.lab.question import Case, Mistake, question

@question(points=3, answer="double")
class Double:
    """Twice x."""
    parts = {"ordinary": 1, "large": 2}
    mistakes = [Mistake("x is squared", lambda x: x * x, "Twice, not squared.")]
    def cases(self, rng):
        import numpy as np
        yield Case((rng.integers(3, 9, size=3).astype("f4"),))
        yield Case((np.float32(1e6) + rng.integers(0, 9, size=3).astype("f4"),), part="large", note="large numbers")
    def reference(self, x):
        return 2 * x

@question(points=2, answer="essay")
class Essay:
    """Why twice?"""
    manual = True
    rubric = "A reason is given."
'''
MASTER = (
    FRONT_MATTER
    + """# A tiny lab

```{code-cell} ipython3
from attnkit.lab import Lab

lab = Lab("tiny")
```

```{code-cell} ipython3
# question: double
def double(x):
    ### BEGIN SOLUTION
    return x + x  # the secret way
    ### END SOLUTION
```

```{code-cell} ipython3
lab.check(double)
```

+++

Why twice?

<!-- question: essay -->
### BEGIN SOLUTION
Since once is not enough, says the model answer.
### END SOLUTION

```{code-cell} ipython3
lab.progress()
```
"""
)
RIGHT = "# question: double\ndef double(x):\n    return 2 * x"
CAPPED = "# question: double\ndef double(x):\n    return 2 * x if x.max() < 100 else x"
SQUARE = "# question: double\ndef double(x):\n    return x * x"
WORDS = "<!-- question: essay -->\nBecause two hands hold more."
# What each student deserves for `double`.
DESERVED = {
    "ada": 3.0, "bea": 1.0, "cem": 0.0, "dan": 0.0, "eve": 3.0, "fay": 3.0, "gil": 0.0, "hal": 0.0, "ida": 0.0,
    "jon": 3.0, "kim": 0.0,
}  # fmt: skip
ESSAYS = {"ada", "eve", "fay"}


def write_lab(folder: Path) -> Path:
    """The lab's folder below `folder`."""
    lab = folder / NAME
    lab.mkdir(parents=True)
    (lab / "questions.py").write_text(QUESTIONS, "utf-8")
    (lab / f"{NAME}.md").write_text(MASTER, "utf-8")
    return lab


def hand_in(course: Path, escaped: Path) -> None:
    """Submissions of eleven students, from what was released. Code that nobody should run writes the file `escaped`."""
    released = json.loads((course / "release" / NAME / f"{NAME}.ipynb").read_text("utf-8"))
    own = released["cells"]
    deed = f"open({str(escaped)!r}, 'w').write('x')"
    right = filled(own, RIGHT, WORDS)
    notebooks: dict[str, Any] = {
        "ada": right,
        "bea": filled(own, CAPPED),
        "cem": filled(own, SQUARE),
        "dan": own,  # untouched
        "eve": [*right, *copy.deepcopy(right)],  # every cell twice
        "fay": [bare(cell) for cell in right],  # as Colab may leave it
        "gil": forged(filled(own, SQUARE)),
        "hal": "{not a notebook",
        "ida": None,  # a link
        "jon": [cell for cell in filled(own, RIGHT) if grade_id(cell) not in ("double", "essay")],  # cells deleted
        "kim": [code(deed), *filled(own, f"{deed}\n{SQUARE}"), code(deed)],
    }
    for student, cells in notebooks.items():
        path = course / "submitted" / student / NAME / f"{NAME}.ipynb"
        path.parent.mkdir(parents=True)
        if cells is None:
            path.symlink_to("/etc/passwd")
        elif isinstance(cells, str):
            path.write_text(cells, "utf-8")
        else:
            path.write_text(json.dumps({**released, "cells": cells}), "utf-8")


def filled(cells: list[dict[str, Any]], answer: str, words: str = "") -> list[dict[str, Any]]:
    """The released cells with an answer to `double` and, if there are words, to `essay`."""
    done = copy.deepcopy(cells)
    for cell in done:
        if grade_id(cell) == "double-answer":
            cell["source"] = answer
        if grade_id(cell) == "essay" and words:
            cell["source"] = words
    return done


def forged(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Checks that say full marks, worth a hundred, of a schema that nobody knows, with outputs to match."""
    for cell in cells:
        if grade_id(cell) == "double":
            cell["source"] = "3.0"
            cell["metadata"]["nbgrader"] |= {"points": 100, "schema_version": 9, "checksum": "0"}
            cell["outputs"] = [
                {"output_type": "execute_result", "data": {"text/plain": "100.0"}, "metadata": {}, "execution_count": 1}
            ]
    return [*cells, {**code("3.0"), "metadata": {"nbgrader": {"grade_id": "extra", "grade": True, "points": 50}}}]


def bare(cell: dict[str, Any]) -> dict[str, Any]:
    """A cell without metadata and id."""
    return {name: value for name, value in cell.items() if name != "id"} | {"metadata": {}}


def code(source: str) -> dict[str, Any]:
    """A code cell of a student's own."""
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


def grade_id(cell: dict[str, Any]) -> str:
    """What nbgrader calls the cell."""
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")
