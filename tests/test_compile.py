"""attention under torch.compile: one graph for all lengths, and the numbers of the plain call."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("backend", "calls"),
    [
        pytest.param("opaque", 18, id="the front door before a kernel", marks=pytest.mark.slow),
        pytest.param("sdpa", 22, id="sdpa", marks=pytest.mark.slow),
        pytest.param("naive", 5, id="naive", marks=pytest.mark.slow),
    ],
)
def test_a_call_is_one_graph_whatever_the_lengths(backend: str, calls: int) -> None:
    """Also with NaN in hidden keys; and where lengths are not announced as dynamic, one more graph at most."""
    command = [sys.executable, "-m", "tests.compiled_calls", backend]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    happened = json.loads(run.stdout)
    assert len(happened) == calls
    wrong = {
        name: told for name, told in happened.items() if told.get("graphs", 99) > (2 if "by itself" in name else 1)
    }
    assert not wrong, "\n".join(f"{name}: {told}" for name, told in wrong.items())
