"""What `import attnkit` costs a program that has torch already, each time in a fresh process."""

from __future__ import annotations

import json
import subprocess
import sys

from attnkit.bench.report import Row

GOAL = 60.0  # ms

# In this order, in one process: a row shows what it and the rows before it took together, beyond `import torch`.
STATEMENTS = {
    "import attnkit": "import attnkit",
    "from attnkit import attention": "from attnkit import attention; import attnkit.masks",
    "from attnkit.nn import MultiHeadAttention": "from attnkit.nn import MultiHeadAttention",
    "from attnkit.models import GPT": "from attnkit.models import GPT",
}


def suite(rounds: int = 7) -> list[Row]:
    """A row for each statement; the first process is not counted, since it may have to write bytecode."""
    samples = [_milliseconds([("import torch", "import torch"), *STATEMENTS.items()]) for _ in range(rounds + 1)][1:]
    torch = [sample.pop("import torch") for sample in samples]
    rows, sums = [], [0.0] * rounds
    for name in STATEMENTS:
        sums = [done + sample[name] for done, sample in zip(sums, samples, strict=True)]
        rows.append(Row(f"{name}, after torch", sums, torch, "import torch itself", goal=GOAL, against_peer=False))
    return rows


def _milliseconds(statements: list[tuple[str, str]]) -> dict[str, float]:
    """Milliseconds of each named statement, run one after the other in a process that has loaded nothing."""
    lines = ["import json", "from time import perf_counter", "took = {}"]
    for name, statement in statements:
        lines += ["start = perf_counter()", statement, f"took[{name!r}] = (perf_counter() - start) * 1e3"]
    run = subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, "print(json.dumps(took))"])],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        raise RuntimeError(f"the import could not be measured:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout)
