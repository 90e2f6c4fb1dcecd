"""`attnkit gradescope`: the zip that Gradescope takes as an autograder, for one lab.

At its root lie setup.sh and run_autograder, as "Autograder Specifications" of gradescope-autograders.readthedocs.io has
it; beside them attnkit itself, the lab's questions and the course key. So the zip is as secret as the key. It needs no
address to install attnkit from: what grades there is the code that made the zip, with the same torch and NumPy.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from attnkit.grading import seeds
from attnkit.grading.adapters.gradescope_run import KEY, LAB, ROSTER, SETTINGS
from attnkit.grading.digest import questions_file
from attnkit.grading.errors import GradingError
from attnkit.grading.given import ending, say
from attnkit.grading.identity import read_roster
from attnkit.lab.bank import LabNotFound, LabSpec, load_lab

Visibility = Literal["visible", "after_due_date", "after_published", "hidden"]
VISIBILITIES: tuple[Visibility, ...] = ("visible", "after_due_date", "after_published", "hidden")
# What the grader imports, and what answers may: the trusted side needs NumPy only.
PACKAGES = ("torch", "numpy", "einops")
# The rooms of attnkit that a grader opens.
_ROOMS = ("grading", "lab")
_PACKAGE = Path(__file__).resolve().parents[2]
_SCRIPTS = Path(__file__).resolve().parent / "autograder"
_SCRIPT_NAMES = ("setup.sh", "run_autograder")
_DATE = (2020, 1, 1, 0, 0, 0)  # the same lab gives the same bytes


def gradescope(
    lab: Annotated[str, typer.Argument(help="The lab's name, or the folder that holds its questions.py.")],
    out: Annotated[Path, typer.Option(help="The zip to write.")] = Path("autograder.zip"),
    key: Annotated[Path, typer.Option(help="The course key; made when it is not there.")] = Path("course.key"),
    roster: Annotated[
        Path | None, typer.Option(help="CSV of the course (id, name, email): students then have their ids from it.")
    ] = None,
    isolation: Annotated[
        str, typer.Option(help="auto (a jail where Gradescope's container lets it, else uid), jail, or uid.")
    ] = "auto",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Seconds that one answer may take; a question may ask for more.")
    ] = 10.0,
    visibility: Annotated[
        str, typer.Option(help=f"When students see their results: {', '.join(VISIBILITIES)}.")
    ] = "visible",
    pip_args: Annotated[
        str, typer.Option(help="Words for pip in the image, such as the index that has torch's CPU builds.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Write the zip that Gradescope takes as an autograder.

    It holds the course key and the lab's questions: give it to nobody but Gradescope.

    Exit code 0: written. Exit code 1: it could not be, and says why. Exit code 2: wrong options.
    """
    with ending("attnkit gradescope"):
        try:
            spec = load_lab(lab)
        except LabNotFound as error:
            raise GradingError(str(error)) from None
        write_zip(spec, out, key, roster, isolation, seconds, visibility, pip_args)
    data = {"file": str(out), "lab": spec.name, "questions": list(spec.questions), "points": spec.max_points}
    lines = [
        f"{out}: {spec.title}, {len(spec.questions)} questions, {spec.max_points:g} points, key {key}.",
        "On Gradescope: assignment > Configure Autograder > upload it; at least 1.5 GB of memory, 10 minutes.",
    ]
    say(as_json, data | {"key": str(key)}, lines)


def write_zip(
    spec: LabSpec,
    out: Path,
    key: Path,
    roster: Path | None = None,
    isolation: str = "auto",
    seconds: float = 10.0,
    visibility: str = "visible",
    pip_args: str = "",
) -> None:
    """Write the autograder of the lab `spec` to `out`, whole or not at all. Raises `GradingError`."""
    if isolation not in ("auto", "jail", "uid"):
        raise GradingError(f"--isolation: was {isolation!r}; it should be auto, jail or uid.")
    if visibility not in VISIBILITIES:
        raise GradingError(f"--visibility: was {visibility!r}; it should be one of {', '.join(VISIBILITIES)}.")
    if "\n" in pip_args:
        raise GradingError("--pip-args: had a line break; it should be words, as pip takes them.")
    seeds.course_key(key)  # made on first use, and refused when it is none
    chosen = {"lab": spec.name, "isolation": isolation, "seconds": seconds, "visibility": visibility}
    files = {
        SETTINGS: json.dumps(chosen, indent=1).encode() + b"\n",
        "requirements.txt": "".join(f"{line}\n" for line in pins()).encode(),
        "pip_args.txt": f"{pip_args}\n".encode(),
        f"{LAB}/{spec.name}/questions.py": questions_file(spec).read_bytes(),
        KEY: key.read_bytes(),
    }
    if roster is not None:
        read_roster(roster)
        files[ROSTER] = roster.read_bytes()
    files |= {name: (_SCRIPTS / name).read_bytes() for name in _SCRIPT_NAMES}
    files |= dict(_package())
    _write(out, files)


def pins() -> list[str]:
    """The packages of the image, each at the version that is installed here."""
    try:
        # `+cpu` says where a build comes from, and no index but that one has it
        return [f"{name}=={metadata.version(name).partition('+')[0]}" for name in PACKAGES]
    except metadata.PackageNotFoundError as error:
        raise GradingError(f"{error.name} is not installed here, so there is no version to pin.") from None


def _package() -> Iterator[tuple[str, bytes]]:
    """attnkit's own sources, as far as a grader needs them, without other labs' questions."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        inside = path.relative_to(_PACKAGE)
        needed = len(inside.parts) == 1 or inside.parts[0] in _ROOMS
        if needed and inside.parts[:2] != ("lab", "bank"):
            yield f"attnkit/{inside.as_posix()}", path.read_bytes()


def _write(out: Path, files: dict[str, bytes]) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            mode = 0o755 if name in _SCRIPT_NAMES else 0o644 if name.startswith("attnkit/") else 0o600
            info.external_attr = (0o100000 | mode) << 16
            archive.writestr(info, files[name])
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.part")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data.getvalue())
    os.replace(temporary, out)
