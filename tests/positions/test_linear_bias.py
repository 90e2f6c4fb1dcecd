"""A bias told by its slopes: the same as its table, in value and gradient, and no table where that can be helped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from attnkit import attention, explain
from attnkit.backends import tiling
from attnkit.masks import Causal, Sizes, Window
from attnkit.nn import KVCache, MultiHeadAttention
from attnkit.positions import ALiBi, LinearBias
from tests.largest import Largest

SLOPES = torch.tensor([0.5, -0.25, 0.0, 2.0], dtype=torch.float64)


def qkv(q_len: int, k_len: int, heads: int = 4, kv_heads: int = 2, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = (2, heads, q_len, 8), (2, kv_heads, k_len, 8), (2, kv_heads, k_len, 8)
    return [torch.randn(s, generator=rng, dtype=torch.float64).to(dtype).requires_grad_() for s in shapes]


def by_hand(slopes: Tensor, q_len: int, k_len: int, symmetric: bool, align: str | None) -> Tensor:
    """Entry by entry, in Python numbers."""
    shift = k_len - q_len if align == "lower_right" else 0
    table = torch.zeros(1, len(slopes), q_len, k_len, dtype=torch.float64)
    for h, slope in enumerate(slopes.tolist()):
        for q in range(q_len):
            for k in range(k_len):
                far = q + shift - k
                table[0, h, q, k] = -slope * (abs(far) if symmetric else max(far, 0))
    return table


SHAPES = pytest.mark.parametrize(
    ("q_len", "k_len", "align"),
    [(6, 6, None), (6, 6, "lower_right"), (3, 8, "lower_right"), (3, 8, "upper_left"), (8, 3, "lower_right")],
)
KINDS = pytest.mark.parametrize("symmetric", [True, False])


@SHAPES
@KINDS
def test_the_table_is_the_formula(q_len: int, k_len: int, align: str | None, symmetric: bool) -> None:
    linear, sizes = LinearBias(SLOPES, symmetric, align), Sizes(2, 4, q_len, k_len)
    linear.check(sizes)
    want = by_hand(SLOPES, q_len, k_len, symmetric, align)
    assert torch.equal(linear.table(sizes, torch.float64), want)
    tile = linear.lowered(range(1, 3), range(2, 3), sizes, torch.float64)
    assert torch.equal(tile * SLOPES[:, None, None], want[0, :, 1:3, 2:3])


@pytest.mark.parametrize("backend", ["naive", "online", "sdpa"])
@pytest.mark.parametrize("mask", [None, Window(2, 1, "lower_right")], ids=["all", "window"])
@SHAPES
@KINDS
def test_output_and_every_gradient_are_those_of_the_table(
    backend: str, mask: Window | None, q_len: int, k_len: int, align: str | None, symmetric: bool, monkeypatch
) -> None:
    """Autograd differentiates the table by the slopes; our backward pass has its own sum for them."""
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (2, 3))
    tensors, slopes = qkv(q_len, k_len), SLOPES.clone().requires_grad_()
    table = LinearBias(slopes, symmetric, align).table(Sizes(2, 4, q_len, k_len), torch.float64)
    want = attention(*tensors, bias=table, mask=mask, backend="naive")
    got = attention(*tensors, bias=LinearBias(slopes, symmetric, align), mask=mask, backend=backend)
    torch.testing.assert_close(got, want)
    up = torch.randn_like(got)
    for ours, theirs in zip(*(torch.autograd.grad(x, [*tensors, slopes], up) for x in (got, want)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_slopes_alone_may_want_a_gradient() -> None:
    tensors, slopes = [x.detach() for x in qkv(5, 5)], SLOPES.clone().requires_grad_()
    grads = []
    for backend in ("naive", "online", "sdpa"):
        out = attention(*tensors, bias=LinearBias(slopes), mask=Causal(), backend=backend)
        grads.append(torch.autograd.grad(out.square().sum(), slopes)[0])
    torch.testing.assert_close(grads[0], grads[1])
    torch.testing.assert_close(grads[0], grads[2])
    assert "gradient" in explain(*tensors, bias=LinearBias(slopes)).verdicts["inplace"]


def test_online_makes_no_table_forward_or_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiling, "choose_tiles", lambda sizes: (16, 16))
    tensors, slopes = qkv(256, 256), SLOPES.clone().requires_grad_()
    with Largest() as seen:
        attention(*tensors, bias=LinearBias(slopes), backend="online").sum().backward()
    assert seen.numel < 2 * 4 * 256 * 16
    with Largest() as seen:
        attention(*tensors, bias=LinearBias(slopes), backend="naive").sum().backward()
    assert seen.numel >= 4 * 256 * 256


def test_large_work_with_slopes_goes_to_online() -> None:
    tensors = [x.detach() for x in qkv(1024, 1024)]
    assert explain(*tensors, bias=LinearBias(SLOPES)).taken == "online"
    assert "slopes" in explain(*tensors, bias=LinearBias(SLOPES)).verdicts["sdpa"]
    assert explain(*(x[:, :, :64] for x in tensors), bias=LinearBias(SLOPES)).taken == "sdpa"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sdpa_does_not_sum_the_gradient_of_slopes_from_rounded_terms(dtype: torch.dtype) -> None:
    tensors, slopes = qkv(5, 5, dtype=dtype), SLOPES.clone().requires_grad_()
    assert "rounded" in explain(*tensors, bias=LinearBias(slopes)).verdicts["sdpa"]
    assert explain(*tensors, bias=LinearBias(slopes.detach())).taken == "sdpa"


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: LinearBias([0.5, 0.25]), ["slopes", "[0.5, 0.25]", "(heads,)"]),
        (lambda: LinearBias(torch.ones(2, 2)), ["slopes", "(2, 2)", "(heads,)"]),
        (lambda: LinearBias(torch.ones(2, dtype=torch.int64)), ["slopes", "int64", "floats"]),
        (lambda: LinearBias(SLOPES, align="right"), ["align", "'right'", "lower_right"]),
        (lambda: attention(*qkv(4, 4), bias=LinearBias(SLOPES[:3])), ["bias", "3 slopes", "4 heads"]),
        (lambda: attention(*qkv(4, 6), bias=LinearBias(SLOPES)), ["bias", "4 queries", "6 keys", "lower_right"]),
        (lambda: attention(*qkv(4, 4), bias=LinearBias(SLOPES.to("meta"))), ["bias.slopes", "meta", "cpu"]),
    ],
)
def test_what_does_not_fit_is_refused_in_words(build, words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        build()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize("symmetric", [True, False])
def test_a_module_hands_alibi_on_by_its_slopes_where_it_may(symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The outputs are those of the table, which explicit positions demand; and no table is asked for without them."""
    module = MultiHeadAttention(16, heads=4, position=ALiBi(4, symmetric)).double()
    x, memory = torch.randn(2, 7, 16, dtype=torch.float64), torch.randn(2, 9, 16, dtype=torch.float64)
    at, memory_at = torch.arange(7)[None], torch.arange(9)[None]
    own = module(x, mask=Causal(), positions=at)
    other = module(x, memory, positions=at, memory_positions=memory_at)
    cache = KVCache(layers=1)[0].self
    with monkeypatch.context() as patch:
        patch.setattr(ALiBi, "bias", lambda *_: pytest.fail("asked for a table"))
        torch.testing.assert_close(module(x, mask=Causal()), own, rtol=0.0, atol=0.0)
        torch.testing.assert_close(module(x, memory), other, rtol=0.0, atol=0.0)
        first = module(x[:, :5], mask=Causal(), cache=cache)
    rest = module(x[:, 5:], mask=Causal("lower_right"), cache=cache)  # what the cache holds may stand anywhere
    torch.testing.assert_close(torch.cat([first, rest], dim=1), own)


def test_a_module_heeds_positions_that_are_given() -> None:
    """Thrice as far apart, with a third of the slope, is the same."""
    module = MultiHeadAttention(16, heads=4, position=ALiBi(4)).double()
    x, at = torch.randn(2, 7, 16, dtype=torch.float64), torch.arange(7)[None]
    plain = module(x)
    module.position.slopes /= 3
    torch.testing.assert_close(module(x, positions=3 * at), plain)
    torch.testing.assert_close(module(x, x, positions=3 * at, memory_positions=3 * at), plain)
    assert not torch.allclose(module(x), plain)
