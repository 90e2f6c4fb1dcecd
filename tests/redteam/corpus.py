"""A class of submissions, honest, mistaken and hostile, each with the points that it deserves and why.

`make_class(folder)` writes it as a messy folder: Moodle folders, Canvas names, zips. Every attack exists only as text
in a notebook, made here.
"""

from __future__ import annotations

import copy
import json
import random
import stat
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import attnkit
from tests.redteam.answers import MISTAKES, RIGHT_EINSUM, RIGHT_LOOPS, RIGHT_NUMPY, RIGHT_TORCH
from tests.redteam.hostile import HOSTILE
from tests.redteam.insiders import INSIDERS
from tests.redteam.sabotage import SABOTAGE, SLOW_SABOTAGE, code
from tests.redteam.talkers import PATIENCE, TALKERS
from tests.redteam.tricks import TRICKS

QUESTIONS = ("softmax", "attention", "masked_attention")
WORTH = {"softmax": 3.0, "attention": 3.0, "masked_attention": 4.0}
LAB = Path(attnkit.__file__).resolve().parents[1] / "labs" / "attention" / "attention.ipynb"

Notebook = dict[str, Any]
Writer = Callable[[Path], None]


@dataclass(frozen=True, eq=False)
class Entry:
    """A student of the class. `write` puts the file or files into the folder that it is given.

    `deserved` are points by question. `problem` is the kind of problem that must be listed, `status` the row's.
    One that is `hopeless` never answers, however long one waits; where `ordered`, the order of the cells matters.
    """

    name: str
    why: str
    deserved: dict[str, float]
    write: Writer
    family: str
    status: str = "graded"
    problem: str = ""
    number: str = field(default="")
    hopeless: bool = False
    ordered: bool = False

    @property
    def total(self) -> float:
        """All points together."""
        return sum(self.deserved.values())


def notebook(answers: dict[str, str]) -> Notebook:
    """The lab's notebook with `answers` typed into its cells, as a student saves it."""
    made: Notebook = json.loads(LAB.read_text("utf-8"))
    for cell in made["cells"]:
        for question in QUESTIONS:
            if question in answers and f"# question: {question}\n" in "".join(cell["source"]):
                cell["source"] = f"# question: {question}\n{answers[question].lstrip()}"
    return made


def answer_cells(made: Notebook) -> list[dict[str, Any]]:
    """The cells that answer questions."""
    return [cell for cell in made["cells"] if "# question: " in "".join(cell["source"])]


def _file(made: Notebook | bytes) -> Writer:
    data = made if isinstance(made, bytes) else json.dumps(made).encode()
    return lambda folder: (folder / "attention.ipynb").write_bytes(data) and None


def _all(points: dict[str, float] | None = None, **other: float) -> dict[str, float]:
    return {**(WORTH if points is None else points), **other}


_NOTHING = dict.fromkeys(QUESTIONS, 0.0)


def honest() -> list[Entry]:
    """Right answers in several styles, and what Colab and students do to a notebook."""
    styles = {"numpy": RIGHT_NUMPY, "torch": RIGHT_TORCH, "einsum": RIGHT_EINSUM, "loops": RIGHT_LOOPS}
    made = [Entry(name, "right", _all(), _file(notebook(answers)), "honest") for name, answers in styles.items()]
    base = notebook(RIGHT_NUMPY)

    doubled = copy.deepcopy(base)
    doubled["cells"] += [copy.deepcopy(cell) for cell in answer_cells(base)] + answer_cells(notebook({}))
    shuffled = copy.deepcopy(base)
    shuffled["cells"].reverse()
    stripped = {"nbformat": 4, "nbformat_minor": 0, "cells": []}
    for cell in base["cells"]:
        stripped["cells"].append({"cell_type": cell["cell_type"], "source": "".join(cell["source"])})
    absurd = copy.deepcopy(base)
    absurd["metadata"] = {"kernelspec": {"name": "bash"}, "nbgrader": [None], "otter": {"tests": {"q1": "evil"}}}
    for cell in absurd["cells"]:
        cell.update(metadata={"nbgrader": {"points": 1000, "grade": True}}, id="same", outputs="none", extra=[{}] * 3)
    listed = copy.deepcopy(base)
    for cell in listed["cells"]:
        cell["source"] = "".join(cell["source"]).splitlines(keepends=True)
    helper = copy.deepcopy(base)
    helper["cells"][0:0] = [
        code("!pip install -q einops\n%load_ext autoreload\n%autoreload 2\nimport matplotlib.pyplot as plt"),
        code("import nonexistent_package\n"),
        code("import sys, os\nsys.exit('stop')\nprint(undefined)\nraise RuntimeError\n1 / 0\n"),
        code("%%bash\nrm -rf /\n"),
        code("def broken(:\n"),
        code("plt.plot([1, 2])\nplt.show()\nfrom tqdm import tqdm\nmodel = undefined_thing()\n"),
        code("if True:\n    %pip install torch\n    scale = 2\nwhile True:\n    pass\n"),
    ]
    own_helper = dict(RIGHT_NUMPY, softmax="def softmax(x):\n    return stable(x, AXIS)\n")
    leaning = notebook(own_helper)
    leaning["cells"].insert(
        3,
        code(
            "import numpy as np\nAXIS = -1\n\ndef stable(x, axis):\n    e = np.exp(x - x.max(axis, "
            "keepdims=True))\n    return e / e.sum(axis, keepdims=True)\n\nprint(stable([0], 0))"
        ),
    )
    lost = copy.deepcopy(base)
    for cell in answer_cells(lost):
        cell["source"] = "\n".join(line for line in "".join(cell["source"]).split("\n") if "# question:" not in line)
    deadly = copy.deepcopy(base)
    deadly["cells"].insert(0, code("import os\nend = os._exit(3)\n"))
    variants = {
        "cells duplicated, stubs at the end": (doubled, "the last that is not an untouched stub counts"),
        "cells in reverse order": (shuffled, "order does not matter here"),
        "metadata and ids stripped": (stripped, "metadata is not looked at"),
        "absurd metadata": (absurd, "the same"),
        "sources as lists": (listed, "the format allows it"),
        "helper cells that fail": (helper, "what is not a definition is left out; one that raises is passed over"),
        "leans on a helper cell": (leaning, "definitions of other cells are there"),
        "question comments deleted": (lost, "the functions are found by their names"),
        "a helper that ends the process": (deadly, "the answers are tried without it"),
    }
    return made + [Entry(name, why, _all(), _file(nb), "honest") for name, (nb, why) in variants.items()]


def mistaken() -> list[Entry]:
    """Wrong answers to one question each; the others are right. And what is not written or cannot be read."""
    made = []
    for name, (question, source, points) in MISTAKES.items():
        # The other answers must not lean on the wrong one.
        answers = {**RIGHT_TORCH, question: source}
        made.append(
            Entry(name, "a mistake with a name", _all(**{question: points}), _file(notebook(answers)), "mistake")
        )
    syntax = {**RIGHT_TORCH, "softmax": "def softmax(x)\n    return x\n"}
    raising = {**RIGHT_TORCH, "attention": "def attention(query, key):\n    return query\n"}
    return [
        *made,
        Entry("blank", "nothing written", dict(_NOTHING), _file(notebook({})), "mistake"),
        Entry("syntax error", "one question cannot be read", _all(softmax=0.0), _file(notebook(syntax)), "mistake"),
        Entry("takes too few arguments", "raises", _all(attention=0.0), _file(notebook(raising)), "mistake"),
    ]


def hostile() -> list[Entry]:
    """Attacks in the softmax cell, with the other two answers right, and attacks by a whole notebook."""
    attacks = {**HOSTILE, **INSIDERS, **TALKERS, **TRICKS, **PATIENCE}
    made = [
        Entry(name, why, _all(softmax=points), _file(notebook({**RIGHT_TORCH, "softmax": source})), "hostile")
        for name, (source, points, why) in attacks.items()
    ]
    made = [replace(entry, hopeless=entry.name in _NEVER or entry.name in PATIENCE) for entry in made]
    for name, (change, points, why, ordered) in (SABOTAGE | SLOW_SABOTAGE).items():
        book = notebook({**RIGHT_TORCH, "softmax": RIGHT_NUMPY["softmax"]})
        change(book)
        slow = name in SLOW_SABOTAGE
        made.append(Entry(name, why, _all(**points), _file(book), "hostile", hopeless=slow, ordered=ordered))
    return made


# Of the attacks in hostile.py those that only end when their time is up.
_NEVER = ("infinite loop", "sleeps for ever", "prints gigabytes", "stops the zygote")


def mangled(entry: Entry, seed: int = 0) -> Entry:
    """The same notebook without any metadata, ids or outputs, its cells shuffled where their order does not matter."""
    with tempfile.TemporaryDirectory() as place:
        entry.write(Path(place))
        book = json.loads((Path(place) / "attention.ipynb").read_bytes())
    cells = [{"cell_type": cell["cell_type"], "source": "".join(cell["source"])} for cell in book["cells"]]
    if not entry.ordered:
        random.Random(f"{seed} {entry.name}").shuffle(cells)
    made = {"nbformat": 4, "nbformat_minor": 0, "metadata": {}, "cells": cells}
    return replace(entry, name=f"{entry.name}, mangled", write=_file(made))


def odd_files() -> list[Entry]:
    """Files that are no notebooks, or zips that want out."""
    good = json.dumps(notebook(RIGHT_TORCH)).encode()

    def entry(name: str, why: str, write: Writer, points: dict[str, float] | None = None, problem: str = "unreadable"):
        status = "graded" if points else "unreadable"
        return Entry(name, why, points or dict(_NOTHING), write, "file", status, problem)

    def huge(folder: Path) -> None:
        with (folder / "attention.ipynb").open("wb") as file:
            file.truncate(200 * 2**20)  # sparse: takes no space

    def zipped(*members: tuple[str, bytes, int]) -> Writer:
        def write(folder: Path) -> None:
            with zipfile.ZipFile(folder / "work.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data, mode in members:
                    info = zipfile.ZipInfo(name)
                    info.external_attr = mode << 16
                    info.compress_type = zipfile.ZIP_DEFLATED
                    archive.writestr(info, data)

        return write

    def link(folder: Path) -> None:
        (folder / "attention.ipynb").symlink_to("/etc/passwd")

    def twice(folder: Path) -> None:
        (folder / "a.ipynb").write_bytes(json.dumps(notebook({})).encode())
        (folder / "b.ipynb").write_bytes(good)

    regular, symlink = stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777
    old = json.dumps({"nbformat": 3, "nbformat_minor": 0, "worksheets": [{"cells": []}]}).encode()
    nested = b'{"nbformat": 4, "cells": ' + b"[" * 200_000
    return [
        entry("not a notebook", "an image by another name", _file(b"\x89PNG\r\n\x1a\n" + bytes(1000))),
        entry("an empty file", "nothing in it", _file(b"")),
        entry("notebook of format 3", "too old, and told so", _file(old)),
        entry("JSON nested 200,000 deep", "not read", _file(nested)),
        entry("a list", "JSON, but no notebook", _file(b"[1, 2]")),
        entry("200 MB", "not read", huge),
        entry("a link to a host file", "not followed", link),
        entry("a zip with path traversal", "the member is refused, the good one graded",
              zipped(("../../evil.ipynb", b"{}", regular), ("attention.ipynb", good, regular)), _all()),
        entry("a zip with a link", "not followed", zipped(("attention.ipynb", b"/etc/passwd", symlink))),
        entry("a zip bomb", "not unpacked", zipped(("attention.ipynb", bytes(9 * 2**20), regular))),
        entry("a zip in a zip", "not opened", zipped(("inner.zip", b"PK\x05\x06" + bytes(18), regular))),
        entry("two files", "the later one by the rule counts", twice, _all(), "not counted"),
        entry("=cmd()|'<script>alert(1)<b>&quot;", "a name is text, in a page and in a table", _file(good), _all(), ""),
        entry("@sum(1)\u202egnp.ipynb\x1b[2j", "the same, also in a terminal", _file(good), _all(), ""),
    ]  # fmt: skip


def corpus() -> list[Entry]:
    """The whole class, with the numbers that Moodle or Canvas would have given."""
    return numbered([*honest(), *mistaken(), *hostile(), *odd_files()])


def numbered(entries: list[Entry], first: int = 1000) -> list[Entry]:
    """The same with numbers."""
    return [replace(entry, number=str(first + i)) for i, entry in enumerate(entries)]


def make_class(folder: Path, entries: list[Entry] | None = None) -> list[Entry]:
    """Write the class below `folder` as an instructor finds it; returns the entries.

    The mistaken come in one zip as Moodle exports it, every other honest one as Canvas names files, the rest in
    folders as in an unpacked Moodle export.
    """
    entries = corpus() if entries is None else entries
    folder.mkdir(parents=True, exist_ok=True)
    for entry in entries:
        place = folder / f"{entry.name.title().replace('.', '')}_{entry.number}_assignsubmission_file_"
        place.mkdir()
        entry.write(place)
        if entry.family == "honest" and int(entry.number) % 2:
            late = "LATE_" if int(entry.number) % 3 else ""
            name = "".join(c for c in entry.name.lower() if c.isalpha())
            (place / "attention.ipynb").rename(
                folder / f"{name}_{late}{entry.number}_9{entry.number}_attention-1.ipynb"
            )
            place.rmdir()
        elif entry.family == "mistake":
            with zipfile.ZipFile(folder / "Machine Learning-Attention-417.zip", "a", zipfile.ZIP_DEFLATED) as archive:
                for file in place.iterdir():
                    archive.write(file, f"{place.name}/{file.name}")
                    file.unlink()
            place.rmdir()
    return entries
