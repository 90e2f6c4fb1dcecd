"""BERT as Hugging Face publishes it: `bert.encoder.layer.0.attention.self.query`; old files say `gamma` and `beta`."""

from __future__ import annotations

from typing import Any

from attnkit.models.weights.keymap import KeyMap
from attnkit.models.weights.published import Published

TYPES = ("bert",)

LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "norm_attention": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "norm_feed_forward": "output.LayerNorm",
}
ENCODER = {
    "embedding": "embeddings.word_embeddings",
    "position.table": "embeddings.position_embeddings",
    "types": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "pooler": "pooler.dense",
}
HEADS = {
    "BERT": {},
    "MaskedLanguageModel": {
        "transform": "cls.predictions.transform.dense",
        "norm_head": "cls.predictions.transform.LayerNorm",
        "bias": "cls.predictions.bias",
    },
    "SequenceClassifier": {"head": "classifier"},
    "TokenClassifier": {"head": "classifier"},
}
TIED = {
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}
BUFFERS = {r"embeddings\.(position|token_type)_ids": "the numbers 0, 1, 2, ... and zeros, which old versions saved"}
POOLER = {r"pooler\..*": "the pooler, where the model reads every token and not the first alone"}
SENTENCES = {r"cls\.seq_relationship\..*": "the head that told whether two sentences follow each other"}
WORDS = {r"cls\.predictions\..*": "the head that restored hidden words"}
CLASSES = {r"(classifier|qa_outputs)\..*": "a head for another task"}
SPARE = {
    "BERT": BUFFERS | SENTENCES | WORDS | CLASSES,
    "MaskedLanguageModel": BUFFERS | SENTENCES,
    "SequenceClassifier": BUFFERS | SENTENCES | WORDS,
    "TokenClassifier": BUFFERS | SENTENCES | WORDS,
}


def config(published: Published) -> dict[str, Any]:
    """The arguments of BERTConfig."""
    published.fixed("position_embedding_type", "absolute", "positions are learned vectors, added to the embedding")
    published.fixed("is_decoder", False, "BERT reads in both directions")
    published.fixed("is_encoder_decoder", False, "BERT is an encoder")
    published.fixed("add_cross_attention", False, "BERT attends to its own sequence only")
    published.fixed("tie_word_embeddings", True, "the head that restores words is the embedding")
    published.fixed("pruned_heads", {}, "every layer has the same heads")
    for name in [name for name in published.rest if name.startswith("pooler_")]:
        published.take(name, None)  # in the multilingual BERT's file; neither its code nor Transformers reads them
    dropout = published.take("hidden_dropout_prob", 0.1)
    return {
        "vocab": published.take("vocab_size", 30522),
        "context": published.take("max_position_embeddings", 512),
        "token_types": published.take("type_vocab_size", 2),
        "d_model": published.take("hidden_size", 768),
        "heads": published.take("num_attention_heads", 12),
        "layers": published.take("num_hidden_layers", 12),
        "d_hidden": published.take("intermediate_size", 3072),
        "activation": published.activation("hidden_act", "gelu"),
        "eps": published.take("layer_norm_eps", 1e-12),
        "dropout": dropout,
        "attention_dropout": published.take("attention_probs_dropout_prob", 0.1),
        "head_dropout": published.take("classifier_dropout", dropout),
        "labels": published.labels(),
    }


def keys(model: str, settings: Any) -> KeyMap:
    """The names of their tensors, for BERT or one of its heads."""
    own = "" if model == "BERT" else "bert."
    pooled = settings.pooler if model == "BERT" else model == "SequenceClassifier"
    return KeyMap(
        layer=LAYER,
        rest={f"{own}{ours}": theirs for ours, theirs in ENCODER.items()} | HEADS[model],
        layers=(f"{own}encoder.layers", "encoder.layer"),
        prefix="bert.",
        old={"gamma": "weight", "beta": "bias"},
        tied=TIED if model == "MaskedLanguageModel" else {},
        spare=SPARE[model] | ({} if pooled else POOLER),
    )
