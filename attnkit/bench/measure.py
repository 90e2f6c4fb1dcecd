"""Taking samples: two callables interleaved in one process, and peak memory in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable


def interleaved(
    ours: Callable[[], object], peer: Callable[[], object], rounds: int = 15
) -> tuple[list[float], list[float]]:
    """Milliseconds of each call, `rounds` of each, in the order ABBA: a drift of the machine hits both alike."""
    ours()
    peer()
    samples: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        for which in order:
            start = time.perf_counter()
            (ours, peer)[which]()
            samples[which].append((time.perf_counter() - start) * 1e3)
    return samples


def peak_extra_megabytes(backend: str, length: int) -> float:
    """Peak memory (MB) that `attention(backend=...)` takes beyond its inputs, both passes, in a fresh process."""
    run = subprocess.run(
        [sys.executable, "-m", "attnkit.bench.memory", backend, str(length)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"the memory measurement of {backend} at length {length} failed:\n{run.stderr[-2000:]}")
    return float(json.loads(run.stdout)["extra_megabytes"])
