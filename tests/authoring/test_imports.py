"""The import graph names every file that a cell may load, and no file of another room."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from attnkit.authoring.imports import ImportGraph

CORE = {"__init__.py", "core.py"}


def names(book, *sources: str) -> set[str]:
    graph = ImportGraph(book.root)
    return {path.relative_to(book.root / "attnkit").as_posix() for path in graph.closure(sources)}


@pytest.fixture
def graph_book(book):
    book.module("__init__.py", "from attnkit.core import f\n")
    book.module("core.py", "f = 1\n")
    book.module("lazy.py", "def go():\n    from attnkit.deep import late\n    return late\n")
    book.module("deep/__init__.py", "from . import near\n")
    book.module("deep/late.py", "")
    book.module("deep/near.py", "from ..core import f\n")
    book.module("table.py", 'PLACES = {"x": "attnkit.named"}\n')
    book.module("named.py", "")
    book.module("plug/__init__.py", "import importlib\ndef load(n):\n    return importlib.import_module(n)\n")
    book.module("plug/one.py", "import attnkit.named\n")
    book.module(
        "made.py", "from importlib import import_module\ndef load(n):\n    import_module(f'attnkit.plug.{n}')\n"
    )
    book.module("door.py", "HOMES = {'f': 'attnkit.apart:f'}\ndef go(n):\n    return __import__(HOMES[n])\n")
    book.module("apart.py", "")
    return book


PLUG = {"plug/__init__.py", "plug/one.py", "named.py"}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import math", set()),
        ("import attnkit", CORE),
        ("from attnkit import apart", CORE | {"apart.py"}),
        ("import attnkit.lazy as z", CORE | {"lazy.py", "deep/__init__.py", "deep/late.py", "deep/near.py"}),
        ("from attnkit.table import PLACES", CORE | {"table.py", "named.py"}),
        ("from attnkit import plug", CORE | PLUG),
        ("from attnkit import made", CORE | PLUG | {"made.py"}),
        ("from attnkit import door", CORE | {"door.py", "apart.py"}),
        ("%matplotlib inline\nimport attnkit.apart", CORE | {"apart.py"}),
        ("def broken(:", set()),
    ],
)
def test_closure_follows_every_way_to_import(graph_book, source, expected):
    assert names(graph_book, source) == expected


def test_closure_covers_what_a_real_import_loads(root: Path):
    """The oracle is Python itself: which attnkit files are in sys.modules after the import."""
    source = (
        "from attnkit import attention, explain\nfrom attnkit.masks import Causal\nfrom attnkit.viz import heatmap\n"
    )
    listing = """
import sys
print(*(m.__file__ for name, m in sys.modules.items() if name.split(".")[0] == "attnkit"), sep="\\n")
"""
    run = subprocess.run([sys.executable, "-c", source + listing], capture_output=True, text=True, check=True, cwd=root)
    loaded = {Path(line).resolve() for line in run.stdout.split()}
    found = {path.resolve() for path in ImportGraph(root).closure([source])}
    assert loaded <= found
    assert not [path for path in found if {"grading", "lab"} & set(path.relative_to(root).parts)]


@pytest.mark.parametrize("room", ["nn", "models", "training", "generation", "data"])
def test_a_page_about_the_library_does_not_depend_on_the_grader(root: Path, room: str):
    """Or every change there would execute the book anew."""
    found = ImportGraph(root).closure([f"import attnkit.{room}"])
    assert root / "attnkit" / room / "__init__.py" in found
    assert not [path for path in found if {"grading", "lab", "authoring"} & set(path.relative_to(root).parts)]
