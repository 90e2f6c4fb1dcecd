"""The settings of well-known files, as they were published: read without complaint, into models of the right size."""

from __future__ import annotations

import pytest
import torch

from attnkit.models import BERT, GPT, Llama
from attnkit.models.weights import bert as bert_weights
from attnkit.models.weights import gpt2 as gpt2_weights
from attnkit.models.weights import llama as llama_weights
from attnkit.models.weights.published import Published

OLD = {"torch_dtype": "float16", "transformers_version": "4.40.0", "use_cache": True, "initializer_range": 0.02}
GPT2 = {
    "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1, "bos_token_id": 50256,
    "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05,
    "model_type": "gpt2", "n_ctx": 1024, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 1024,
    "resid_pdrop": 0.1, "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "vocab_size": 50257,
    "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
}  # fmt: skip
BERT_BASE = {
    "architectures": ["BertForMaskedLM"], "attention_probs_dropout_prob": 0.1, "gradient_checkpointing": False,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02,
    "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "model_type": "bert",
    "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute",
    "transformers_version": "4.6.0.dev0", "type_vocab_size": 2, "use_cache": True, "vocab_size": 30522,
}  # fmt: skip
LLAMA_31 = OLD | {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336,
    "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32,
    "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                     "original_max_position_embeddings": 8192, "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256,
}  # fmt: skip
MISTRAL = OLD | {
    "architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu",
    "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768, "model_type": "mistral",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip


@pytest.mark.parametrize(
    ("model", "family", "entries", "parameters"),
    [
        (GPT, gpt2_weights, GPT2, 124_439_808),
        (BERT, bert_weights, BERT_BASE, 109_482_240),
        (Llama, llama_weights, LLAMA_31, 8_030_261_248),
        (Llama, llama_weights, MISTRAL, 7_241_732_096),
    ],
    ids=["GPT-2", "BERT-base", "Llama-3.1-8B", "Mistral-7B"],
)
def test_the_settings_of_well_known_files_give_models_of_the_published_size(model, family, entries, parameters) -> None:
    published = Published(entries, "config.json")
    config = model.config_class(**family.config(published))
    published.finish()
    with torch.device("meta"):
        made = model(config)
    assert sum(p.numel() for p in made.parameters()) == parameters
