"""The config.json that Hugging Face Transformers writes, read so that no entry goes unnoticed.

An entry is taken (and honoured), or fixed (one value is what our model computes; another is refused by name), or stands
in HARMLESS, the list of what has no bearing on a forward pass. Anything else is refused: a setting that is silently
ignored is a wrong model.
"""

from __future__ import annotations

from typing import Any

# What has no bearing on a forward pass.
HARMLESS = {
    # Where the file comes from, and how its classes are named.
    "architectures", "model_type", "transformers_version", "dtype", "torch_dtype", "_name_or_path", "name_or_path",
    "finetuning_task", "problem_type", "license", "tokenizer_class", "id2label", "label2id", "num_labels",
    "_num_labels", "is_llama_config", "transformers.js_config",
    # How it was initialised and is run.
    "initializer_range", "initializer_factor", "use_cache", "pretraining_tp", "gradient_checkpointing",
    "torchscript", "chunk_size_feed_forward", "output_attentions", "output_hidden_states", "output_past",
    "return_dict", "use_return_dict", "attn_implementation", "_attn_implementation",
    "_attn_implementation_internal", "_attn_implementation_autoset", "directionality",
    # Tokens that mean something to who calls the model.
    "bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id", "begin_suppress_tokens", "suppress_tokens", "bad_words_ids", "prefix",
    # How to sample from it.
    "task_specific_params", "max_length", "min_length", "do_sample", "early_stopping", "num_beams",
    "num_beam_groups", "diversity_penalty", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "num_return_sequences",
    "output_scores", "return_dict_in_generate", "remove_invalid_values", "exponential_decay_length_penalty",
}  # fmt: skip

# What Transformers calls an activation, and what FeedForward calls the same function.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "silu": "silu",
    "swish": "silu",
}


class Published:
    """The entries of one config.json, of which `rest` have not been accounted for yet.

    >>> config = Published({"n_embd": 32, "add_cross_attention": True}, "config.json")
    >>> config.take("n_embd")
    32
    >>> config.fixed("add_cross_attention", False, "there is one sequence")
    Traceback (most recent call last):
        ...
    ValueError: config.json says add_cross_attention = True; only False is supported: there is one sequence
    """

    def __init__(self, entries: dict[str, Any], source: str) -> None:
        self.entries, self.source = dict(entries), source
        self.rest = {name: value for name, value in entries.items() if name not in HARMLESS}

    def take(self, name: str, *default: Any) -> Any:
        """The entry, which the caller honours; `default` stands for one that is absent or null."""
        value = self.rest.pop(name, None)
        if value is None and not default:
            raise ValueError(f"{self.source} has no {name}, without which the model cannot be built")
        return default[0] if value is None else value

    def fixed(self, name: str, value: Any, because: str) -> None:
        """Refuse any value but this one, which is what our model computes. Absent or null is taken to mean it."""
        found = self.rest.pop(name, None)
        if found is not None and found != value:
            raise ValueError(f"{self.source} says {name} = {found!r}; only {value!r} is supported: {because}")

    def activation(self, name: str, default: str) -> str:
        """The entry as FeedForward names the function."""
        value = self.take(name, default)
        if value not in ACTIVATIONS:
            raise ValueError(f"{self.source} says {name} = {value!r}; supported are {', '.join(ACTIVATIONS)}")
        return ACTIVATIONS[value]

    def labels(self) -> int:
        """How many classes a classification head tells apart: Transformers writes their names, or nothing for two."""
        names = self.entries.get("id2label")
        return len(names) if names else int(self.entries.get("num_labels") or 2)

    def family(self, names: tuple[str, ...], model: str) -> str:
        """The model_type, which must be one of `names`; the first of them when an old file does not say."""
        found = self.entries.get("model_type", names[0])
        if found not in names:
            raise ValueError(f"{self.source} describes a model of type {found!r}; {model} reads {' and '.join(names)}")
        return found

    def finish(self) -> None:
        """Refuse what nobody asked about. A null is no setting."""
        unknown = {name: value for name, value in self.rest.items() if value is not None}
        if unknown:
            listed = ", ".join(f"{name} = {value!r}" for name, value in unknown.items())
            raise ValueError(
                f"{self.source} has settings that are not supported: {listed}; "
                "each might change what the model computes, so none is ignored; what does not, you can delete there"
            )
