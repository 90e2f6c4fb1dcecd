"""The examples in the docstrings run, and the room keeps the house's rules."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys

import pytest

ROOM = (
    *("around", "batches", "checkpoint", "history", "loop", "losses", "masking", "optim"),
    *("packing", "precision", "randomness", "schedules", "source", "tensorboard", "tree"),
)
EXAMPLES = {
    "batches",
    "checkpoint",
    "history",
    "loop",
    "losses",
    "masking",
    "optim",
    "packing",
    "precision",
    "schedules",
    "tree",
}


@pytest.mark.parametrize("name", ROOM)
def test_examples_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"attnkit.training.{name}"))
    assert result.failed == 0
    assert bool(result.attempted) == (name in EXAMPLES)


def test_importing_the_room_loads_no_optional_package() -> None:
    code = (
        "import sys, attnkit.training\n"
        "print([m for m in ('safetensors', 'tensorboard', 'tqdm.auto', 'matplotlib') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
