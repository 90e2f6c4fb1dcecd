"""Whole notebooks that want to do something to their other answers, to other students or to the process that grades.

Each takes a notebook with three right answers and changes it; the answers stay right where nothing else is said.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Notebook = dict[str, Any]


def code(source: str) -> dict[str, Any]:
    """A code cell."""
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


def _first(source: str) -> Callable[[Notebook], None]:
    return lambda made: made["cells"].insert(0, code(source))


def _last(source: str) -> Callable[[Notebook], None]:
    return lambda made: made["cells"].append(code(source))


def _softmax_cell(change: Callable[[str], str]) -> Callable[[Notebook], None]:
    def edit(made: Notebook) -> None:
        for cell in made["cells"]:
            if "# question: softmax\n" in "".join(cell["source"]):
                cell["source"] = change("".join(cell["source"]))

    return edit


_MARKS = "# question: attention\n# question: masked_attention\n"
_STEALS = "# question: attention\ndef attention(query, key, value):\n    return query * 0\n"

# name: (what it does to the notebook, points that differ from full ones, why, whether the order of cells matters)
SABOTAGE: dict[str, tuple[Callable[[Notebook], None], dict[str, float], str, bool]] = {
    "marks of other questions in a text": (
        _softmax_cell(lambda source: f'{source}\nnote = """\n{_MARKS}"""\n'),
        {},
        "a cell that defines the answer comes first",
        False,
    ),
    "marks its cell for every question": (
        _softmax_cell(lambda source: _MARKS + source),
        {},
        "a cell that defines the answer comes first",
        False,
    ),
    "answers another question first, wrongly": (_first(_STEALS), {}, "the last answer counts", True),
    "answers another question last, wrongly": (
        _last(_STEALS),
        {"attention": 0.0},
        "the last answer counts, and it is wrong",
        True,
    ),
    "a helper that redefines the answers": (
        _last("softmax = attention = masked_attention = lambda *a: 0\n"),
        {},
        "the marked cells answer",
        False,
    ),
    "a helper that patches the libraries": (
        _first("import torch, numpy as np\ntorch.softmax = np.exp = None\nsetattr(torch, 'exp', None)\nnp.sum = 1\n"),
        {},
        "changes to other modules are left out of other cells",
        False,
    ),
    "a helper class that ends the process": (
        _first("class Boom:\n    import os\n    os._exit(1)\n"),
        {},
        "the answers are tried without it",
        False,
    ),
    "a helper that takes the descriptors": (
        _first("import os\ngone = [os.close(fd) for fd in (3, 4)]\n"),
        {},
        "the answers are tried without it",
        False,
    ),
    "modules that shadow the libraries": (
        lambda made: (
            [
                made["cells"].insert(0, code(f"%%writefile {name}.py\nraise SystemExit('mine')\n"))
                for name in ("torch", "numpy", "json", "math", "wire", "_attnkit_worker", "os", "sitecustomize")
            ]
            and None
        ),
        {},
        "they are loaded already",
        False,
    ),
    "brackets without end": (_first("(" * 190_000), {}, "a cell that cannot be read is left out", False),
    "40,000 statements in a line": (_first("x=1;" * 40_000), {}, "too long to be read, and left out", False),
    "60,000 magic lines": (_first("%a\n" * 60_000), {}, "too long to be read, and left out", False),
    "a number of 12,000 digits": (_first(f"if True:\n    x = 0x{'f' * 10_000}\n"), {}, "left out", False),
    "names that stand for names without end": (
        _first("".join(f"f{i} = f{i + 1} or f{i + 1}\n" for i in range(700)) + "f700 = f0\n"),
        {},
        "looked at once each",
        False,
    ),
    "spaces without end": (_first("x =" + " " * 190_000 + "$\n"), {}, "left out", False),
    "cells without number": (
        lambda made: made["cells"].extend(code(f"x{i} = {i}\n") for i in range(700)),
        {},
        "read and run like any others",
        False,
    ),
    "control characters and bidirectional text in the source": (
        _first("# \u202e\u2066 \x00 \x1b[2J \ufeff\nx = '\u202e'\n"),
        {},
        "text stays text",
        False,
    ),
}
# The same, and every attempt to load them takes its full time.
SLOW_SABOTAGE: dict[str, tuple[Callable[[Notebook], None], dict[str, float], str, bool]] = {
    "a helper that computes without end": (
        _first("x = 10 ** (10 ** 9) % 7\n"),
        {},
        "the answers are tried without it",
        False,
    ),
}
