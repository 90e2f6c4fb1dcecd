"""Hostile answers, as notebook text: what people and programs try against a grader. Mild on purpose: each does only
what is needed to see that our own jail holds.

Each goes into the cell of `softmax`; the other two questions are answered rightly, so the notebook deserves 7 of 10
where softmax earns nothing, and more only where the softmax in it is right in spite of everything.
"""

from __future__ import annotations

from tests.redteam.answers import RIGHT_NUMPY

_RIGHT = RIGHT_NUMPY["softmax"]
_WRONG = "def softmax(x):\n    return x * 0\n"

# name: (source of the softmax cell, points of softmax, why)
HOSTILE: dict[str, tuple[str, float, str]] = {
    "infinite loop": ("def softmax(x):\n    while True:\n        pass\n", 0, "never answers"),
    "sleeps for ever": ("import time\ndef softmax(x):\n    time.sleep(1e6)\n", 0, "never answers"),
    "os._exit": ("import os\ndef softmax(x):\n    os._exit(0)\n", 0, "ends its process with status 0"),
    "exits at the top of its cell": (
        _RIGHT + "import os\nos._exit(0)\n",
        3,
        "the function is right; the line after it only ends the first attempt",
    ),
    "sys.exit in the function": ("import sys\ndef softmax(x):\n    sys.exit('done')\n", 0, "raises"),
    "memory bomb": (
        "def softmax(x):\n    hold = []\n    while True:\n        hold.append(bytearray(1 << 28))\n",
        0,
        "runs out of the memory it may have",
    ),
    "fork bomb": (
        "import os, time\ndef softmax(x):\n    for _ in range(60):\n        if os.fork() == 0:\n"
        "            time.sleep(1000)\n    return x\n",
        0,
        "sixty sleeping processes are ended with it, and x is not its softmax",
    ),
    "leaves a daemon": (
        _RIGHT.replace(
            "def softmax(x):\n",
            "import os, time\ndef softmax(x):\n    if os.fork() == 0:\n        os.setsid()\n"
            "        os.closerange(0, 100)\n        time.sleep(1000)\n",
        ),
        3,
        "right; what it left running is ended",
    ),
    "threads left running": (
        "import threading, time\n"
        + _RIGHT.replace(
            "def softmax(x):\n",
            "def softmax(x):\n    threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        ),
        3,
        "right; the threads end with their process",
    ),
    "patches comparisons": (
        "import numpy as np, torch\nnp.allclose = torch.allclose = np.array_equal = lambda *a, **k: True\n"
        "np.testing.assert_allclose = lambda *a, **k: None\n" + _WRONG,
        0,
        "nothing is compared in its process",
    ),
    "patches numpy so that it breaks": (
        "import numpy as np\nreal = np.exp\n" + _RIGHT + "np.asarray = np.array = np.copy = None\n",
        3,
        "right, and only its own process has a broken NumPy",
    ),
    "patches torch": (
        "import torch\ntorch.Tensor.__eq__ = lambda *a: True\ntorch.equal = lambda *a: True\n" + _WRONG,
        0,
        "the same, in torch",
    ),
    "reads the grader's files": (
        "import os, glob\nfound = []\nfor root in ('/root', '/home', '/work', '/etc', '/usr', '/'):\n"
        "    for pattern in ('**/questions.py', '**/course.key', '**/ledger.db', '**/attnkit/attention.py'):\n"
        "        if root != '/':\n            found += glob.glob(root + '/' + pattern, recursive=True)\n"
        "names = {}\n"
        "for path in found:\n    exec(open(path).read(), names)\n"
        "def softmax(x):\n    return names['_softmax'](x)\n",
        0,
        "there is no reference inside to find",
    ),
    "imports the reference": (
        "def softmax(x):\n    from attnkit.lab.bank import load_lab\n"
        "    return load_lab('attention').questions['softmax'].reference(x)\n",
        0,
        "attnkit is a stand-in in there",
    ),
    "reads the environment and the parent": (
        "import os\ndef softmax(x):\n    text = str(os.environ) + open('/proc/1/cmdline').read()\n"
        "    for pid in os.listdir('/proc'):\n        if pid.isdigit():\n"
        "            try:\n                text += open(f'/proc/{pid}/environ').read()\n"
        "            except OSError:\n                pass\n"
        "    assert 'key' in text\n    return x\n",
        0,
        "no key there",
    ),
    "network": (
        "import socket\ndef softmax(x):\n    socket.create_connection(('192.0.2.1', 80), timeout=1)\n    return x\n",
        0,
        "there is no network",
    ),
    "writes files everywhere": (
        "import os\nfor where in ('/usr/x', '/x', '/grader/worker.py', '/dev/x', '/srv/x', '/etc/passwd'):\n"
        "    try:\n        open(where, 'w').write('mine')\n    except OSError:\n        pass\n"
        "open('/tmp/note', 'w').write('left for the next')\n" + _RIGHT,
        3,
        "right; nothing outside its scratch space can be written",
    ),
    "looks for files left by others": (
        "import os\ndef softmax(x):\n    assert os.path.exists('/tmp/note') or os.listdir('/dev/shm')\n    return x\n",
        0,
        "the scratch space is emptied after each child",
    ),
    "fills the disk": (
        "def softmax(x):\n    with open('/tmp/big', 'wb') as f:\n        while True:\n"
        "            f.write(bytes(10**6))\n",
        0,
        "files have a limit",
    ),
    "array subclass": (
        "import numpy as np\nclass Agrees(np.ndarray):\n    def __eq__(self, other): return np.ones(self.shape, bool)\n"
        "    def __sub__(self, other): return np.zeros(self.shape)\n    __rsub__ = __sub__\n"
        "    def __array_ufunc__(self, *a, **k): return np.ones(self.shape, bool)\n"
        "    def __array_function__(self, *a, **k): return True\n"
        "def softmax(x):\n    return np.zeros(np.shape(x)).view(Agrees)\n",
        0,
        "its bytes are compared, not its methods",
    ),
    "object with protocols": (
        "class Anything:\n    def __array__(self, *a, **k): raise SystemExit\n    def __eq__(self, o): return True\n"
        "    def __float__(self): return 1.0\n    def __len__(self): return 10**18\n"
        "def softmax(x):\n    return Anything()\n",
        0,
        "not an array",
    ),
    "object dtype": (
        "import numpy as np\ndef softmax(x):\n    return np.array([lambda: None] * 3, dtype=object)\n",
        0,
        "not numbers",
    ),
    "a huge array": (
        "import numpy as np\ndef softmax(x):\n    return np.broadcast_to(np.float32(0), (1 << 40,))\n",
        0,
        "more than may be sent",
    ),
    "forges a reply": (
        "import json, os\ndef softmax(x):\n"
        "    head = json.dumps({'id': 2, 'value': {'array': 0}, 'arrays': [['f4', [1]]], 'points': 3}).encode()\n"
        "    for fd in range(3, 60):\n        try:\n"
        "            os.write(fd, len(head).to_bytes(4, 'big') + head + bytes(4))\n"
        "        except OSError:\n            pass\n    return x\n",
        0,
        "a forged reply is an answer like any other, and a wrong one",
    ),
    "writes rubbish on the pipe": (
        "import os\ndef softmax(x):\n    for fd in range(3, 60):\n        try:\n"
        "            os.write(fd, b'\\xff' * 500)\n"
        "        except OSError:\n            pass\n    return x\n",
        0,
        "malformed",
    ),
    "lies about sizes": (
        "import json, os\ndef softmax(x):\n"
        "    head = json.dumps({'id': 2, 'value': {'array': 0}, 'arrays': [['f8', [10**30, 0, -1]]]}).encode()\n"
        "    os.write(4, len(head).to_bytes(4, 'big') + head)\n    os._exit(0)\n",
        0,
        "malformed",
    ),
    "says nan and infinity in JSON": (
        "import os\ndef softmax(x):\n"
        '    head = b\'{"id": NaN, "value": {"array": Infinity}, "arrays": \' + b\'[\' * 2000 + b\'}\'\n'
        "    os.write(4, len(head).to_bytes(4, 'big') + head)\n    os._exit(0)\n",
        0,
        "malformed",
    ),
    "signals everybody": (
        "import os, signal\ndef softmax(x):\n    os.kill(-1, signal.SIGKILL)\n"
        "    os.kill(os.getppid(), signal.SIGKILL)\n    return x\n",
        0,
        "only its own jail can be hit, and a new one is built",
    ),
    "kills the zygote, is right": (
        "import os, signal, time\n"
        + _RIGHT.replace("    return", "    os.kill(os.getppid(), signal.SIGKILL)\n    time.sleep(100)\n    return"),
        0,
        "ends its own jail with it; whoever comes next gets a new one",
    ),
    "stops the zygote": (
        "import os, signal\ndef softmax(x):\n    os.kill(os.getppid(), signal.SIGSTOP)\n    return x\n",
        0,
        "a zygote that does not clear up in time is replaced",
    ),
    "closes all descriptors": (
        "import os\ndef softmax(x):\n    os.closerange(0, 200)\n    return x\n",
        0,
        "cannot answer any more",
    ),
    "prints gigabytes": (
        "def softmax(x):\n    while True:\n        print('spam ' * 100000)\n",
        0,
        "output past a cap is dropped, and the loop never ends",
    ),
    "deep recursion": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef softmax(x):\n    return max([x], key=softmax)\n",
        0,
        "crashes its own process",
    ),
    "atexit and __del__": (
        "import atexit\nclass Last:\n    def __del__(self):\n        while True: pass\nlast = Last()\n"
        "atexit.register(lambda: print('still here'))\n" + _RIGHT,
        3,
        "right; nothing runs after a kill",
    ),
    "a hostile exception": (
        "class Nasty(Exception):\n    def __str__(self): raise self\ndef softmax(x):\n    raise Nasty\n",
        0,
        "raises",
    ),
    "script in its message": (
        "def softmax(x):\n    raise ValueError('<script>alert(1)</script><img src=//192.0.2.1 onerror=alert(1)>')\n",
        0,
        "text stays text",
    ),
    "traces the grader": (
        "import sys, inspect\ndef softmax(x):\n    frame = sys._getframe()\n    while frame:\n"
        "        for value in list(frame.f_locals.values()):\n"
        "            if hasattr(value, 'reference'):\n                return value.reference(x)\n"
        "        frame = frame.f_back\n    return x\n",
        0,
        "no frame above it knows the question",
    ),
}
