"""Shortcuts are found however they are written, and nothing honest is taken for one."""

from __future__ import annotations

import linecache
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from attnkit.grading.cells import plan, read_cells
from attnkit.lab.bank import load_lab
from attnkit.lab.lab import Lab
from attnkit.lab.shortcuts import Shortcut, find_shortcuts
from attnkit.lab.sources import statements_of
from tests.redteam.corpus import honest, mistaken

SOFTMAX = load_lab("attention").questions["softmax"].forbidden
ATTENTION = load_lab("attention").questions["attention"].forbidden


def find(*sources: str, forbidden: tuple[str, ...] = SOFTMAX, answer: str = "softmax") -> tuple[Shortcut, ...]:
    """What is found in a notebook of these cells, the last of which answers."""
    cells = [textwrap.dedent(source) for source in sources]
    cells[-1] = f"# question: {answer}\n{cells[-1]}"
    attempts = plan(read_cells(cells), answer).attempts
    return find_shortcuts(attempts[0] if attempts else (), answer, forbidden)


def bypasses(*sources: str, forbidden: tuple[str, ...] = SOFTMAX, answer: str = "softmax") -> set[str]:
    """The full names of what bypasses the task."""
    found = find(*sources, forbidden=forbidden, answer=answer)
    return {one.name for one in found if one.kind == "bypasses the task"}


WAYS = {
    "alias of a module": "import torch.nn.functional as F\ndef softmax(x):\n    return F.softmax(x, -1)\n",
    "from import with another name": "from torch.nn.functional import softmax as s\nsoftmax = lambda x: s(x, -1)\n",
    "assigned to a name": "import torch.nn.functional as F\nf = F.softmax\ndef softmax(x):\n    return f(x, -1)\n",
    "assigned inside": "import torch\ndef softmax(x):\n    f = torch\n    g = f.softmax\n    return g(x, -1)\n",
    "imported inside": "def softmax(x):\n    from torch import softmax as go\n    return go(x, -1)\n",
    "answer is the library's": "from torch import softmax\n",
    "answer is assigned": "import torch\nsoftmax = torch.softmax\n",
    "partial": "import torch, functools\nsoftmax = functools.partial(torch.softmax, dim=-1)\n",
    "getattr": "import torch.nn.functional as F\ndef softmax(x):\n    return getattr(F, 'soft' + 'max')(x, -1)\n",
    "getattr of a named text": "import torch as t\nname = 'soft'\nname2 = f'{name}max'\n"
    "def softmax(x):\n    return getattr(t, name2)(x, -1)\n",
    "text turned round": "import torch as t\ndef softmax(x):\n    return getattr(t, 'xamtfos'[::-1])(x, -1)\n",
    "text joined": "import torch as t\ndef softmax(x):\n    return getattr(t, ''.join(['so', 'ft', 'max']))(x, -1)\n",
    "text of numbers": "import torch as t\ndef softmax(x):\n    return getattr(t, chr(115) + 'oftmax')(x, -1)\n",
    "__dict__": "import torch as t\ndef softmax(x):\n    return t.__dict__['softmax'](x, -1)\n",
    "vars": "import torch as t\ndef softmax(x):\n    return vars(t)['softmax'](x, -1)\n",
    "attrgetter": "import torch, operator\ndef softmax(x):\n    return operator.attrgetter('softmax')(torch)(x, -1)\n",
    "import_module": "from importlib import import_module as im\ndef softmax(x):\n"
    "    return im('torch.nn.functional').softmax(x, -1)\n",
    "__import__": "def softmax(x):\n    return __import__('torch').softmax(x, -1)\n",
    "sys.modules": "import sys, torch\ndef softmax(x):\n    return sys.modules['torch'].softmax(x, -1)\n",
    "globals": "import torch\ndef softmax(x):\n    return globals()['to' + 'rch'].softmax(x, -1)\n",
    "star import": "from torch.nn.functional import *\nmine = softmax\ndef other(x):\n    return mine(x, -1)\n"
    "def softmax(x):\n    return other(x)\n",
    "method": "import torch\ndef softmax(x):\n    return x.softmax(-1)\n",
    "method of a result": "import torch\ndef softmax(x):\n    return torch.as_tensor(x).double().softmax(dim=-1)\n",
    "method by getattr": "def softmax(x):\n    return getattr(x, 'softmax')(-1)\n",
    "method by methodcaller": "import operator as o\ndef softmax(x):\n    return o.methodcaller('softmax', -1)(x)\n",
    "unbound method": "import torch\ndef softmax(x):\n    return torch.Tensor.softmax(x, -1)\n",
    "module class": "import torch\ndef softmax(x):\n    return torch.nn.Softmax(dim=-1)(x)\n",
    "subclass": "from torch import nn\nclass Mine(nn.Softmax):\n    pass\ndef softmax(x):\n    return Mine(-1)(x)\n",
    "deep name": "import torch\ndef softmax(x):\n    return torch.nn.modules.activation.Softmax(-1)(x)\n",
    "through another module": "import torch.nn.functional as F\ndef softmax(x):\n    return F.torch.softmax(x, -1)\n",
    "internal name": "import torch\ndef softmax(x):\n    return torch._C._VariableFunctions.softmax(x, -1)\n",
    "operator": "import torch\ndef softmax(x):\n    return torch.ops.aten._softmax(x, -1, False)\n",
    "default argument": "import torch\ndef softmax(x, f=torch.softmax):\n    return f(x, -1)\n",
    "decorator": "import torch\ndef use(g):\n    return lambda f: lambda x: g(x, -1)\n@use(torch.softmax)\n"
    "def softmax(x):\n    return x\n",
    "nested function": "import torch\ndef softmax(x):\n    def inner():\n        return torch.softmax(x, -1)\n"
    "    return inner()\n",
    "comprehension": "import torch\ndef softmax(x):\n    return torch.stack([torch.softmax(r, -1) for r in x])\n",
    "container": "import torch\nparts = {'a': [torch.softmax]}\ndef softmax(x):\n    return parts['a'][0](x, -1)\n",
    "put into a container": "import torch\nparts = {}\nparts['a'] = torch.softmax\ndef softmax(x):\n"
    "    return parts['a'](x, -1)\n",
    "attribute of an own function": "import torch\ndef softmax(x):\n    return softmax.go(x, -1)\n"
    "softmax.go = torch.softmax\n",
    "global": "import torch\ngo = None\ndef init():\n    global go\n    go = torch.softmax\n"
    "def softmax(x):\n    init()\n    return go(x, -1)\n",
    "returned module": "import torch\ndef lib():\n    return torch\ndef softmax(x):\n    return lib().softmax(x, -1)\n",
    "tuple assignment": "import torch\na, b = torch, 1\ndef softmax(x):\n    return a.softmax(x, -1)\n",
    "walrus": "import torch\ndef softmax(x):\n    return (f := torch.softmax)(x, -1)\n",
    "conditional": "import torch\ndef softmax(x):\n    return (torch.exp if x is None else torch.softmax)(x, -1)\n",
    "try": "try:\n    import torch as t\nexcept ImportError:\n    t = 0\ndef softmax(x):\n    return t.softmax(x)\n",
    "exec of a text": "def softmax(x):\n    exec('import torch; y = torch.soft' + 'max(x, -1)')\n    return x\n",
    "defined by exec": "import torch\nexec('def go(x): return torch.softmax(x)')\ndef softmax(x):\n    return go(x)\n",
    "class with a call": "import torch\nclass Go:\n    def __call__(self, x):\n        return torch.softmax(x, -1)\n"
    "softmax = Go()\n",
    "log softmax": "import torch\ndef softmax(x):\n    return torch.log_softmax(x, -1).exp()\n",
    "scipy": "from scipy.special import softmax as sm\ndef softmax(x):\n    return sm(x, axis=-1)\n",
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_call_it_is_found(way: str) -> None:
    assert bypasses(WAYS[way]), way


def test_a_helper_in_another_cell_is_followed() -> None:
    helper = (
        "import torch.nn.functional as F\ndef stable(x):\n    return weigh(x)\ndef weigh(x):\n    return F.softmax(x)\n"
    )
    found = find("import numpy\n", helper, "def softmax(x):\n    return stable(x)\n")
    assert [(one.name, one.cell, one.line, one.source) for one in found] == [
        ("torch.nn.functional.softmax", 2, 5, "return F.softmax(x)")
    ]


def test_a_module_that_the_notebook_writes_is_followed() -> None:
    written = "%%writefile tools.py\nimport torch\n\ndef stable(x):\n    return torch.softmax(x, -1)\n"
    for use in ("import tools\ndef softmax(x):\n    return tools.stable(x)\n", "from tools import stable as softmax\n"):
        how = plan(read_cells([written, f"# question: softmax\n{use}"]), "softmax")
        (one,) = find_shortcuts(how.attempts[0], "softmax", SOFTMAX, how.modules)
        assert one.flag().startswith("torch.softmax is what this question asks for: a file that the notebook writes, l")


OWN = (
    "import numpy as np\ndef softmax(x):\n    e = np.exp(x - x.max(-1, keepdims=True))\n"
    "    return e / e.sum(-1, keepdims=True)\n"
)
HONEST = {
    "a plot in another cell": ("import torch.nn.functional as F\ndef show(x):\n    return F.softmax(x, -1)\n", OWN),
    "a comparison in its own cell": (
        OWN + "import torch\nx = torch.ones(3)\nassert torch.allclose(softmax(x), torch.softmax(x, -1))\n"
        "print(softmax(x) - x.softmax(-1))\nwanted = torch.softmax(x, -1)\n",
    ),
    "a check in its own cell": (OWN + "from attnkit.lab import Lab\nlab = Lab('attention')\nlab.check(softmax)\n",),
    "a comment and a docstring": (OWN.replace("    e =", "    '''Like torch.softmax.'''  # F.softmax\n    e ="),),
    "a text": (OWN.replace("    e =", "    name = 'torch.softmax'\n    e ="),),
    "a variable of that name": (OWN.replace("return", "softmax = e\n    return"),),
    "its own softmax used elsewhere": (OWN, "def attention(q, k, v):\n    return softmax(q @ k.T) @ v\n"),
    "the library's replaced by its own": ("from torch import softmax\nprint(softmax)\n", OWN),
    "an own class with such a method": (
        "class Mine:\n    def softmax(self, x):\n        return x\n    def go(self, x):\n"
        "        return self.softmax(x)\ndef softmax(x):\n    return Mine().softmax(x)\n",
    ),
    "an argument that is changed step by step": (
        "import torch\ndef softmax(x):\n    x -= x.max(-1, keepdims=True)[0] if isinstance(x, torch.Tensor) else x\n"
        "    x[...] = torch.exp(x)\n    x = x * x + x\n    x /= x.sum(-1)\n    x = x - x + x.exp()\n    return x\n",
    ),
    "an annotation": ("import torch.nn as nn\ndef softmax(x, like: nn.Softmax = None) -> nn.Softmax:\n    return x\n",),
    "isinstance": ("import torch.nn as nn\ndef softmax(x):\n    return isinstance(x, nn.Softmax)\n",),
    "an import that is not used": ("import torch\nfrom torch.nn.functional import softmax as lib, relu\n" + OWN,),
    "an argument of that name": ("def softmax(softmax):\n    return softmax\n",),
    "getattr of an own thing": ("def softmax(x):\n    return getattr(x, name_of(x))\ndef name_of(x):\n    return x\n",),
    "library calls that are allowed": (
        "import torch\nfrom torch import Tensor\ndef softmax(x: Tensor):\n"
        "    return (x - torch.logsumexp(x, -1, keepdim=True)).exp()\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_nothing_honest_is_found(name: str) -> None:
    assert find(*HONEST[name]) == ()


@pytest.mark.parametrize("entry", [*honest(), *mistaken()], ids=lambda entry: entry.name)
def test_no_false_alarm_in_the_honest_and_mistaken_notebooks(entry: Any, tmp_path: Any) -> None:
    from attnkit.grading.engine import read_submission

    entry.write(tmp_path)
    cells = read_submission(next(tmp_path.iterdir()).read_bytes())
    for question in load_lab("attention").questions.values():
        for attempt in plan(cells, question.name).attempts[:1]:
            assert find_shortcuts(attempt, question.answer, question.forbidden) == (), question.name


def test_attention_may_use_torchs_softmax_but_not_its_attention() -> None:
    good = "import torch\ndef attention(q, k, v):\n    return torch.softmax(q @ k.mT, -1) @ v\n"
    assert bypasses(good, forbidden=ATTENTION, answer="attention") == set()
    for bad in (
        "from torch.nn import functional as F\ndef attention(*a):\n    return F.scaled_dot_product_attention(*a)\n",
        "import torch.nn as nn\nlayer = nn.MultiheadAttention(4, 1)\ndef attention(*a):\n    return layer(*a)\n",
        "from attnkit import attention as a\ndef attention(q, k, v):\n    return a(q, k, v)\n",
        "import attnkit.backends.naive as n\ndef attention(q, k, v):\n    return n.naive_attention(q, k, v)\n",
        "import torch\nclass A(torch.nn.MultiheadAttention):\n    pass\ndef attention(*a):\n    return A(4, 1)(*a)\n",
    ):
        assert len(bypasses(bad, forbidden=ATTENTION, answer="attention")) == 1, bad


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("exec(open('x').read())\ndef softmax(x):\n    return x\n", "exec"),
        ("def softmax(x):\n    return eval('x')\n", "eval"),
        ("import gc\ndef softmax(x):\n    return gc.get_objects()\n", "gc"),
        ("import ctypes\ndef softmax(x):\n    return ctypes.CDLL(None)\n", "ctypes"),
        ("import os\nos.system('true')\ndef softmax(x):\n    return x\n", "os.system"),
        ("import sys\ndef softmax(x):\n    return sys._getframe()\n", "sys._getframe"),
        ("import torch\ndef softmax(x):\n    return torch._C.TensorBase.exp(x)\n", "torch._C"),
        ("def softmax(x):\n    return ().__class__.__base__.__subclasses__()\n", "__subclasses__"),
        ("import numpy as np\nnp.exp = lambda x: x\ndef softmax(x):\n    return x\n", "a change of numpy"),
        (
            "import torch\ndef softmax(x):\n    return getattr(torch, str(x))(x)\n",
            "a function of a library by a name that is computed",
        ),
        ("import torch\ndef softmax(x):\n    return torch.load('w')\n", "torch.load"),
    ],
)
def test_what_is_unusual_is_told(source: str, name: str) -> None:
    assert (name, "unusual") in {(one.name, one.kind) for one in find(source)}


def test_the_words_name_the_line_for_the_instructor_and_the_reason_for_the_student() -> None:
    (one,) = find("import torch\ndef softmax(x):\n    return torch.softmax(x, -1)\n")
    assert one.flag() == "torch.softmax is what this question asks for: cell 1, line 4: return torch.softmax(x, -1)"
    assert one.note() == (
        "Your answer uses torch.softmax (line 4: return torch.softmax(x, -1)). That is what this question asks you to "
        "write, so it is not available when your answer is graded."
    )


@pytest.mark.parametrize(
    "source",
    [
        "a0 = 'x'\n"
        + "".join(f"a{i + 1} = a{i} + a{i}\n" for i in range(60))
        + "def softmax(x): return getattr(x, a60)\n",
        "".join(f"f{i} = f{i + 1} or f{i + 1}\n" for i in range(60)) + "def softmax(x): return f0.softmax(x)\n",
        "a = a + a\ndef softmax(x): return getattr(a, a)\n",
        "def softmax(x): return softmax(softmax)\nsoftmax.a = softmax\n",
        "def softmax(x):\n    return eval('" + "(" * 90 + ")" * 90 + "')\n",
        "x = " + "-" * 60 + "1\ndef softmax(y): return " + "f'{" * 1 + "x" + "}'" + "\n",
        "def softmax(x): return getattr(x, 'a' * 10**9 + 'b' * (1 << 62))\n",
        "def softmax(x): return getattr(x, '%999999999s' % 'a')\n",
        "def softmax(x): return getattr(x, 'a'.replace('', 'b' * 9999))\n",
        "def softmax(x): return getattr(x, str(" + "9" * 4000 + "))\n",
        "class A(A): pass\nsoftmax = A\n",
        "def softmax(x):\n    return softmax(x).softmax\ndef f(): return f()\ng = f()\n",
        "\n".join(f"def f{i}(): return f{i + 1}() or f{i + 1}()" for i in range(40)) + "\nsoftmax = f0()\n",
    ],
)  # fmt: skip
def test_hostile_code_ends_in_a_moment(source: str) -> None:
    find(source)  # the suite's own time limit would tell


# --- in the notebook -------------------------------------------------------------------------------------------------


@pytest.fixture
def cell() -> Callable[..., dict[str, Any]]:
    """Runs a cell as IPython does: its source is in linecache under the name of its code."""
    names: dict[str, Any] = {}

    def run(source: str) -> dict[str, Any]:
        name = f"<ipython-input-{len(linecache.cache)}-test>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), names)
        return names

    return run


def test_a_live_function_is_read_with_its_helpers(cell: Callable[..., dict[str, Any]]) -> None:
    cell("import torch\nimport torch.nn.functional as F\nfrom torch import softmax as lib\n")
    cell("def helper(x):\n    return F.softmax(x, -1)\n")
    names = cell("def softmax(x):\n    return helper(x)\n")
    (one,) = find_shortcuts(statements_of(names["softmax"], SOFTMAX), "softmax", SOFTMAX)
    assert (one.name, one.line, one.source) == ("torch.nn.functional.softmax", 2, "return F.softmax(x, -1)")
    names = cell("def softmax(x):\n    return lib(x, -1)\n")
    assert [one.name for one in find_shortcuts(statements_of(names["softmax"], SOFTMAX), "softmax", SOFTMAX)] == [
        "torch.softmax"
    ]


def test_a_check_says_so_and_still_checks(cell: Callable[..., dict[str, Any]]) -> None:
    names = cell("import torch\ndef softmax(x):\n    return torch.softmax(torch.as_tensor(x), -1)\n")
    feedback = Lab("attention").check(names["softmax"])
    assert feedback.passed
    assert "Your answer uses torch.softmax (line 3: return torch.softmax(torch.as_tensor(x), -1))." in " ".join(
        repr(feedback).split()
    )
    mine = cell(f"{OWN}go = lambda x: torch.softmax(x, -1)\n")
    assert "Your answer uses" not in repr(Lab("attention").check(mine["softmax"]))
    assert "Your answer uses torch.softmax" in " ".join(repr(Lab("attention").check("softmax", torch.softmax)).split())


def test_a_live_honest_function_is_not_found(cell: Callable[..., dict[str, Any]]) -> None:
    cell("import numpy as np\nimport torch\n")
    names = cell(OWN + "print(torch.softmax(torch.ones(2), -1))\n")
    assert find_shortcuts(statements_of(names["softmax"], SOFTMAX), "softmax", SOFTMAX) == ()
    assert statements_of(np.exp, SOFTMAX) == []
