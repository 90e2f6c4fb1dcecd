"""Every test runs with attnkit's annotations enforced: jaxtyping checks shapes, beartype checks types."""

from __future__ import annotations

import os
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


def need(tool: Path | str | None, what: str) -> None:
    """Skip a test whose system tool is missing; in CI that is a failure, since CI must leave nothing out."""
    if tool:
        return
    message = f"{what} is not installed"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
