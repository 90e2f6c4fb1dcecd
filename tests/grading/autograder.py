"""Gradescope's /autograder in a folder of its own, and an answer that wants out of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from attnkit.grading.adapters.gradescope import write_zip
from attnkit.lab.bank import load_lab

_SHOWN = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
_FORMAT = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
_TEST = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "status": {"enum": ["passed", "failed"]},
        "name": {"type": "string"},
        "name_format": _FORMAT,
        "number": {"type": "string"},
        "output": {"type": "string"},
        "output_format": _FORMAT,
        "tags": {"type": "array", "items": {"type": "string"}},
        "visibility": _SHOWN,
        "extra_data": {"type": "object"},
    },
}
# gradescope-autograders.readthedocs.io, "Autograder Specifications": output format
RESULTS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "score": {"type": "number", "minimum": 0},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "output_format": _FORMAT,
        "test_output_format": _FORMAT,
        "test_name_format": _FORMAT,
        "visibility": _SHOWN,
        "stdout_visibility": _SHOWN,
        "extra_data": {"type": "object"},
        "tests": {"type": "array", "items": _TEST},
        "leaderboard": {"type": "array"},
    },
    # a score on top, or one on every test
    "anyOf": [
        {"required": ["score"]},
        {"required": ["tests"], "properties": {"tests": {"items": {"required": ["score"]}}}},
    ],
}
ADA = {"users": [{"email": "ada@example.org", "id": 7, "name": "Ada"}], "previous_submissions": []}


@dataclass(frozen=True)
class Autograder:
    """The folder that stands for /autograder."""

    root: Path
    home: str = sys.prefix

    def grade(self, **files: bytes) -> dict[str, Any]:
        """Hand in `files` (by name without ending) and run the autograder; its results, checked against the format."""
        folder = self.root / "submission"
        for old in folder.iterdir():
            old.unlink()
        for name, data in files.items():
            (folder / f"{name}.ipynb").write_bytes(data)
        return self.run()

    def run(self, **environment: str) -> dict[str, Any]:
        path = self.root / "results" / "results.json"
        path.unlink(missing_ok=True)
        given = {"AUTOGRADER_ROOT": str(self.root), "ATTNKIT_HOME": self.home, "OMP_NUM_THREADS": "1"}
        run = subprocess.run(
            [str(self.root / "run_autograder")], env={**os.environ, **given, **environment}, timeout=240, cwd=self.root
        )
        assert run.returncode == 0
        results = json.loads(path.read_text("utf-8"))
        jsonschema.validate(results, RESULTS)
        assert [one.name for one in path.parent.iterdir()] == ["results.json"], "nothing half written"
        return results

    def settings(self, **changed: Any) -> None:
        path = self.root / "source" / "settings.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changed), "utf-8")


def set_up(root: Path, lab: Path, **options: Any) -> Autograder:
    """What Gradescope does with the zip of a lab: unpack it, copy run_autograder, put the metadata beside."""
    write_zip(load_lab(lab), root / "autograder.zip", root / "course.key", **options)
    with zipfile.ZipFile(root / "autograder.zip") as archive:
        archive.extractall(root / "source")
        for info in archive.infolist():  # which extractall leaves out
            (root / "source" / info.filename).chmod(info.external_attr >> 16 & 0o777)
    (root / "submission").mkdir()
    (root / "submission_metadata.json").write_text(json.dumps(ADA))
    (root / "run_autograder").write_bytes((root / "source" / "run_autograder").read_bytes())
    (root / "run_autograder").chmod(0o755)
    return Autograder(root)


HOSTILE = """
# question: double
import glob, json, os, signal
found = []
for place in ROOTS:
    for inside, folders, files in os.walk(place):
        for name in files:
            try:
                found.append(open(os.path.join(inside, name)).read())
            except OSError:
                pass
forged = json.dumps({"score": 3.0})
for place in ROOTS:
    for name in ("results/results.json", "results/.results.json.part", "submission_metadata.json"):
        try:
            open(os.path.join(place, name), "w").write(forged)
        except OSError:
            pass
for number in range(2, 200):
    try:
        if number != os.getpid():
            os.kill(number, signal.SIGTERM) if number < 0 else None
    except OSError:
        pass
if os.fork() == 0:
    os.setsid()
    while True:
        for place in ROOTS:
            try:
                os.replace("x", os.path.join(place, "results/results.json"))
            except OSError:
                pass
def double(x):
    raise RuntimeError(f"read {len(found)} files: " + " ".join(found)[:300])
"""
