"""Every test runs with attnkit's annotations enforced: jaxtyping checks shapes, beartype checks types."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

# One thread a worker: tests run in parallel, and results must not depend on how many cores there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")

install_import_hook("attnkit", "beartype.beartype")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone that is being tested."""
    return ROOT


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without naming a seed is the same each time, alone or among others."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
