"""Attacks on the conversation with the worker, and answers that try its patience.

As in `hostile.py`: text for the cell of `softmax`, each with the points that softmax deserves.
"""

from __future__ import annotations

from tests.redteam.answers import RIGHT_NUMPY, RIGHT_TORCH

_RIGHT = RIGHT_NUMPY["softmax"]
_TORCH = RIGHT_TORCH["softmax"]
_WRONG = "def softmax(x):\n    return x * 0\n"

_REPLY = (
    "import json, os, threading, time\nimport numpy as np\n"
    "def reply(number, array, kind='array'):\n"
    "    head = json.dumps({'id': number, 'value': {kind: 0}, 'changed': [], 'points': 3, 'passed': True,\n"
    "        'arrays': [['f4', list(array.shape)]]}).encode()\n"
    "    os.write(4, len(head).to_bytes(4, 'big') + head + array.astype('<f4').tobytes())\n"
)  # fmt: skip

# name: (source of the softmax cell, points of softmax, why)

# name: (source of the softmax cell, points of softmax, why)
TALKERS: dict[str, tuple[str, float, str]] = {
    "answers before it is asked": (
        _REPLY + "for number in range(1, 20):\n    reply(number, np.ones(2) / 2)\n" + _WRONG,
        0,
        "a reply belongs to a request",
    ),
    "a thread answers every request": (
        _REPLY + "def race():\n    for number in range(1, 400):\n        reply(number, np.ones(2) / 2)\n"
        "        time.sleep(0.002)\nthreading.Thread(target=race, daemon=True).start()\n" + _WRONG,
        0,
        "malformed, or a wrong answer",
    ),
    "steals the requests and answers them wrongly": (
        _REPLY + "def steal():\n    while True:\n        os.read(3, 65536)\n        reply(2, np.zeros(2))\n"
        "threading.Thread(target=steal, daemon=True).start()\n" + _RIGHT,
        0,
        "what it sent itself is its answer",
    ),
    "replies twice": (
        _REPLY + _RIGHT.replace("    return", "    reply(2, np.zeros(2))\n    return"),
        0,
        "the first reply counts, and it was wrong",
    ),
    "a reply byte by byte": (
        _REPLY + "def softmax(x):\n    for _ in range(200):\n        os.write(4, b'\\0')\n        time.sleep(0.1)\n",
        0,
        "malformed or too late",
    ),
    "patches the worker's own modules": (
        "import sys, os, json\nworker = sys.modules['_attnkit_worker']\nreal = worker.wire.pack\n"
        "def pack(header, arrays=()):\n    header.update(value={'tuple': []}, points=3, passed=True, status='full')\n"
        "    return real(header, list(arrays))\nworker.wire.pack = pack\nworker.describe = worker.failed = print\n"
        + _WRONG,
        0,
        "the trusted side reads only ids, values and failures",
    ),
    "patches os.write and json": (
        "import json, os\nreal = os.write\nos.write = lambda fd, data: real(fd, data.replace(b'failure', b'success'))\n"
        "json.dumps = lambda *a, **k: '{\"points\": 3}'\n" + _WRONG,
        0,
        "malformed",
    ),
    "traces the worker": (
        "import sys\ndef trace(frame, event, value):\n    frame.f_locals['points'] = 3\n    return trace\n"
        "sys.settrace(trace)\nsys.setprofile(lambda *a: None)\n" + _RIGHT,
        3,
        "right, and only slower",
    ),
    "an audit hook that forbids everything": (
        "import sys\n" + _RIGHT + "def hook(event, args):\n    if event in ('open', 'exec', 'import'):\n"
        "        raise RuntimeError(event)\nsys.addaudithook(hook)\n",
        3,
        "right; it forbids only itself",
    ),
    "an import hook that breaks imports": (
        "import sys\n" + _RIGHT + "class Hook:\n    def find_spec(self, *a, **k):\n        raise ImportError('no')\n"
        "sys.meta_path[:] = [Hook()]\nsys.modules['json'] = sys.modules['os'] = None\n",
        3,
        "right; the worker has what it needs",
    ),
    "alarms and signal handlers": (
        "import signal\n" + _RIGHT + "for number in range(1, 64):\n    try:\n"
        "        signal.signal(number, lambda *a: None)\n    except (OSError, ValueError):\n        pass\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)\n",
        3,
        "right; nobody else gets its signals",
    ),
    "signals to the zygote": (
        "import os, signal\ndef softmax(x):\n    for number in (1, 2, 3, 10, 12, 13, 14, 15, 20, 21, 22, 28):\n"
        "        os.kill(os.getppid(), number)\n    return x * 0\n",
        0,
        "whatever that does, the next child gets a zygote that works",
    ),
    "crashes by faulthandler": (
        "import faulthandler\ndef softmax(x):\n    faulthandler.enable()\n    faulthandler._sigsegv()\n",
        0,
        "its own process ends",
    ),
}  # fmt: skip

# Attacks on the time that grading takes: nothing in them ever answers.
PATIENCE: dict[str, tuple[str, float, str]] = {
    "hangs in a default argument": (
        "import time\ndef softmax(x, wait=time.sleep(1e6)):\n    return x\n",
        0,
        "hangs whoever loads it; the other answers are tried without it",
    ),
    "hangs in a metaclass": (
        "import time\nclass Wait(type):\n    def __new__(mcs, *a):\n        time.sleep(1e6)\n"
        "class softmax(metaclass=Wait):\n    pass\n",
        0,
        "the same",
    ),
    "computes a number without end": ("def softmax(x):\n    return 10 ** (10 ** 10)\n", 0, "out of time"),
    "takes the machine's threads": (
        "import threading\n"
        + _TORCH + "def spin():\n    while True:\n        pass\n"
        "def start():\n    for _ in range(500):\n        try:\n"
        "            threading.Thread(target=spin, daemon=True).start()\n"
        "        except RuntimeError:\n            break\nstart()\ntime_is_up = [i for i in range(10**9)]\n",
        0,
        "out of time, in its own process",
    ),
}  # fmt: skip
