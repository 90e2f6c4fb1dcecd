"""GPT against GPT2LMHeadModel, weights copied through files."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from attnkit.masks import Dense, Padding, Prefix
from attnkit.models import GPT, GPTConfig
from attnkit.nn import recording
from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, apart, ids, in_double, saved, stirred

CONTEXT = 24


def published(**settings) -> GPT2LMHeadModel:
    sizes = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT, "vocab_size": VOCAB}
    torch.manual_seed(0)
    return stirred(GPT2LMHeadModel(GPT2Config(**sizes, **settings, attn_implementation="eager")))


@pytest.fixture(scope="module")
def theirs() -> GPT2LMHeadModel:
    return published()


@pytest.fixture(scope="module")
def ours(theirs, tmp_path_factory) -> GPT:
    return GPT.from_pretrained(saved(theirs, tmp_path_factory.mktemp("gpt2")))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"n_inner": 40, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
        {"activation_function": "gelu"},
        {"activation_function": "gelu_pytorch_tanh"},
        {"activation_function": "silu"},
    ],
    ids=str,
)
@torch.no_grad()
def test_logits_are_those_of_transformers(settings, tmp_path, monkeypatch) -> None:
    theirs, tokens = published(**settings), ids(3, 20)
    folder = saved(theirs, tmp_path)
    assert apart(GPT.from_pretrained(folder)(tokens), theirs(tokens).logits) <= 1e-5
    exact = GPT.from_pretrained(folder, dtype=torch.float64)
    assert apart(exact(tokens), in_double(theirs, monkeypatch)(tokens).logits) <= 1e-11


@torch.no_grad()
def test_padding_on_either_side(theirs, ours) -> None:
    """Compared where there are tokens: what stands at padding is nobody's business."""
    tokens, lengths = ids(3, 12), torch.tensor([12, 7, 9])
    real = torch.arange(12) < lengths[:, None]
    expected = theirs(tokens, attention_mask=real.long()).logits
    assert apart(ours(tokens, mask=Padding(lengths))[real], expected[real]) <= 1e-5
    pads = 12 - lengths
    real = torch.arange(12) >= pads[:, None]
    positions = (torch.arange(12) - pads[:, None]).clamp(min=0)
    expected = theirs(tokens, attention_mask=real.long(), position_ids=positions).logits
    for mask in (~Prefix(pads), real[:, None, None, :], Dense(real[:, None, None, :])):
        assert apart(ours(tokens, mask=mask, positions=positions)[real], expected[real]) <= 1e-5


@torch.no_grad()
def test_every_layer_agrees_so_that_a_difference_is_found_where_it_arises(theirs, ours) -> None:
    seen = []
    hooks = [layer.register_forward_hook(lambda _, __, out: seen.append(out)) for layer in ours.decoder.layers]
    hooks.append(ours.decoder.norm.register_forward_hook(lambda _, __, out: seen.append(out)))
    tokens = ids(2, 9)
    ours(tokens)
    for hook in hooks:
        hook.remove()
    expected = theirs(tokens, output_hidden_states=True).hidden_states
    del seen[LAYERS - 1]  # Transformers gives the last layer's output after the norm
    assert len(seen) == len(expected[1:]) == LAYERS
    assert all(apart(mine, other) <= 1e-5 for mine, other in zip(seen, expected[1:], strict=True))


@torch.no_grad()
def test_attention_maps_are_those_of_transformers(theirs, ours) -> None:
    tokens, lengths = ids(2, 9), torch.tensor([9, 5])
    real = torch.arange(9) < lengths[:, None]
    with recording(ours) as maps:
        ours(tokens, mask=Padding(lengths))
    expected = theirs(tokens, attention_mask=real.long(), output_attentions=True).attentions
    assert len(maps) == LAYERS
    for (found,), other in zip(maps.values(), expected, strict=True):
        assert apart(found.transpose(1, 2)[real], other.transpose(1, 2)[real]) <= 1e-6


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@torch.no_grad()
def test_in_chunks_from_a_cache_as_in_one_piece(ours, kind) -> None:
    tokens = ids(2, CONTEXT)
    cache = ours.new_cache(kind, **({"length": CONTEXT} if kind == "static" else {}))
    whole = ours(tokens)
    chunks = [ours(chunk, cache=cache) for chunk in tokens.split([5, 1, 1, 9, 1, 7], dim=1)]
    assert apart(torch.cat(chunks, dim=1), whole) <= 1e-5
    assert cache.length == CONTEXT
    assert apart(ours(tokens, last=True), whole[:, -1:]) <= 1e-6


@torch.no_grad()
def test_left_padded_prompts_from_a_cache_as_each_alone(ours) -> None:
    tokens, pads = ids(2, 10), torch.tensor([0, 4])
    positions = (torch.arange(10) - pads[:, None]).clamp(min=0)
    cache = ours.new_cache()
    first = ours(tokens[:, :7], mask=~Prefix(pads), positions=positions[:, :7], cache=cache)
    steps = [
        ours(tokens[:, i : i + 1], mask=~Prefix(pads), positions=positions[:, i : i + 1], cache=cache)
        for i in range(7, 10)
    ]
    together = torch.cat([first, *steps], dim=1)
    for row, pad in enumerate(pads.tolist()):
        assert apart(together[row : row + 1, pad:], ours(tokens[row : row + 1, pad:])) <= 1e-5


@torch.no_grad()
def test_no_token_sees_a_later_one(ours) -> None:
    tokens = ids(1, 12)
    other = tokens.clone()
    other[:, 8:] = (other[:, 8:] + 1) % VOCAB
    before, after = ours(tokens), ours(other)
    assert apart(before[:, :8], after[:, :8]) == 0
    assert apart(before[:, 8:], after[:, 8:]) > 1e-3


def test_the_first_loss_is_that_of_a_guess() -> None:
    """ln V, for a tied head too: a model that begins elsewhere first has to unlearn."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab=1000, context=64, d_model=128, heads=4, layers=3, d_hidden=512)).eval()
    tokens = torch.randint(1000, (8, 65))
    loss = torch.nn.functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
    assert abs(loss.item() - math.log(1000)) < 0.1
    assert not any("head" in name for name, _ in model.named_parameters())


def test_the_smallest_gpt2_has_its_published_size() -> None:
    with torch.device("meta"):
        model = GPT(GPTConfig())
    assert sum(p.numel() for p in model.parameters()) == 124_439_808


def test_residual_branches_begin_smaller() -> None:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab=50, context=8, d_model=256, heads=4, layers=8, d_hidden=256))
    layer = model.decoder.layers[3]
    assert layer.attention.query.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert layer.attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)
    assert layer.feed_forward.down.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


def test_beyond_the_table_of_positions(ours) -> None:
    with pytest.raises(ValueError, match=rf"positions run from 0 to {CONTEXT}; length={CONTEXT}"):
        ours(ids(1, CONTEXT + 1))
    cache = ours.new_cache()
    ours(ids(1, CONTEXT), cache=cache)
    with pytest.raises(ValueError, match=f"the learned table holds 0 to {CONTEXT - 1}"):
        ours(ids(1, 1), cache=cache)


def test_gradients_reach_every_parameter_and_dropout_is_for_training(ours) -> None:
    model = GPT(ours.config)
    model(ids(2, CONTEXT)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    run = partial(model, ids(2, 8))
    assert not torch.equal(run(), run())
    model.eval()
    assert torch.equal(run(), run())


def test_dropout_falls_where_it_falls_in_transformers(theirs, ours) -> None:
    """After the embedding and on each branch; the weights are dropped by the backend, which has tests of its own."""
    sites = []
    for model in (GPT(ours.config), GPT2LMHeadModel(theirs.config)):
        seen = []
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout) and module.p > 0:
                module.register_forward_hook(lambda module, _, out, seen=seen: seen.append((module.p, out.shape)))
        model.train()(ids(2, 6))
        sites.append(seen)
    assert sites[0] == sites[1]
    assert len(sites[0]) == 1 + 2 * LAYERS
