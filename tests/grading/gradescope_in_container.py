"""Run by test_gradescope in a container without namespaces: what the autograder gives there. Prints one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

from tests.grading.autograder import HOSTILE, set_up
from tests.grading.conftest import notebook_bytes
from tests.grading.nbgrader_class import RIGHT, write_lab


def main() -> None:
    """An honest answer, a hostile one, an honest one again, by the autograder as it is made by default."""
    root = Path("/tmp/autograder")
    root.mkdir()
    labs = Path("/tmp/labs")
    labs.mkdir(mode=0o700)
    autograder = set_up(root, write_lab(labs))
    secret = (root / "source" / "course.key").read_text().strip()
    attack = notebook_bytes(HOSTILE.replace("ROOTS", repr([str(root)])))
    given = {
        name: autograder.grade(tiny=data) for name, data in (("right", notebook_bytes(RIGHT)), ("hostile", attack))
    }
    given["again"] = autograder.grade(tiny=notebook_bytes(RIGHT))
    autograder.settings(isolation="jail")
    given["jail only"] = autograder.grade(tiny=notebook_bytes(RIGHT))
    metadata = json.loads((root / "submission_metadata.json").read_text())
    print(json.dumps({"given": given, "leaked": secret in json.dumps(given), "metadata": metadata}))


if __name__ == "__main__":
    main()
