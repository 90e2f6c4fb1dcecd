"""What is read off the weights: entropy, column sums and chosen rows, in every backend that gives them."""

from __future__ import annotations

import math

import pytest
import torch

from attnkit import BackendUnsupported, attention
from attnkit.backends import tiling
from attnkit.backends.common import Rows
from attnkit.masks import Causal
from attnkit.positions import LinearBias
from attnkit.testing import EXAMPLES, Example, example, judge, run_without_gradients
from tests.largest import Largest

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
READINGS = ("entropy", "column_sums", "row_weights")


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (5, 7))


def qkv(q_len: int = 6, k_len: int = 6) -> list[torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = (2, 4, q_len, 8), (2, 2, k_len, 8), (2, 2, k_len, 8)
    return [torch.randn(s, generator=rng).requires_grad_() for s in shapes]


def declines(backend: str, example: Example) -> bool:
    """Some cannot do an example at all, whatever is read."""
    return {
        "naive": False,
        "online": example.score_mod is not None,
        "inplace": bool(example.score_mod or example.dropout or not all(example.sizes)),
    }[backend]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: e.name)
@pytest.mark.parametrize("backend", ["naive", "online", "inplace"])
def test_readings_are_as_exact_as_the_definition(backend: str, example: Example, dtype: torch.dtype) -> None:
    if declines(backend, example):
        with pytest.raises(BackendUnsupported, match=r"dropout|score_mod|no scores"):
            run_without_gradients(backend, example, dtype, READINGS)
        return
    got = run_without_gradients(backend, example, dtype, READINGS)
    assert got["row_weights"].dtype == dtype
    verdicts = judge(got, example, dtype)
    assert [v.result for v in verdicts] == ["out", *READINGS]
    assert all(v.ok for v in verdicts), "\n".join(map(str, verdicts))


@pytest.mark.parametrize("name", READINGS)
def test_the_bound_is_one_that_wrong_readings_break(name: str) -> None:
    case = example("everything at once")
    good = run_without_gradients("online", case, torch.float32, READINGS)
    for spoil in (lambda x: x * (1 + 1e-3), lambda x: x + 1e-3, lambda x: x.flip(-1)):
        verdicts = judge(good | {name: spoil(good[name])}, case, torch.float32)
        assert [v.result for v in verdicts if not v.ok] == [name]


@pytest.mark.parametrize("backend", ["naive", "online"])
def test_readings_are_for_reading_and_change_nothing(backend: str) -> None:
    """They have no gradient, and asking for them changes neither the output nor its gradient."""
    tensors = qkv()
    out, aux = attention(*tensors, mask=Causal(), aux=("entropy", "column_sums", Rows([0]), "lse"), backend=backend)
    assert not any(x.requires_grad for x in (aux.entropy, aux.column_sums, aux.row_weights))
    assert aux.lse.requires_grad
    assert aux.weights is None
    plain = attention(*tensors, mask=Causal(), backend=backend)
    assert torch.equal(out, plain)
    for got, want in zip(*(torch.autograd.grad(x.sum(), tensors) for x in (out, plain)), strict=True):
        assert torch.equal(got, want)


def test_uniform_weights_have_the_entropy_of_their_number() -> None:
    q, k, v = qkv(3, 6)
    _, aux = attention(0 * q, k, v, aux=("entropy", "column_sums"))
    torch.testing.assert_close(aux.entropy, torch.full((2, 4, 3), math.log(6)))
    torch.testing.assert_close(aux.column_sums, torch.full((2, 4, 6), 3 / 6))


@pytest.mark.parametrize("backend", ["naive", "online"])
def test_rows_count_from_both_ends_in_any_order(backend: str) -> None:
    tensors = qkv(9, 6)
    _, all_of_it = attention(*tensors, aux=("weights",))
    for indices in ([3, 0, -1, 3], torch.tensor([8, 2]), range(9), []):
        _, aux = attention(*tensors, aux=(Rows(indices),), backend=backend)
        torch.testing.assert_close(aux.row_weights, all_of_it.weights[:, :, list(indices)].detach())


@pytest.mark.parametrize(
    ("aux", "words"),
    [
        (lambda: (Rows([6]),), ["aux", "Rows([6])", "6 queries", "6 is not"]),
        (lambda: (Rows([0, -7]),), ["aux", "-7 is not"]),
        (lambda: (Rows([0]), Rows([1])), ["aux", "one Rows"]),
        (lambda: ("row_weights",), ["aux", "row_weights", "Rows([...])"]),
        (lambda: (Rows([1.0]),), ["Rows", "[1.0]", "integers"]),
        (lambda: (Rows(3),), ["Rows", "3", "list"]),
        (lambda: (Rows([True]),), ["Rows", "[True]", "integers"]),
        (lambda: (3,), ["aux", "3", "entropy"]),
    ],
)
def test_what_is_no_row_is_refused_in_words(aux, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        attention(*qkv(), aux=aux())
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize("backend", ["naive", "online", "inplace"])
def test_a_key_that_is_not_finite_shows_in_the_rows_that_see_it_and_in_no_other(backend: str) -> None:
    q, k, v = (x.detach() for x in qkv())
    asked = ("lse", "entropy", "column_sums", Rows([4, 5]))
    _, clean = attention(q, k, v, mask=Causal(), aux=asked, backend=backend)
    k = k.clone()
    k[:, 1, -1] = math.nan  # the last query of the heads 2 and 3 sees it
    _, sick = attention(q, k, v, mask=Causal(), aux=asked, backend=backend)
    for name in ("lse", "entropy"):
        got, want = getattr(sick, name), getattr(clean, name)
        assert got[:, 2:, 5].isnan().all()
        assert torch.equal(got[:, :, :5], want[:, :, :5])
        assert torch.equal(got[:, :2], want[:, :2])
    assert sick.row_weights[:, 2:, 1].isnan().all()
    assert torch.equal(sick.row_weights[:, :, 0], clean.row_weights[:, :, 0])
    assert torch.equal(sick.column_sums[:, :2], clean.column_sums[:, :2])
    assert sick.column_sums[:, 2:].isnan().all()


def test_online_reads_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every operation makes tensors of the size of a tile, or of what was asked for."""
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (16, 16))
    asked = ("entropy", "column_sums", Rows([0, 200]))
    with Largest() as seen:
        attention(*qkv(256, 256), bias=LinearBias(torch.ones(4)), aux=asked, backend="online")
    assert seen.numel < 4 * 256 * 256 / 4
