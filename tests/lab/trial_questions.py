"""A question that asks for a test, and answers to it: right, wrong in ways that students are, and out of line."""

from __future__ import annotations

import numpy as np

from attnkit.lab.question import Case, Mistake, question
from attnkit.lab.steps import Trial


def rows(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def columns(x):
    e = np.exp(x - x.max(0, keepdims=True))
    return e / e.sum(0, keepdims=True)


def unguarded(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


def writes(x):
    x[...] = rows(x)
    return x


def one_row(x):
    if x.shape[0] > 1:
        raise IndexError("row 1 is out of reach of one_row")
    return rows(x)


def sums(implementation):
    out = implementation(np.array([[1.0, 2.0], [3.0, 5.0]]))
    assert np.allclose(out.sum(-1), 1)


def reference(implementation):
    sums(implementation)
    assert np.isfinite(implementation(np.array([[1000.0, 2.0]]))).all()


def always(implementation):
    raise AssertionError


def tiled(implementation):
    reference(lambda x: implementation(np.tile(x, (4, 4))))


@question(points=3, answer="test_softmax")
class Softmax:
    """A test of softmax over rows."""

    __test__ = False
    parts = {"ordinary": 2, "extreme": 1}  # noqa: RUF012  # a question's class body reads as data
    reference = staticmethod(reference)
    read = "softmax#softmax-stable"
    mistakes = (
        Mistake("large logits were never tried", sums, "Try one of a thousand."),
        Mistake("it raises whatever happens", always, "Compare something."),
        Mistake("it tries large arrays", tiled, "Four numbers will do."),
    )

    def cases(self, rng):
        yield Case(steps=(Trial(rows, False, most=6),), note="a right softmax")
        yield Case(steps=(Trial(columns, True, most=6),), note="a softmax over columns")
        two = Trial(writes, False, most=6), Trial(columns, True, most=6)
        yield Case(steps=two, note="one that writes into its input, and columns")
        yield Case(steps=(Trial(unguarded, True, most=6),), part="extreme", note="one that overflows")


IN_TORCH = """
import torch

def test_softmax(softmax):
    x = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    torch.testing.assert_close(softmax(x).sum(-1), torch.ones(2))
    assert softmax(torch.tensor([[1000.0, 2.0]])).isfinite().all(), "it overflows"
"""
IN_NUMPY = """
import numpy as np

def test_softmax(softmax):
    x = np.array([[1.0, 2.0], [3.0, 5.0]])
    np.testing.assert_allclose(softmax(x).sum(-1), 1)
    large = softmax(np.array([[1000.0, 2.0]]))
    assert np.isfinite(large).all(), "it overflows"
"""
OWN_ERROR = """
import numpy as np

class Wrong(AssertionError):
    pass

def test_softmax(softmax):
    out = [softmax(x) for x in (np.array([[1.0, 2.0], [3.0, 5.0]]), np.array([[1000.0, 2.0]]))]
    if not all(np.allclose(one.sum(-1), 1) for one in out):
        raise Wrong("rows should sum to one")
    return "all is well"
"""
RIGHT = {"torch": IN_TORCH, "numpy": IN_NUMPY, "an error of its own": OWN_ERROR}

# name: (source, points, words of the feedback)
WRONG = {
    "sums only": (
        "import torch\ndef test_softmax(f):\n    out = f(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))\n"
        "    assert torch.allclose(out.sum(-1), torch.ones(2))\n",
        2,
        "It looks as if large logits were never tried.",
    ),
    "does nothing": ("def test_softmax(f):\n    pass\n", 0, "your test passes an implementation that is broken"),
    "always raises": (
        "def test_softmax(f):\n    assert False, 'this is\\n  wrong'\n",
        0,
        "AssertionError: this is wrong\n               at line 2 of test_softmax: assert False",
    ),
    "never called": ("def test_softmax(f):\n    return True\n", 0, "it returns"),
    "not written": ("def test_softmax(f):\n    raise NotImplementedError('test_softmax')\n", 0, "Not written yet"),
    "too large": (
        "import torch\ndef test_softmax(f):\n    f(torch.ones(4, 4))\n",
        0,
        "Your test hands over 16 numbers in one call; at most 6 are allowed here.",
    ),
    "too large, and hides it": (
        "import torch\ndef test_softmax(f):\n    try:\n        f(torch.ones(4, 4))\n    except BaseException:\n"
        "        raise AssertionError from None\n",
        0,
        "Your test hands over 16 numbers in one call; at most 6 are allowed here.",
    ),
    "too often": (
        "import torch\ndef test_softmax(f):\n    for _ in range(201):\n        f(torch.ones(1, 2))\n",
        0,
        "Your test calls the implementation more than 200 times.",
    ),
    "a list": (
        "def test_softmax(f):\n    f([1.0, 2.0])\n",
        0,
        "it was handed a list",
    ),
    "too many arguments": (
        "import torch\ndef test_softmax(f):\n    f(torch.ones(1, 2), -1)\n",
        0,
        "ValueError: the implementation does not take these arguments: too many positional",
    ),
    "another exception": ("def test_softmax(f):\n    1 / 0\n", 0, "ZeroDivisionError: division by zero"),
    "an unknown name": (
        "import torch\ndef test_softmax(f):\n    assert torch.allclose(f(torch.ones(1, 2)), halves)\n",
        0,
        "NameError: name 'halves' is not defined",
    ),
    "ends the process": ("def test_softmax(f):\n    raise SystemExit(0)\n", 0, "SystemExit: 0"),
}  # fmt: skip
