"""Caches: decoding in pieces equals one forward pass; bytes are the formula's; rows and tokens come and go as asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from attnkit.masks import Causal, Prefix, Window
from attnkit.nn import (
    CrossCache,
    DynamicCache,
    KVCache,
    LayerCache,
    MultiHeadAttention,
    SlidingCache,
    StaticCache,
    causal,
)
from attnkit.positions import (
    NTK,
    T5,
    ALiBi,
    Learned,
    Linear,
    Llama3,
    OneHot,
    Position,
    Rotary,
    Shaw,
    Sinusoidal,
    TransformerXL,
    YaRN,
)

D, HEADS, D_HEAD, LEN = 24, 4, 6, 11
TIGHT = {"rtol": 0, "atol": 1e-12}

ENCODINGS: dict[str, Callable[[], Position | None]] = {
    "none": lambda: None,
    "one-hot": lambda: OneHot(20),
    "learned": lambda: Learned(20, D),
    "sinusoidal": lambda: Sinusoidal(D),
    "rotary half": lambda: Rotary(D_HEAD),
    "rotary interleaved": lambda: Rotary(D_HEAD, layout="interleaved"),
    "rotary partial": lambda: Rotary(D_HEAD, width=4),
    "rotary linear": lambda: Rotary(D_HEAD, scaling=Linear(2.0)),
    "rotary ntk": lambda: Rotary(D_HEAD, scaling=NTK(2.0)),
    "rotary yarn": lambda: Rotary(D_HEAD, scaling=YaRN(2.0, 16)),
    "rotary llama3": lambda: Rotary(D_HEAD, scaling=Llama3(2.0, 1.0, 4.0, 16)),
    "shaw": lambda: Shaw(D_HEAD, 3),
    "shaw with values": lambda: Shaw(D_HEAD, 3, values=True),
    "transformer-xl": lambda: TransformerXL(D, HEADS, D_HEAD),
    "t5": lambda: T5(HEADS, buckets=8, max_distance=10, bidirectional=False),
    "alibi": lambda: ALiBi(HEADS),
}
KINDS: dict[str, Callable[[], LayerCache]] = {"dynamic": DynamicCache, "static": lambda: StaticCache(LEN)}


def module_with(position: Position | None = None, **options) -> MultiHeadAttention:
    torch.manual_seed(1)
    module = MultiHeadAttention(D, HEADS, position=position, **options).double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


def tokens(batch: int = 2, length: int = LEN, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, D, generator=generator, dtype=torch.float64)


def in_pieces(module: MultiHeadAttention, x: Tensor, cache: LayerCache, size: int, **options) -> Tensor:
    """The output for x, fed to the cache in pieces of `size`."""
    outs = []
    for piece in x.split(size, dim=1):
        outs.append(module(piece, mask=causal(None, piece.shape[1], cache), cache=cache, **options))
    return torch.cat(outs, dim=1)


@pytest.mark.parametrize(("kv_heads", "kind"), [(4, "dynamic"), (2, "static"), (1, "dynamic")])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pieces_equal_the_whole(encoding: str, kv_heads: int, kind: str) -> None:
    """One by one, in pieces of 2, 3, 5 and all at once: with every encoding, for MHA, GQA and MQA."""
    module, x = module_with(ENCODINGS[encoding](), kv_heads=kv_heads, qk_norm=True, sink=True), tokens()
    want = module(x, mask=Causal())
    shuffled = module(x.flip(1), mask=Causal()).flip(1)
    assert not torch.allclose(shuffled, want, atol=1e-3), "the order must matter for this test to tell anything"
    for size, grad in ((1, False), (2, False), (3, False), (5, False), (LEN, False), (3, True)):
        with torch.set_grad_enabled(grad):
            got = in_pieces(module, x, KINDS[kind](), size)
        torch.testing.assert_close(got, want, **TIGHT)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_through_a_cache_are_those_of_the_whole(kind: str) -> None:
    """Each way of autograd, and through rows that were reordered in between."""
    module, x = module_with(Rotary(D_HEAD), kv_heads=2), tokens().requires_grad_()
    want = torch.autograd.grad(module(x, mask=Causal()).square().sum(), [x, *module.parameters()])
    for size in (1, 4):
        out = in_pieces(module, x, KINDS[kind](), size)
        for got, ideal in zip(torch.autograd.grad(out.square().sum(), [x, *module.parameters()]), want, strict=True):
            torch.testing.assert_close(got, ideal, rtol=0, atol=1e-11)


@pytest.mark.parametrize("reorder", [True, False])
def test_what_autograd_has_seen_is_never_written_to(reorder: bool) -> None:
    """Tokens under grad, then some without, then backward: the buffers of the first must be as they were."""
    module, x, cache = module_with(), tokens().requires_grad_(), DynamicCache()
    out = in_pieces(module, x[:, :4], cache, 2)
    cache.crop(3)
    if reorder:
        cache.reorder(torch.tensor([1, 0]))
    with torch.no_grad():
        in_pieces(module, x[:, 4:], cache, 1)
    want = torch.autograd.grad(module(x[:, :4], mask=Causal()).sum(), x)[0]
    torch.testing.assert_close(torch.autograd.grad(out.sum(), x)[0], want, **TIGHT)


def test_a_cache_filled_in_inference_mode_serves_outside_of_it() -> None:
    module, x = module_with(), tokens()
    want = module(x, mask=Causal())
    for grad in (False, True):
        cache = DynamicCache()
        with torch.inference_mode():
            in_pieces(module, x[:, :5], cache, 2)
        with torch.set_grad_enabled(grad):
            torch.testing.assert_close(in_pieces(module, x[:, 5:], cache, 2), want[:, 5:], **TIGHT)


@pytest.mark.parametrize("encoding", ["none", "rotary half", "t5", "learned"])
@pytest.mark.parametrize("size", [1, 3, LEN])
def test_left_padding_changes_nothing(encoding: str, size: int) -> None:
    """Rows of different length, padded before their first token, with positions of their own."""
    module, x = module_with(ENCODINGS[encoding]()), tokens(3)
    pads = torch.tensor([4, 0, 2])
    positions = (torch.arange(LEN) - pads[:, None]).clamp(min=0)
    hidden, cache, outs = ~Prefix(pads), DynamicCache(), []
    x[torch.arange(LEN) < pads[:, None]] = 1e3
    with torch.no_grad():
        for part, at in zip(x.split(size, 1), positions.split(size, 1), strict=True):
            mask = causal(hidden, part.shape[1], cache)
            outs.append(module(part, mask=mask, positions=at, cache=cache))
    out = torch.cat(outs, dim=1)
    for row, pad in enumerate(pads.tolist()):
        alone = module(x[row : row + 1, pad:], mask=Causal())
        torch.testing.assert_close(out[row : row + 1, pad:], alone, **TIGHT)


def test_positions_that_were_shared_may_part() -> None:
    """A first piece with the same positions in all rows, a second with others: and both come back by row."""
    cache, k = DynamicCache(), torch.zeros(2, 1, 2, 4)
    with torch.no_grad():
        assert cache.append(k, k, torch.tensor([[0, 1]]))[2].tolist() == [[0, 1]]
        assert cache.append(k, k, torch.tensor([[2, 3], [5, 6]]))[2].tolist() == [[0, 1, 2, 3], [0, 1, 5, 6]]
        assert cache.append(k, k, torch.tensor([[7, 8]]))[2][1].tolist() == [0, 1, 5, 6, 7, 8]
        cache.reorder(torch.tensor([1, 1, 0]))
        k = torch.zeros(3, 1, 1, 4)
        assert cache.append(k, k, torch.tensor([[9]]))[2][:, 2].tolist() == [5, 5, 2]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("kv_heads", "d_value"), [(4, None), (2, None), (1, 5)])
def test_bytes_are_the_formula(kv_heads: int, d_value: int | None, dtype: torch.dtype) -> None:
    """Grouped heads are cached before they are repeated."""
    module = MultiHeadAttention(D, HEADS, kv_heads=kv_heads, d_value=d_value).to(dtype)
    for cache in (DynamicCache(), StaticCache(50)):
        with torch.no_grad():
            in_pieces(module, tokens(3).to(dtype), cache, 2)
        assert cache.nbytes == 3 * LEN * kv_heads * (D_HEAD + (d_value or D_HEAD)) * dtype.itemsize
        a_token = cache.nbytes // LEN + 8
        assert cache.nbytes < cache.allocated
        assert cache.allocated <= (50 if isinstance(cache, StaticCache) else 2 * LEN) * a_token


def test_a_growing_cache_moves_each_token_about_once() -> None:
    cache, addresses = DynamicCache(), set()
    with torch.no_grad():
        for t in range(200):
            k = torch.zeros(1, 1, 1, 4)
            addresses.add(cache.append(k, k, torch.tensor([[t]]))[0].data_ptr())
    assert len(addresses) <= 9  # 1, 2, 4, ... 256


def test_a_static_cache_stays_where_it_is_and_refuses_what_overflows() -> None:
    cache, addresses = StaticCache(6), set()
    with torch.no_grad():
        for t in range(6):
            k = torch.full((1, 1, 1, 4), float(t))
            keys, _, _ = cache.append(k, k, torch.tensor([[t]]))
            addresses.add(keys.data_ptr())
        assert len(addresses) == 1
        assert keys[0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
        with pytest.raises(ValueError, match=r"overflow: a StaticCache\(6\) holds 6 tokens.* room for 0, and 1 came"):
            cache.append(k, k, torch.tensor([[6]]))
        assert cache.length == 6


@settings(max_examples=30, deadline=None)
@given(data=st.data(), static=st.booleans(), grad=st.booleans())
def test_any_history_leaves_what_a_list_of_rows_would_hold(data: st.DataObject, static: bool, grad: bool) -> None:
    """Appending, reordering, cropping in any order, against plain Python lists."""
    cache: LayerCache = StaticCache(64) if static else DynamicCache()
    rows: list[list[int]] = [[], []]
    count = 0
    with torch.set_grad_enabled(grad):
        for action in data.draw(st.lists(st.sampled_from(["append", "append", "reorder", "crop"]), max_size=12)):
            if action == "append":
                n = data.draw(st.integers(0, 3))
                new = [list(range(count + i * n, count + (i + 1) * n)) for i in range(len(rows))]
                count += n * len(rows)
                rows = [row + more for row, more in zip(rows, new, strict=True)]
                k = torch.tensor(new, dtype=torch.float32).view(len(rows), 1, n, 1)
                keys, values, positions = cache.append(k, -k, torch.tensor(new).long().view(len(rows), n))
                assert keys[:, 0, :, 0].tolist() == rows
                assert (-values[:, 0, :, 0]).tolist() == rows
                assert positions.tolist() == rows
            elif action == "reorder" and cache.length:
                index = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=4))
                cache.reorder(torch.tensor(index))
                rows = [rows[i] for i in index]
            elif action == "crop":
                length = data.draw(st.integers(0, cache.length))
                cache.crop(length)
                if not cache.length:
                    cache.reset()
                rows = [row[:length] for row in rows]
            assert cache.length == len(rows[0])


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("kind", [*KINDS, "sliding"])
def test_a_first_piece_may_be_empty(kind: str, grad: bool) -> None:
    cache, k = (KINDS | {"sliding": lambda: SlidingCache(3, 1)})[kind](), torch.ones(2, 1, 1, 4)
    with torch.set_grad_enabled(grad):
        assert cache.append(k[:, :, :0], k[:, :, :0], torch.zeros(1, 0).long())[0].shape == (2, 1, 0, 4)
        keys, values, positions = cache.append(k, 2 * k, torch.tensor([[5]]))
    assert torch.equal(keys, k)
    assert torch.equal(values, 2 * k)
    assert positions.tolist() == [[5]]


def test_reordered_rows_decode_as_if_they_had_always_been_there() -> None:
    module, x = module_with(Rotary(D_HEAD), kv_heads=2), tokens(3)
    index = torch.tensor([2, 2, 0, 1])
    cache = DynamicCache()
    with torch.no_grad():
        in_pieces(module, x[:, :6], cache, 6)
        cache.reorder(index)
        got = in_pieces(module, x[index, 6:], cache, 1)
    torch.testing.assert_close(got, module(x[index], mask=Causal())[:, 6:], **TIGHT)


def test_cropped_tokens_leave_no_trace() -> None:
    module, x = module_with(Rotary(D_HEAD)), tokens()
    cache = KVCache(1)
    with torch.no_grad():
        in_pieces(module, tokens(seed=5), cache[0].self, 4)
        cache.crop(0)
        in_pieces(module, x[:, :6], cache[0].self, 3)
        cache.crop(4)
        assert cache.length == 4
        got = in_pieces(module, x[:, 4:], cache[0].self, 1)
    torch.testing.assert_close(got, module(x, mask=Causal())[:, 4:], **TIGHT)


@pytest.mark.parametrize("encoding", ["none", "rotary half", "t5", "learned"])
def test_a_memory_is_projected_once(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x, memory = module_with(ENCODINGS[encoding]()), tokens(), tokens(length=7, seed=1)
    at = torch.arange(LEN)[None]
    want = module(x, memory)
    cache, calls = CrossCache(), []
    module.key.register_forward_hook(lambda *_: calls.append(1))
    got = [module(x[:, t : t + 1], memory, positions=at[:, t : t + 1], cache=cache) for t in range(LEN)]
    torch.testing.assert_close(torch.cat(got, dim=1), want, **TIGHT)
    assert len(calls) == 1
    assert cache.nbytes == 2 * 7 * HEADS * 2 * D_HEAD * 8
    index = torch.tensor([1, 1, 0])
    cache.reorder(index)
    torch.testing.assert_close(module(x[index], memory[index], cache=cache), want[index], **TIGHT)
    cache.reset()
    assert not cache.filled
    torch.testing.assert_close(module(x, memory.flip(1), cache=cache), module(x, memory.flip(1)), **TIGHT)


def test_the_causal_mask_of_a_single_query_is_no_mask() -> None:
    cache, k = DynamicCache(), torch.zeros(1, 1, 3, 4)
    padding = ~Prefix([2])
    assert causal(None, 1) is None
    assert causal(padding, 1, cache) is padding
    assert repr(causal(None, 4, cache)) == "Causal()"
    cache.append(k, k, torch.arange(3)[None])
    assert causal(None, 1, cache) is None
    assert causal(None, 2, cache).draw(2, 5) == Causal("lower_right").draw(2, 5)
    table = torch.ones(2, 5, dtype=torch.bool)
    table[1, 0] = False
    assert causal(table, 2, cache).draw(2, 5) == "# # # # .\n. # # # #"


def test_a_model_s_cache_does_everything_in_every_layer() -> None:
    cache, k = KVCache(3, cross=True), torch.arange(8.0).view(2, 1, 4, 1)
    assert cache.length == 0
    for slot in cache:
        slot.self.append(k, k, torch.arange(4)[None])
        assert slot.cross is not None
        slot.cross.store(k[:, :, :3], k[:, :, :3])
    assert (len(cache), cache.length, cache[1].length) == (3, 4, 4)
    assert cache.nbytes == 3 * (2 * 4 * 2 + 2 * 3 * 2) * 4
    cache.reorder(torch.tensor([1, 0, 1]))
    cache.crop(2)
    none = k.new_zeros(3, 1, 0, 1)
    for slot in cache:
        keys, _, _ = slot.self.append(none, none, torch.zeros(1, 0).long())
        assert keys.flatten().tolist() == [4, 5, 0, 1, 4, 5]
        assert slot.cross.read()[0].flatten().tolist() == [4, 5, 6, 0, 1, 2, 4, 5, 6]
    cache.reset()
    assert (cache.length, cache.nbytes, cache[0].cross.filled) == (0, 0, False)
    assert KVCache(2)[0].cross is None
    assert "2 layers" in repr(KVCache(2))


K2 = torch.zeros(2, 1, 3, 4)
REFUSED: list[tuple[Callable[[], object], list[str]]] = [
    (lambda: KVCache(0), ["layers is 0", "at least 1"]),
    (lambda: KVCache(2, "paged"), ["kind is 'paged'", "dynamic", "static", "sliding"]),
    (lambda: KVCache(2, "static"), ["static", "takes a length"]),
    (lambda: KVCache(2, "sliding"), ["sliding", "takes a window"]),
    (lambda: KVCache(2, length=5), ["dynamic", "no length"]),
    (lambda: KVCache(2, "static", length=5, window=3), ["static", "no window"]),
    (lambda: StaticCache(0), ["length is 0"]),
    (lambda: filled().append(K2[:1], K2[:1], torch.arange(3)[None]), ["key", "(1, 1, 4)", "(2, 1, 4)", "reorder()"]),
    (
        lambda: filled().append(K2.double(), K2.double(), torch.arange(3)[None]),
        ["key", "float64", "float32", "reset()"],
    ),
    (lambda: filled().append(K2, K2[..., :2], torch.arange(3)[None]), ["value", "(2, 1, 2)", "(2, 1, 4)"]),
    (lambda: filled().crop(4), ["length is 4", "0 ... 3"]),
    (lambda: filled().crop(-1), ["length is -1"]),
    (lambda: filled().reorder([0, 1]), ["index is [0, 1]", "tensor of integers"]),
    (lambda: filled().reorder(torch.tensor([0.0])), ["index", "float32"]),
    (lambda: filled().reorder(torch.tensor([[0]])), ["index", "(1, 1)"]),
    (lambda: CrossCache().read(), ["nothing is stored"]),
    (lambda: read_other(), ["memory", "(2, 5, 24)", "batch 2 and length 7", "reset()"]),
]


def filled() -> DynamicCache:
    cache = DynamicCache()
    cache.append(K2, K2, torch.arange(3)[None])
    return cache


def read_other() -> None:
    cache, module = CrossCache(), module_with()
    module(tokens(), tokens(length=7), cache=cache)
    module(tokens(), tokens(length=5), cache=cache)


@pytest.mark.parametrize(("act", "words"), REFUSED, ids=[" ".join(w)[:40] for _, w in REFUSED])
def test_what_does_not_fit_is_refused_in_words(act: Callable[[], object], words: list[str]) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        act()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_a_mask_covers_the_cached_tokens_too() -> None:
    module, x, cache = module_with(), tokens(), DynamicCache()
    in_pieces(module, x[:, :4], cache, 4)
    with pytest.raises(ValueError, match=r"\(1, 1, 2, 2\).*\(2, 4, 2, 6\)"):
        module(x[:, 4:6], mask=torch.ones(2, 2, dtype=torch.bool), cache=cache)
    cache.crop(4)
    window = Window(2, 0, align="lower_right")
    got = module(x[:, 4:6], mask=window, cache=cache)
    torch.testing.assert_close(got, module(x, mask=Window(2, 0))[:, 4:6], **TIGHT)
