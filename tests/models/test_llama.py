"""Llama against LlamaForCausalLM, and Mistral and Qwen2 as far as they are the same; weights copied through files."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM

from attnkit.masks import Padding, Prefix
from attnkit.models import Llama, LlamaConfig
from attnkit.nn import recording
from attnkit.positions import Linear, Llama3, YaRN
from tests.models.twins import HEADS, LAYERS, VOCAB, WIDTH, apart, ids, in_double, saved, stirred

TRAINED = 16
ROPE = {
    "default": {"rope_theta": 500.0},
    "linear": {"factor": 4.0},
    "dynamic": {"factor": 2.0},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 8},
    "yarn_told": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 8,
        "beta_fast": 2.0,
        "beta_slow": 0.5,
        "attention_factor": 1.3,
        "truncate": False,
    },
    "yarn_deepseek": {
        "rope_type": "yarn",
        "factor": 4.0,
        "original_max_position_embeddings": 8,
        "mscale": 0.7,
        "mscale_all_dim": 1.2,
    },
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8,
        "rope_theta": 1000.0,
    },
}


def published(kind=LlamaForCausalLM, config=TheirConfig, rope="default", **settings):
    sizes = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "intermediate_size": 40,
        "vocab_size": VOCAB,
        "max_position_embeddings": TRAINED,
        "rope_parameters": {"rope_theta": 10_000.0, "rope_type": rope, **ROPE[rope]},
    }
    torch.manual_seed(0)
    return stirred(kind(config(**sizes | settings, attn_implementation="eager")))


@torch.no_grad()
def agree(theirs, tokens, folder, monkeypatch) -> Llama:
    """Logits within 1e-5 in float32 and 1e-10 in float64; the model in float32."""
    saved(theirs, folder)
    ours, exact = Llama.from_pretrained(folder), Llama.from_pretrained(folder, dtype=torch.float64)
    assert apart(ours(tokens), theirs(tokens).logits) <= 1e-5
    assert apart(exact(tokens), in_double(theirs, monkeypatch)(tokens).logits) <= 1e-10
    return ours


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_key_value_heads": 4},
        {"num_key_value_heads": 1, "head_dim": 12},
        {"tie_word_embeddings": True, "attention_bias": True},
        {"mlp_bias": True, "rms_norm_eps": 1e-3},
        {"hidden_act": "gelu"},
    ],
    ids=str,
)
def test_logits_are_those_of_transformers(settings, tmp_path, monkeypatch) -> None:
    agree(published(**settings), ids(2, 14), tmp_path, monkeypatch)


@pytest.mark.parametrize("length", [12, 40], ids=["trained", "beyond"])
@pytest.mark.parametrize("rope", ROPE)
def test_every_scaling_within_and_beyond_the_trained_length(rope, length, tmp_path, monkeypatch) -> None:
    theirs = published(rope=rope)
    agree(theirs, ids(2, length), tmp_path, monkeypatch)


@torch.no_grad()
def test_padding_on_either_side(tmp_path) -> None:
    theirs = published()
    ours = Llama.from_pretrained(saved(theirs, tmp_path))
    tokens, lengths = ids(3, 12), torch.tensor([12, 7, 9])
    real = torch.arange(12) < lengths[:, None]
    expected = theirs(tokens, attention_mask=real.long()).logits
    assert apart(ours(tokens, mask=Padding(lengths))[real], expected[real]) <= 1e-5
    pads = 12 - lengths
    real = torch.arange(12) >= pads[:, None]
    positions = (torch.arange(12) - pads[:, None]).clamp(min=0)
    expected = theirs(tokens, attention_mask=real.long(), position_ids=positions).logits
    assert apart(ours(tokens, mask=~Prefix(pads), positions=positions)[real], expected[real]) <= 1e-5


@torch.no_grad()
def test_attention_maps_are_those_of_transformers(tmp_path) -> None:
    theirs = published(rope="llama3")
    ours = Llama.from_pretrained(saved(theirs, tmp_path))
    with recording(ours) as maps:
        ours(ids(2, 9))
    expected = theirs(ids(2, 9), output_attentions=True).attentions
    assert len(maps) == LAYERS
    for (found,), other in zip(maps.values(), expected, strict=True):
        assert apart(found, other) <= 1e-6


@pytest.mark.parametrize("kind", ["dynamic", "static"])
@pytest.mark.parametrize("settings", [{}, {"sliding_window": 6}], ids=["full", "window"])
@torch.no_grad()
def test_in_chunks_from_a_cache_as_in_one_piece(settings, kind, tmp_path) -> None:
    model, config = (MistralForCausalLM, MistralConfig) if settings else (LlamaForCausalLM, TheirConfig)
    ours = Llama.from_pretrained(saved(published(model, config, **{"sliding_window": None} | settings), tmp_path))
    tokens = ids(2, 24)
    cache = ours.new_cache(kind, **({"length": 24} if kind == "static" else {}))
    whole = ours(tokens)
    chunks = [ours(chunk, cache=cache) for chunk in tokens.split([5, 1, 1, 9, 1, 7], dim=1)]
    assert apart(torch.cat(chunks, dim=1), whole) <= 1e-5
    assert apart(ours(tokens, last=True), whole[:, -1:]) <= 1e-6


@pytest.mark.parametrize("window", [None, 5, 64])
def test_mistral_with_and_without_its_window(window, tmp_path, monkeypatch) -> None:
    theirs = published(MistralForCausalLM, MistralConfig, sliding_window=window)
    assert agree(theirs, ids(2, 14), tmp_path, monkeypatch).config.window == window


def test_qwen2_has_biases_where_its_config_says_nothing(tmp_path, monkeypatch) -> None:
    ours = agree(published(Qwen2ForCausalLM, Qwen2Config), ids(2, 14), tmp_path, monkeypatch)
    attention = ours.decoder.layers[0].attention
    assert attention.query.bias is not None
    assert attention.out.bias is None


@torch.no_grad()
def test_the_older_way_to_write_the_rotary_settings(tmp_path) -> None:
    """Files that were published before Transformers 5 say rope_theta and rope_scaling, and `type` for its kind."""
    theirs = published(rope="llama3")
    config_file = saved(theirs, tmp_path) / "config.json"
    entries = json.loads(config_file.read_text())
    rope = entries.pop("rope_parameters")
    entries |= {"rope_theta": rope.pop("rope_theta"), "rope_scaling": rope}
    config_file.write_text(json.dumps(entries))
    ours = Llama.from_pretrained(tmp_path)
    assert ours.config.rope_base == 1000.0
    assert ours.config.scaling == Llama3(8.0, low_freq_factor=1.0, high_freq_factor=4.0, trained_length=8)
    assert apart(ours(ids(2, 40)), theirs(ids(2, 40)).logits) <= 1e-5
    rope = entries["rope_scaling"] = {"type": "linear", "factor": 4.0}
    config_file.write_text(json.dumps(entries))
    assert Llama.from_pretrained(tmp_path).config.scaling == Linear(4.0)
    rope["type"] = "longrope"
    config_file.write_text(json.dumps(entries))
    with pytest.raises(ValueError, match=r"rope_type 'longrope'; supported are default, linear, dynamic, yarn and"):
        Llama.from_pretrained(tmp_path)


@torch.no_grad()
def test_a_scaling_survives_our_own_format(tmp_path) -> None:
    scaling = YaRN(factor=4.0, trained_length=16, beta_fast=8.0)
    config = LlamaConfig(vocab=50, d_model=16, heads=2, kv_heads=1, layers=1, d_hidden=24, scaling=scaling)
    model = Llama(config).eval()
    model.save_pretrained(tmp_path)
    again = Llama.from_pretrained(tmp_path)
    assert again.config == config
    assert torch.equal(again(ids(1, 30) % 50), model(ids(1, 30) % 50))


@torch.no_grad()
def test_angles_keep_their_precision_in_half_precision(tmp_path) -> None:
    """At position 4,000 a bfloat16 angle is off by whole turns; the logits must be as far from float32 as at 0."""
    ours = Llama.from_pretrained(saved(published(), tmp_path))
    half = Llama.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.head.weight.dtype == torch.bfloat16
    tokens = ids(1, 12)
    for start in (0, 4000):
        positions = torch.arange(start, start + 12)[None]
        assert apart(half(tokens, positions=positions).float(), ours(tokens, positions=positions)) <= 0.35


def test_llama_2_has_its_published_size() -> None:
    with torch.device("meta"):
        model = Llama(LlamaConfig())
    assert sum(p.numel() for p in model.parameters()) == 6_738_415_616


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu'; a gate opens by silu or gelu"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor = 0.5; only 1.0 is supported"),
        ({"model_type": "gemma2"}, "a model of type 'gemma2'; Llama reads llama and mistral and qwen2"),
        ({"attn_logit_softcapping": 50.0}, "not supported: attn_logit_softcapping = 50.0; each might change"),
        ({"quantization_config": {"bits": 4}}, "not supported: quantization_config"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "every layer must have full_attention"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_would_compute_something_else_are_refused(settings, sentence, tmp_path) -> None:
    config_file = saved(published(), tmp_path) / "config.json"
    config_file.write_text(json.dumps(json.loads(config_file.read_text()) | settings))
    with pytest.raises(ValueError, match=sentence):
        Llama.from_pretrained(tmp_path)


def test_a_sliding_window_of_some_layers_is_refused(tmp_path) -> None:
    theirs = published(Qwen2ForCausalLM, Qwen2Config, use_sliding_window=True, sliding_window=4, max_window_layers=1)
    with pytest.raises(ValueError, match="use_sliding_window = True; only False is supported"):
        Llama.from_pretrained(saved(theirs, tmp_path))


def test_a_window_of_no_tokens() -> None:
    with pytest.raises(ValueError, match="LlamaConfig: window is 0; it must be a whole number of at least 1, or None"):
        LlamaConfig(window=0)
