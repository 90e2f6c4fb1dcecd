"""Every backend against the definition in float64: output, lse and every gradient, at every edge, in every dtype.

A new backend joins by its name in `attnkit.backends.ORDER`; a new edge case by a line in `attnkit.testing.examples`.
"""

from __future__ import annotations

import functools
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnkit import backends
from attnkit.backends import inplace, sdpa, tiling
from attnkit.testing import EXAMPLES, Example, inputs, judge, run, run_without_gradients
from attnkit.testing.examples import viewed

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)

PLAIN_SDPA = F.scaled_dot_product_attention

# Where PyTorch's own attention is outside the bound, why, and in which dtypes. Everything else is inside.
DEVIATIONS = {
    "logits near 1e4, causal, grouped": (
        (torch.float64, torch.float32),
        "its backward pass recomputes the weights from lse, whose rounding at 1e4 changes each by a part in a thousand",
    ),
}


def name_of(x: object) -> str:
    """Readable test ids."""
    return x.name if isinstance(x, Example) else str(x).removeprefix("torch.")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 5 queries and 7 keys, so that small examples cross many tile borders, none of them at the end."""
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (5, 7))


@functools.cache
def declines(
    backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...], gradients: bool = True
) -> str | None:
    """Why a backend cannot do an example, or None."""
    leaves = inputs(example, dtype)
    with torch.set_grad_enabled(gradients):
        return backends.load(backend).unsupported(*viewed(leaves, example), replace(example.options(leaves), aux=aux))


# With lse, its gradient flows as well; without it, nothing hides an error in the gradient of the output alone.
AUX = pytest.mark.parametrize("aux", [(), ("lse",)], ids=["output alone", "with lse"])


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
@pytest.mark.parametrize("backend", backends.ORDER)
@AUX
def test_backend_is_as_exact_as_the_definition(
    backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...]
) -> None:
    reason = declines(backend, example, dtype, aux)
    if reason:
        with pytest.raises(backends.BackendUnsupported, match="cannot") as refusal:
            run(backend, example, dtype, aux=aux)
        assert reason in str(refusal.value)
        return
    got = run(backend, example, dtype, aux=aux)
    assert got["out"].dtype == dtype
    verdicts = judge(got, example, dtype)
    assert len(verdicts) == len(got)
    if backend == "sdpa" and dtype in DEVIATIONS.get(example.name, ((), ""))[0]:
        # Not silently tolerated: the deviation must be there, in a gradient, and small.
        assert not all(v.ok for v in verdicts), "PyTorch is inside the bound now: remove the deviation"
        assert all(v.largest <= 10 * v.largest_allowed for v in verdicts if not v.ok and v.result.startswith("d "))
        assert all(v.ok for v in verdicts if not v.result.startswith("d "))
        return
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
@AUX
def test_auto_always_finds_a_backend_and_stays_in_the_bound(
    example: Example, dtype: torch.dtype, aux: tuple[str, ...]
) -> None:
    verdicts = judge(run("auto", example, dtype, aux=aux), example, dtype)
    if not aux and dtype in DEVIATIONS.get(example.name, ((), ""))[0]:  # "auto" takes SDPA, and strays as it does
        assert all(v.ok for v in verdicts if not v.result.startswith("d ")), "\n".join(map(str, verdicts))
        assert all(v.largest <= 10 * v.largest_allowed for v in verdicts), "\n".join(map(str, verdicts))
        return
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


WEIGHTS = pytest.mark.parametrize("aux", [(), ("lse",), ("lse", "weights")], ids=["alone", "lse", "lse and weights"])


@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
@pytest.mark.parametrize("backend", backends.ORDER)
@WEIGHTS
def test_backend_is_as_exact_without_gradients(
    backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...]
) -> None:
    """What a backend does when no gradient is wanted is another road through it, and gives the weights as well."""
    if declines(backend, example, dtype, aux, gradients=False):
        with pytest.raises(backends.BackendUnsupported, match="cannot"):
            run_without_gradients(backend, example, dtype, aux)
        return
    verdicts = judge(run_without_gradients(backend, example, dtype, aux), example, dtype)
    assert [v.result for v in verdicts] == ["out", *aux]
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize("example", EXAMPLES, ids=name_of)
@pytest.mark.parametrize("scores", [1, 200, 1 << 30])
def test_inplace_gives_the_same_whatever_it_works_on_at_a_time(
    example: Example, scores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One head at a time, a few heads, and the whole batch."""
    monkeypatch.setattr(inplace, "SCORES", scores)
    if declines("inplace", example, torch.float32, ("weights",), gradients=False) is None:
        verdicts = judge(run_without_gradients("inplace", example, torch.float32, ("weights",)), example, torch.float32)
        assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize(
    "example",
    [e for e in EXAMPLES if (e.mask or e.bias is not None) and not (e.softcap or e.sink or e.dropout)],
    ids=name_of,
)
def test_sdpa_is_right_where_the_device_gives_nan_for_blind_rows(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On such a device the rows that see nothing are opened before and zeroed afterwards; here, as if this were one."""
    monkeypatch.setattr(sdpa, "ZERO_WHEN_BLIND", set())
    monkeypatch.setattr(F, "scaled_dot_product_attention", nan_where_blind)
    verdicts = judge(run("sdpa", example, torch.float64, aux=()), example, torch.float64)
    assert all(v.ok for v in verdicts) or example.name in DEVIATIONS, "\n".join(map(str, verdicts))


def nan_where_blind(query: Tensor, key: Tensor, value: Tensor, *, attn_mask: Tensor | None = None, **rest) -> Tensor:
    """SDPA as it is on some devices."""
    out = PLAIN_SDPA(query, key, value, attn_mask=attn_mask, **rest)
    if attn_mask is None:
        return out
    hidden = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask.isneginf()
    # A factor, so that the gradient becomes NaN as well: 0 * NaN, also when the output is zeroed afterwards.
    return out * torch.where(hidden.all(-1, keepdim=True), float("nan"), 1.0).to(out.dtype)


@pytest.mark.parametrize("backend", ["online", "naive"])
def test_repeating_a_call_gives_the_same_bits(backend: str) -> None:
    example = next(e for e in EXAMPLES if e.name == "everything at once")
    first = run(backend, example, torch.float32)
    for _ in range(10):
        again = run(backend, example, torch.float32)
        assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_bound_is_one_that_errors_break() -> None:
    """Each result, off by a thousandth in one entry or missing a NaN, is too far."""
    example = next(e for e in EXAMPLES if e.name == "everything at once")
    good = run("online", example, torch.float32)
    for name in good:
        for spoil in (lambda x: x * (1 + 1e-3), lambda x: x + 1e-3, lambda x: torch.full_like(x, float("nan"))):
            bad = good | {name: spoil(good[name])}
            wrong = [v.result for v in judge(bad, example, torch.float32) if not v.ok]
            assert wrong == [name]


@pytest.mark.parametrize("lost", ["out", "d query", "d bias", "d sink"])
def test_a_result_that_is_not_there_is_not_passed_over(lost: str) -> None:
    example = next(e for e in EXAMPLES if e.name == "everything at once")
    got = run("online", example, torch.float32)
    del got[lost]
    with pytest.raises(AssertionError):
        judge(got, example, torch.float32)
