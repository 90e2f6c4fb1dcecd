"""Attacks by tests: on the trial's conversation, on its bounds, and on whoever is graded next.

As in `talkers.py`: text for the cell of a question, here `test_softmax`, each with the points that it deserves and why.
All but the last few are wrong tests, which try to get points otherwise.
"""

from __future__ import annotations

from tests.lab.trial_questions import IN_NUMPY

_FRAME = (
    "import json, os, sys, threading, time\nimport numpy as np\n"
    "def send(arrays=(), **header):\n"
    "    header['arrays'] = [['f8', list(a.shape)] for a in arrays]\n"
    "    head = json.dumps(header).encode()\n"
    "    os.write(4, len(head).to_bytes(4, 'big') + head + b''.join(a.astype('<f8').tobytes() for a in arrays))\n"
    "def verdict(number, value=1.0):\n"
    "    send([np.array(value)], id=number, value={'number': 0}, changed=[])\n"
    "def ask(number, count, *args):\n"
    "    send([], id=number, ask=count, args=list(args), kwargs={})\n"
)

# name: (source of the cell, points, why)
ATTACKS: dict[str, tuple[str, float, str]] = {
    "catches everything": (
        "def test_softmax(f):\n    while True:\n        try:\n            f(1)\n        except BaseException:\n"
        "            continue\n",
        0,
        "it is not listened to for ever",
    ),
    "catches everything, and asks rightly": (
        "import numpy as np\ndef test_softmax(f):\n    while True:\n        try:\n            f(np.ones((1, 2)))\n"
        "        except BaseException:\n            pass\n",
        0,
        "the same",
    ),
    "never returns": ("def test_softmax(f):\n    while True:\n        pass\n", 0, "out of time"),
    "a thread asks on after the verdict": (
        "import threading\nimport numpy as np\ndef test_softmax(f):\n    def go():\n        while True:\n"
        "            try:\n                f(np.ones((1, 2)))\n            except BaseException:\n"
        "                pass\n"
        "    threading.Thread(target=go, daemon=True).start()\n    assert False\n",
        0,
        "the box is closed; what it found is wrong for the right ones",
    ),
    "threads ask past each other by hand": (
        _FRAME + "def test_softmax(f):\n    def go():\n        for one in range(400):\n"
        "            ask(2, one, {'none': 0})\n"
        "    threads = [threading.Thread(target=go, daemon=True) for _ in range(4)]\n"
        "    [one.start() for one in threads]\n    time.sleep(1)\n    assert False\n",
        0,
        "out of turn",
    ),
    "asks by hand after its verdict": (
        _FRAME + "def test_softmax(f):\n    verdict(2)\n    ask(2, 1, {'none': 0})\n    time.sleep(0.2)\n"
        "    assert False\n",
        0,
        "nobody asked for that",
    ),
    "gives many verdicts": (
        _FRAME + "def test_softmax(f):\n    for number in range(2, 20):\n        verdict(number)\n    assert False\n",
        0,
        "a verdict belongs to a trial",
    ),
    "gives the verdict of the next trial": (
        _FRAME + "count = 1\ndef test_softmax(f):\n    global count\n    count += 1\n    verdict(count + 1, 0.0)\n"
        "    time.sleep(0.05)\n",
        0,
        "the number is of another trial",
    ),
    "asks in the name of another trial": (
        _FRAME + "def test_softmax(f):\n    ask(3, 1, {'none': 0})\n    time.sleep(0.2)\n",
        0,
        "the number is of another trial",
    ),
    "asks the same question twice": (
        _FRAME + "def test_softmax(f):\n    ask(2, 1, {'none': 0})\n    ask(2, 1, {'none': 0})\n    time.sleep(0.2)\n",
        0,
        "out of turn",
    ),
    "a verdict beyond one": (
        _FRAME + "count = 1\ndef test_softmax(f):\n    global count\n    count += 1\n    verdict(count, 2.0)\n"
        "    os._exit(0)\n",
        0,
        "that cannot be",
    ),
    "a verdict that is not a number": (
        _FRAME + "def test_softmax(f):\n    verdict(2, float('nan'))\n    os._exit(0)\n",
        0,
        "the same",
    ),
    "garbage in place of a question": (
        "import os\ndef test_softmax(f):\n    os.write(4, os.urandom(100_000))\n",
        0,
        "malformed",
    ),
    "a question without arguments": (
        _FRAME + "def test_softmax(f):\n    send([], id=2, ask=1)\n    time.sleep(0.2)\n",
        0,
        "malformed",
    ),
    "a question of a hundred thousand tuples": (
        _FRAME + "def test_softmax(f):\n    one = {'none': 0}\n    for _ in range(3000):\n"
        "        one = {'tuple': [one]}\n"
        "    ask(2, 1, one)\n    time.sleep(0.2)\n",
        0,
        "deeper than anything travels",
    ),
    "keywords that are no names": (
        _FRAME + "def test_softmax(f):\n    send([], id=2, ask=1, args=[], kwargs={'self': {'none': 0}, '__class__': "
        "{'text': 'x'}, 'import os': {'none': 0}})\n    time.sleep(0.2)\n",
        0,
        "no argument of the implementation",
    ),
    "an empty array a billion wide": (
        "import numpy as np\ndef test_softmax(f):\n    f(np.empty((0, 2**40)))\n",
        0,
        "refused",
    ),
    "an array of 60 MB, again and again": (
        "import numpy as np\nx = np.zeros(7_500_000)\ndef test_softmax(f):\n    for _ in range(50):\n"
        "        try:\n            f(x)\n        except BaseException:\n            pass\n",
        0,
        "refused each time",
    ),
    "lengths of a billion": (
        "def test_softmax(f):\n    for n in (10**9, 2**62, -1, 10**5):\n        try:\n            f(n)\n"
        "        except BaseException:\n            pass\n    assert False\n",
        0,
        "refused",
    ),
    "texts of a megabyte": ("def test_softmax(f):\n    f('x' * 2**20)\n", 0, "does not fit, or refused"),
    "floods what it prints while it asks": (
        "import numpy as np\ndef test_softmax(f):\n    for _ in range(150):\n        print('x' * 100_000)\n"
        "        f(np.ones((1, 2)))\n",
        0,
        "dropped; it raises nothing",
    ),
    "reads no answer": (
        _FRAME + "def test_softmax(f):\n    for count in range(1, 300):\n        ask(2, count, {'none': 0})\n"
        "    raise AssertionError\n",
        0,
        "it asked before the answer was out",
    ),
    "steals the answers": (
        "import os, threading, time\nimport numpy as np\n"
        "def steal():\n    while True:\n        os.read(3, 65536)\n"
        "def test_softmax(f):\n    threading.Thread(target=steal, daemon=True).start()\n    f(np.ones((1, 2)))\n"
        "    time.sleep(5)\n",
        0,
        "waits for what it took itself",
    ),
    "forks, and both give a verdict": (
        "import os\nimport numpy as np\ndef test_softmax(f):\n    os.fork()\n    f(np.ones((1, 2)))\n"
        "    assert False\n",
        0,
        "two that speak at once",
    ),
    "forks a child that asks": (
        "import os, time\nimport numpy as np\ndef test_softmax(f):\n    if os.fork() == 0:\n        while True:\n"
        "            try:\n                f(np.ones((1, 2)))\n            except BaseException:\n"
        "                pass\n"
        "    time.sleep(0.3)\n    assert False\n",
        0,
        "its questions are not the trial's",
    ),
    "ends its process": ("import os\ndef test_softmax(f):\n    os._exit(0)\n", 0, "died"),
    "ends its process with a verdict on the wire": (
        _FRAME + "def test_softmax(f):\n    verdict(2)\n    os._exit(0)\n",
        0,
        "the first trial may get it, the others do not",
    ),
    "patches the worker": (
        "import sys\nworker = sys.modules['_attnkit_worker']\nworker.answering.Asking.__call__ = lambda s, a, k: 1.0\n"
        "worker.answering.describe = lambda *a: {'value': {'number': 0}, 'points': 3}\n"
        "def test_softmax(f):\n    return 0\n",
        0,
        "the verdict is judged outside",
    ),
    "looks for the subject in memory": (
        "import gc\ndef test_softmax(f):\n    found = [o for o in gc.get_objects() if callable(o)\n"
        "             and getattr(o, '__name__', '') in ('columns', 'unguarded', 'rows')]\n    assert found\n",
        0,
        "it is not in there",
    ),
    "an assertion that cannot be shown": (
        "class Odd(AssertionError):\n    def __str__(self):\n        raise SystemExit\n    __repr__ = __str__\n"
        "def test_softmax(f):\n    raise Odd\n",
        0,
        "caught as any other",
    ),
    "an assertion with a page in it": (
        "def test_softmax(f):\n    raise AssertionError('<script>alert(1)</script>\\x1b[31m\\u202e' + 'x' * 10**6)\n",
        0,
        "text, and short",
    ),
    "says that it is another exception": (
        "class Odd(AssertionError):\n    @property\n    def __class__(self):\n        return ValueError\n"
        "def test_softmax(f):\n    raise Odd\n",
        0,
        "by its type it is an AssertionError, of every implementation",
    ),
    "recursion without end": ("def test_softmax(f):\n    test_softmax(f)\n", 0, "RecursionError"),
    "right, in a thread": (
        IN_NUMPY.replace("def test_softmax", "def inner") + "\nimport threading\ndef test_softmax(f):\n"
        "    seen = []\n    def go():\n        try:\n            inner(f)\n        except AssertionError as error:\n"
        "            seen.append(error)\n    thread = threading.Thread(target=go)\n    thread.start()\n"
        "    thread.join()\n"
        "    if seen:\n        raise seen[0]\n",
        3,
        "right",
    ),
    "right, and forks a child that only waits": (
        "import os, time\n" + IN_NUMPY.replace("def test_softmax(softmax):\n", "def test_softmax(softmax):\n"
        "    if os.fork() == 0:\n        time.sleep(100)\n        os._exit(0)\n"),
        3,
        "right; the child is ended with it",
    ),
    "right, with traces and hooks": (
        "import sys\nimport numpy.testing\nsys.settrace(lambda *a: None)\n" + IN_NUMPY
        + "\nsys.modules['json'] = sys.modules['os'] = None\n",
        3,
        "right, and only slower",
    ),
}  # fmt: skip
