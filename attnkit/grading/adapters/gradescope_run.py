"""Inside Gradescope's container: grades /autograder/submission and writes /autograder/results/results.json.

Runs as root, which reads questions and key; answers run in a jail, or where none can be built as a user who can read
neither (isolation `uid`), and never without. The results say which. Formats: gradescope-autograders.readthedocs.io,
"Autograder Specifications" and "Submission Metadata".
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnkit.grading import ENGINE_VERSION, seeds
from attnkit.grading.adapters.levels import choose
from attnkit.grading.adapters.single import as_plain_text, grade_one
from attnkit.grading.errors import GradingError
from attnkit.grading.identity import Claim, read_roster
from attnkit.grading.intake import MAX_NOTEBOOK
from attnkit.grading.jail import Isolation, Limits
from attnkit.grading.records import Record
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import LabSpec, load_lab
from attnkit.lab.reading.notebook import NotANotebook

SETTINGS, KEY, ROSTER, LAB = "settings.json", "course.key", "roster.csv", "lab"
_SKIPPED = ("__MACOSX", ".ipynb_checkpoints")
_OURS = "The autograder did not work, which is not your fault. Your submission is kept; it will be graded again."


@dataclass(frozen=True)
class Settings:
    """What the instructor chose when the zip was made; all of it plain JSON."""

    lab: str
    isolation: str = "auto"
    seconds: float = 10.0
    visibility: str = "visible"


@dataclass(frozen=True)
class Submitter:
    """Whose submission it is: the id that seeds and variants are drawn from, and which attempt this is."""

    student: str
    attempt: int


def grade(root: Path) -> dict[str, Any]:
    """The results of the submission below `root`, as results.json holds them."""
    began = time.monotonic()
    source = root / "source"
    settings, spec = _settings(source)
    who = submitter(_metadata(root), source / ROSTER)
    isolation = _level(settings, root)
    try:
        path, notes = find_notebook(root / "submission", spec.name)
        if path.stat().st_size > MAX_NOTEBOOK:
            raise NotANotebook(f"{path.name} is larger than {MAX_NOTEBOOK >> 20} MiB; clear its outputs, save it")
        data = path.read_bytes()
        limits = Limits(settings.seconds, settings.seconds)
        with Zygote(isolation, limits, private=_private(root)) as zygote:
            record = grade_one(zygote, spec, data, who.student, who.attempt, seeds.course_key(source / KEY))
    except NotANotebook as error:
        return _envelope(settings, f"Nothing could be graded: {error}.", [], isolation) | {"score": 0.0}
    head = [f"{path.name}, attempt {who.attempt}. Graded by attnkit with isolation: {isolation}.", *notes]
    results = _envelope(settings, "\n".join(head), _tests(spec, record), isolation)
    results["score"] = record.points
    results["execution_time"] = round(time.monotonic() - began, 1)
    results["extra_data"] |= {
        "student": who.student,
        "attempt": who.attempt,
        "sha256": record.sha256,
        "status": {one.question: one.status for one in record.answers},
    }
    return results


def submitter(metadata: Mapping[str, Any], roster: Path) -> Submitter:
    """Who hands in, from submission_metadata.json. A group is its members' ids, joined; a roster gives them its own.

    Raises `GradingError` when the metadata name nobody: the same inputs for all would be no secret for long.
    """
    known = read_roster(roster) if roster.is_file() else None
    ids = []
    for user in metadata.get("users") or []:
        words = [str(user[name]) for name in ("email", "sid", "id") if user.get(name)]
        found = [student for word in words if known and (student := known.find(Claim("gradescope", word, word)))]
        ids += [found[0].id] if found else words[:1]
    if not ids:
        raise GradingError("submission_metadata.json: names no user; it should have `users` with email or id.")
    return Submitter("+".join(sorted(ids)), 1 + len(metadata.get("previous_submissions") or []))


def find_notebook(folder: Path, lab: str) -> tuple[Path, list[str]]:
    """The notebook that counts among what was handed in, and remarks for the student. Raises `NotANotebook`.

    Links are not followed. The one that bears the lab's name comes first; of several, the last by name.
    """
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in _SKIPPED]
        paths = [Path(place, name) for name in files if name.lower().endswith(".ipynb") and not name.startswith(".")]
        found += [path for path in paths if path.is_file() and not path.is_symlink()]
    if not found:
        raise NotANotebook("there is no notebook (.ipynb) in what was handed in")
    best = max(found, key=lambda path: (path.stem == lab, lab in path.stem, path.as_posix()))
    many = [f"{len(found)} notebooks were handed in; {best.name} was graded."] if len(found) > 1 else []
    return best, many


def failure(text: str, error: str) -> dict[str, Any]:
    """The results when the autograder itself fails: `text` for the student, `error` for the instructor."""
    return {
        "score": 0.0,
        "output": text,
        "output_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "extra_data": {"grader": f"attnkit engine {ENGINE_VERSION}", "error": error[-2000:]},
    }


def write_results(root: Path, results: Mapping[str, Any]) -> None:
    """Write results.json whole or not at all, readable by root only."""
    folder = root / "results"
    folder.mkdir(exist_ok=True)
    temporary = folder / ".results.json.part"
    temporary.write_text(json.dumps(results, indent=1, allow_nan=False) + "\n", "utf-8")
    os.replace(temporary, folder / "results.json")


def _tests(spec: LabSpec, record: Record) -> list[dict[str, Any]]:
    """A test a question, in the lab's order; and one that students never see, with what a person should look at."""
    tests: list[dict[str, Any]] = []
    for one in record.answers:
        test = {"name": one.question, "output_format": "text", "visibility": "visible", "tags": [one.question]}
        if spec.questions[one.question].manual:
            # Without a score: it is given in Gradescope, and would count as lost until then.
            tests.append(test | {"name": f"{one.question} (marked by a person)", "output": as_plain_text(one)})
            continue
        state = "passed" if one.points >= one.max_points else "failed"
        told = {"score": one.points, "max_score": one.max_points, "status": state, "output": as_plain_text(one)}
        tests.append(test | told)
    flags = [f"{one.question}: {kind}: {text}" for one in record.answers for kind, text in one.flags]
    if flags:
        told = {"score": 0.0, "max_score": 0.0, "output": "\n".join(flags), "output_format": "text"}
        tests.append({"name": "To look at", "visibility": "hidden", "tags": ["flags"]} | told)
    return tests


def _envelope(settings: Settings, output: str, tests: list[dict[str, Any]], isolation: str) -> dict[str, Any]:
    if settings.visibility != "visible":
        for test in tests:  # a test's own word would win over the whole's
            if test["visibility"] == "visible":
                del test["visibility"]
    return {
        "output": output,
        "output_format": "text",
        "visibility": settings.visibility,
        "stdout_visibility": "hidden",
        "extra_data": {"grader": f"attnkit engine {ENGINE_VERSION}", "isolation": isolation},
        "tests": tests,
    }


def _settings(source: Path) -> tuple[Settings, LabSpec]:
    settings = Settings(**json.loads((source / SETTINGS).read_text("utf-8")))
    return settings, load_lab(source / LAB / settings.lab)


def _private(root: Path) -> tuple[Path, ...]:
    """What answers may not read; `root` itself is Gradescope's, who must find results in it."""
    names = ("source", "submission", "results", "submission_metadata.json")
    return tuple(path for name in names if (path := root / name).exists())


def _level(settings: Settings, root: Path) -> Isolation:
    if settings.isolation == "none":  # not even when somebody writes it into the settings
        raise GradingError(f"{SETTINGS}: isolation was 'none'; it should be auto, jail or uid.")
    return choose(settings.isolation, _private(root))


def _metadata(root: Path) -> Mapping[str, Any]:
    path = root / "submission_metadata.json"
    if not path.is_file():
        raise GradingError(f"{path.name}: there is none; Gradescope writes it beside the submission.")
    told = json.loads(path.read_text("utf-8"))
    return told if isinstance(told, dict) else {}


def _check(root: Path) -> None:
    """At set-up: say what works; fail when no answer could be graded."""
    settings, spec = _settings(root / "source")
    isolation = _level(settings, root)
    with Zygote(isolation, Limits(settings.seconds, settings.seconds), private=_private(root)) as zygote:
        zygote.child()
    print(f"{spec.title}: {len(spec.questions)} questions, {spec.max_points:g} points. Isolation: {isolation}.")


def main() -> None:
    """`python -m attnkit.grading.adapters.gradescope_run [--check] ROOT`."""
    os.umask(0o077)
    *flags, root = sys.argv[1:]
    if flags == ["--check"]:
        _check(Path(root))
        return
    try:
        results = grade(Path(root))
    except Exception as error:  # whatever it is, the student and the instructor must hear of it
        traceback.print_exc()
        results = failure(_OURS, f"{type(error).__name__}: {error}")
    write_results(Path(root), results)


if __name__ == "__main__":
    main()
