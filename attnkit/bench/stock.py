"""The same answers in stock nbgrader and otter-grader: tests in the notebook, or in files that its kernel reads.

Both run as their manuals have it, on the public cases of the same questions, in environments of their own that are
given by their Python. Each needs torch there, since its kernel runs the answers.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from attnkit.bench.classes import QUESTIONS
from attnkit.lab.bank import LabSpec
from attnkit.lab.judge import PRACTICE_SEED
from attnkit.lab.question import Case, Question

_LIMIT = 1800.0  # seconds
_KERNEL = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
_HEAD = "import torch\nfrom numpy import inf, nan\n"
_GRADE_WITH_OTTER = """
import json, sys, time
from otter.api import grade_submission
seconds, points = [], []
for path in sys.argv[2:]:
    start = time.perf_counter()
    results = grade_submission(path, sys.argv[1], quiet=True)
    seconds.append(time.perf_counter() - start)
    points.append(results.total)
print(json.dumps([seconds, points]))
"""


class StockError(RuntimeError):
    """A stock grader did not run through; the message is the end of what it said."""


def asserts(question: Question) -> str:
    """The public cases of a question as lines of assert, for torch answers: the values stand in the text."""
    lines = []
    for case in question.cases(np.random.default_rng(PRACTICE_SEED)):
        given = ", ".join(_literal(value) for value in case.args)
        want = _literal(np.asarray(question.reference(*_double(case))))
        lines.append(
            f"assert torch.allclose(torch.as_tensor({question.answer}({given})).double(), {want}.double(), "
            f"rtol={question.tolerance.rtol}, atol={question.tolerance.atol})"
        )
    return "\n".join(lines)


def nbgrader_seconds(python: Path, spec: LabSpec, students: list[dict[str, str]], folder: Path) -> list[float]:
    """Seconds a submission of one `nbgrader autograde` over the class, in a new course `folder`."""
    told = {"schema_version": 3, "task": False}
    answer = {**told, "grade": False, "solution": True, "locked": False}
    check = {**told, "grade": True, "solution": False, "locked": True}

    def notebook(answers: dict[str, str]) -> dict[str, Any]:
        cells = [_cell("import torch")]
        for name in QUESTIONS:
            question = spec.questions[name]
            cells.append(_cell(answers[name], nbgrader={**answer, "grade_id": f"{name}-answer"}))
            metadata = {**check, "grade_id": name, "points": question.points}
            cells.append(_cell(_HEAD + asserts(question), nbgrader=metadata))
        return _notebook(cells)

    blank = dict.fromkeys(QUESTIONS, "### BEGIN SOLUTION\n### END SOLUTION")
    _write(folder / "source" / "lab" / "lab.ipynb", notebook(blank))
    for number, answers in enumerate(students):
        _write(folder / "submitted" / f"s{number}" / "lab" / "lab.ipynb", notebook(answers))
    _run([python, "-m", "nbgrader", "generate_assignment", "lab"], folder)
    start = time.perf_counter()
    _run([python, "-m", "nbgrader", "autograde", "lab"], folder)
    return [(time.perf_counter() - start) / len(students)]


def otter_seconds(python: Path, spec: LabSpec, students: list[dict[str, str]], folder: Path) -> list[float]:
    """Seconds of each submission, by otter's own programming interface in one process, in a new `folder`."""
    for name in QUESTIONS:
        question = spec.questions[name]
        test = {"name": name, "points": question.points, "suites": [{"type": "doctest", "cases": [_doctest(question)]}]}
        _write_text(folder / "tests" / f"{name}.py", f"OK_FORMAT = True\n\ntest = {test!r}\n")
    paths = []
    for number, answers in enumerate(students):
        sources = ["import otter\ngrader = otter.Notebook()", "import torch"]
        for name in QUESTIONS:
            sources += [answers[name], f'grader.check("{name}")']
        paths.append(folder / f"s{number}.ipynb")
        _write(paths[-1], _notebook([_cell(source) for source in sources]))
    _run([python, "-m", "otter", "generate", "-t", "tests", "-o", "autograder.zip"], folder)
    words = [python, "-c", _GRADE_WITH_OTTER, folder / "autograder.zip", *paths]
    seconds, _ = json.loads(_run(words, folder).splitlines()[-1])
    return seconds


def version(python: Path, package: str) -> str:
    """The version of `package` in the environment of `python`. Raises `StockError` where there is none."""
    return _run(
        [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"], Path.cwd()
    ).strip()


def _doctest(question: Question) -> dict[str, Any]:
    lines = (_HEAD + asserts(question)).splitlines()
    return {"code": "\n".join(f">>> {line}" for line in lines), "hidden": False, "locked": False}


def _double(case: Case) -> list[Any]:
    return [value.astype(float) if _is_real(value) else value for value in case.args]


def _is_real(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _literal(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return repr(value)
    kind = {"f": "float64" if value.dtype == np.float64 else "float32", "b": "bool"}.get(value.dtype.kind, "int64")
    return f"torch.tensor({value.tolist()!r}, dtype=torch.{kind}).reshape({value.shape!r})"


def _cell(source: str, **metadata: Any) -> dict[str, Any]:
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None}


def _notebook(cells: list[dict[str, Any]]) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 4, "metadata": _KERNEL, "cells": cells}


def _write(path: Path, notebook: dict[str, Any]) -> None:
    _write_text(path, json.dumps(notebook))


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def _run(words: list[Any], folder: Path) -> str:
    """Run a program of a stock grader's environment as if that were activated, and return what it prints."""
    path = f"{Path(words[0]).parent}{os.pathsep}{os.environ['PATH']}"
    run = subprocess.run(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=_LIMIT,
    )
    if run.returncode:
        raise StockError(f"{' '.join(str(word) for word in words[1:4])}: {run.stderr.strip()[-800:]}")
    return run.stdout
