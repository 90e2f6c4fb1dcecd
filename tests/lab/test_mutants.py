"""Mutants of a solution: every kind is made, those that never end are ended, and the three verdicts are told apart."""

from __future__ import annotations

import os
import textwrap
import time

import pytest

from attnkit.authoring.labs import Master
from attnkit.authoring.mutants import mutants
from attnkit.authoring.verify_forks import each_apart
from attnkit.authoring.verify_mutants import RATE, Killed, kill_rates
from tests.tools import FRONT_MATTER

KINDS = {
    "an operator": ("return a - b", "return a + b"),
    "an operand alone": ("return a @ b", "return a"),
    "operands exchanged": ("return a / b", "return b / a"),
    "a comparison": ("return a < b", "return a <= b"),
    "a comparison turned round": ("return a == b", "return a != b"),
    "and for or": ("return a and b", "return a or b"),
    "an axis": ("return a.sum(axis=-1)", "return a.sum(axis=-2)"),
    "a sign": ("return a * -b", "return a * b"),
    "one more": ("return a + 1", "return a + 2"),
    "one less": ("return a + 1", "return a + 0"),
    "another decimal": ("return a * 0.5", "return a * 1.5"),
    "a flag": ("return f(a, keepdims=True)", "return f(a, keepdims=False)"),
    "a keyword gone": ("return f(a, axis=0)", "return f(a)"),
    "an argument gone": ("return f(a, b)", "return f(a)"),
    "arguments exchanged": ("return f(a, b)", "return f(b, a)"),
    "a call gone": ("return f(a)", "return a"),
    "a method gone": ("return a.clone()", "return a"),
    "another method": ("return a.max()", "return a.min()"),
    "another function": ("return np.tril(a)", "return np.triu(a)"),
    "a built-in function": ("return min(a, b)", "return max(a, b)"),
    "another argument's name": ("return a", "return b"),
    "branches of where": ("return np.where(a, b, 0)", "return np.where(a, 0, b)"),
    "a branch of where": ("return np.where(a, b, 0)", "return b"),
    "a transpose gone": ("return a @ b.mT", "return a @ b"),
    "an index gone": ("return a[..., None]", "return a"),
    "a bound gone": ("return a[:b]", "return a[:]"),
    "a bound off by one": ("return a[:b]", "return a[:b + 1]"),
    "a step gone": ("return a[::2]", "return a[:]"),
    "a range off by one": ("return [i for i in range(b)]", "return [i for i in range(b - 1)]"),
    "a filter gone": ("return [i for i in a if i]", "return [i for i in a]"),
    "an order of axes": ("return a.reshape((b, 2))", "return a.reshape((2, b))"),
    "an einsum": ("return einsum('ij,jk->ik', a, b)", "return einsum('ij,jk->ki', a, b)"),
    "an einops pattern": ("return rearrange(a, 'l (h d) -> h l d')", "return rearrange(a, 'l (h d) -> l h d')"),
    "a choice": ("return a if b else 0", "return 0 if b else a"),
    "a condition": ("if a:\n    b = 1\nreturn b", "if not a:\n    b = 1\nreturn b"),
    "a condition gone": ("if a:\n    b = 1\nreturn b", "if True:\n    b = 1\nreturn b"),
    "a step left out": ("a += 1\nreturn a", "pass\nreturn a"),
    "a step that replaces": ("a += b\nreturn a", "a = b\nreturn a"),
    "an item not set": ("a[0] = 1\nreturn a", "pass\nreturn a"),
    "a name not set again": ("a = f(a)\nreturn a", "pass\nreturn a"),
    "a call left out": ("a.append(b)\nreturn a", "pass\nreturn a"),
    "an assertion left out": ("assert a\nreturn a", "pass\nreturn a"),
    "a loop left out": ("for i in a:\n    b = i\nreturn b", "pass\nreturn b"),
    "a value on the way": ("c = f(a)\nd = f(c)\nreturn d", "c = f(a)\nd = f(c)\nreturn c"),
}


def body(text: str, head: str = "def g(a, b):") -> str:
    return head + "\n" + textwrap.indent(text, "    ")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_change_is_made(kind: str) -> None:
    before, after = KINDS[kind]
    assert body(after) in [one.source for one in mutants(body(before))]


def test_methods_are_changed_and_texts_and_types_are_not() -> None:
    source = body('def f(self, x: int = 3) -> "y":\n    """x + 1"""\n    return x + self.n', "class A(B):")
    found = mutants(source)
    assert {one.line for one in found} == {2, 4}
    assert {one.line for one in mutants(source, {4})} == {4}, "only what a student writes"
    assert {one.change for one in mutants(source, {4})} >= {"x + self.n  ->  x - self.n", "x + self.n  ->  x"}
    assert all('"""x + 1"""' in one.source for one in found)


def test_no_mutant_is_the_source_and_none_is_made_twice() -> None:
    found = [one.source for one in mutants(body("c = a * 1 + b\nreturn c + c"))]
    assert len(set(found)) == len(found) > 10
    assert body("c = a * 1 + b\nreturn c + c") not in found


# --- run

QUESTION = '''

@question(points=1, answer="{name}")
class {name}:
    """The sum of a row."""

    tolerance = Tolerance(0, {tolerance})

    def cases(self, rng):
        yield Case((rng.integers(1, 9, size={size}).astype(np.float32),), note="a row")

    def reference(self, x):
        return np.asarray(x.sum())
'''
ANSWER = """
```{{code-cell}} ipython3
# question: {name}
def {name}(x, unused=1 + 1):
    ### BEGIN SOLUTION
{solution}
    ### END SOLUTION
```
"""
# A solution, how near it must come, and how long rows are.
SOLUTIONS = {
    "loop": (
        "found, place = start, 0\nwhile place < len(x):\n    found = found + x[place]\n    place += 1\nreturn found",
        (0, 3),
    ),
    "row_of_one": ("total = x.sum()\nreturn total * 1.0", (0, 1)),
    "loosely": ("return x.sum()", (100, 3)),
    "wrongly": ("return x.max()", (0, 3)),
}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Killed]:
    """What becomes of the mutants of each."""
    lab = tmp_path_factory.mktemp("labs") / "sums"
    lab.mkdir()
    questions = [QUESTION.format(name=name, tolerance=t, size=n) for name, (_, (t, n)) in SOLUTIONS.items()]
    heads = '"""Sums."""', "import numpy as np", "from attnkit.lab.question import Case, Tolerance, question"
    (lab / "questions.py").write_text("\n".join([*heads, *questions]), "utf-8")
    cells = [ANSWER.format(name=name, solution=textwrap.indent(text, "    ")) for name, (text, _) in SOLUTIONS.items()]
    given = "# Sums\n\n```{code-cell} ipython3\nimport numpy as np\nstart = 0.0\n```\n"
    (lab / "sums.md").write_text(FRONT_MATTER + given + "".join(cells), "utf-8")
    return kill_rates(Master(lab / "sums.md"), jobs=2)


@pytest.mark.slow
def test_a_mutant_that_never_ends_is_ended_and_killed(tried: dict[str, Killed]) -> None:
    """Without `place += 1` the loop has no end."""
    assert tried["loop"].alive == []
    assert tried["loop"].killed >= 15
    assert tried["loop"].run == tried["loop"].of


@pytest.mark.slow
def test_what_computes_the_same_does_not_count(tried: dict[str, Killed]) -> None:
    """Nothing tells `x.sum()` from `x.max()` on rows of one."""
    found = tried["row_of_one"]
    assert (found.killed > 0, found.equivalent > 2, found.alive, found.rate) == (True, True, [], 1.0)


@pytest.mark.slow
def test_what_nobody_notices_is_alive(tried: dict[str, Killed]) -> None:
    """Within 100 of the sum, `x.max()` gets full marks; in double precision it is not the sum."""
    assert "line 3: x.sum  ->  x.max" in tried["loosely"].alive
    assert tried["loosely"].rate < RATE


@pytest.mark.slow
def test_a_solution_that_is_wrong_has_no_mutants(tried: dict[str, Killed]) -> None:
    assert "its solution does not get full marks" in tried["wrongly"].problem
    assert tried["wrongly"].run == 0


def work(how: str) -> dict[str, str] | None:
    """Ends well, or in one of the ways that mutants have."""
    if how == "loops":
        while True:
            pass
    if how == "waits":
        time.sleep(60)
    if how == "grows":
        return {"sum": str(bytearray(2**33).count(1))}
    if how == "leaves":
        os._exit(0)
    if how == "raises":
        raise ValueError("of the question's own")
    return {"is": how}


def test_work_that_does_not_end_or_takes_too_much_is_ended_and_the_rest_is_done() -> None:
    ways = ["well", "loops", "grows", "leaves", "waits", "too"]
    assert each_apart(ways, work, 2, 0.3) == [{"is": "well"}, None, None, None, None, {"is": "too"}]
    with pytest.raises(RuntimeError, match="ValueError: of the question's own"):
        each_apart(["raises"], work, 1, 1.0)
