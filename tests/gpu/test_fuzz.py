"""A thousand random calls against the definition in float64; some of them, shorter, in the interpreter as well."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import replace

import pytest

from attnkit.kernels import tiles
from attnkit.testing import judge, run
from tests.gpu.fuzz import KINDS, MASKS, draw, kind

CALLS = 1000 // KINDS


def faults(device: str, kind_number: int, number: int, longest: int) -> list[str]:
    """What is outside the bound."""
    example, dtype = draw(kind_number, number, longest)
    example = replace(example, device=device)
    verdicts = judge(run("fused", example, dtype), example, dtype)
    return [f"{example.name}: {v}" for v in verdicts if not v.ok]


@pytest.mark.parametrize("kind_number", range(KINDS))
def test_random_calls_stay_in_the_bound(cuda: str, kind_number: int) -> None:
    found = [fault for number in range(CALLS) for fault in faults(cuda, kind_number, number, longest=400)]
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") != "1", reason="on a GPU there are longer ones")
@pytest.mark.parametrize("kind_number", range(KINDS))
def test_short_random_calls_stay_in_the_bound(kind_number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="needs Triton, which is for Linux alone")
    from tests.interpreter import hasten

    hasten(monkeypatch)
    monkeypatch.setattr(tiles, "INTERPRETED", tiles.Tile(8, 8, 1, 1))
    assert not faults("cpu", kind_number, 0, longest=24)


def test_calls_are_many_and_the_same_each_time() -> None:
    calls = [draw(k, n, 400) for k in range(KINDS) for n in range(CALLS)]
    assert len(calls) == 1000
    assert len({example.name for example, _ in calls}) == 1000
    assert [e.name for e, _ in calls] == [draw(k, n, 400)[0].name for k in range(KINDS) for n in range(CALLS)]
    assert min(Counter(kind(k)[2] for k in range(KINDS)).values()) >= 2
    assert len({kind(k)[2] for k in range(KINDS)}) == len(MASKS)
    for field in ("softcap", "sink", "dropout", "bias", "linear", "layout", "d", "kv_heads"):
        assert len({str(getattr(e, field)) for e, _ in calls}) > 1, field
