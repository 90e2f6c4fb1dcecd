"""`python -m attnkit.bench.memory BACKEND LENGTH`: one forward and backward pass, and the memory it took at its peak.

A process of its own, since the high-water mark of a process never falls.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch

from attnkit.attention import attention


def high_water_bytes() -> int:
    """The most memory that this process has had resident so far."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: ru_maxrss would count the parent's memory too
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def extra_bytes(backend: str, length: int, d: int = 64) -> int:
    """Peak of one forward and backward pass over (1, 1, length, d) beyond its inputs: output and gradients count."""
    query, key, value = (torch.randn(1, 1, length, d, requires_grad=True) for _ in range(3))
    short = [x[:, :, :64].detach().requires_grad_() for x in (query, key, value)]
    attention(*short, backend=backend).sum().backward()  # what is allocated once, whatever the length
    before = high_water_bytes()
    attention(query, key, value, backend=backend).sum().backward()
    return high_water_bytes() - before


if __name__ == "__main__":
    print(json.dumps({"extra_megabytes": extra_bytes(sys.argv[1], int(sys.argv[2])) / 1e6}))
