"""Llama as Hugging Face publishes it, and what is built like it: Mistral, Qwen2."""

from __future__ import annotations

from typing import Any

from attnkit.models.weights.keymap import KeyMap
from attnkit.models.weights.published import Published

TYPES = ("llama", "mistral", "qwen2")

LAYER = {
    "norm_attention": "input_layernorm",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.o_proj",
    "norm_feed_forward": "post_attention_layernorm",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
}
REST = {"embedding": "embed_tokens", "decoder.norm": "norm", "head": "lm_head"}
SPARE = {r"(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq": "the rotary frequencies, which follow from the settings"}
GATED = {"silu": "swiglu", "gelu": "geglu"}


def config(published: Published) -> dict[str, Any]:
    """The arguments of LlamaConfig."""
    family = published.family(TYPES, "Llama")
    activation = published.activation("hidden_act", "silu")
    if activation not in GATED:
        raise ValueError(f"{published.source} says hidden_act = {activation!r}; a gate opens by {' or '.join(GATED)}")
    published.fixed("pruned_heads", {}, "every layer has the same heads")
    published.fixed("is_encoder_decoder", False, "a Llama is a decoder")
    published.fixed("rope_interleaved", False, "pairs are half a head apart, as Transformers stores every Llama")
    longest = published.take("max_position_embeddings", 2048)
    published.take("max_sequence_length", None)  # the same number in the first Llama's file
    heads = published.take("num_attention_heads", 32)
    qkv_bias = family == "qwen2" or published.take("attention_bias", False)
    return {
        "vocab": published.take("vocab_size", 32000),
        "d_model": published.take("hidden_size", 4096),
        "heads": heads,
        "kv_heads": published.take("num_key_value_heads", heads),
        "d_head": published.take("head_dim", None),
        "layers": published.take("num_hidden_layers", 32),
        "d_hidden": published.take("intermediate_size", 11008),
        "activation": GATED[activation],
        "eps": published.take("rms_norm_eps", 1e-6),
        "attention_dropout": published.take("attention_dropout", 0.0),
        "qkv_bias": qkv_bias,
        "out_bias": qkv_bias and family != "qwen2",
        "mlp_bias": published.take("mlp_bias", False),
        "tied": published.take("tie_word_embeddings", False),
        "trained_length": longest,
        "window": _window(published, family),
        **_rope(published, longest),
    }


def _window(published: Published, family: str) -> int | None:
    """How many keys a token sees, itself included; None: all before it."""
    window = published.take("sliding_window", None)
    published.take("max_window_layers", None)  # only with use_sliding_window
    if family == "qwen2":
        published.fixed("use_sliding_window", False, "every layer has the same window")
        window = None
    kinds = set(published.take("layer_types", ["full_attention"]))
    if kinds != {"full_attention"}:
        raise ValueError(f"{published.source} says layer_types = {sorted(kinds)}; every layer must have full_attention")
    return window


def _rope(published: Published, longest: int) -> dict[str, Any]:
    """Base and scaling of the rotary encoding: `rope_parameters`, or `rope_scaling` and `rope_theta` in older files."""
    older, theta = published.take("rope_scaling", {}), published.take("rope_theta", 10_000.0)
    rope = dict(published.take("rope_parameters", older))
    named = Published(rope, f"rope_parameters of {published.source}")
    kind = named.take("rope_type", named.take("type", "default"))
    base = named.take("rope_theta", theta)
    named.fixed("partial_rotary_factor", 1.0, "a Llama rotates its whole heads")
    published.fixed("partial_rotary_factor", 1.0, "a Llama rotates its whole heads")
    scaling = _scaling(named, kind, longest)
    named.finish()
    return {"rope_base": base, "scaling": scaling}


def _scaling(rope: Published, kind: str, longest: int) -> dict[str, Any] | None:
    """The arguments of the scaling, with its name in attnkit.positions under "kind"."""
    if kind == "default":
        return None
    if kind not in ("linear", "dynamic", "yarn", "llama3"):
        known = "default, linear, dynamic, yarn and llama3"
        raise ValueError(f"{rope.source} is of rope_type {kind!r}; supported are {known}")
    factor = rope.take("factor")
    if kind == "linear":
        return {"kind": "Linear", "factor": factor}
    if kind == "dynamic":
        rope.take("original_max_position_embeddings", None)  # Transformers compares with max_position_embeddings
        return {"kind": "DynamicNTK", "factor": factor, "trained_length": longest}
    trained = {"factor": factor, "trained_length": rope.take("original_max_position_embeddings", longest)}
    if kind == "llama3":
        pair = {name: rope.take(name) for name in ("low_freq_factor", "high_freq_factor")}
        return {"kind": "Llama3", **trained, **pair}
    optional = ("beta_fast", "beta_slow", "attention_factor", "mscale", "mscale_all_dim", "truncate")
    given = {name: value for name in optional if (value := rope.take(name, None)) is not None}
    return {"kind": "YaRN", **trained, **given}


def keys(model: str, settings: Any) -> KeyMap:
    """The names of their tensors."""
    return KeyMap(
        layer=LAYER,
        rest=REST,
        layers=("decoder.layers", "layers"),
        prefix="model.",
        tied={"lm_head.weight": "embed_tokens.weight"} if settings.tied else {},
        spare=SPARE,
    )
