"""The Vision Transformer as Hugging Face publishes it: its patches are embedded by a convolution."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attnkit.models.weights.keymap import KeyMap
from attnkit.models.weights.published import Published

TYPES = ("vit",)

LAYER = {
    "norm_attention": "layernorm_before",
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.out": "attention.output.dense",
    "norm_feed_forward": "layernorm_after",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
}
REST = {
    "class_token": "embeddings.cls_token",
    "patches": "embeddings.patch_embeddings.projection",
    "position.table.weight": "embeddings.position_embeddings",
    "encoder.norm": "layernorm",
    "head": "classifier",
}
SPARE = {
    r"pooler\..*": "a layer that training on ImageNet-21k had and a classifier does not read",
    r"embeddings\.mask_token": "stood for hidden patches in pretraining",
}


def flat(kernel: Tensor) -> Tensor:
    """A convolution whose steps are as wide as its kernel is a matrix for (channels height width) flattened."""
    return kernel.flatten(1)


def rows(table: Tensor) -> Tensor:
    """Their table has a batch axis of length 1."""
    return table.squeeze(0)


def config(published: Published) -> dict[str, Any]:
    """The arguments of ViTConfig."""
    size, patch = (_square(published, name, default) for name, default in (("image_size", 224), ("patch_size", 16)))
    for name in ("encoder_stride", "pooler_output_size", "pooler_act"):
        published.take(name, None)  # of the decoder of masked patches and of the pooler, which a classifier lacks
    return {
        "image": size,
        "patch": patch,
        "channels": published.take("num_channels", 3),
        "labels": published.labels(),
        "d_model": published.take("hidden_size", 768),
        "heads": published.take("num_attention_heads", 12),
        "layers": published.take("num_hidden_layers", 12),
        "d_hidden": published.take("intermediate_size", 3072),
        "activation": published.activation("hidden_act", "gelu"),
        "eps": published.take("layer_norm_eps", 1e-12),
        "dropout": published.take("hidden_dropout_prob", 0.0),
        "attention_dropout": published.take("attention_probs_dropout_prob", 0.0),
        "qkv_bias": published.take("qkv_bias", True),
    }


def _square(published: Published, name: str, default: int) -> int:
    """One side; some files give both."""
    sides = published.take(name, default)
    sides = sides if isinstance(sides, list) else [sides]
    if len(set(sides)) != 1:
        raise ValueError(f"{published.source} says {name} = {sides}; it must be square")
    return sides[0]


def keys(model: str, settings: Any) -> KeyMap:
    """The names of their tensors."""
    shaped = {"embeddings.patch_embeddings.projection.weight": flat, "embeddings.position_embeddings": rows}
    return KeyMap(
        layer=LAYER, rest=REST, layers=("encoder.layers", "encoder.layer"), prefix="vit.", shaped=shaped, spare=SPARE
    )
