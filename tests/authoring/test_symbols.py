"""The graph of definitions counts whatever really runs, and no definition that the code has nothing to do with."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnkit.authoring.chapters import load_chapters
from attnkit.authoring.symbols import SymbolGraph
from tests.authoring.ran import functions_that_ran, missed

MODULES = {
    "__init__.py": "from attnkit._lazy import on_first_use\n"
    "_HOMES = {'far': 'apart', 'other': 'apart'}\n__getattr__, __dir__ = on_first_use(__name__, _HOMES)\n",
    "_lazy.py": "def on_first_use(a, b):\n    return None, None\n",
    "apart.py": "def far():\n    return near()\ndef near():\n    return 1\ndef other():\n    return 2\n",
    "core.py": "import attnkit.apart as a\nfrom attnkit import apart\nLIMIT = 3\ndef f(x=LIMIT):\n    return x\n"
    "def g():\n    return a.other()\ndef h(near):\n    return [near for near in (1,)]\nclass Base:\n"
    "    def m(self):\n        return f()\nclass Child(Base):\n    pass\n",
    "late.py": "def go():\n    from attnkit.apart import far\n    return far\ndef stay():\n    return 1\n",
    "acting.py": "TABLE = {}\ndef note(f):\n    TABLE[f.__name__] = f\n    return f\n@note\ndef hidden():\n    return 1"
    "\ndef plain():\n    return TABLE\ndef idle():\n    return 0\n",
    "plug/__init__.py": "import importlib\ndef load(n):\n    return importlib.import_module(f'attnkit.plug.{n}')\n"
    "def local():\n    return 1\n",
    "plug/one.py": "def one():\n    return 1\n",
    "door.py": "HOMES = {'f': 'attnkit.late:stay'}\ndef go(n):\n    return __import__(HOMES[n])\n",
    "typed.py": "from __future__ import annotations\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
    "    from attnkit.apart import other\ndef f(x: other) -> other:\n    return x\n",
    "handed.py": "from attnkit import apart\ndef f(name):\n    return getattr(apart, name)\n",
    "reads.py": "from pathlib import Path\ndef script():\n    return (Path(__file__).parent / 'a.js').read_text()\n"
    "def blind():\n    return 1\n",
    "asks.py": "from attnkit.core import Child\nfrom attnkit.protocols import Odd, Sized\n"
    "def is_child(x):\n    return isinstance(x, (int, Child))\n"
    "def is_sized(x):\n    return isinstance(x, Sized | Odd)\n"
    "def makes(x):\n    return isinstance(x, Child) or Child()\n",
    "protocols.py": "from typing import Protocol, runtime_checkable\n@runtime_checkable\nclass Sized(Protocol):\n"
    "    def size(self): ...\nclass Meta(type):\n    pass\nclass Odd(metaclass=Meta):\n    pass\n",
    "again.py": "from attnkit.apart import far as renamed\n",
}


@pytest.fixture
def graph(book) -> SymbolGraph:
    """A small package with every way to use a name."""
    for name, text in MODULES.items():
        book.module(name, text)
    (book.root / "attnkit" / "a.js").write_text("1")
    return SymbolGraph(book.root)


def named(graph: SymbolGraph, *cells: str) -> set[str]:
    names = graph.named(graph.uses(cells))
    return {n.removeprefix("attnkit.") for n in names if not n.startswith(("attnkit._", "attnkit.__"))}


FAR = {"apart.far", "apart.near"}
META = {"protocols.Odd", "protocols.Meta"}  # a metaclass may act as soon as the file is loaded
ALL_APART = FAR | {"apart.other"}


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("import math", set()),
        ("from attnkit.apart import near", {"apart.near"}),
        ("from attnkit.apart import far", FAR),
        ("from attnkit import far", FAR),
        ("import attnkit\nattnkit.other()", {"apart.other"}),
        ("import attnkit.apart as z\nz.near()", {"apart.near"}),
        ("import attnkit.apart as z\nprint(z)", ALL_APART),
        ("from attnkit.apart import *", ALL_APART),
        ("from attnkit.again import renamed", FAR),
        ("from attnkit.core import f", {"core.f", "core.LIMIT"}),
        ("from attnkit.core import g", {"core.g", "apart.other"}),
        ("from attnkit.core import h", {"core.h"}),
        ("from attnkit.core import Child", {"core.Child", "core.Base", "core.f", "core.LIMIT"}),
        ("from attnkit.late import stay", {"late.stay"}),
        ("from attnkit import late", set()),
        ("from attnkit import late\nlate.stay()", {"late.stay"}),
        ("from attnkit.late import go", {"late.go"} | FAR),
        ("from attnkit.acting import plain", {"acting.plain", "acting.TABLE", "acting.note", "acting.hidden"}),
        ("from attnkit.plug import local", {"plug.local"}),
        ("from attnkit.plug import load", {"plug.load", "plug.one.one"}),
        ("from attnkit.door import go", {"door.go", "door.HOMES", "late.stay"}),
        ("from attnkit.typed import f", {"typed.f"}),
        ("from attnkit.handed import f", {"handed.f"} | ALL_APART),
        ("%time print(1)\nfrom attnkit.apart import near", {"apart.near"}),
        ("import attnkit.late as z\n%time z.go()", {"late.go"} | FAR),
        ("from attnkit.asks import is_child", {"asks.is_child"} | META),
        ("from attnkit.asks import makes", {"asks.makes", *META, "core.Child", "core.Base", "core.f", "core.LIMIT"}),
        ("from attnkit.asks import is_sized", {"asks.is_sized", "protocols.Sized"} | META),
        ("x = 'attnkit.apart:near'", {"apart.near"}),
        ("import importlib\nimportlib.import_module('attnkit.apart')", ALL_APART),
        ("def broken(:", set()),
    ],
)
def test_a_cell_depends_on_what_it_names_and_on_nothing_else(graph, cell, expected):
    assert named(graph, cell) == expected


def test_a_file_that_a_definition_names_counts_for_those_who_use_that_definition(graph):
    def read(name: str) -> list[str]:
        return [path.name for path in graph.uses([f"from attnkit.reads import {name}"]).data]

    assert read("script") == ["a.js"]
    assert read("blind") == []


def test_what_was_read_of_a_file_is_kept_until_the_file_changes(graph, book, tmp_path):
    cache = tmp_path / "kept"
    cell = ["from attnkit.late import go"]
    fresh, kept = (SymbolGraph(book.root, cache=cache) for _ in range(2))
    assert fresh.uses(cell) == kept.uses(cell) == graph.uses(cell)
    book.module("late.py", "def go():\n    return 2\n")
    changed = SymbolGraph(book.root, cache=cache)
    assert changed.named(changed.uses(cell)) & {"attnkit.apart.far"} == set()
    next(cache.glob("attnkit.late.*.json")).write_text("{")  # half-written
    damaged = SymbolGraph(book.root, cache=cache)
    assert damaged.uses(cell) == changed.uses(cell)


def test_a_registry_counts_what_the_package_around_it_loads(graph, book):
    """As in the museum: the package imports its own modules, and one of them finds by name what they registered."""
    book.module(
        "hall/__init__.py", "from attnkit.hall import room, shed\nfrom attnkit.hall.base import show\nALL = (shed,)\n"
    )
    book.module(
        "hall/base.py",
        "KEPT = {}\ndef note(f):\n    KEPT[f.__name__] = f\n    return f\ndef show(n):\n    return KEPT[n]\n",
    )
    book.module(
        "hall/room.py",
        "from attnkit.hall.base import note\n@note\ndef chair():\n    return 1\ndef dust():\n    return 0\n",
    )
    book.module("hall/shed.py", "def tool():\n    return 1\n")
    again = SymbolGraph(book.root)
    shown = named(again, "from attnkit.hall import show\nshow('chair')")
    assert "hall.room.chair" in shown
    assert "hall.room.dust" not in shown
    assert "hall.shed.tool" not in shown
    assert "hall.shed.tool" in named(again, "from attnkit.hall import ALL\nALL[0].tool()")  # a module handed around


PROGRAMS = {
    "museum": """
from attnkit.museum import visit
for slug in ("shape-only-test", "minimum-shift", "merge-without-permute"):
    print(visit(slug))
""",
    "attention": """
import torch
from attnkit import attention, explain
from attnkit.masks import Causal, Window
q = torch.randn(1, 2, 5, 4)
for backend in ("auto", "naive", "online", "sdpa"):
    attention(q, q, q, mask=Causal() & Window(2, 0), backend=backend)
explain(q, q, q)
""",
    "positions": """
import torch
from attnkit.nn import MultiHeadAttention
from attnkit.positions import ALiBi, Rotary
x = torch.randn(2, 6, 16)
for position in (ALiBi(2), Rotary(8)):
    MultiHeadAttention(16, 2, position=position)(x)
""",
    "figures": """
import torch
from attnkit import viz
print(viz.heatmap(torch.eye(3)), viz.table(["a"], [[1]])._repr_html_())
print(viz.lines([1, 2], {"a": [1, 2]}, alt="a line that goes up and then up", xlabel="x", ylabel="y"))
""",
    "training": """
import torch
from attnkit.models import GPT, GPTConfig
from attnkit.generation import generate
model = GPT(GPTConfig(vocab=11, context=8, d_model=8, heads=2, layers=1, d_hidden=8))
print(generate(model, [[1, 2]], max_new=3))
""",
    "lab": """
from attnkit.lab import Lab
lab = Lab("attention")
def softmax(x):
    return x
print(lab.check(softmax))
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
def test_whatever_runs_is_counted(root: Path, name: str):
    """The oracle is Python itself: every function of attnkit that is entered must be in the set."""
    graph = SymbolGraph(root)
    ran = functions_that_ran(PROGRAMS[name], root)
    assert len(ran) > 10
    questions = [path.read_text("utf-8") for path in (root / "labs").glob("*/questions.py")]
    uses = graph.uses([PROGRAMS[name], *(questions if name == "lab" else [])])
    assert missed(graph, uses, ran) == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["book/idea/softmax", "book/idea/scaled-dot-product", "book/museum/use"])
def test_whatever_a_chapter_runs_is_counted(root: Path, name: str):
    chapter = next(chapter for chapter in load_chapters(root) if chapter.name == name)
    program = "import os\nos.environ['ATTNKIT_BOOK'] = '1'\nfrom IPython.display import display\n"
    program += "\n".join(cell.source for cell in chapter.cells if cell.metadata.get("tags") != ["raises-exception"])
    ran = functions_that_ran(program, chapter.path.parent)
    assert len(ran) > 10
    assert missed(chapter.graph, chapter.uses, ran) == set()


@pytest.mark.parametrize("room", ["nn", "models", "training", "generation", "data"])
def test_a_page_about_the_library_does_not_depend_on_the_grader(root: Path, room: str):
    """Or every change there would execute the book anew."""
    graph = SymbolGraph(root)
    uses = graph.uses([f"from attnkit.{room} import *"])
    assert f"attnkit.{room}" in uses.loaded
    used = {module.split(".")[1] for module, _ in uses.units if "." in module}
    assert not used & {"grading", "lab", "authoring"}
