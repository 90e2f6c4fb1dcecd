"""GPT-2 as Hugging Face publishes it: `wte`, `h.0.attn.c_attn`, and weights transposed (TensorFlow's convolutions)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from attnkit.models.weights.keymap import KeyMap
from attnkit.models.weights.published import Published

TYPES = ("gpt2",)

LAYER = {
    "norm_attention": "ln_1",
    "attention.query": "attn.c_attn",  # one matrix for the three, side by side
    "attention.key": "attn.c_attn",
    "attention.value": "attn.c_attn",
    "attention.out": "attn.c_proj",
    "norm_feed_forward": "ln_2",
    "feed_forward.up": "mlp.c_fc",
    "feed_forward.down": "mlp.c_proj",
}
REST = {"embedding": "wte", "position.table": "wpe", "decoder.norm": "ln_f"}
SPARE = {r"h\.\d+\.attn\.(masked_)?bias": "the causal mask and its -10000, which old versions saved with the weights"}


def transposed(weight: Tensor) -> Tensor:
    """Their matrices multiply from the right."""
    return weight.t()


def config(published: Published) -> dict[str, Any]:
    """The arguments of GPTConfig."""
    width = published.take("n_embd", 768)
    dropout = published.take("resid_pdrop", 0.1)
    published.fixed("embd_pdrop", dropout, "the embedding drops as the residual branches do")
    published.fixed("scale_attn_weights", True, "scores are divided by sqrt(d_head)")
    published.fixed("scale_attn_by_inverse_layer_idx", False, "every layer scales its scores alike")
    published.fixed("reorder_and_upcast_attn", False, "the backend decides in which precision scores are summed")
    published.fixed("add_cross_attention", False, "a GPT attends to its own sequence only")
    published.fixed("tie_word_embeddings", True, "the head of a GPT is its embedding")
    context = published.take("n_positions", 1024)
    published.fixed("n_ctx", context, "it is another name of n_positions")
    for name in [name for name in published.rest if name.startswith("summary_")]:
        published.take(name, None)  # the head of GPT2DoubleHeadsModel
    return {
        "vocab": published.take("vocab_size", 50257),
        "context": context,
        "d_model": width,
        "heads": published.take("n_head", 12),
        "layers": published.take("n_layer", 12),
        "d_hidden": published.take("n_inner", 4 * width),
        "activation": published.activation("activation_function", "gelu_new"),
        "eps": published.take("layer_norm_epsilon", 1e-5),
        "dropout": dropout,
        "attention_dropout": published.take("attn_pdrop", 0.1),
    }


def keys(model: str, settings: Any) -> KeyMap:
    """The names of their tensors."""
    matrices = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
    return KeyMap(
        layer=LAYER,
        rest=REST,
        layers=("decoder.layers", "h"),
        prefix="transformer.",
        shaped=dict.fromkeys(matrices, transposed),
        tied={"lm_head.weight": "wte.weight"},
        spare=SPARE,
    )
