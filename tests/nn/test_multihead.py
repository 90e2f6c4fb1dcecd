"""MultiHeadAttention: equal to torch's module and to the paper's formula, and clear about what does not fit."""

from __future__ import annotations

import doctest
import importlib
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attnkit import BackendUnsupported
from attnkit.masks import Causal, Padding
from attnkit.nn import CrossCache, DynamicCache, MultiHeadAttention, SlidingCache
from attnkit.positions import ALiBi, Rotary, Shaw, Sinusoidal

D, HEADS, BATCH, Q, K = 24, 4, 3, 5, 7
TIGHT = {"rtol": 0, "atol": 1e-12}


def floats(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def torch_module(**options) -> nn.MultiheadAttention:
    """A reference with random weights everywhere, biases too."""
    torch.manual_seed(1)
    module = nn.MultiheadAttention(D, HEADS, batch_first=True, dtype=torch.float64, **options)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def assert_same_gradients(ours: MultiHeadAttention, theirs: nn.MultiheadAttention) -> None:
    """Every parameter of the reference has our gradient."""
    three = [ours.query, ours.key, ours.value]
    weights = [linear.weight.grad for linear in three]
    if theirs.in_proj_weight is not None:
        torch.testing.assert_close(torch.cat(weights), theirs.in_proj_weight.grad, **TIGHT)
    else:
        separate = (theirs.q_proj_weight, theirs.k_proj_weight, theirs.v_proj_weight)
        for got, want in zip(weights, separate, strict=True):
            torch.testing.assert_close(got, want.grad, **TIGHT)
    torch.testing.assert_close(ours.out.weight.grad, theirs.out_proj.weight.grad, **TIGHT)
    if theirs.in_proj_bias is not None:
        torch.testing.assert_close(torch.cat([x.bias.grad for x in three]), theirs.in_proj_bias.grad, **TIGHT)
        torch.testing.assert_close(ours.out.bias.grad, theirs.out_proj.bias.grad, **TIGHT)


VISIBLE = torch.tensor([[(i * 3 + j) % 4 != 0 for j in range(K)] for i in range(Q)])
LENGTHS = torch.tensor([7, 3, 1])
MASKS = {
    "none": (None, {}),
    "attn_mask": (VISIBLE, {"attn_mask": ~VISIBLE}),
    "key_padding_mask": (Padding(LENGTHS), {"key_padding_mask": torch.arange(K) >= LENGTHS[:, None]}),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("widths", [{}, {"kdim": 10, "vdim": 6}, {"kdim": D, "vdim": 6}])
def test_equals_torch_in_cross_attention(widths: dict, bias: bool, name: str) -> None:
    """Output, weights, and the gradients of every input and parameter."""
    theirs = torch_module(bias=bias, **widths)
    ours = MultiHeadAttention.from_torch(theirs)
    mask, options = MASKS[name]
    inputs = [floats(BATCH, Q, D), floats(BATCH, K, theirs.kdim, seed=1), floats(BATCH, K, theirs.vdim, seed=2)]
    x, memory, value = (leaf.requires_grad_() for leaf in inputs)
    want, want_weights = theirs(x, memory, value, average_attn_weights=False, **options)
    got, aux = ours(x, memory, value=value, mask=mask, aux=("weights", "lse"))
    torch.testing.assert_close(got, want, **TIGHT)
    torch.testing.assert_close(aux.weights, want_weights, **TIGHT)
    upstream = floats(BATCH, Q, D, seed=3)
    wanted = torch.autograd.grad((want * upstream).sum(), [x, memory, value], retain_graph=True)
    for grad, ideal in zip(torch.autograd.grad((got * upstream).sum(), inputs, retain_graph=True), wanted, strict=True):
        torch.testing.assert_close(grad, ideal, **TIGHT)
    (want * upstream).sum().backward()
    (got * upstream).sum().backward()
    assert_same_gradients(ours, theirs)
    torch.testing.assert_close(ours(x, memory, value=value, mask=mask), want, **TIGHT)  # the way without weights


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("causal", [True, False])
def test_equals_torch_in_self_attention(bias: bool, causal: bool) -> None:
    theirs = torch_module(bias=bias)
    ours = MultiHeadAttention.from_torch(theirs)
    x = floats(BATCH, Q, D).requires_grad_()
    table = torch.ones(Q, Q, dtype=torch.bool).triu(1) if causal else None
    want, _ = theirs(x, x, x, attn_mask=table)
    got = ours(x, mask=Causal() if causal else None)
    torch.testing.assert_close(got, want, **TIGHT)
    upstream = floats(BATCH, Q, D, seed=3)
    wanted = torch.autograd.grad((want * upstream).sum(), x, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad((got * upstream).sum(), x, retain_graph=True), wanted, **TIGHT)
    (want * upstream).sum().backward()
    (got * upstream).sum().backward()
    assert_same_gradients(ours, theirs)


def test_from_torch_keeps_the_settings_and_refuses_what_has_no_counterpart() -> None:
    ours = MultiHeadAttention.from_torch(nn.MultiheadAttention(D, HEADS, dropout=0.25, dtype=torch.float16).eval())
    assert ours.dropout == 0.25
    assert ours.query.weight.dtype == torch.float16
    assert not ours.training
    for option in ("add_bias_kv", "add_zero_attn"):
        with pytest.raises(ValueError, match=option):
            MultiHeadAttention.from_torch(nn.MultiheadAttention(D, HEADS, **{option: True}))


def by_the_paper(module: MultiHeadAttention, x: Tensor, memory: Tensor) -> Tensor:
    """Concat(head_1, ..., head_h) W^O, one head after the other, from rows of the weights."""
    heads, d, d_v, group = module.heads, module.d_head, module.d_value, module.heads // module.kv_heads
    outs = []
    for i in range(heads):
        g = i // group
        query = x @ module.query.weight[i * d : (i + 1) * d].T + module.query.bias[i * d : (i + 1) * d]
        key = memory @ module.key.weight[g * d : (g + 1) * d].T + module.key.bias[g * d : (g + 1) * d]
        value = memory @ module.value.weight[g * d_v : (g + 1) * d_v].T + module.value.bias[g * d_v : (g + 1) * d_v]
        if module.q_norm is not None and module.k_norm is not None:
            query, key = (
                y / (y.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight
                for y, norm in ((query, module.q_norm), (key, module.k_norm))
            )
        scores = query @ key.mT * module.scale
        if module.softcap is not None:
            scores = module.softcap * (scores / module.softcap).tanh()
        total = scores.exp().sum(-1, keepdim=True) + (0.0 if module.sink is None else module.sink[i].exp())
        outs.append(scores.exp() / total @ value)
    return torch.cat(outs, dim=-1) @ module.out.weight.T + module.out.bias


@settings(max_examples=40, deadline=None)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 3),
    d_head=st.sampled_from([None, 1, 4]),
    d_value=st.sampled_from([None, 3]),
    scale=st.sampled_from([None, 1.0]),
    qk_norm=st.booleans(),
    sink=st.booleans(),
    softcap=st.sampled_from([None, 2.0]),
    lengths=st.tuples(st.integers(1, 4), st.integers(1, 5)),
)
def test_equals_the_formula_head_by_head(kv_heads, group, lengths, **options) -> None:
    """MHA (group 1), MQA (one key head) and GQA, with every setting."""
    torch.manual_seed(0)
    module = MultiHeadAttention(18 * kv_heads * group, kv_heads * group, kv_heads=kv_heads, **options).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, memory = floats(2, lengths[0], module.d_model), floats(2, lengths[1], module.d_model, seed=1)
    torch.testing.assert_close(module(x, memory), by_the_paper(module, x, memory), **TIGHT)
    torch.testing.assert_close(module(x), by_the_paper(module, x, x), **TIGHT)


def test_the_number_of_parameters_is_that_of_the_projections() -> None:
    """Grouped keys and values are projected once for each group."""
    module = MultiHeadAttention(24, 6, kv_heads=2, d_value=5, out_bias=False, qk_norm=True, sink=True)
    want = 24 * (24 + 2 * 4 + 2 * 5) + (24 + 2 * 4 + 2 * 5) + 6 * 5 * 24 + 2 * 4 + 6
    assert sum(p.numel() for p in module.parameters()) == want


def test_learned_sinks_and_norms_get_gradients() -> None:
    module = MultiHeadAttention(D, HEADS, sink=True, qk_norm=True)
    module(torch.randn(1, 5, D)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in module.named_parameters() if n != "key.bias")


def test_dropout_only_in_training_and_repeatable() -> None:
    module, x = MultiHeadAttention(D, HEADS, dropout=0.5), torch.randn(2, 6, D)
    torch.manual_seed(0)
    first = module(x)
    assert not torch.allclose(first, module(x))
    torch.manual_seed(0)
    assert torch.equal(first, module(x))
    module.eval()
    module.requires_grad_(False)
    torch.testing.assert_close(module(x), by_the_paper(module, x, x))


def test_aux_gives_what_was_asked_for_and_no_more() -> None:
    module, x = MultiHeadAttention(D, HEADS, position=Shaw(D // HEADS, 2, values=True)), torch.randn(2, 6, D)
    assert isinstance(module(x), Tensor)
    for names in (("weights",), ("lse",), ("lse", "weights")):
        aux = module(x, aux=names)[1]
        assert (aux.weights is not None, aux.lse is not None) == ("weights" in names, "lse" in names)
    assert aux.weights.shape == (2, HEADS, 6, 6)
    with pytest.raises(BackendUnsupported, match="weights"):
        MultiHeadAttention(D, HEADS, backend="sdpa")(x, aux=("weights",))


def test_a_row_that_sees_nothing_gives_the_bias_of_the_output_alone() -> None:
    module = MultiHeadAttention.from_torch(torch_module())
    x = floats(1, 3, D).requires_grad_()
    visible = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])
    out = module(x, mask=visible)
    torch.testing.assert_close(out[0, 1], module.out.bias)
    (grad,) = torch.autograd.grad(out[0, 1].sum(), x)
    assert not grad.any()


@pytest.mark.filterwarnings("ignore:Mismatch dtype")  # torch's RMSNorm says that it takes its slower path
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_keep_near_to_float64(dtype: torch.dtype) -> None:
    exact = MultiHeadAttention(D, HEADS, kv_heads=2, qk_norm=True, position=Rotary(D // HEADS)).double()
    x, eps = floats(2, 9, D), torch.finfo(dtype).eps
    want = exact(x, mask=Causal())
    half = MultiHeadAttention(D, HEADS, kv_heads=2, qk_norm=True, position=Rotary(D // HEADS))
    half.load_state_dict(exact.state_dict())
    with torch.autocast("cpu", dtype):
        got = half(x.float(), mask=Causal())
    assert got.dtype == dtype
    assert (got - want).abs().max() < 16 * eps
    got = half.to(dtype)(x.to(dtype), mask=Causal())
    assert got.dtype == dtype
    assert (got - want).abs().max() < 16 * eps


def test_the_encoding_of_the_embedding_goes_into_the_projections() -> None:
    position = Sinusoidal(D)
    module = MultiHeadAttention(D, HEADS, position=position).double()
    plain = MultiHeadAttention(D, HEADS).double()
    plain.load_state_dict(module.state_dict(), strict=False)
    x, memory, at = floats(2, 4, D), floats(2, 6, D, seed=1), torch.tensor([[3, 4, 5, 6], [0, 0, 1, 2]])
    want = plain(position.embed(x, at), position.embed(memory, torch.arange(6)[None]))
    torch.testing.assert_close(module(x, memory, positions=at), want, **TIGHT)


def test_the_scale_is_that_of_a_head_not_of_the_model() -> None:
    assert MultiHeadAttention(D, HEADS, d_head=64).scale == 1 / math.sqrt(64)


X, MEMORY = torch.zeros(2, 5, D), torch.zeros(2, 7, D)
REFUSED: list[tuple[dict, tuple, dict, list[str]]] = [
    ({"heads": 5}, (), {}, ["heads is 5", "divide d_model, 24"]),
    ({"kv_heads": 3}, (), {}, ["kv_heads is 3", "divide heads, 4"]),
    ({"kv_heads": 0}, (), {}, ["kv_heads is 0", "at least 1"]),
    ({"d_head": 2.5}, (), {}, ["d_head is 2.5", "integer"]),
    ({"d_value": -1}, (), {}, ["d_value is -1", "at least 1"]),
    ({"d_key_input": "wide"}, (), {}, ["d_key_input is 'wide'", "integer"]),
    ({"dropout": 1.0}, (), {}, ["dropout", "1.0", "below 1"]),
    ({"position": "rope"}, (), {}, ["position", "'rope'", "attnkit.positions"]),
    ({}, (torch.zeros(5, D),), {}, ["x is", "(5, 24)", "(batch, len, d_model)", "24"]),
    ({}, (torch.zeros(2, 5, 23),), {}, ["x is", "(2, 5, 23)", "d_model = 24"]),
    ({}, (torch.zeros(2, 5, D, dtype=torch.int64),), {}, ["x is", "int64", "floats"]),
    ({"d_key_input": 9}, (X,), {}, ["memory is missing", "9 wide"]),
    ({"d_key_input": 9}, (X, MEMORY), {}, ["memory is", "(2, 7, 24)", "d_key_input = 9"]),
    ({"d_value_input": 9}, (X, MEMORY), {}, ["value is missing", "9 wide", "memory is 24"]),
    ({}, (X, MEMORY[:1]), {}, ["memory is", "(1, 7, 24)", "batch size, 2"]),
    ({}, (X, MEMORY), {"value": X}, ["value is", "(2, 5, 24)", "(2, 7)"]),
    ({}, (X,), {"mask": torch.ones(5, 4, dtype=torch.bool)}, ["mask", "(1, 1, 5, 4)", "(2, 4, 5, 5)"]),
    ({}, (X,), {"mask": torch.ones(2, 5, 5, dtype=torch.bool)}, ["mask", "(1, 2, 5, 5)", "(2, 4, 5, 5)"]),
    ({}, (X, MEMORY), {"mask": Causal()}, ["lower_right"]),
    ({}, (X,), {"mask": torch.zeros(5, 5)}, ["mask", "bool", "bias="]),
    ({}, (X,), {"positions": torch.arange(5)}, ["positions", "(5,)", "(2, 5) or (1, 5)"]),
    ({}, (X, MEMORY), {"memory_positions": torch.zeros(2, 5).long()}, ["memory_positions", "(2, 5)", "(1, 7)"]),
    ({}, (X,), {"positions": torch.zeros(1, 5)}, ["positions", "float32", "integers"]),
    ({}, (X,), {"cache": CrossCache()}, ["cache is CrossCache", "self-attention takes a LayerCache"]),
    ({}, (X, MEMORY), {"cache": DynamicCache()}, ["cache is DynamicCache", "memory takes a CrossCache"]),
    (
        {"position": Sinusoidal(D)},
        (X,),
        {"cache": SlidingCache(4, reposition=True)},
        ["cache is", "reposition=True", "Sinusoidal", "embeddings"],
    ),
]


@pytest.mark.parametrize(
    ("built", "args", "call", "words"), REFUSED, ids=[w[0] + str(i) for i, (*_, w) in enumerate(REFUSED)]
)
def test_what_does_not_fit_is_refused_in_words(built: dict, args: tuple, call: dict, words: list[str]) -> None:
    def run() -> None:
        MultiHeadAttention(**({"d_model": D, "heads": HEADS} | built))(*args, **call)

    with pytest.raises(ValueError) as error:  # noqa: PT011 - every word below is required, not one pattern
        run()
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_encodings_of_the_scores_meet_wrong_heads_in_words() -> None:
    with pytest.raises(ValueError, match="heads"):
        MultiHeadAttention(D, HEADS, position=ALiBi(HEADS + 1))(X)


ROOMS = ["cache", "cache_kinds", "causal", "latent", "multihead", "recording", "sliding"]


@pytest.mark.parametrize("name", ROOMS)
def test_the_examples_in_the_docs_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"attnkit.nn.{name}"), extraglobs={"torch": torch})
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(("batch", "q_len", "k_len"), [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_nothing_in_gives_nothing_out(batch: int, q_len: int, k_len: int) -> None:
    """An empty batch, no query; and where there is no key, the bias of the output alone."""
    module = MultiHeadAttention(D, HEADS, kv_heads=2)
    out = module(torch.ones(batch, q_len, D), torch.ones(batch, k_len, D))
    assert out.shape == (batch, q_len, D)
    assert k_len or torch.equal(out, module.out.bias.expand_as(out))


@pytest.mark.parametrize("position", [Rotary(D // HEADS), ALiBi(HEADS), Shaw(D // HEADS, 2, values=True)], ids=repr)
def test_a_memory_has_positions_too(position: nn.Module) -> None:
    """A memory that is x itself is attended to as x is; and as x elsewhere, when it stands elsewhere."""
    module, x = MultiHeadAttention(D, HEADS, position=position).double(), floats(2, Q, D)
    torch.testing.assert_close(module(x, x), module(x), **TIGHT)
    moved = module(x, x, memory_positions=torch.arange(Q)[None] + 2)
    assert not torch.allclose(moved, module(x))
    torch.testing.assert_close(moved, module(x, x, positions=torch.arange(Q)[None] - 2), **TIGHT)
