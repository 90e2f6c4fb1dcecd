"""What became of checks, kept beside the notebook so that a restart of the kernel loses none of it.

One small file a lab, `.attnkit-NAME.json`. It holds no code and no name; whatever else is found there is passed over.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnkit.lab import kernel
from attnkit.lab.bank import TRAVELS_AS, LabSpec
from attnkit.lab.outcome import Outcome
from attnkit.lab.question import Question
from attnkit.lab.sources import cell_of

MAX_BYTES = 2**18


@dataclass(frozen=True)
class Earlier:
    """A check in an earlier run: `source` is the hash of the answer's cell, "" where it had none."""

    points: float
    passed: bool
    source: str


class Memory:
    """The checks of one lab. Nothing here raises, and outside a notebook nothing is written."""

    def __init__(self, spec: LabSpec) -> None:
        self._spec = spec
        self._version = _version(spec)
        self._path = Path(f".attnkit-{re.sub(r'[^A-Za-z0-9_-]', '_', spec.name)}.json")

    def earlier(self) -> dict[str, Earlier]:
        """What is kept of each question, made with these questions and these numbers of the student's."""
        found = {}
        for name, entry in self._read().items():
            question = self._spec.questions.get(name)
            if question is not None and (one := _entry(entry, question)) is not None:
                found[name] = one
        return found

    def keep(self, outcome: Outcome, function: Callable[..., Any]) -> None:
        """Remember how `function` did."""
        if kernel.shell() is None:
            return
        checks = self._read()
        unwritten = outcome.failure is not None and outcome.failure.kind == "not-implemented" and not outcome.points
        if unwritten and not checks:
            return  # a notebook that nobody has worked in leaves nothing behind
        checks[outcome.question] = {
            "points": outcome.points,
            "passed": outcome.passed,
            "source": fingerprint(function),
        }
        _write(self._path, {"attnkit": self._spec.name, "version": self._version, "checks": checks})

    def _read(self) -> dict[str, Any]:
        try:
            if not self._path.is_file() or self._path.stat().st_size > MAX_BYTES:
                return {}
            kept = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(kept, dict) or kept.get("attnkit") != self._spec.name:
            return {}
        checks = kept.get("checks") if kept.get("version") == self._version else None
        return checks if isinstance(checks, dict) else {}


def fingerprint(function: Any) -> str:
    """The hash of the cell that holds a function or class; "" where it cannot be had."""
    try:
        text = cell_of(function)
    except Exception:  # an object may answer anything when it is looked at
        return ""
    plain = "\n".join(line.rstrip() for line in text.strip().splitlines())
    return hashlib.sha256(plain.encode("utf-8", "replace")).hexdigest()[:16] if plain else ""


def _version(spec: LabSpec) -> str:
    """The hash of the questions with the student's numbers."""
    digest = hashlib.sha256()
    for file in (spec.folder / "questions.py", spec.folder / f"{spec.name}{TRAVELS_AS}"):
        with contextlib.suppress(OSError):
            digest.update(file.read_bytes())
    variants = {name: dict(question.variant) for name, question in spec.questions.items()}
    digest.update(json.dumps(variants, sort_keys=True, default=str).encode())
    return digest.hexdigest()[:16]


def _entry(entry: Any, question: Question) -> Earlier | None:
    if not isinstance(entry, dict):
        return None
    points, passed, source = entry.get("points"), entry.get("passed"), entry.get("source")
    if isinstance(points, bool) or not isinstance(points, int | float):
        return None
    if not isinstance(passed, bool) or not isinstance(source, str):
        return None
    if not 0 <= points <= question.points or (passed and points != question.points):
        return None
    return Earlier(float(points), passed, source)


def _write(path: Path, kept: dict[str, Any]) -> None:
    """Replace the file as a whole, or leave it as it is."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(kept, indent=1), "utf-8")
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
