"""Every test runs with attnkit's annotations enforced: jaxtyping checks shapes, beartype checks types."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from tests.tools import need

# One thread a worker: tests run in parallel, and results must not depend on how many cores there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MPLBACKEND", "agg")
# The kernels run in Triton's interpreter, which Triton decides when it is imported. Tests are sent to a GPU by
# ATTNKIT_DEVICE=cuda, and not by there being one, so that `make test` proves the same everywhere.
if os.environ.setdefault("ATTNKIT_DEVICE", "cpu") == "cpu":
    os.environ.setdefault("TRITON_INTERPRET", "1")

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"authoring", "book", "browser", "lab", "notebooks"}  # the rooms of tests that execute pages


def instrumented() -> list[str]:
    """Every module but those that hold kernels: Triton reads a kernel's source, and takes no wrapped function."""
    paths = (path for path in (ROOT / "attnkit").rglob("*.py") if path.name != "__init__.py")
    plain = (path for path in paths if "@triton.jit" not in path.read_text("utf-8"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in plain]


install_import_hook(instrumented(), "beartype.beartype")


@pytest.fixture(scope="session")
def root() -> Path:
    """The clone that is being tested."""
    return ROOT


@pytest.fixture(scope="session")
def jailed() -> None:
    """Skips where no jail can be built; in CI that fails."""
    from attnkit.grading import jail  # here: most tests need nothing of the grader

    reason = jail.why_no_jail()
    need(not reason, f"a jail: {reason}")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without naming a seed is the same each time, alone or among others."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def pages_meet_no_interpreter(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chapters and notebooks are run as their reader runs them, who does not interpret kernels."""
    if request.path.relative_to(ROOT / "tests").parts[0] in PAGES:
        monkeypatch.delenv("TRITON_INTERPRET", raising=False)
