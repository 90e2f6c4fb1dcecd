"""Answers that lie by what they return, print or raise, that know where they are, or that call what is forbidden.

As in `hostile.py`: text for the cell of `softmax`, each with the points that softmax deserves.
"""

from __future__ import annotations

from tests.redteam.answers import RIGHT_NUMPY

_RIGHT = RIGHT_NUMPY["softmax"]

# name: (source of the softmax cell, points of softmax, why)
TRICKS: dict[str, tuple[str, float, str]] = {
    "an exception that cannot be shown": (
        "class Nasty(Exception):\n    @property\n    def __traceback__(self): raise self\n"
        "    def __repr__(self): 1 / 0\n"
        "    __str__ = __format__ = __repr__\ndef softmax(x):\n    raise type('A' * 10**6, (Nasty,), {})\n",
        0,
        "raises",
    ),
    "a message of terminal commands": (
        "def softmax(x):\n"
        "    raise ValueError('\\x1b[2J\\x1b[1;1H\\rAll 3 points\\x07 \\u202e stniop 3 \\ud800 \\x00 \\x9b31m')\n",
        0,
        "characters that command a terminal or turn words round are taken out",
    ),
    "a message that is a spreadsheet formula": (
        "def softmax(x):\n    print('=HYPERLINK(\"http://192.0.2.1\")\\n@SUM(1)\\n+1\\n-1')\n"
        "    raise type('=cmd|calc!A1', (Exception,), {})('=1+1\\n=2+2')\n",
        0,
        "no cell of an export starts as a formula does",
    ),
    "prints colours, HTML and half a character": (
        "import sys\n" + _RIGHT + "print('\\x1b[31mred\\x1b[0m' * 9999, '</pre><script>alert(1)</script>')\n"
        "sys.stdout.buffer.write(b'\\xff\\xfe\\xf0\\x9f' * 9999)\nprint('\\ud800\\u202e\\u2066')\n",
        3,
        "right; what it printed is shown as text",
    ),
    "a very long message in many alphabets": (
        "def softmax(x):\n    raise ValueError('\\U0001f600' * 10**6 + 'ß' * 10**6)\n",
        0,
        "cut to a few words",
    ),
    "a tensor subclass that lies": (
        "import torch\nclass Liar(torch.Tensor):\n"
        "    @classmethod\n    def __torch_function__(cls, f, kinds, args=(), kwargs=0):\n"
        "        return torch.ones(2) if 'numpy' in str(f) else args[0]\n    def detach(self): return self\n"
        "    def cpu(self): return self\n    def numpy(self, *a): return [1, 2]\n"
        "def softmax(x):\n    return torch.zeros(3).as_subclass(Liar)\n",
        0,
        "what comes out of it is compared as plain numbers",
    ),
    "an array that changes when it is looked at": (
        "import numpy as np\nclass Later(np.ndarray):\n    def __array_finalize__(self, old): self.seen = 0\n"
        "    def tobytes(self, *a): return b'\\0' * 8\n    def __array__(self, *a, **k): return np.ones(2)\n"
        "    @property\n    def dtype(self): return np.dtype('f8')\n"
        "    @property\n    def shape(self): return (10**9, 10**9)\n"
        "def softmax(x):\n    return np.zeros(np.shape(x)).view(Later)\n",
        0,
        "it is copied into a plain array first",
    ),
    "odd zeros and denormals": (
        "import numpy as np\n"
        + _RIGHT.replace("def softmax", "def right")
        + "def softmax(x):\n    out = np.asarray(right(np.asarray(x, dtype=np.float64)), dtype=np.float64)\n"
        "    return np.where(out < 1e-300, -0.0, out + 5e-324)\n",
        3,
        "right to the last digit that counts",
    ),
    "NaN in disguise": (
        "import numpy as np\ndef softmax(x):\n"
        "    return np.full(np.shape(x), 0x7FF8DEAD00000001, dtype=np.int64).view(np.float64)\n",
        0,
        "NaN equals nothing, whatever its payload",
    ),
    "a masked array": (
        "import numpy as np\ndef softmax(x):\n"
        "    return np.ma.masked_array(np.zeros(np.shape(x)), mask=np.ones(np.shape(x), bool), fill_value=1)\n",
        0,
        "its data are compared, not its mask",
    ),
    "writes into its inputs and returns them": (
        "import torch\ndef softmax(x):\n    top = x.max(-1, keepdims=True)\n"
        "    x -= top[0] if isinstance(x, torch.Tensor) else top\n"
        "    x[...] = torch.exp(x)\n    x /= x.sum(-1, keepdims=True)\n    return x\n",
        3,
        "right, with a note that it changes its input",
    ),
    "knows the practice outputs by heart": (
        "import numpy as np\ndef softmax(x):\n    known = {(2,): [0.26894142, 0.73105858]}\n"
        "    return np.array(known.get(np.shape(x), np.zeros(np.shape(x))), dtype=np.float32)\n",
        0,
        "the inputs are others, and there are more of them",
    ),
    "is right only where it is checked, not graded": (
        "import sys\n"
        + _RIGHT.replace("def softmax", "def right")
        + "def softmax(x):\n    checked = 'ipykernel' in sys.modules or 'attnkit.lab.judge' in sys.modules\n"
        "    return right(x) if checked else x\n",
        0,
        "what it does when it is graded is what counts",
    ),
    "right for the first call only": (
        _RIGHT.replace("def softmax", "def right") + "calls = []\ndef softmax(x):\n    calls.append(x)\n"
        "    return right(x) if len(calls) < 3 else right(calls[0])\n",
        0,
        "every case counts",
    ),
    "an answer that is somebody else's name": (
        "def ѕoftmax(x):\n    return x\nsoftmax_ = ѕoftmax\n",
        0,
        "another letter is another name",
    ),
    "a name in another form of its letters": (
        _RIGHT.replace("def softmax", "def ſoftmax"),
        3,
        "Python itself reads it as softmax",
    ),
    "the library's softmax": ("import torch\ndef softmax(x):\n    return torch.softmax(x, -1)\n", 0, "not available"),
    "the library's softmax, hidden": (
        "import torch\ndef softmax(x):\n    return getattr(torch.nn.functional, 'xamtfos'[::-1])(x, -1)\n",
        0,
        "not available under any name",
    ),
    "the library's softmax, through its operators": (
        "import torch\ndef softmax(x):\n    for get in (lambda: torch.ops.aten._softmax.default(x, -1, False),\n"
        "            lambda: torch._C._VariableFunctions.softmax(x, -1), lambda: torch._C.TensorBase.softmax(x, -1),\n"
        "            lambda: torch.nn.Softmax(-1)(x), lambda: torch.log_softmax(x, -1).exp()):\n"
        "        try:\n            return get()\n        except RuntimeError:\n            pass\n    return x\n",
        0,
        "not available there either",
    ),
}
