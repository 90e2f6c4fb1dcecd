"""The calculator in the page against `attnkit.nn.cost`: the same numbers for every size."""

from __future__ import annotations

import random

import pytest

from attnkit.models import GPTConfig, LlamaConfig, TranslatorConfig
from attnkit.nn.cost import CostConfig, cost, quadratic_from
from attnkit.viz.explorers.cost import explore_cost, presets
from tests.viz.kinds import run_kind

PUBLISHED = {
    "GPT-2 (2019)": 124_439_808,
    "Llama 2 7B (2023)": 6_738_415_616,
    "Mistral 7B (2023)": 7_241_732_096,
    "Llama 3 8B (2024)": 8_030_261_248,
}


def drawn(seed: int) -> CostConfig:
    """Some model, with everything that can be told of one."""
    draw = random.Random(seed)
    heads = draw.choice([1, 2, 4, 8, 12])
    latent = draw.random() < 0.3
    return CostConfig(
        d_model=heads * draw.choice([4, 16, 64]),
        heads=heads,
        d_head=draw.choice([None, None, 24]),
        kv_heads=None if latent else draw.choice([n for n in range(1, heads + 1) if heads % n == 0]),
        d_latent=draw.randint(8, 90) if latent else None,
        d_rope=2 * draw.randint(1, 16) if latent else None,
        d_hidden=draw.randint(8, 300),
        layers=draw.randint(1, 9),
        activation=draw.choice(["relu", "swiglu", "gelu_tanh", "geglu"]),
        norm=draw.choice(["layer", "rms"]),
        norm_first=draw.random() < 0.5,
        bias=draw.random() < 0.5,
        qkv_bias=draw.choice([None, True, False]),
        out_bias=draw.choice([None, True, False]),
        mlp_bias=draw.choice([None, True, False]),
        qk_norm=not latent and draw.random() < 0.3,
        vocab=draw.choice([None, 100]),
        tied=draw.random() < 0.5,
        context=draw.choice([None, 64]),
        window=draw.choice([None, 3, 40]),
    )


def test_every_formula_agrees_with_python():
    draw, jobs, expected = random.Random(0), [], []
    for seed in range(60):
        config = drawn(seed)
        length, batch, cached, itemsize = (
            draw.randint(1, 99),
            draw.randint(1, 3),
            draw.randint(0, 70),
            draw.choice([1, 2, 4]),
        )
        options = {"batch": batch, "cached": cached, "itemsize": itemsize, "last": draw.random() < 0.5}
        jobs += [{"call": "cost", "arguments": [config.to_dict(), length, options]}]
        jobs += [{"call": "quadraticFrom", "arguments": [config.to_dict(), step]} for step in (False, True)]
        expected += [cost(config, length, **options), quadratic_from(config), quadratic_from(config, step=True)]
    answers = run_kind("cost", explore_cost().spec, jobs)
    for answer, right in zip(answers, expected, strict=True):
        if not isinstance(answer, dict):
            assert answer == right
            continue
        assert answer["parameters"] == right.parameters
        assert answer["flops"] == right.flops
        assert answer["cache_bytes"] == right.cache_bytes


@pytest.mark.parametrize("name", list(presets()))
def test_a_preset_starts_as_it_is_and_has_the_published_size(name):
    config = presets()[name]
    (answer,) = run_kind("cost", explore_cost(config, length=1000).spec, [{"state": {"length": 1000}}])
    read, step = cost(config, 1000, last=True), cost(config, 1, cached=999)
    assert answer["read"]["parameters"] == read.parameters
    assert sum(answer["read"]["flops"].values()) == pytest.approx(read.total_flops, rel=1e-12)
    assert sum(answer["step"]["flops"].values()) == pytest.approx(step.total_flops, rel=1e-12)
    assert answer["read"]["cache_bytes"] == read.cache_bytes
    assert read.total_parameters == PUBLISHED[name]


def test_the_sharing_of_heads_is_compared():
    (answer,) = run_kind(
        "cost", explore_cost(LlamaConfig()).spec, [{"state": {"length": 100, "share": "gqa", "kv_heads": 8}}]
    )
    sizes = {kind: size for kind, _, size in answer["kinds"]}
    assert sizes["mha"] == 4 * sizes["gqa"] == 32 * sizes["mqa"]
    assert answer["read"]["cache_bytes"] == sizes["gqa"] == cost(LlamaConfig(kv_heads=8), 100).cache_bytes
    assert sizes["mla"] == cost(CostConfig(d_model=4096, heads=32, layers=32, d_latent=512, d_rope=64), 100).cache_bytes


@pytest.mark.parametrize(
    ("state", "word"),
    [({"heads": 7}, "should divide the width: 4096 / 7"), ({"share": "gqa", "kv_heads": 5}, "should divide the heads")],
)
def test_sizes_that_do_not_fit_are_refused_in_words(state, word):
    (answer,) = run_kind("cost", explore_cost().spec, [{"state": state}])
    assert word in answer["fault"]


def test_python_refuses_what_it_cannot_count():
    with pytest.raises(ValueError, match="length is 0"):
        explore_cost(length=0)
    with pytest.raises(ValueError, match="TranslatorConfig with a source"):
        explore_cost(TranslatorConfig(source_vocab=9, target_vocab=9))


def test_without_a_page_it_gives_the_numbers():
    text = repr(explore_cost(GPTConfig(), length=1024))
    assert "124,439,808" in text
    assert "37,748,736" in text, "12 layers * 1,024 tokens * 2 * 768 numbers * 2 bytes"
