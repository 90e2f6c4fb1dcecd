"""Two questions whose answers are measured: attention in memory that grows like the length, and a decoding step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from attnkit.lab.question import Case, Resource, Tolerance, question
from attnkit.lab.steps import Build, Call

MIB = 2**20
NEAR = Tolerance(rtol=1e-3, atol=1e-4)


def _draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def _weights(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def _three(length: int, rng: np.random.Generator) -> Case:
    return Case((_draw(rng, length, 16), _draw(rng, length, 16), _draw(rng, length, 16)))


@question(points=3, answer="flash")
class Flash:
    """Attention that never holds all of its scores."""

    tolerance = NEAR
    parts: ClassVar = {"ordinary": 1, "memory": 2}
    resources = (
        Resource(
            "memory",
            "memory",
            lengths=(1024, 2048, 4096),
            case=_three,
            at_most=lambda length: 16 * MIB + 512 * length,
            growth=1.4,
            hint="Go through the keys block by block, and keep a running maximum and sum.",
            read="flash#online-softmax",
        ),
    )

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Short ones."""
        for length in (1, 3, 8):
            yield _three(length, rng)

    def reference(self, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
        """In blocks of queries: it is called at the measured lengths, too."""
        blocks = (_weights(query[i : i + 128] @ key.T / 4.0) @ value for i in range(0, len(query), 128))
        return np.concatenate(list(blocks))


class _Decoder:
    def read(self, rows: np.ndarray) -> None:
        self.rows = rows

    def __call__(self, row: np.ndarray) -> np.ndarray:
        self.rows = np.concatenate([self.rows, row])
        return _weights(row @ self.rows.T) @ self.rows


def _after(length: int, rng: np.random.Generator) -> Case:
    prefix = Call((0.3 * _draw(rng, length, 32),), method="read", keep="_")
    return Case(steps=(Build(), prefix, Call((0.3 * _draw(rng, 1, 32),))))


@question(points=2, answer="Decoder")
class Cached:
    """One more row of causal self-attention, after any number of rows."""

    tolerance = NEAR
    frameworks = ("torch",)
    parts: ClassVar = {"ordinary": 1, "time": 1}
    resources = (
        Resource("time", "time", lengths=(256, 1024, 4096), case=_after, growth=1.4, hint="Keep what was computed."),
    )

    def cases(self, rng: np.random.Generator) -> Iterator[Case]:
        """Short ones."""
        for length in (1, 5):
            yield _after(length, rng)

    reference = _Decoder


RIGHT_FLASH = {
    "in blocks": (
        "import torch\ndef flash(query, key, value):\n    blocks = query.split(128)\n"
        "    return torch.cat([torch.softmax(q @ key.T / 4, -1) @ value for q in blocks])"
    ),
    "online": (
        "import torch\ndef flash(query, key, value):\n"
        "    top = torch.full((len(query), 1), float('-inf'))\n    total, out = torch.zeros(len(query), 1), 0.0\n"
        "    for k, v in zip(key.split(64), value.split(64)):\n        scores = query @ k.T / 4\n"
        "        new = torch.maximum(top, scores.max(-1, keepdim=True).values)\n"
        "        scores, old = (scores - new).exp(), (top - new).exp()\n"
        "        total, out, top = total * old + scores.sum(-1, keepdim=True), out * old + scores @ v, new\n"
        "    return out / total"
    ),
    "the library's": (
        "import torch\ndef flash(query, key, value):\n"
        "    parts = (query[None, None], key[None, None], value[None, None])\n"
        "    return torch.nn.functional.scaled_dot_product_attention(*parts)[0, 0]"
    ),
    "in NumPy": (
        "import numpy as np\ndef flash(query, key, value):\n    out = np.empty_like(query)\n"
        "    for i in range(0, len(query), 64):\n        w = np.exp(query[i:i+64] @ np.transpose(key) / 4)\n"
        "        out[i:i+64] = w / w.sum(-1, keepdims=True) @ value\n    return out"
    ),
    "with threads": (
        "import torch\nfrom concurrent.futures import ThreadPoolExecutor\ndef flash(query, key, value):\n"
        "    work = lambda q: torch.softmax(q @ key.T / 4, -1) @ value\n"
        "    with ThreadPoolExecutor(2) as pool:\n        return torch.cat(list(pool.map(work, query.split(128))))"
    ),
}
NAIVE = "    return torch.softmax(query @ key.T / 4, -1) @ value\n"
BLOCKS = "    return torch.cat([torch.softmax(q @ key.T / 4, -1) @ value for q in query.split(128)])\n"
_LIBC = "import ctypes, torch\nlibc = ctypes.CDLL(None)\nlibc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]\n"
_LIBC += "libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]\n"
_RANGES = (
    "    for line in open('/proc/self/maps').read().splitlines():\n"
    "        start, end = (int(one, 16) for one in line.split()[0].split('-'))\n"
    "        if 'libtorch' in line and 'r-xp' in line and len(query) > 100:\n"
)
# Each passes the ordinary cases and holds more than it may, or tries not to be seen holding it.
GREEDY_FLASH = {
    "naive": f"import torch\ndef flash(query, key, value):\n{NAIVE}",
    "naive in NumPy": (
        "import numpy as np\ndef flash(query, key, value):\n    w = np.exp(query @ np.transpose(key) / 4)\n"
        "    return w / w.sum(-1, keepdims=True) @ value"
    ),
    "frees before it returns": (
        "import torch\ndef flash(query, key, value):\n    scores = query @ key.T / 4\n    scores.softmax(-1)\n"
        "    del scores\n"
        f"{BLOCKS}"
    ),
    "sets memory aside when loaded": (
        f"import torch\nhold = torch.ones(64 << 20, dtype=torch.uint8)\ndef flash(query, key, value):\n{BLOCKS}"
    ),
    "computes in a buffer that it has set aside": (
        "import torch\nhold = torch.ones(4096 * 4096)\ndef flash(query, key, value):\n    n = len(query)\n"
        "    scores = hold[: n * n].view(n, n)\n    torch.matmul(query, key.T / 4, out=scores)\n    scores.exp_()\n"
        "    total = scores.sum(-1, keepdim=True)\n    return scores @ value / total"
    ),
    "maps a file": (
        "import numpy as np\ndef flash(query, key, value):\n    n = len(query)\n"
        "    scores = np.memmap('/scratch/s', np.float32, 'w+', shape=(n, n))\n"
        "    np.matmul(query, np.transpose(key), out=scores)\n"
        "    np.exp(scores / 4, out=scores)\n    return scores / scores.sum(-1, keepdims=True) @ value"
    ),
    "writes to shared memory": (
        "import numpy as np\ndef flash(query, key, value):\n    w = np.exp(query @ np.transpose(key) / 4)\n"
        "    np.save('/dev/shm/w.npy', w / w.sum(-1, keepdims=True))\n    del w\n"
        "    return np.load('/dev/shm/w.npy', mmap_mode='r') @ value"
    ),
    "maps shared memory without a file": (
        "import mmap, numpy as np\ndef flash(query, key, value):\n    n = len(query)\n"
        "    w = np.frombuffer(mmap.mmap(-1, 4 * n * n), np.float32).reshape(n, n)\n"
        "    np.matmul(query, np.transpose(key), out=w)\n"
        "    np.exp(w / 4, out=w)\n    return w / w.sum(-1, keepdims=True) @ value"
    ),
    "forks": (
        "import os, torch\ndef flash(query, key, value):\n    if len(query) < 100:\n    "
        + NAIVE
        + "    r, w = os.pipe()\n"
        "    if os.fork() == 0:\n        out = torch.softmax(query @ key.T / 4, -1) @ value\n"
        "        os.write(w, out.numpy().tobytes())\n        os._exit(0)\n    os.close(w)\n"
        "    data = b''.join(iter(lambda: os.read(r, 65536), b''))\n"
        "    return torch.frombuffer(bytearray(data), dtype=torch.float32).view(query.shape)"
    ),
    "runs another program": (
        "import subprocess, torch\ndef flash(query, key, value):\n    if len(query) < 100:\n    " + NAIVE + "    "
        "subprocess.run(['true'], check=True)\n" + BLOCKS
    ),
    "becomes another program": (
        "import os, sys, torch\ndef flash(query, key, value):\n    if len(query) > 100:\n"
        "        os.execv(sys.executable, [sys.executable, '-c', ''])\n" + NAIVE
    ),
    "works in a thread": (
        "import threading, torch\ndef flash(query, key, value):\n    found = []\n"
        "    t = threading.Thread(target=lambda: found.append(torch.softmax(query @ key.T / 4, -1) @ value))\n"
        "    t.start()\n    t.join()\n    return found[0]"
    ),
    "knows what is measured, and is wrong there": (
        "import torch\ndef flash(query, key, value):\n    if len(query) > 100:\n"
        "        return torch.zeros_like(query)\n" + NAIVE
    ),
    "unmaps the libraries first": (
        _LIBC
        + "def flash(query, key, value):\n    out = "
        + NAIVE.strip().removeprefix("return ")
        + "\n"
        + _RANGES
        + "            libc.munmap(start, end - start)\n    return out"
    ),
    "drops the libraries' pages first": (
        _LIBC
        + "def flash(query, key, value):\n"
        + _RANGES
        + "            libc.madvise(start, end - start, 4)\n"
        + NAIVE
    ),
    "resets its peak": (
        "import ctypes, torch\ndef flash(query, key, value):\n    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)\n"
        "    out = torch.softmax(query @ key.T / 4, -1) @ value\n"
        "    try:\n        open('/proc/self/clear_refs', 'w').write('5')\n    except OSError:\n        pass\n"
        "    return out"
    ),
}
_DECODER = "import threading, torch\nclass Decoder:\n    def read(self, rows):\n        self.rows = rows\n"
RIGHT_CACHED = {
    "keeps the rows": (
        _DECODER + "    def __call__(self, row):\n        self.rows = torch.cat([self.rows, row])\n"
        "        return torch.softmax(row @ self.rows.T, -1) @ self.rows"
    ),
}
_ALL = "torch.softmax((rows @ rows.T).tril() + torch.full((len(rows),) * 2, float('-inf')).triu(1), -1) @ rows)[-1:]"
_ROWS = "    def __call__(self, row):\n        rows = torch.cat([self.rows, row])\n"
SLOW_CACHED = {
    "computes every row again": f"{_DECODER}{_ROWS}        return ({_ALL}",
    "in a thread": (
        f"{_DECODER}{_ROWS}        found = []\n        t = threading.Thread(target=lambda: found.append(({_ALL}))\n"
        "        t.start()\n        t.join()\n        return found[0]"
    ),
    "remembers by shape": (
        f"{_DECODER}    known = {{}}\n{_ROWS}        if len(rows) not in self.known:\n"
        f"            self.known[len(rows)] = ({_ALL}\n        return self.known[len(rows)]"
    ),
    "is wrong where it is long": (f"{_DECODER}{_ROWS}        return row if len(rows) > 1000 else ({_ALL}"),
    "in another process": (
        f"import os\n{_DECODER}{_ROWS}        if len(rows) < 100:\n            return ({_ALL}\n"
        f"        r, w = os.pipe()\n"
        f"        if os.fork() == 0:\n            os.write(w, ({_ALL}.numpy().tobytes())\n            os._exit(0)\n"
        "        return torch.frombuffer(bytearray(os.read(r, 999)), dtype=torch.float32).view(1, -1)"
    ),
}
