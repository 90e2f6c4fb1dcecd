"""The sliding cache: attention equals that over all tokens with the mask it stands for, and its size stays bounded."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnkit.masks import Causal, Dense, Mask, Prefix, Sizes, Window
from attnkit.nn import KVCache, MultiHeadAttention, SlidingCache, causal
from attnkit.nn.sliding import Remaining
from attnkit.positions import T5, ALiBi, Position, Rotary, Shaw

D, HEADS, D_HEAD, LEN = 24, 4, 6, 17
TIGHT = {"rtol": 0, "atol": 1e-12}


def module_with(position: Position | None = None, **options) -> MultiHeadAttention:
    torch.manual_seed(1)
    module = MultiHeadAttention(D, HEADS, kv_heads=2, position=position, **options).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def tokens(batch: int = 2, length: int = LEN) -> Tensor:
    return torch.randn(batch, length, D, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def run(
    module: MultiHeadAttention, x: Tensor, cache: SlidingCache, sizes: list[int], mask: Mask | None = None
) -> Tensor:
    """The output for x, fed to the cache in pieces of these sizes."""
    outs = []
    for piece in x.split(sizes, dim=1):
        outs.append(module(piece, mask=causal(mask, piece.shape[1], cache), cache=cache))
    return torch.cat(outs, dim=1)


def stands_for(window: int, sinks: int) -> Mask:
    return Causal() & (Window(window - 1, 0) | Prefix(sinks))


@settings(max_examples=60, deadline=None)
@given(
    window=st.integers(1, 7),
    sinks=st.integers(0, 4),
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=6),
    pads=st.one_of(st.none(), st.tuples(st.integers(0, 5), st.integers(0, 5))),
    grad=st.booleans(),
)
def test_pieces_of_any_size_equal_the_whole_with_the_mask(window, sinks, sizes, pads, grad) -> None:
    """Also pieces larger than the window, and with a mask of the caller's over all tokens seen."""
    module, x, cache = module_with(Rotary(D_HEAD)), tokens(length=sum(sizes)), SlidingCache(window, sinks)
    hidden = None if pads is None else ~Prefix(list(pads))
    whole = stands_for(window, sinks) if hidden is None else stands_for(window, sinks) & hidden
    with torch.set_grad_enabled(grad):
        got = run(module, x, cache, sizes, hidden)
    torch.testing.assert_close(got, module(x, mask=whole), **TIGHT)
    assert cache.length == sum(sizes)
    assert cache.held == min(sum(sizes), sinks + window)
    assert cache.nbytes == 2 * 2 * cache.held * 2 * D_HEAD * 8
    assert cache.allocated == cache.nbytes + 8 * cache.held


@pytest.mark.parametrize(
    "position",
    [Rotary(D_HEAD, layout="interleaved"), Shaw(D_HEAD, 3, values=True), T5(HEADS, 8, 10, False), ALiBi(HEADS)],
    ids=lambda p: type(p).__name__,
)
def test_every_encoding_sees_the_true_distances(position: Position) -> None:
    module, x = module_with(position), tokens()
    want = module(x, mask=stands_for(4, 2))
    for size in (1, 3, 7, LEN):
        sizes = [len(part) for part in torch.arange(LEN).split(size)]
        torch.testing.assert_close(run(module, x, SlidingCache(4, 2), sizes), want, **TIGHT)


def test_gradients_are_those_of_the_whole_with_the_mask() -> None:
    module, x = module_with(Rotary(D_HEAD)), tokens().requires_grad_()
    want = torch.autograd.grad(module(x, mask=stands_for(4, 2)).square().sum(), [x, *module.parameters()])
    out = run(module, x, SlidingCache(4, 2), [9, 1, 1, 6])
    for got, ideal in zip(torch.autograd.grad(out.square().sum(), [x, *module.parameters()]), want, strict=True):
        torch.testing.assert_close(got, ideal, rtol=0, atol=1e-11)


def test_a_single_query_needs_no_mask() -> None:
    """A step of decoding sees all that is held, so no table is made."""
    cache, k = SlidingCache(3, 1), torch.zeros(1, 1, 1, 4)
    for t in range(9):
        assert cache.visible(1) is None
        keys, _, positions = cache.append(k, k, torch.tensor([[t]]))
        assert keys.shape[2] == min(t + 1, 4)
    assert positions.tolist() == [[0, 6, 7, 8]]
    assert cache.visible(3) is not None


def test_a_long_prompt_is_let_go() -> None:
    cache, k = SlidingCache(3, 1), torch.zeros(1, 1, 500, 4)
    with torch.no_grad():
        assert cache.append(k, k, torch.arange(500)[None])[0].shape[2] == 500
    assert sum(x.untyped_storage().nbytes() for x in cache._held) == 4 * (2 * 4 * 4 + 8)


@pytest.mark.parametrize("position", [Rotary(D_HEAD), T5(HEADS, 8, 10, False)], ids=["rotary", "t5"])
@pytest.mark.parametrize(("window", "sinks"), [(4, 2), (3, 0), (1, 1)])
def test_repositioned_steps_equal_running_again_on_the_kept_tokens(window: int, sinks: int, position: Position) -> None:
    """Each step: the tokens that are kept, at positions 0, 1, 2, ..., as if there had never been others."""
    module, x = module_with(position), tokens()
    cache = SlidingCache(window, sinks, reposition=True)
    with torch.no_grad():
        for t in range(LEN):
            got = module(x[:, t : t + 1], cache=cache)
            kept = [i for i in range(t + 1) if i < sinks or i > t - window]
            want = module(x[:, kept], mask=Causal())[:, -1:]
            torch.testing.assert_close(got, want, **TIGHT)
    assert not torch.allclose(want, module(x, mask=stands_for(window, sinks))[:, -1:], atol=1e-6) or sinks == 0


def test_a_repositioned_prompt_has_the_positions_of_its_text() -> None:
    """Nothing was forgotten before it, so its queries see true distances; the query of the next step does not."""
    module, x = module_with(Rotary(D_HEAD)), tokens()
    cache = SlidingCache(4, 2, reposition=True)
    got = run(module, x[:, :12], cache, [12])
    torch.testing.assert_close(got, module(x[:, :12], mask=stands_for(4, 2)), **TIGHT)
    kept = x[:, [0, 1, 9, 10, 11, 12]]
    torch.testing.assert_close(run(module, x[:, 12:13], cache, [1]), module(kept, mask=Causal())[:, -1:], **TIGHT)


def test_reordered_rows_decode_as_if_they_had_always_been_there() -> None:
    module, x, cache = module_with(Rotary(D_HEAD)), tokens(3), KVCache(1, "sliding", window=4, sinks=1)
    index = torch.tensor([2, 2, 0, 1])
    run(module, x[:, :9], cache[0].self, [9])
    cache.reorder(index)
    got = run(module, x[index, 9:], cache[0].self, [2, 1, 5])
    torch.testing.assert_close(got, module(x[index], mask=stands_for(4, 1))[:, 9:], **TIGHT)


def test_it_crops_while_nothing_is_forgotten_and_refuses_after() -> None:
    module, x, cache = module_with(), tokens(), SlidingCache(4, 1)
    run(module, x[:, :5], cache, [5])
    cache.crop(2)
    torch.testing.assert_close(run(module, x[:, 2:], cache, [5, 10]), module(x, mask=stands_for(4, 1))[:, 2:], **TIGHT)
    cache.crop(LEN)
    with pytest.raises(ValueError, match=r"length is 3.*cannot go back.*last 4"):
        cache.crop(3)
    cache.reset()
    assert (cache.length, cache.held, cache.nbytes) == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 8), st.integers(0, 9), st.integers(0, 5), st.data())
def test_what_remains_of_a_mask_is_its_other_columns(q_len: int, k_len: int, first: int, gone: int, data) -> None:
    """Its table, and the promises of its covers."""
    first = min(first, k_len)
    bits = data.draw(st.lists(st.booleans(), min_size=q_len * (k_len + gone), max_size=q_len * (k_len + gone)))
    table = torch.tensor(bits).view(q_len, k_len + gone)
    columns = [*range(first), *range(first + gone, k_len + gone)]
    for inner in (Dense(table), Window(2, 1, align="lower_right"), Prefix(3)):
        mask = Remaining(inner, first, gone)
        whole = inner.materialize(1, 1, q_len, k_len + gone)[0, 0]
        got = mask.materialize(1, 1, q_len, k_len)[0, 0]
        assert torch.equal(got, whole[:, columns])
        for start in range(k_len):
            for stop in range(start + 1, k_len + 1):
                cover = mask.cover(range(q_len), range(start, stop), Sizes(1, 1, q_len, k_len))
                tile = got[:, start:stop]
                assert cover != "full" or tile.all()
                assert cover != "empty" or not tile.any()


def test_wrong_sizes_are_refused_in_words() -> None:
    for build, words in (
        (lambda: SlidingCache(0), "window is 0.*at least 1"),
        (lambda: SlidingCache(4, sinks=-1), "sinks is -1.*at least 0"),
        (lambda: SlidingCache("wide"), "window is 'wide'.*integer"),
    ):
        with pytest.raises(ValueError, match=words):
            build()
    module, x, cache = module_with(), tokens(), SlidingCache(4, 1)
    run(module, x[:, :9], cache, [9])
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 6\).*\(2, 4, 2, 11\)"):
        module(x[:, 9:11], mask=torch.ones(2, 6, dtype=torch.bool), cache=cache)
