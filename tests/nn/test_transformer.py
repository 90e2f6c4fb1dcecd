"""The Transformer, equal to torch.nn.Transformer; and what torch's cannot do."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from attnkit.masks import Causal, Dense, Padding
from attnkit.nn import Config, KVCache, Transformer, causal
from attnkit.positions import T5, Rotary, Sinusoidal
from tests.nn.copies import assert_near, assert_same, lively, noise

SMALL = Config(d_model=16, heads=4, d_hidden=32, layers=2)


@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_equals_torch_with_every_kind_of_mask(norm_first: bool, activation: str, bias: bool) -> None:
    other = lively(
        nn.Transformer(
            16, 4, 2, 3, 32, dropout=0.0, activation=activation, norm_first=norm_first, bias=bias, batch_first=True
        )
    )
    own = Transformer.from_torch(other)
    source, target = noise(3, 7, 16), noise(3, 5, 16, seed=2)
    rng = torch.Generator().manual_seed(4)
    among = torch.rand(7, 7, generator=rng) < 0.7
    across = torch.rand(5, 7, generator=rng) < 0.7
    among[:, 0] = across[:, 0] = True  # torch gives NaN where a query sees nothing
    source_ends, target_ends = Padding([7, 4, 1]), Padding([5, 2, 4])
    out = own(
        source,
        target,
        source_mask=Dense(among) & source_ends,
        target_mask=Causal() & target_ends,
        memory_mask=Dense(across) & source_ends,
    )
    want = other(
        source,
        target,
        src_mask=~among,
        tgt_mask=~Causal().materialize(1, 1, 5, 5)[0, 0],
        memory_mask=~across,
        src_key_padding_mask=~source_ends.materialize(3, 1, 1, 7)[:, 0, 0],
        tgt_key_padding_mask=~target_ends.materialize(3, 1, 1, 5)[:, 0, 0],
        memory_key_padding_mask=~source_ends.materialize(3, 1, 1, 7)[:, 0, 0],
    )
    assert_same(own, other, out, want, [source, target])


def test_each_mask_hides_what_it_should() -> None:
    """Source padding mixed up with the target's (keras-io PR #1046) would show here: both differ in length."""
    model, source, target = Transformer(SMALL).double(), noise(2, 7, 16), noise(2, 5, 16, seed=2)
    ends, target_ends = Padding([7, 3]), Padding([5, 2])
    out = model(source, target, source_mask=ends, target_mask=Causal() & target_ends, memory_mask=ends)
    out[1, 1, :3].sum().backward()  # not all of it: after a layer norm the sum of all is the same for every input
    assert bool(source.grad[1, :3].abs().gt(1e-6).all())
    assert not source.grad[1, 3:].any()
    assert not target.grad[1, 2:].any()
    assert not source.grad[0].any()


def test_a_padded_batch_gives_each_item_what_it_gets_alone() -> None:
    model, lengths, target_lengths = Transformer(SMALL).double(), [7, 4, 1], [2, 5, 3]
    source, target = noise(3, 7, 16).detach(), noise(3, 5, 16, seed=2).detach()
    ends = Padding(lengths)
    out = model(source, target, source_mask=ends, target_mask=Causal(), memory_mask=ends)
    for i, (n, m) in enumerate(zip(lengths, target_lengths, strict=True)):
        alone = model(source[i : i + 1, :n], target[i : i + 1, :m], target_mask=Causal())
        assert_near(out[i : i + 1, :m], alone)


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_source_of_padding_alone_stays_finite(norm_first: bool) -> None:
    model = Transformer(Config(d_model=16, heads=4, d_hidden=32, layers=2, norm_first=norm_first))
    source, target = (torch.randn(2, n, 16, requires_grad=True) for n in (7, 5))
    ends = Padding([7, 0])
    out = model(source, target, source_mask=ends, target_mask=Causal(), memory_mask=ends)
    out.square().sum().backward()
    tensors = [out, source.grad, target.grad, *(p.grad for p in model.parameters())]
    assert all(bool(x.isfinite().all()) for x in tensors)


@pytest.mark.parametrize("activation", ["relu", "swiglu"])
@pytest.mark.parametrize("norm_first", [False, True])
def test_every_parameter_gets_a_gradient(activation: str, norm_first: bool) -> None:
    config = Config(d_model=16, heads=4, d_hidden=32, layers=2, activation=activation, norm_first=norm_first)
    model = Transformer(config, position=T5(4), final_norm=True)
    out = model(noise(2, 7, 16).float(), noise(2, 5, 16, seed=2).float(), target_mask=Causal())
    (out * torch.randn(out.shape)).sum().backward()
    silent = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert not {name for name in silent if not name.endswith(".key.bias")}  # softmax ignores what all keys share


@pytest.mark.parametrize("chunks", [[1] * 6, [6], [2, 4], [3, 1, 2]])
@pytest.mark.parametrize("position", [None, Rotary(4), T5(4)])
def test_decoding_with_a_cache_equals_the_whole_pass(chunks: list[int], position: nn.Module | None) -> None:
    model = Transformer(SMALL, position=position).double()
    memory, target, ends = noise(2, 7, 16), noise(2, 6, 16, seed=2), Padding([7, 4])
    want = model.decode(target, memory, mask=Causal(), memory_mask=ends)
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            cache, outs = KVCache(2, cross=True), []
            for piece in target.split(chunks, dim=1):
                mask = causal(None, piece.shape[1], cache)
                outs.append(model.decode(piece, memory, mask=mask, memory_mask=ends, cache=cache))
        assert_near(torch.cat(outs, 1), want)
        assert cache.length == 6


def test_the_memory_is_projected_once_for_all_steps() -> None:
    model, calls = Transformer(SMALL), []
    for layer in model.decoder.layers:
        layer.cross_attention.key.register_forward_hook(lambda *_: calls.append(1))
    memory, cache = torch.randn(1, 7, 16), KVCache(2, cross=True)
    for _ in range(4):
        model.decode(torch.randn(1, 1, 16), memory, cache=cache)
    assert len(calls) == 2


def test_numbers_of_layers_and_who_shares_a_position() -> None:
    shared = Transformer(SMALL, encoder_layers=1, decoder_layers=3, position=T5(4))
    assert (len(shared.encoder.layers), len(shared.decoder.layers)) == (1, 3)
    tables = {id(layer.self_attention.position) for layer in shared.decoder.layers}
    assert tables == {id(shared.encoder.layers[0].attention.position)}
    assert all(layer.cross_attention.position is None for layer in shared.decoder.layers)
    each = Transformer(SMALL, position=lambda: T5(4))
    assert len({id(layer.self_attention.position) for layer in each.decoder.layers}) == 2
    embedded = Transformer(SMALL, position=Sinusoidal(16))
    assert embedded.encoder.layers[0].attention.position is None


def test_weights_go_through_a_state_dict() -> None:
    first, second = Transformer(SMALL), Transformer(SMALL)
    tensors = torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    assert not torch.equal(first(*tensors), second(*tensors))
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(*tensors), second(*tensors))


def test_a_mask_of_the_wrong_shape_is_named() -> None:
    model, source, target = Transformer(SMALL), torch.randn(2, 7, 16), torch.randn(2, 5, 16)
    with pytest.raises(ValueError, match=r"mask has shape \(1, 1, 5, 7\).*\(2, 4, 7, 7\)"):
        model(source, target, source_mask=torch.ones(5, 7, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"mask has shape \(1, 1, 5, 5\).*\(2, 4, 5, 7\)"):
        model(source, target, memory_mask=torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"Padding.*3 lengths.*batch of 2"):
        model(source, target, source_mask=Padding([1, 2, 3]))
    with pytest.raises(ValueError, match=r"x is a tensor of shape \(2, 7, 12\).*d_model = 16"):
        Transformer(Config(d_model=16, heads=4, norm_first=False)).encode(torch.randn(2, 7, 12))


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
def test_what_has_no_counterpart_is_refused() -> None:
    with pytest.raises(ValueError, match=r"activation is .*ReLU, GELU and SiLU"):
        Transformer.from_torch(nn.Transformer(16, 4, 1, 1, 32, activation=torch.tanh, batch_first=True))
    with pytest.raises(ValueError, match="custom encoder or decoder"):
        Transformer.from_torch(nn.Transformer(16, 4, custom_encoder=nn.Identity()))
