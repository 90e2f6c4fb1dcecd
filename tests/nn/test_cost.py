"""The cost of a stack, against models that are built and run: their parameters, PyTorch's count, their caches."""

from __future__ import annotations

import doctest
import importlib
import random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from attnkit.masks import Causal, Window
from attnkit.models import GPT, BERTConfig, GPTConfig, Llama, LlamaConfig, Translator, TranslatorConfig
from attnkit.nn import Config, KVCache, LatentAttention
from attnkit.nn.cost import CostConfig, cost, quadratic_from, visible_pairs
from attnkit.nn.cost_config import attention_maps, up_maps

SMALL = {"d_model": 16, "heads": 4, "layers": 2, "d_hidden": 40, "backend": "naive", "dropout": 0.0}


def counted(function) -> int:
    """How many operations PyTorch counts while the function runs."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        function()
    return counter.get_total_flops()


def size(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


DECODERS = [
    (GPT, GPTConfig(**SMALL, vocab=50, context=32)),
    (GPT, GPTConfig(**SMALL, vocab=50, context=32, bias=False, norm_first=False)),
    (Llama, LlamaConfig(**SMALL, vocab=50, kv_heads=2)),
    (Llama, LlamaConfig(**SMALL, vocab=50, kv_heads=1, tied=True, qkv_bias=True)),
    (Llama, LlamaConfig(**SMALL, vocab=50, d_head=6, out_bias=True, mlp_bias=True, qk_norm=True)),
    (Llama, LlamaConfig(**SMALL, vocab=50, window=3)),
]


@pytest.mark.parametrize(("kind", "config"), DECODERS)
def test_a_decoder_has_these_parameters_operations_and_bytes(kind, config):
    model = kind(config).eval()
    ids = torch.randint(50, (3, 7))
    found = cost(config, 7, batch=3, pairs="all", itemsize=4)
    assert found.total_parameters == size(model)
    assert found.total_flops == counted(lambda: model(ids))
    assert cost(config, 7, batch=3, pairs="all", last=True).total_flops == counted(lambda: model(ids, last=True))
    cache = model.new_cache()
    with torch.no_grad():
        model(ids, cache=cache)
    whole = CostConfig.of(config) if not getattr(config, "window", None) else LlamaConfig(**SMALL, vocab=50)
    assert cost(whole, 7, batch=3, itemsize=4).cache_bytes == cache.nbytes
    step = cost(config, 1, batch=3, cached=7, pairs="all")
    assert step.total_flops == counted(lambda: model(ids[:, :1], cache=cache))


def test_parts_are_those_of_the_model():
    config = LlamaConfig(**SMALL, vocab=50, kv_heads=2)
    model, parts = Llama(config), cost(config, 1).parameters
    layer = model.decoder.layers[0]
    assert parts["attention"] == 2 * size(layer.attention)
    assert parts["feed_forward"] == 2 * size(layer.feed_forward)
    assert parts["embedding"] == parts["head"] == 50 * 16
    assert parts["norms"] == 5 * 16


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("norm_first", [True, False])
def test_a_translator_counts_both_stacks(shared, norm_first):
    target = 30 if shared else 20
    config = TranslatorConfig(**SMALL, source_vocab=30, target_vocab=target, shared=shared, norm_first=norm_first)
    model = Translator(config).eval()
    source, ids = torch.randint(20, (2, 5)), torch.randint(20, (2, 7))
    found = cost(config, 7, batch=2, source_length=5, pairs="all", itemsize=4)
    assert found.total_parameters == size(model)
    assert found.total_flops == counted(lambda: model(source, ids))
    cache = model.new_cache()
    with torch.no_grad():
        memory = model.encode(source)
        model.decode(ids, memory, cache=cache)
    assert found.cache_bytes == cache.nbytes
    step = cost(config, 1, batch=2, cached=7, source_length=5, pairs="all")
    assert step.total_flops == counted(lambda: model.decode(ids[:, :1], memory, cache=cache))


@pytest.mark.parametrize(("length", "cached"), [(9, 0), (1, 9)])
def test_a_latent_attention_is_counted_in_the_form_that_it_takes(length, cached):
    config = CostConfig(**SMALL, d_latent=12, d_rope=6, bias=False)
    attend = LatentAttention(16, 4, d_latent=12, d_head=4, d_rope=6, backend="naive").eval()
    assert cost(config, 1).parameters["attention"] == 2 * (size(attend) - 12), "the norm of the latent is among norms"
    cache = KVCache(1)[0].self
    x = torch.randn(1, cached + length, 16)
    if cached:
        with torch.no_grad():
            attend(x[:, :cached], cache=cache)
    ran = counted(lambda: attend(x[:, cached:], cache=cache))
    found = cost(config, length, cached=cached, pairs="all", itemsize=4)
    own = (found.flops["projections"] + found.flops["scores"]) // 2
    # In the absorbed form the module gives values the width of the keys, and cuts off d_rope columns afterwards.
    wasted = 2 * 4 * length * (cached + length) * 6 if attend._absorbs(length, cached + length) else 0
    assert ran == own + wasted
    assert found.cache_bytes == 2 * cache.nbytes


def test_both_forms_of_a_latent_attention_are_met():
    """The two cases above are one of each."""
    attend = LatentAttention(16, 4, d_latent=12, d_head=4, d_rope=6)
    assert not attend._absorbs(9, 9)
    assert attend._absorbs(1, 10)


@pytest.mark.parametrize("seed", range(20))
def test_visible_pairs_are_those_of_the_masks(seed):
    draw = random.Random(seed)
    length, cached, window = draw.randint(1, 9), draw.randint(0, 9), draw.choice([None, 1, 2, 3, 7, 30])
    mask = Causal("lower_right")
    mask = mask if window is None else mask & Window(window - 1, 0, align="lower_right")
    table = mask.materialize(1, 1, length, cached + length)
    assert visible_pairs(length, cached, window) == int(table.sum())


@pytest.mark.parametrize("window", [None, 3])
def test_tokens_one_by_one_cost_what_they_cost_together(window):
    config = LlamaConfig(**SMALL, vocab=50, kv_heads=2, window=window)
    one_by_one = [cost(config, 1, cached=n) for n in range(12)]
    whole = cost(config, 12)
    for part, value in whole.flops.items():
        assert sum(step.flops[part] for step in one_by_one) == value
    assert one_by_one[-1].cache_bytes == whole.cache_bytes


def test_heads_that_share_and_windows_make_the_cache_small():
    def kept(**changes) -> int:
        return cost(CostConfig(d_model=64, heads=8, layers=3, **changes), 100).cache_bytes

    assert kept() == 8 * kept(kv_heads=1) == 4 * kept(kv_heads=2)
    assert kept(window=25) == kept() // 4
    assert kept(d_latent=16, d_rope=4) * 2 * 64 == kept() * 20


def test_where_the_square_overtakes():
    for config in (Config(), LlamaConfig(kv_heads=8), CostConfig(d_latent=64, d_rope=16, bias=False)):
        at = quadratic_from(config)
        assert at is not None
        for length, more in ((at, True), (at - 1, False)):
            flops = cost(config, length).flops
            assert (flops["scores"] > flops["projections"] + flops["feed_forward"]) is more
    assert quadratic_from(CostConfig(window=64)) is None
    assert quadratic_from(Config(), step=True) == 6 * 512 + 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cost(Config(), 0), "length is 0"),
        (lambda: cost(Config(), 1, batch=2.0), "batch is 2.0"),
        (lambda: cost(Config(), 1, cached=-1), "cached is -1"),
        (lambda: cost(Config(), 1, pairs="seen"), "pairs is 'seen'"),
        (lambda: cost(Config(), 1, source_length=4), "has no source_vocab"),
        (lambda: cost(TranslatorConfig(source_vocab=9, target_vocab=9), 1), "has a source_vocab"),
        (lambda: cost(BERTConfig(), 1), "BERTConfig, whose .*token_types"),
        (lambda: CostConfig(d_latent=8), "d_rope is None; it must be given with d_latent = 8"),
        (lambda: CostConfig(d_latent=8, d_rope=4, kv_heads=2), "kv_heads is 2; it must be None with d_latent"),
        (lambda: CostConfig(window=0), "window is 0"),
        (lambda: CostConfig(source_vocab=9), "vocab is None; it must be the target's"),
    ],
)
def test_what_cannot_be_counted_is_refused_in_words(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_configuration_is_refused():
    with pytest.raises(TypeError, match="config is a dict"):
        cost({"d_model": 4}, 1)


def test_a_gate_adds_a_matrix_and_the_maps_say_their_widths():
    config = CostConfig(d_model=8, heads=2, d_hidden=16, activation="swiglu", bias=False)
    assert cost(config, 1).parameters["feed_forward"] == 6 * 3 * 8 * 16
    latent = CostConfig(d_model=8, heads=2, d_latent=3, d_rope=2, bias=False)
    assert attention_maps(latent) == [(8, 12, False), (8, 5, False), (8, 8, False)]
    assert up_maps(latent) == [(3, 8, False)] * 2


@pytest.mark.parametrize("name", ["cost", "cost_config"])
def test_docstrings_run(name):
    result = doctest.testmod(importlib.import_module(f"attnkit.nn.{name}"))
    assert result.attempted
    assert not result.failed
