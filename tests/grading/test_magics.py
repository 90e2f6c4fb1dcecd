"""Jupyter's own lines: read as IPython reads them, run or left out, and told where that could matter."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from attnkit.grading.cells import plan, read_cells
from attnkit.grading.engine import Graded, grade_question, read_submission
from attnkit.grading.zygote import Zygote
from attnkit.lab.bank import load_lab
from attnkit.lab.reading.magics import as_python, cell_magic, without_prompts
from tests.grading.conftest import notebook_bytes

CELLS = {
    "pip": "%pip install -q torch\n!pip install x && y",
    "shell": "!ls -l\n!cd x; ls\n!{sys.executable} -m pip install a",
    "quotes": "!echo \"it's\"\nx = 2\n!echo it's\ny = 3",
    "help": "?print\nprint?\nprint??\n??print\na.b[0].c?\n*int*?",
    "help on a magic": "%time?\n%%time?",
    "no help": "print('a?')\nx = 1  # why?\nassert x, 'what?'",
    "comments after magics": "!echo # what?\n%cd # x?",
    "bare question marks": "??\n?",
    "captured": "files = !ls\nfiles = !ls \\\n  -l\nd['k'] = !ls\na, b = !foo\nx: int = !ls",
    "captured magic": "now = %time 1\na = %timeit -o f()\n(a, b) = %foo",
    "double": "!!ls",
    "not magic": "x = (7\n% 4)\ny = x \\\n% 2",
    "in strings": "x = '''\n%not\n!no\n'''\ny = \"\"\"\n?a\n\"\"\"\n!ls",
    "in f-strings": "y = 1\nx = f\"{y!r} {'%d'} {{!ls}}\"\n!ls",
    "continued": "!pip install a \\\n  b \\\n  c\nx = 1\n%timeit -n 1 f(a,\\\n b)\nc = 1",
    "in blocks": "def f():\n    !ls\n    return 1\nif f():\n    %matplotlib inline\n    y = 4\nelse:\n    !cd ..",
    "after blocks": "for i in x: # a\n    pass\n!ls",
    "after a colon": "if x: y = !ls",
    "autocall": ",f a b\n;f a b\n/f a b",
    "explicit": "get_ipython().run_line_magic('time', '1')\nget_ipython().system('ls')",
    "forms": "#@title Set up { run: 'auto' }\nx = 5 #@param {type:'slider'}\n%matplotlib inline",
    "drive": "from google.colab import drive; drive.mount('/content')\n!ls",
    "indented cell": "  x = 1\n  !ls\n  if x:\n      y = 2",
    "prompts": ">>> x = 1\n>>> if x:\n...     y = 2",
    "IPython's prompts": "In [1]: x = 1\n   ...: y = 2",
    "brackets": "x = {'a': [1,\n2]}\n%cd ..\nf(x=1)\ny=!ls",
    "defaults": "g = lambda a=1: a\n!x\nh = dict(a=1, b=2)",
    "comparison": "a == b\na != b\na <= b\nx = %env HOME",
    "environment": "%env A=1\n%load_ext autoreload\n%autoreload 2\n%config InlineBackend.figure_format = 'retina'",
    "awaited": "import asyncio\nawait asyncio.sleep(0)\nasync with a as b:\n    pass\n!ls",
    "only comments": "# !ls\n# %cd",
    "line magic like a cell magic": "x = 1\n%%time",
}  # fmt: skip


def tree(source: str) -> str:
    """What Python makes of it, without places; "unreadable" for what it cannot read."""
    try:
        return ast.dump(ast.parse(source))
    except (SyntaxError, ValueError):
        return "unreadable"


def ipython(source: str) -> str:
    """The tree of what IPython makes of it."""
    try:
        return tree(TransformerManager().transform_cell(source))
    except SyntaxError:
        return "unreadable"


@pytest.mark.parametrize("name", CELLS)
def test_lines_are_read_as_ipython_reads_them(name: str) -> None:
    source = CELLS[name]
    python = as_python(without_prompts(source) if "prompts" in name else source, ())
    want = ipython(source)
    assert want != "unreadable"
    assert tree(python) == want
    assert python.count("\n") == source.count("\n"), "line numbers stay"


PLAIN = [source for name, source in CELLS.items() if "\\\n" not in source and "prompts" not in name]
PYTHON = ["x = 1", "def f(a):", "    return a", "x = [\n1]", '"""\n!a\n"""', "x = (1 +", ")", ""]
LINES = sorted({line for source in PLAIN for line in source.split("\n")})


@given(st.lists(st.sampled_from([*LINES, *PYTHON]), max_size=7))
@settings(max_examples=400, deadline=None)
def test_any_mixture_of_lines_is_read_as_ipython_reads_it(lines: list[str]) -> None:
    """Wherever IPython's reading is Python, ours is the same Python.

    In a cell whose brackets do not close IPython may take a `name?` for the end of the open line, and drop the rest.
    """
    source = "\n".join(lines)
    if any(source.count(left) != source.count(right) for left, right in ("()", "[]", "{}")):
        return
    if cell_magic(source) is None and (want := ipython(source)) != "unreadable":
        assert tree(as_python(source, ())) == want


@given(st.text(alphabet="ab %!?=\\\n'\"#([{}])x1,;/.", max_size=60))
@settings(max_examples=1500, deadline=None)
def test_any_text_is_read_in_one_pass(source: str) -> None:
    as_python(source)
    cell_magic(source)
    read_cells([source])


def test_long_hostile_text_is_read_quickly() -> None:
    for text in (
        "'" * 99_999,
        "!" * 99_999,
        "\\\n" * 50_000,
        "%a\\\n" * 25_000,
        "x=" * 50_000,
        "?" * 99_999,
        "a." * 50_000 + "?",
    ):
        as_python(text)


def test_what_time_runs_is_run_and_cell_magics_run_their_cell() -> None:
    source = "%time y = f(3)\n%time\nx = %time f(4)\n%prun -l 5 f(2)"
    assert as_python(source).split("\n")[:3] == ["y = f(3)", "get_ipython().run_line_magic('time', '')", "x = f(4)"]
    for magic in ("%%time", "%%capture", "%%timeit -n 1", "#@title Set up\n%%capture --no-stderr", "\n\n%%prun"):
        (cell,) = read_cells([f"{magic}\nimport math\n!ls\ndef f(x): return math.sqrt(x)"])
        assert cell.defines("f"), magic
    (cell,) = read_cells(["%%capture out\nx = 1"])
    assert ast.unparse(cell.body()[0]).startswith("out = get_ipython()")
    for magic in ("%%bash", "%%html", "%%javascript", "%%script perl"):
        (cell,) = read_cells([f"{magic}\ndef ( rm -rf"])
        assert cell.body() == []
        assert not cell.error or cell.tree is not None


def notes(*sources: str) -> tuple[str, ...]:
    return plan(read_cells([*sources[:-1], f"# question: f\n{sources[-1]}"]), "f").notes


def test_a_set_up_cell_needs_no_word() -> None:
    set_up = (
        "%pip install x\n!cd y; ls\n%matplotlib inline\nfiles = !ls\nt = %timeit -o g()\n%load_ext autoreload",
        "%%bash\nls",
        "from google.colab import drive; drive.mount('/x')\n!wget a",
        "%%writefile notes.txt\nhello",
        "%run helper.py",
    )
    assert notes(*set_up, "def f(x): return x") == ()


def test_what_an_answer_could_miss_is_told() -> None:
    (note,) = notes("files = !ls", "def f(x): return files")
    assert note.startswith("`!ls` (cell 1) is not run when your answer is graded: `files`")
    (note,) = notes("def g(): return data", "data = %store -r", "def f(x): return g()")
    assert "`%store -r` (cell 2)" in note
    (note,) = notes("%run helper.py", "def f(x): return rotate(x)")
    assert "`%run helper.py` (cell 1) is not run" in note
    assert "`rotate` is defined nowhere else" in note
    (note,) = notes("%%writefile data.csv\n1,2", "def f(x): return open('/content/data.csv')")
    assert "`%%writefile data.csv` (cell 1) wrote a file" in note
    (note,) = notes("%%writefile tools/one.py\nx = 1", "from tools.one import x", "def f(v): return x")
    assert "tools/one.py" in note
    how = plan(read_cells(["%%cython\n# question: f\ndef f(x): return x"]), "f")
    assert "begins with %%cython" in how.error


def test_files_that_cells_write_become_modules() -> None:
    cells = read_cells(
        [
            "%%writefile helper.py\ndef g(x): return 1",
            "%%writefile ./helper.py\ndef g(x): return 2",
            "%%writefile -a helper.py\ndef h(x): return g(x)",
            "%%file 'other.py'\n!not python",
            "%%writefile ../evil.py\nx = 1",
            "# question: f\nfrom helper import h\ndef f(x): return h(x)",
        ]
    )
    modules = dict(plan(cells, "f").modules)
    assert sorted(modules) == ["helper", "other"]
    assert "return 2" in modules["helper"]
    assert "return 1" not in modules["helper"]
    assert modules["helper"].endswith("def h(x): return g(x)")
    assert not any(cell.defines("g") for cell in cells)


# --- in the jail ------------------------------------------------------------------------------------------------------

LAB = load_lab("attention")
RIGHT = """\
def softmax(x):
    e = (x - x.amax(-1, keepdim=True)).exp() if x.numel() else x
    return e / e.sum(-1, keepdim=True)"""


def graded(zygote: Zygote, *sources: str) -> Graded:
    return grade_question(zygote, LAB.questions["softmax"], read_submission(notebook_bytes(*sources)), "0" * 64)


def test_an_honest_colab_notebook_keeps_its_points(zygote: Zygote) -> None:
    result = graded(
        zygote,
        "#@title Set up\n%%capture\n!pip install attnkit\n%pip install einops",
        "from google.colab import drive; drive.mount('/content/drive')\n%cd /content/drive\nimport torch",
        "x = !nvidia-smi\nif not x:\n    %env CUDA_VISIBLE_DEVICES=\n    y = 1",
        f"# question: softmax\n%time scale = 1.0\n!echo here\n{RIGHT}\n%timeit -n 1 softmax(torch.zeros(3))\nsoftmax?",
    )
    assert (result.points, result.status) == (3, "full"), result.told
    assert [text for kind, text in result.told if kind == "note"] == []


def test_a_module_that_a_cell_writes_is_imported_inside(zygote: Zygote) -> None:
    helper = f"%%writefile helper.py\nimport torch\nimport deeper\n{RIGHT}\ndef broken(x):\n    return x.nothing"
    deeper = "%%writefile deeper.py\nanswer = 42"
    result = graded(zygote, deeper, helper, "# question: softmax\nimport helper\nsoftmax = lambda x: helper.softmax(x)")
    assert (result.points, result.status) == (3, "full"), result.told
    result = graded(
        zygote, deeper, helper, "# question: softmax\nfrom helper import broken\ndef softmax(x):\n    return broken(x)"
    )
    assert any("of broken: return x.nothing" in text for _, text in result.told)


def test_await_at_the_top_runs_as_in_jupyter(zygote: Zygote) -> None:
    source = (
        "import asyncio\nasync def load():\n    await asyncio.sleep(0)\n    return 1.0\n"
        f"task = asyncio.ensure_future(load())\nscale = await load()\n{RIGHT}\nlater = await task\n"
        "assert later == scale"
    )
    result = graded(zygote, f"# question: softmax\n{source}")
    assert (result.points, result.status) == (3, "full"), result.told
