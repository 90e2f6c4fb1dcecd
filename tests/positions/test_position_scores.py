"""Encodings of the scores: only distances matter, and each equals an implementation that is not ours."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BloomConfig, BloomModel, T5Config, XLNetConfig
from transformers.models.bloom.modeling_bloom import build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention
from transformers.models.xlnet.modeling_xlnet import XLNetModel, XLNetRelativeAttention

from attnkit import attention
from attnkit.masks import Causal
from attnkit.positions import T5, ALiBi, Shaw, TransformerXL, alibi_slopes, relative_shift, t5_bucket

F64 = torch.float64


def draw(*shape: int, seed: int = 0, dtype=F64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


ENCODINGS = {
    "shaw": lambda: Shaw(d_head=4, max_distance=3, values=True),
    "transformer-xl": lambda: TransformerXL(d_model=6, heads=4, d_head=4),
    "t5": lambda: T5(heads=4, buckets=8, max_distance=16),
    "t5, causal": lambda: T5(heads=4, buckets=8, max_distance=16, bidirectional=False),
    "alibi": lambda: ALiBi(heads=4),
    "alibi, causal": lambda: ALiBi(heads=4, symmetric=False),
}
every = pytest.mark.parametrize("name", ENCODINGS)


def made(name: str):
    torch.manual_seed(0)
    return ENCODINGS[name]().double()


@every
@settings(max_examples=15, deadline=None)
@given(
    q_at=st.lists(st.integers(-50, 50), min_size=3, max_size=3),
    k_at=st.lists(st.integers(-50, 50), min_size=5, max_size=5),
    shift=st.integers(-(10**4), 10**4),
)
def test_only_the_distance_matters(name: str, q_at: list[int], k_at: list[int], shift: int) -> None:
    """Both sides moved together change nothing; and the entry of a pair does not depend on the other pairs."""
    encoding, q, k = made(name), draw(2, 4, 3, 4), draw(2, 2, 5, 4, seed=1)
    q_at, k_at = torch.tensor([q_at]), torch.tensor([k_at])
    bias = encoding.bias(q, k, q_at, k_at, 0.5)
    moved = encoding.bias(q, k, q_at + shift, k_at + shift, 0.5)
    assert torch.allclose(bias, moved, atol=1e-9)
    one = encoding.bias(q[:, :, 1:2], k[:, :, 2:3], q_at[:, 1:2], k_at[:, 2:3], 0.5)
    assert torch.allclose(one, bias[:, :, 1:2, 2:3], atol=1e-9)
    weights = draw(2, 4, 3, 5, seed=2).softmax(-1)
    output, again = (encoding.output(weights, q_at + by, k_at + by) for by in (0, shift))
    assert output is None or torch.allclose(output, again, atol=1e-9)


@every
def test_distance_does_matter(name: str) -> None:
    encoding, q = made(name), draw(1, 4, 1, 4)
    bias = encoding.bias(q, q[:, :2].expand(1, 2, 8, 4), torch.tensor([[7]]), torch.arange(8)[None], 0.5)
    assert (bias.diff(dim=-1)[..., -2:] != 0).all()


@every
def test_a_decode_step_is_the_last_row(name: str) -> None:
    """With a cache a query stands alone, behind all keys."""
    encoding, q, k, at = made(name), draw(2, 4, 9, 4), draw(2, 2, 9, 4, seed=1), torch.arange(9)[None]
    whole = encoding.bias(q, k, at, at, 0.5)
    for i in range(9):
        step = encoding.bias(q[:, :, i : i + 1], k[:, :, : i + 1], at[:, i : i + 1], at[:, : i + 1], 0.5)
        assert torch.allclose(step, whole[:, :, i : i + 1, : i + 1], atol=1e-12)


@every
def test_rows_that_start_elsewhere_keep_their_own_distances(name: str) -> None:
    """Each row counts 1, 2, 3, but from another place: what holds for one row must not be taken for all."""
    encoding, q, k = made(name), draw(2, 4, 3, 4), draw(2, 2, 5, 4, seed=1)
    q_at, k_at = torch.arange(3) + torch.tensor([[2], [7]]), torch.arange(5)[None]
    bias = encoding.bias(q, k, q_at, k_at, 0.5)
    for b in (0, 1):
        alone = encoding.bias(q[b : b + 1], k[b : b + 1], q_at[b : b + 1], k_at, 0.5)
        assert torch.allclose(bias[b : b + 1], alone, atol=1e-12)


@every
def test_grouped_keys_count_for_each_query_head(name: str) -> None:
    encoding, q, k, at = made(name), draw(2, 4, 5, 4), draw(2, 2, 5, 4, seed=1), torch.arange(5)[None]
    assert torch.equal(encoding.bias(q, k, at, at, 0.5), encoding.bias(q, k.repeat_interleave(2, dim=1), at, at, 0.5))


@pytest.mark.parametrize("name", ["shaw", "transformer-xl", "t5"])
def test_gradients_reach_queries_keys_and_what_is_learned(name: str) -> None:
    encoding, q, k = made(name), draw(1, 4, 2, 4).requires_grad_(), draw(1, 2, 3, 4, seed=1).requires_grad_()
    q_at, k_at = torch.tensor([[2, 9]]), torch.tensor([[0, 9, 4]])
    names, values = zip(*encoding.named_parameters(), strict=True)

    def outputs(q, k, *parameters):
        def hooks():
            bias = encoding.bias(q, k, q_at, k_at, 0.5)
            extra = encoding.output((q @ k.repeat_interleave(2, 1).mT).softmax(-1), q_at, k_at)
            return bias if extra is None else (bias, extra)

        with torch.nn.utils.stateless._reparametrize_module(encoding, dict(zip(names, parameters, strict=True))):
            return hooks()

    assert torch.autograd.gradcheck(outputs, (q, k, *values))
    assert all(x.requires_grad for x in values)


# --- Shaw


@pytest.mark.parametrize("far", [1, 2, 10])
def test_shaw_is_its_formula(far: int) -> None:
    """Equations 3 and 4, term by term: keys and values with a vector of the distance added to each."""
    torch.manual_seed(0)
    shaw = Shaw(d_head=4, max_distance=far, values=True, d_value=3).double()
    q, k, v = draw(2, 2, 5, 4), draw(2, 2, 7, 4, seed=1), draw(2, 2, 7, 3, seed=2)
    q_at, k_at = torch.tensor([[4, 5, 6, 9, -3]]), torch.arange(7)[None]
    scores, out = torch.zeros(2, 2, 5, 7, dtype=F64), torch.zeros(2, 2, 5, 3, dtype=F64)
    rows = [[max(-far, min(far, int(k_at[0, j] - q_at[0, i]))) + far for j in range(7)] for i in range(5)]
    for i in range(5):
        for j in range(7):
            scores[:, :, i, j] = (q[:, :, i] * (k[:, :, j] + shaw.keys.weight[rows[i][j]])).sum(-1) / math.sqrt(4)
    weights = scores.softmax(-1)
    for i in range(5):
        for j in range(7):
            out[:, :, i] += weights[:, :, i, j, None] * (v[:, :, j] + shaw.values.weight[rows[i][j]])
    bias = shaw.bias(q, k, q_at, k_at, scale=4**-0.5)
    ours, extra = attention(q, k, v, bias=bias, aux=("weights",))
    assert torch.allclose(extra.weights, weights, atol=1e-13)
    assert torch.allclose(ours + shaw.output(extra.weights, q_at, k_at), out, atol=1e-13)


def test_shaw_without_values_adds_nothing_to_the_output() -> None:
    shaw = Shaw(d_head=4, max_distance=2)
    assert not shaw.needs_weights
    assert shaw.output(draw(1, 1, 3, 3), torch.arange(3)[None], torch.arange(3)[None]) is None
    assert Shaw(d_head=4, max_distance=2, values=True).needs_weights


# --- Transformer-XL


def xl() -> TransformerXL:
    torch.manual_seed(0)
    encoding = TransformerXL(d_model=6, heads=2, d_head=4).double()
    for parameter in encoding.parameters():
        torch.nn.init.normal_(parameter)
    return encoding


def test_transformer_xl_is_its_formula() -> None:
    """Terms (b), (c) and (d) of section 3.3, one score at a time, at scattered positions on both sides."""
    encoding, q, k = xl(), draw(1, 2, 3, 4), draw(1, 2, 4, 4, seed=1)
    q_at, k_at = torch.tensor([[7, 2, 2]]), torch.tensor([[0, 9, 1, 2]])
    expected = torch.zeros(1, 2, 3, 4, dtype=F64)
    for h in range(2):
        w_r = encoding.project.weight[4 * h : 4 * h + 4]
        for i in range(3):
            for j in range(4):
                angle = (int(q_at[0, i]) - int(k_at[0, j])) * 10_000.0 ** -(torch.arange(0, 6, 2, dtype=F64) / 6)
                r = w_r @ torch.cat([angle.sin(), angle.cos()])
                u, v = encoding.u[h], encoding.v[h]
                expected[0, h, i, j] = 0.5 * (q[0, h, i] @ r + u @ k[0, h, j] + v @ r)
    assert torch.allclose(encoding.bias(q, k, q_at, k_at, 0.5), expected, atol=1e-13)


@settings(max_examples=30, deadline=None)
@given(q_len=st.integers(1, 6), k_len=st.integers(1, 6), start=st.integers(-9, 9), k_start=st.integers(-9, 9))
def test_the_shift_is_the_gather(q_len: int, k_len: int, start: int, k_start: int) -> None:
    encoding, q = xl(), draw(2, 2, q_len, 4)
    q_at, k_at = torch.arange(start, start + q_len)[None], torch.arange(k_start, k_start + k_len)[None]
    shifted, gathered = encoding._by_shift(q, q_at, k_at), encoding._by_gather(q, q_at, k_at)
    assert shifted.shape == (2, 2, q_len, k_len)
    assert torch.allclose(shifted, gathered, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(q_len=st.integers(1, 6), k_len=st.integers(1, 6), extra=st.integers(0, 2))
def test_the_shift_is_the_index_and_xlnets(q_len: int, k_len: int, extra: int) -> None:
    scores = draw(2, 3, q_len, q_len + k_len - 1 + extra)
    found = relative_shift(scores, k_len)
    places = q_len - 1 - torch.arange(q_len)[:, None] + torch.arange(k_len)
    assert torch.equal(found, scores.gather(-1, places.expand(2, 3, q_len, k_len)))
    padded = torch.nn.functional.pad(scores, (1, 0))  # XLNet computes one distance more, which no score needs
    assert torch.equal(found, XLNetRelativeAttention.rel_shift_bnij(padded, klen=k_len))


def test_transformer_xl_is_xlnets_attention() -> None:
    """XLNet's own layer with a memory of 3: its sinusoids, its shift, its three terms, its softmax."""
    encoding, q_len, k_len = xl(), 5, 8
    layer = XLNetRelativeAttention(XLNetConfig(vocab_size=9, d_model=8, n_head=2, n_layer=1, d_inner=8)).double().eval()
    layer.r_w_bias.data, layer.r_r_bias.data = encoding.u.data, encoding.v.data
    q, k, v = draw(2, 2, q_len, 4), draw(2, 2, k_len, 4, seed=1), draw(2, 2, k_len, 4, seed=2)
    distances = torch.arange(k_len, -q_len, -1, dtype=F64)
    waves = XLNetModel.positional_embedding(distances, 10_000.0 ** -(torch.arange(0, 6, 2, dtype=F64) / 6))
    k_r = (waves @ encoding.project.weight.T).unflatten(-1, (2, 4)).expand(-1, 2, -1, -1)
    with torch.no_grad():
        out, weights = layer.rel_attn_core(*(x.permute(2, 0, 1, 3) for x in (q, k, v)), k_r, output_attentions=True)
        at = torch.arange(k_len)[None]
        ours, extra = attention(q, k, v, bias=encoding.bias(q, k, at[:, -q_len:], at, 0.5), aux=("weights",))
    assert torch.allclose(extra.weights, weights.permute(2, 3, 0, 1), atol=1e-13)
    assert torch.allclose(ours, out.permute(1, 2, 0, 3), atol=1e-13)


# --- T5


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "far"), [(32, 128), (8, 20), (4, 128), (64, 1000)])
def test_buckets_are_t5s(bidirectional: bool, buckets: int, far: int) -> None:
    offset = torch.arange(-5000, 5001)
    expected = T5Attention._relative_position_bucket(offset, bidirectional, buckets, far)
    found = t5_bucket(offset, buckets, far, bidirectional=bidirectional)
    assert torch.equal(found, expected)
    assert set(found.tolist()) <= set(range(buckets))


@pytest.mark.parametrize("is_decoder", [True, False])
def test_bias_is_t5s(is_decoder: bool) -> None:
    config = T5Config(d_model=8, d_kv=4, num_heads=2, is_decoder=is_decoder)
    hf = T5Attention(config, has_relative_attention_bias=True)
    ours = T5(heads=2, bidirectional=not is_decoder)
    ours.table.load_state_dict(hf.relative_attention_bias.state_dict())
    at = torch.arange(400)[None]
    assert torch.equal(ours(at, at), hf.compute_bias(400, 400))
    assert torch.equal(ours(at[:, -3:], at), hf.compute_bias(3, 400, past_seen_tokens=397))


# --- ALiBi


@pytest.mark.parametrize("heads", range(1, 34))
def test_alibi_gives_the_weights_of_bloom(heads: int) -> None:
    """Bloom adds slope * key position, which differs from ours by a constant in each row."""
    scores, at = draw(1, heads, 12, 12), torch.arange(12)[None]
    hidden = ~Causal().materialize(1, heads, 12, 12)
    bloom = build_alibi_tensor(torch.ones(1, 12, dtype=torch.int64), heads, F64).view(1, heads, 1, 12)
    expected = (scores + bloom).masked_fill(hidden, -math.inf).softmax(-1)
    for symmetric in (True, False):
        bias = ALiBi(heads, symmetric).bias(scores, scores, at, at, 1.0)
        assert torch.allclose((scores + bias).masked_fill(hidden, -math.inf).softmax(-1), expected, atol=1e-6)
    assert len(set(alibi_slopes(heads).tolist())) == heads


def test_attention_with_alibi_is_blooms() -> None:
    config = BloomConfig(vocab_size=11, hidden_size=24, n_layer=1, n_head=6, hidden_dropout=0.0)
    torch.manual_seed(0)
    model = BloomModel._from_config(config, attn_implementation="eager").eval()
    ids = torch.randint(11, (2, 17))
    seen: dict[str, torch.Tensor] = {}
    projection = model.h[0].self_attention.query_key_value
    projection.register_forward_hook(lambda module, args, out: seen.update(qkv=out * 5))
    projection.weight.data *= 25  # scores that are worth a softmax
    with torch.no_grad():
        expected = model(ids, output_attentions=True).attentions[0]
    q, k, _ = (seen["qkv"] / 5).view(2, 17, 6, 3, 4).permute(3, 0, 2, 1, 4)
    at = torch.arange(17)[None]
    _, extra = attention(q, k, k, mask=Causal(), bias=ALiBi(6).bias(q, k, at, at, 0.5), aux=("weights",))
    assert torch.allclose(extra.weights, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("backend", ["naive", "online", "sdpa"])
def test_alibi_keeps_near_keys_apart_at_length_4096(dtype: torch.dtype, backend: str) -> None:
    """The slope is 0.5: each key weighs e^0.5 times the one before. As slope * key position, neighbours would tie."""
    heads, n = 8, 4096
    alibi = ALiBi(heads).to(dtype)
    q, k = (torch.zeros(1, heads, length, 8, dtype=dtype) for length in (1, n))
    value = torch.eye(8, dtype=dtype)[torch.arange(n) % 8 * (torch.arange(n) >= n - 8)].expand(1, heads, n, 8)
    bias = alibi.bias(q, k, torch.tensor([[n - 1]]), torch.arange(n)[None], 1.0)
    near = attention(q, k, value, bias=bias, backend=backend)[0, 0, 0].double()  # the weights of the last eight keys
    assert torch.allclose(
        near[2:] / near[1:-1], torch.full((6,), math.exp(0.5), dtype=F64), rtol=4 * torch.finfo(dtype).eps
    )
    growing = (alibi.slopes[0] * torch.arange(n)).to(dtype)
    assert len(growing[-8:].unique()) < 8, "which is what this test can tell"


def test_alibi_slopes_are_the_papers() -> None:
    assert alibi_slopes(8).tolist() == [2.0**-h for h in range(1, 9)]
    assert torch.allclose(alibi_slopes(16), 2.0 ** -(torch.arange(1, 17, dtype=F64) / 2))
