"""The conformance tests reject kernels that are broken on purpose, and accept the same kernels as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton", reason="needs Triton, which is for Linux alone")

from triton.runtime.errors import InterpreterError

from attnkit.kernels import tiles
from attnkit.testing import judge, run
from tests.interpreter import hasten
from tests.kernels.zoo import SMALL, ZOO, Fault, far_apart, hidden_nan, load, rejected

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="the zoo lives in Triton's interpreter"),
]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "INTERPRETED", SMALL)
    hasten(monkeypatch)


@pytest.mark.parametrize("fault", ZOO, ids=lambda fault: fault.name)
def test_a_broken_kernel_is_rejected(fault: Fault, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load(monkeypatch, tmp_path, fault)
    if fault.refused_by_triton:
        with pytest.raises(InterpreterError, match=fault.refused_by_triton):
            rejected(fault, tmp_path)
    else:
        assert rejected(fault, tmp_path)


CASES = list({(e, fault.dtype): None for fault in ZOO for e in fault.examples})


@pytest.mark.parametrize(("example", "dtype"), CASES, ids=[f"{e.name}-{dtype}" for e, dtype in CASES])
def test_the_kernels_as_they_are_pass(
    example, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    load(monkeypatch, tmp_path, None)
    verdicts = judge(run("fused", example, dtype), example, dtype)
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


def test_the_kernels_as_they_are_pass_the_checks_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    load(monkeypatch, tmp_path, None)
    assert far_apart(tmp_path)
    assert hidden_nan(tmp_path)


def test_a_fault_that_has_lost_its_place_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no longer has its place"):
        load(monkeypatch, tmp_path, Fault("gone", "parts", "no such line", ""))
