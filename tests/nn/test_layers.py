"""One layer at a time: equal to torch.nn's, whatever the norm order; dropout; stacks of a decoder-only model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from attnkit.masks import Causal, Dense, Padding
from attnkit.nn import Config, Decoder, DecoderLayer, Encoder, EncoderLayer, KVCache, causal, make_norm
from attnkit.positions import ALiBi, Rotary
from tests.nn.copies import assert_near, assert_same, lively, noise

SMALL = Config(d_model=16, heads=4, d_hidden=32, layers=2)
ACTIVATIONS = ["relu", "gelu", nn.SiLU(), nn.GELU("tanh")]


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_encoder_layer_equals_torch(norm_first: bool, activation: object, masked: bool) -> None:
    options = {"dropout": 0.0, "activation": activation, "norm_first": norm_first, "layer_norm_eps": 0.1}
    other = lively(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, **options))
    own, x, ends = EncoderLayer.from_torch(other), noise(3, 7, 16), Padding([7, 4, 1])
    hidden = ~Causal().materialize(1, 1, 7, 7)[0, 0]
    padded = ~ends.materialize(3, 1, 1, 7)[:, 0, 0]
    want = other(x, src_mask=hidden, src_key_padding_mask=padded) if masked else other(x)
    assert_same(own, other, own(x, mask=Causal() & ends if masked else None), want, [x])


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_decoder_layer_equals_torch(norm_first: bool, activation: object, masked: bool) -> None:
    options = {"dropout": 0.0, "activation": activation, "norm_first": norm_first, "layer_norm_eps": 0.1}
    other = lively(nn.TransformerDecoderLayer(16, 4, 32, batch_first=True, **options))
    own, x, memory = DecoderLayer.from_torch(other), noise(3, 5, 16), noise(3, 7, 16, seed=2)
    ends, across = Padding([7, 4, 1]), torch.rand(5, 7, generator=torch.Generator().manual_seed(4)) < 0.7
    across[:, 0] = True
    hidden = ~Causal().materialize(1, 1, 5, 5)[0, 0]
    padded = ~ends.materialize(3, 1, 1, 7)[:, 0, 0]
    if masked:
        want = other(x, memory, tgt_mask=hidden, memory_mask=~across, memory_key_padding_mask=padded)
        out = own(x, memory, mask=Causal(), memory_mask=Dense(across) & ends)
    else:
        out, want = own(x, memory), other(x, memory)
    assert_same(own, other, out, want, [x, memory])


def test_dtype_mode_and_settings_come_from_torch() -> None:
    other = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.25, dtype=torch.bfloat16).eval()
    own = EncoderLayer.from_torch(other)
    assert {p.dtype for p in own.parameters()} == {torch.bfloat16}
    assert not own.training
    assert (own.dropout.p, own.feed_forward.dropout.p, own.attention.dropout) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("kind", [EncoderLayer, DecoderLayer])
def test_dropout_falls_on_every_branch_and_not_on_the_stream(norm_first: bool, kind: type) -> None:
    """With every branch dropped whole, its bias too, x passes a pre-norm layer as it is, and a post-norm one normed."""
    config = Config(d_model=16, heads=4, d_hidden=32, norm_first=norm_first, dropout=0.999999, attention_dropout=0.0)
    torch.manual_seed(0)
    layer, x = kind(config).double(), noise(2, 5, 16)
    for linear in (m for m in layer.modules() if isinstance(m, nn.Linear)):
        linear.bias.data.fill_(0.3)
    inputs = (x,) if kind is EncoderLayer else (x, noise(2, 3, 16, seed=2))
    want, norm = x, make_norm(config).double()
    for _ in range(0 if norm_first else len(inputs) + 1):
        want = norm(want)
    assert_near(layer.train()(*inputs), want)
    assert not torch.allclose(layer.eval()(*inputs), want)


def test_dropout_is_off_in_evaluation_and_even_in_expectation() -> None:
    config = Config(d_model=16, heads=4, d_hidden=32, dropout=0.1)
    still = Config.from_dict(config.to_dict() | {"dropout": 0.0})
    layer, plain, memory = DecoderLayer(config), DecoderLayer(still), torch.randn(1, 3, 16)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(1, 5, 16)
    assert torch.equal(layer.eval()(x, memory), plain(x, memory))
    layer.train()
    assert not torch.equal(layer(x, memory), layer(x, memory))
    # One branch alone, since expectation passes through sums but not through the branches after it.
    n, branch = 4000, layer.dropout(plain.cross_attention(x, memory).detach().expand(4000, -1, -1))
    spread = branch.std(0) / math.sqrt(n)
    assert bool(((branch.mean(0) - plain.cross_attention(x, memory)[0]).abs() <= 6 * spread).all())


def test_attention_dropout_is_as_dropout_unless_given() -> None:
    assert EncoderLayer(Config(d_model=16, heads=4, dropout=0.3)).attention.dropout == 0.3
    layer = DecoderLayer(Config(d_model=16, heads=4, dropout=0.3, attention_dropout=0.1))
    assert (layer.self_attention.dropout, layer.cross_attention.dropout) == (0.1, 0.1)
    assert (layer.dropout.p, layer.feed_forward.dropout.p) == (0.3, 0.3)


@pytest.mark.parametrize("chunks", [[1] * 6, [6], [2, 4], [3, 1, 2]])
@pytest.mark.parametrize("position", [None, Rotary(4), ALiBi(4)], ids=str)
def test_a_decoder_only_stack_gives_the_same_with_a_cache(chunks: list[int], position: nn.Module | None) -> None:
    config = Config(d_model=16, heads=4, kv_heads=2, d_hidden=32, layers=3, norm="rms", activation="swiglu", bias=False)
    model, x = Encoder(config, position).double(), noise(2, 6, 16)
    want, cache, outs = model(x, mask=Causal()), KVCache(3), []
    for piece in x.split(chunks, dim=1):
        outs.append(model(piece, mask=causal(None, piece.shape[1], cache), cache=cache))
    assert_near(torch.cat(outs, 1), want)


@pytest.mark.parametrize("kind", [Encoder, Decoder])
def test_the_stream_is_normed_last_where_layers_norm_first(kind: type) -> None:
    post = Config(d_model=16, heads=4, norm_first=False)
    assert kind(SMALL).norm is not None
    assert kind(post).norm is None
    assert kind(post, final_norm=True).norm is not None
    assert kind(SMALL, final_norm=False).norm is None


def test_positions_reach_the_attention() -> None:
    """Rotary positions that are shifted change nothing; positions that are stretched do."""
    model, x, at = Encoder(SMALL, Rotary(4)).double(), noise(2, 6, 16), torch.arange(6)[None]
    torch.testing.assert_close(model(x, positions=at + 5), model(x), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(model(x, positions=2 * at), model(x), atol=1e-3)
    decoder, memory = Decoder(SMALL, Rotary(4)).double(), noise(2, 3, 16)
    assert not torch.allclose(decoder(x, memory, positions=2 * at), decoder(x, memory), atol=1e-3)


def test_norms_are_those_of_the_papers() -> None:
    """The variance is divided by d_model and eps stands under the root, which a large eps shows."""
    x = noise(2, 3, 16).detach()
    layer, rms = (make_norm(Config(d_model=16, heads=4, norm=norm, eps=0.1)).double() for norm in ("layer", "rms"))
    centred = x - x.mean(-1, keepdim=True)
    assert_near(layer(x), centred / (centred.square().mean(-1, keepdim=True) + 0.1).sqrt())
    assert_near(rms(x), x / (x.square().mean(-1, keepdim=True) + 0.1).sqrt())
    assert make_norm(Config(d_model=16, heads=4, bias=False)).bias is None
