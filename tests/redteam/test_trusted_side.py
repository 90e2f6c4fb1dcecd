"""No text that somebody hands in makes the process that grades raise, hang or fill its memory.

Reading cells, looking for shortcuts and taking fingerprints happen outside the jail. Each of these once took minutes,
or is of a kind that does where a program is careless; a test that hangs is ended by the suite.
"""

from __future__ import annotations

import gc
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest

from attnkit.grading.cells import plan, read_cells
from attnkit.grading.fingerprints import fingerprints
from attnkit.lab.bank import load_lab
from attnkit.lab.shortcuts import find_shortcuts

pytestmark = pytest.mark.slow

FORBIDDEN = load_lab("attention").questions["softmax"].forbidden
ANSWER = "# question: softmax\ndef softmax(x):\n    return x\n"

BOMBS = {
    "an f-string that cannot be written again": "if True:\n    s = f\"\"\"{'''\n'''}\"\"\"\n",
    "a number that cannot be written again": f"if 1:\n    x = 0x{'f' * 10_000}\n",
    "a number too long to read": "x = " + "9" * 100_000,
    "magic lines": "%a\n" * 20_000,
    "shell lines that go on": "!\\\n" * 20_000,
    "help lines": "?a\n" * 15_000,
    "question marks": "?" * 190_000,
    "spaces before a sign": " " * 190_000 + "$\n",
    "spaces after an equals sign": "x =" + " " * 190_000 + "$\n",
    "dots and a question mark": "a." * 40_000 + "$?\n",
    "brackets": "(" * 190_000,
    "brackets within brackets": "x = " + "[" * 90 + "]" * 90,
    "calls within calls": "f(" * 5_000 + ")" * 5_000,
    "signs": "x = " + "-" * 100_000 + "1",
    "signs that can be read": "x = " + "-" * 90 + "1",
    "quotes": "'" * 190_001,
    "texts": "'''\n" * 10_001,
    "backslashes": "\\\n" * 90_000,
    "a text with backslashes": "x = '" + "\\\n" * 80_000 + "'",
    "prompts": ">>> " * 45_000 + "\n",
    "numbered prompts": "In [1]: " * 20_000,
    "equals signs": "x = " * 15_000,
    "assigned commands": "x = !ls\n" * 6_000,
    "statements in a line": "x=1;" * 5_000,
    "statements in a line, then an answer": "x=1;" * 4_000 + "def softmax(x): return x",
    "bodies in a line": "with a: x = 1\n" * 1_500,
    "functions": "def f(): pass\n" * 1_000,
    "decorators": "@f\n" * 5_000 + "def g(): pass\n",
    "nested blocks": "".join(" " * i + "if 1:\n" for i in range(99)) + " " * 99 + "pass\n",
    "tries": "try:\n  x=1\nexcept:\n  y=2\n" * 1_000,
    "comparisons": "x = " + "<".join(["1"] * 8_000),
    "one name bound often and used often": "x = 1\n" * 3_000
    + "def softmax(a):\n    return "
    + "+".join(["x"] * 3_000)
    + "\n",
    "names that stand for each other": "x = y or z\ny = x or x\nz = x or y\n" * 200 + "def softmax(q): return x(q)\n",
    "star imports": "from a import *\n" * 3_000 + "def softmax(x): return zz(x)\n",
    "classes that are their own base": "class A(A):\n  def softmax(self): return self.softmax()\n" * 1_500
    + "softmax=A\n",
    "lambdas": "if 1:\n  x = " + "lambda: " * 80 + "1\n",
    "marks": "# question: softmax\n" * 9_000,
    "nearly marks": ("#" + " " * 1000 + "question\n") * 190,
    "form feeds": "\f\f\fx=1\n" * 1_000,
    "carriage returns": "\r" * 100_000 + "x",
    "half a character": "x = '\ud800'\n",
    "a null character": "x = 1\0\n",
    "a magic with a long name": "%%" + "a" * 190_000 + " \n",
    "a magic with many words": "%%capture " + "a " * 90_000 + "\n",
    "a file with a long name": "%%writefile " + "../" * 60_000 + "a.py\nx=1",
    "a cell that is too long": "x\n" * 150_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_reading_it_ends_in_a_moment_and_costs_the_other_answers_nothing(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for sources in ([BOMBS[name], ANSWER], [ANSWER, f"# question: softmax\n{BOMBS[name]}"]):
            how = plan(read_cells(sources), "softmax")
            assert how.attempts or how.error
            for attempt in how.attempts[:1]:
                find_shortcuts(attempt, "softmax", FORBIDDEN, how.modules)
        how = plan(read_cells([BOMBS[name], ANSWER]), "softmax")
        defined = any("def softmax" in statement.text for statement in how.attempts[0])
        assert defined
        fingerprints(BOMBS[name])


def test_several_threads_read_at_once() -> None:
    """CPython loses count of a tree's depth when a thread comes between; a collector with work to do lets it."""
    source = "\n".join("x = " + "+".join(["f(y)[1].z"] * 80) for _ in range(20))

    def come_between(phase: str, info: object) -> None:
        sum(range(2000))

    interval = sys.getswitchinterval()
    gc.callbacks.append(come_between)
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(8) as pool:
            cells = list(pool.map(lambda _: [read_cells([source, ANSWER])[0] for _ in range(6)], range(16)))
    finally:
        sys.setswitchinterval(interval)
        gc.callbacks.remove(come_between)
    assert all(one.tree for some in cells for one in some)
