"""`attnkit lab new`: an instructor's own lab from a template, in any folder."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from attnkit.authoring.personal import MasterError
from attnkit.lab.bank import lab_names

_NAME = re.compile(r"[a-z][a-z0-9_-]*")
FILES = {"lab.md.txt": "{name}.md", "questions.py.txt": "questions.py", "README.md.txt": "README.md"}


def new_lab(name: str, parent: Path) -> Path:
    """Write the template's files to `parent`/`name` and return that folder. Raises `MasterError`; never overwrites."""
    if not _NAME.fullmatch(name):
        raise MasterError(
            f"name: was {name!r}; it should be lower-case letters, digits, _ and -, and start with a letter"
        )
    if name in lab_names():
        raise MasterError(
            f"name: was {name!r}, which is a lab of attnkit's own: its notebook would check the wrong one"
        )
    folder = parent / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MasterError(f"{folder} exists and is not empty; nothing was written")
    folder.mkdir(parents=True, exist_ok=True)
    for source, target in FILES.items():
        text = resources.files("attnkit.authoring").joinpath("templates", source).read_text("utf-8")
        (folder / target.format(name=name)).write_text(text.replace("__NAME__", name), "utf-8")
    return folder
