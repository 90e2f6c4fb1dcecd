"""Positional encodings in MultiHeadAttention against attention layers of Transformers with the same weights."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from torch import Tensor
from transformers.models.bloom.modeling_bloom import BloomAttention, build_alibi_tensor
from transformers.models.t5.modeling_t5 import T5Attention

from attnkit.masks import Causal
from attnkit.nn import MultiHeadAttention
from attnkit.positions import T5, ALiBi
from tests.integrations.zoo import shaken

BATCH, LENGTH, WIDTH, HEADS = 2, 13, 24, 4


def vectors(dtype: torch.dtype) -> Tensor:
    return torch.randn(BATCH, LENGTH, WIDTH, generator=torch.Generator().manual_seed(4)).to(dtype)


def causal_numbers(dtype: torch.dtype) -> Tensor:
    """The causal mask as eager attention wants it: 0, and the least number where it hides."""
    hidden = torch.ones(LENGTH, LENGTH, dtype=torch.bool).triu(1)
    return torch.zeros(1, 1, LENGTH, LENGTH, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min)


PRECISIONS = pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])


def t5_pair(is_decoder: bool, dtype: torch.dtype) -> tuple[MultiHeadAttention, T5Attention]:
    """Buckets so few that distances share them, and heads narrower than WIDTH / HEADS."""
    config = hf.T5Config(
        d_model=WIDTH,
        d_kv=3,
        num_heads=HEADS,
        is_decoder=is_decoder,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=9,
        dropout_rate=0.0,
    )
    config._attn_implementation = "eager"
    theirs = shaken(T5Attention(config, has_relative_attention_bias=True, layer_idx=0)).to(dtype)
    position = T5(HEADS, buckets=8, max_distance=9, bidirectional=not is_decoder)
    ours = MultiHeadAttention(WIDTH, HEADS, d_head=3, bias=False, scale=1.0, position=position).to(dtype)
    with torch.no_grad():
        for mine, yours in ((ours.query, theirs.q), (ours.key, theirs.k), (ours.value, theirs.v), (ours.out, theirs.o)):
            mine.weight.copy_(yours.weight)
        position.table.weight.copy_(theirs.relative_attention_bias.weight)
    return ours.eval(), theirs


@PRECISIONS
@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_t5_attention(is_decoder: bool, dtype: torch.dtype, bound: float) -> None:
    ours, theirs = t5_pair(is_decoder, dtype)
    x = vectors(dtype)
    got, aux = ours(x, mask=Causal() if is_decoder else None, aux=("weights",))
    expected, _, weights = theirs(x, mask=causal_numbers(dtype) if is_decoder else None)
    assert float((aux.weights - weights).detach().abs().max()) <= bound
    assert float((got - expected).detach().abs().max()) <= bound


def test_t5_learns_its_table_as_theirs_does() -> None:
    ours, theirs = t5_pair(True, torch.float64)
    x = vectors(torch.float64)
    ours(x, mask=Causal()).square().sum().backward()
    theirs(x, mask=causal_numbers(torch.float64))[0].square().sum().backward()
    got, expected = ours.position.table.weight.grad, theirs.relative_attention_bias.weight.grad
    assert expected.abs().max() > 0.1
    assert float((got - expected).abs().max()) <= 1e-10


@pytest.mark.parametrize(
    ("heads", "dtype", "bound"),
    [
        (4, torch.float32, 1e-5),
        (4, torch.float64, 1e-10),
        (8, torch.float64, 1e-10),
        (6, torch.float64, 1e-6),  # not a power of two: Bloom's slopes are then rounded to float32
    ],
)
def test_alibi_attention(heads: int, dtype: torch.dtype, bound: float) -> None:
    """Bloom adds the slope times the key's place, ALiBi minus the slope times the distance: alike after the softmax."""
    config = hf.BloomConfig(hidden_size=WIDTH, n_head=heads, hidden_dropout=0.0, attention_dropout=0.0)
    theirs = shaken(BloomAttention(config, layer_idx=0)).to(dtype)
    ours = MultiHeadAttention(WIDTH, heads, position=ALiBi(heads)).to(dtype).eval()
    fused = {name: x.view(heads, 3, WIDTH // heads, -1) for name, x in theirs.query_key_value.named_parameters()}
    with torch.no_grad():
        for part, linear in enumerate((ours.query, ours.key, ours.value)):
            linear.weight.copy_(fused["weight"][:, part].reshape(WIDTH, WIDTH))
            linear.bias.copy_(fused["bias"][:, part].reshape(WIDTH))
        ours.out.load_state_dict(theirs.dense.state_dict())
    x = vectors(dtype)
    got, aux = ours(x, mask=Causal(), aux=("weights",))
    alibi = build_alibi_tensor(torch.ones(BATCH, LENGTH, dtype=torch.long), heads, dtype)
    expected, weights = theirs(x, torch.zeros_like(x), alibi, causal_numbers(dtype))
    assert float((aux.weights - weights).detach().abs().max()) <= bound
    assert float((got - expected).detach().abs().max()) <= bound
