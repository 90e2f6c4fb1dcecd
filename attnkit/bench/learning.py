"""How long the recipes take: a whole process each, from the import to the score on held-out items."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from attnkit.bench.report import Row

GOAL = 180.0  # s


def suite(tasks: Sequence[str] = ("copy", "reverse", "numbers"), seed: int = 0, steps: int | None = None) -> list[Row]:
    """One row for each task; `steps` fewer than the recipe's train less."""
    return [_row(task, seed, steps) for task in tasks]


def _row(task: str, seed: int, steps: int | None) -> Row:
    command = [sys.executable, "-m", "attnkit.training.recipes", task, "--seed", str(seed)]
    start = time.perf_counter()
    run = subprocess.run(
        command + ([] if steps is None else ["--steps", str(steps)]), capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if run.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{run.stderr[-2000:]}")
    found = json.loads(run.stdout)
    name = f"learning {task}, {found['steps']} steps, one core: {found['exact_match']:.1%} of held-out items right"
    return Row(name, [seconds], unit="s", goal=GOAL, against_peer=False)
