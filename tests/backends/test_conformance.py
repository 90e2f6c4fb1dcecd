"""Every backend against the definition in float64: output, lse and every gradient, at every edge, in every dtype.

A new backend joins by its name in `attnkit.backends.ORDER`; a new edge case by a line in `attnkit.testing.examples`.
With ATTNKIT_DEVICE=cuda everything runs on the GPU; else the fused kernels run in Triton's interpreter.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import replace
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from attnkit import backends
from attnkit.backends import inplace, sdpa, tiling
from attnkit.kernels import tiles
from attnkit.testing import EXAMPLES, Example, judge, run, run_without_gradients
from attnkit.testing.bound import on_device
from attnkit.testing.crossed import CROSSED
from attnkit.testing.examples import viewed
from tests.interpreter import hasten

DEVICE, HAS_TRITON = os.environ.get("ATTNKIT_DEVICE", "cpu"), importlib.util.find_spec("triton") is not None
EXAMPLES, CROSSED = ([replace(e, device=DEVICE) for e in found] for found in (EXAMPLES, CROSSED))

PLAIN_SDPA = F.scaled_dot_product_attention

# Where PyTorch's own attention is outside the bound, why, and in which dtypes. Everything else is inside.
DEVIATIONS = {
    "logits near 1e4, causal, grouped": (
        (torch.float64, torch.float32),
        "its backward pass recomputes the weights from lse, whose rounding at 1e4 changes each by a part in a thousand",
    ),
}

# What `make check` runs of the fused kernels, which take seconds in the interpreter where the others take a moment.
# `make test` runs all.
QUICK = ("grouped queries", "longer than a tile", "everything at once", "everything at once, by slopes", "empty: keys")


def name_of(x: object) -> str:
    """Readable test ids."""
    return x.name if isinstance(x, Example) else str(x).removeprefix("torch.")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of few queries and keys, so that small examples cross many tile borders, hardly one of them at the end."""
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (5, 7))
    monkeypatch.setattr(tiles, "INTERPRETED", tiles.Tile(8, 8, 1, 1))
    if DEVICE == "cpu" and HAS_TRITON:
        hasten(monkeypatch)


@functools.cache
def declines(
    backend: str, example: Example, dtype: torch.dtype, aux: tuple[str, ...], gradients: bool = True
) -> str | None:
    """Why a backend cannot do an example, or None."""
    leaves = on_device(example, dtype)
    with torch.set_grad_enabled(gradients):
        return backends.load(backend).unsupported(*viewed(leaves, example), replace(example.options(leaves), aux=aux))


class Conformance:
    """Tests of one dtype, on every example. Each dtype is a class of its own: that is what parallel workers share."""

    dtype: ClassVar[torch.dtype]
    aux: ClassVar[dict[str, tuple[str, ...]]]
    main_roads: ClassVar[tuple[str, ...]]  # the others are part of these

    @classmethod
    def examples(cls) -> list[Example]:
        """In float64 nothing crosses that does not in float32, and the oracle has no better one to be measured by."""
        return EXAMPLES if cls.dtype == torch.float64 else EXAMPLES + CROSSED

    @classmethod
    def cases(cls, names: Iterable[str]) -> list[Any]:
        """(backend, example, aux)."""
        return [
            pytest.param(
                backend, example, aux,
                id=f"{backend}-{example.name}-{told}",
                marks=[pytest.mark.slow] if cls.is_slow(backend, example, told) else [],
            )
            for backend in names for example in cls.examples() for told, aux in cls.aux.items()
            if told in cls.main_roads or example not in CROSSED
        ]  # fmt: skip

    @classmethod
    def is_slow(cls, backend: str, example: Example, told: str) -> bool:
        """Left to `make test`, because it takes long, or because what remains goes the same road."""
        if example.name.startswith("crossed") or told not in cls.main_roads:
            return True
        return (backend == "fused" and (example.name not in QUICK or told not in ("lse", "read"))) or (
            backend == "flex" and (example.name not in QUICK or cls.dtype != torch.float32)
        )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The cases of a class of Conformance: of all backends, or of "auto" where a test takes none."""
    if metafunc.cls and issubclass(metafunc.cls, Conformance):
        names = ["auto"] if "auto" in metafunc.function.__name__ else backends.ORDER
        metafunc.parametrize(("backend", "example", "aux"), metafunc.cls.cases(names))


class WithGradients(Conformance):
    """With lse, its gradient flows as well; without it, nothing hides an error in the gradient of the output alone."""

    aux: ClassVar = {"alone": (), "lse": ("lse",)}
    main_roads: ClassVar = ("alone", "lse")

    def test_backend_is_as_exact_as_the_definition(self, backend: str, example: Example, aux: tuple[str, ...]) -> None:
        reason = declines(backend, example, self.dtype, aux)
        if reason:
            with pytest.raises(backends.BackendUnsupported, match="cannot") as refusal:
                run(backend, example, self.dtype, aux=aux)
            assert reason in str(refusal.value)
            return
        got = run(backend, example, self.dtype, aux=aux)
        assert got["out"].dtype == self.dtype
        verdicts = judge(got, example, self.dtype)
        assert len(verdicts) == len(got)
        if backend == "sdpa" and self.dtype in DEVIATIONS.get(example.name, ((), ""))[0]:
            # Not silently tolerated: the deviation must be there, in a gradient, and small.
            assert not all(v.ok for v in verdicts), "PyTorch is inside the bound now: remove the deviation"
            assert all(v.largest <= 10 * v.largest_allowed for v in verdicts if not v.ok and v.result.startswith("d "))
            assert all(v.ok for v in verdicts if not v.result.startswith("d "))
            return
        assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))

    def test_auto_always_finds_a_backend_and_stays_in_the_bound(
        self, backend: str, example: Example, aux: tuple[str, ...]
    ) -> None:
        verdicts = judge(run(backend, example, self.dtype, aux=aux), example, self.dtype)
        if (
            not aux and self.dtype in DEVIATIONS.get(example.name, ((), ""))[0]
        ):  # it takes SDPA, and strays as SDPA does
            assert all(v.ok for v in verdicts if not v.result.startswith("d ")), "\n".join(map(str, verdicts))
            assert all(v.largest <= 10 * v.largest_allowed for v in verdicts), "\n".join(map(str, verdicts))
            return
        assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


class WithoutGradients(Conformance):
    """What a backend does when no gradient is wanted is another road through it, and gives all of Aux as well."""

    READ = ("lse", "entropy", "column_sums", "row_weights")
    aux: ClassVar = {"alone": (), "lse": ("lse",), "read": READ, "weights": ("weights", *READ)}
    main_roads: ClassVar = ("read", "weights")

    def test_backend_is_as_exact_without_gradients(self, backend: str, example: Example, aux: tuple[str, ...]) -> None:
        if declines(backend, example, self.dtype, aux, gradients=False):
            with pytest.raises(backends.BackendUnsupported, match="cannot"):
                run_without_gradients(backend, example, self.dtype, aux)
            return
        verdicts = judge(run_without_gradients(backend, example, self.dtype, aux), example, self.dtype)
        assert [v.result for v in verdicts] == ["out", *aux]
        assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


class TestFloat64(WithGradients):
    dtype = torch.float64


class TestFloat32(WithGradients):
    dtype = torch.float32


class TestBfloat16(WithGradients):
    dtype = torch.bfloat16


class TestFloat16(WithGradients):
    dtype = torch.float16


class TestFloat64WithoutGradients(WithoutGradients):
    dtype = torch.float64


class TestFloat32WithoutGradients(WithoutGradients):
    dtype = torch.float32


class TestBfloat16WithoutGradients(WithoutGradients):
    dtype = torch.bfloat16


class TestFloat16WithoutGradients(WithoutGradients):
    dtype = torch.float16


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
    [e for e in EXAMPLES if (e.mask or e.bias is not None) and not (e.softcap or e.sink or e.dropout or e.score_mod)],
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


@pytest.mark.parametrize("backend", ["online", pytest.param("fused", marks=pytest.mark.slow), "naive"])
def test_repeating_a_call_gives_the_same_bits(backend: str) -> None:
    example = next(e for e in EXAMPLES if e.name == "everything at once")
    first = run(backend, example, torch.float32)
    for _ in range(3 if backend == "fused" else 10):
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


@pytest.mark.parametrize(
    ("before", "environment", "reason"),
    [
        ("", {}, "it needs an NVIDIA GPU, and the tensors are on cpu"),
        (
            "import sys; sys.modules['triton'] = None",
            {"TRITON_INTERPRET": "1"},
            "it needs Triton, which is not installed",
        ),
    ],
    ids=["no GPU and not interpreted", "no Triton"],
)
def test_fused_declines_where_it_cannot_run(before: str, environment: dict[str, str], reason: str) -> None:
    """Without importing Triton, so that the reason is given where there is none, too; and "auto" takes another."""
    code = f"""{before}
import sys, torch
from attnkit import attention
from attnkit.backends import BackendUnsupported
qkv = torch.randn(3, 1, 2, 4, 8)
attention(*qkv)
try:
    attention(*qkv, backend="fused")
except BackendUnsupported as refusal:
    print(refusal)
assert sys.modules.get("triton") is None
"""
    bare = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=bare | environment)
    assert ran.returncode == 0, ran.stderr
    assert f"backend 'fused' cannot do this: {reason}" in ran.stdout
