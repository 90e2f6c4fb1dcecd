"""What a grade depends on, as hashes: when one of them changes, submissions are graded again.

Which code that is, is found by following imports, so that no list can be forgotten: from what grades one submission,
and from what a worker sees.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from attnkit.grading import ENGINE_VERSION, jail
from attnkit.lab.bank import TRAVELS_AS, LabSpec

_ROOT = Path(__file__).resolve().parents[1]
_STARTS = (_ROOT / "grading" / "job.py", jail.LAUNCH)


@cache
def engine_digest() -> str:
    """The hash of the code and the libraries that grade."""
    digest = hashlib.sha256(ENGINE_VERSION.encode())
    _add(digest, deciding_files())
    digest.update(repr(sorted(versions().items())).encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """The versions of what computes, by name."""
    found = {name: importlib.metadata.version(name) for name in ("numpy", "torch")}
    return {"engine": ENGINE_VERSION, "python": platform.python_version(), **found}


@cache
def deciding_files() -> tuple[Path, ...]:
    """The files of attnkit that grade one submission, sorted."""
    return tuple(reached([*_STARTS, *jail.worker_files()]))


def questions_digest(spec: LabSpec) -> str:
    """The hash of the lab's questions, and of what they import from attnkit beside what grades."""
    file = questions_file(spec)
    digest = hashlib.sha256(file.read_bytes())
    grades = {file, *deciding_files()}
    _add(digest, (one for one in reached([file]) if one not in grades))
    return digest.hexdigest()


def questions_file(spec: LabSpec) -> Path:
    """The file that the lab's questions were read from."""
    own = spec.folder / "questions.py"
    return own if own.is_file() else spec.folder / f"{spec.name}{TRAVELS_AS}"


def reached(starts: Iterable[Path]) -> list[Path]:
    """`starts` and the files of attnkit that they import, directly or not, sorted."""
    found: set[Path] = set()
    waiting = set(starts)
    while waiting:
        file = waiting.pop()
        found.add(file)
        waiting |= _imported(file) - found
    return sorted(found)


def _imported(file: Path) -> set[Path]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    places = [_ROOT.joinpath(*name.split(".")[1:]) for name in names if name.split(".")[0] == _ROOT.name]
    found = [one for place in places for one in (place.with_suffix(".py"), place / "__init__.py")]
    return {one for one in found if one.is_file() and one.parent != _ROOT}


def _add(digest: hashlib._Hash, files: Iterable[Path]) -> None:
    for file in files:
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
