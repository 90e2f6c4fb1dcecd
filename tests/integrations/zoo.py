"""Small random models of Transformers, twice with the same weights: attention by its own "eager", and by attnkit."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

VOCAB, WIDTH, HEADS, LAYERS, CONTEXT, PAD = 29, 16, 4, 2, 48, 0
WINDOW = 4
SPECIAL: dict[str, Any] = {"pad_token_id": PAD, "bos_token_id": 1, "eos_token_id": 2}
COMMON: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": CONTEXT,
    "attention_dropout": 0.0,
    **SPECIAL,
}
GROUPED: dict[str, Any] = {**COMMON, "num_key_value_heads": 2, "head_dim": 4}


def gpt2(**changes: Any) -> nn.Module:
    still = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
    size = {"vocab_size": VOCAB, "n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": CONTEXT}
    return hf.GPT2LMHeadModel(hf.GPT2Config(**(size | still | SPECIAL | changes)))


def bert(**changes: Any) -> nn.Module:
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return hf.BertForMaskedLM(hf.BertConfig(**(COMMON | still | changes)))


def llama(**changes: Any) -> nn.Module:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**(GROUPED | changes)))


def mistral(**changes: Any) -> nn.Module:
    return hf.MistralForCausalLM(hf.MistralConfig(**(GROUPED | {"sliding_window": WINDOW} | changes)))


def gemma2(**changes: Any) -> nn.Module:
    """Softcap, and a window in every other layer."""
    own = {"sliding_window": WINDOW, "query_pre_attn_scalar": 3, "attn_logit_softcapping": 0.5}
    return hf.Gemma2ForCausalLM(hf.Gemma2Config(**(GROUPED | own | changes)))


def gpt_oss(**changes: Any) -> nn.Module:
    """Sinks, and a window in the first layer."""
    own = {
        "sliding_window": WINDOW,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
        "layer_types": ["sliding_attention", "full_attention"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    }
    model = hf.GptOssForCausalLM(hf.GptOssConfig(**(GROUPED | own | changes)))
    model.set_experts_implementation("eager")  # the grouped product knows no float64
    return model


def modernbert(**changes: Any) -> nn.Module:
    """A window to both sides."""
    own = {"local_attention": WINDOW, "global_attn_every_n_layers": 2, "cls_token_id": 1, "sep_token_id": 2}
    still = {"embedding_dropout": 0.0, "mlp_dropout": 0.0}
    return hf.ModernBertForMaskedLM(hf.ModernBertConfig(**(COMMON | own | still | changes)))


def t5(**changes: Any) -> nn.Module:
    size = {"vocab_size": VOCAB, "d_model": WIDTH, "d_kv": 4, "d_ff": 24, "num_layers": LAYERS, "num_heads": HEADS}
    own = {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 6, "decoder_start_token_id": PAD}
    return hf.T5ForConditionalGeneration(hf.T5Config(**(size | own | SPECIAL | {"dropout_rate": 0.0} | changes)))


def bart(**changes: Any) -> nn.Module:
    size: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_position_embeddings": CONTEXT}
    for side in ("encoder", "decoder"):
        size |= {f"{side}_layers": LAYERS, f"{side}_attention_heads": HEADS, f"{side}_ffn_dim": 24}
    own = {"decoder_start_token_id": 2, "forced_eos_token_id": None, "dropout": 0.0}
    return hf.BartForConditionalGeneration(hf.BartConfig(**(size | own | SPECIAL | changes)))


def vit(**changes: Any) -> nn.Module:
    own = {"image_size": 12, "patch_size": 4, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    keep = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    size = {name: COMMON[name] for name in keep}
    return hf.ViTForImageClassification(hf.ViTConfig(**(size | own | {"num_labels": 5} | changes)))


DECODERS: dict[str, Callable[..., Any]] = {
    "gpt2": gpt2,
    "llama": llama,
    "mistral": mistral,
    "gemma2": gemma2,
    "gpt_oss": gpt_oss,
}
ENCODER_DECODERS: dict[str, Callable[..., Any]] = {"t5": t5, "bart": bart}
ENCODERS: dict[str, Callable[..., Any]] = {"bert": bert, "modernbert": modernbert, "vit": vit}
ZOO = DECODERS | ENCODER_DECODERS | ENCODERS


def shaken(model: nn.Module, seed: int = 0, spread: float = 0.3) -> Any:
    """Weights far from their initial values, where attention is nearly uniform and biases and sinks are 0."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * spread)
    return model.eval()


def pair(name: str, dtype: torch.dtype = torch.float32, **changes: Any) -> tuple[Any, Any]:
    """(eager, attnkit): one model in evaluation mode, and its copy."""
    eager = shaken(ZOO[name](**changes)).to(dtype)
    eager.set_attn_implementation("eager")
    ours = copy.deepcopy(eager)
    ours.set_attn_implementation("attnkit")
    return eager, ours


def tokens(batch: int = 3, length: int = 9, seed: int = 1) -> Tensor:
    """Ids of shape (batch, length) without a special one among them."""
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded(side: str, lengths: tuple[int, ...] = (9, 6, 2)) -> tuple[Tensor, Tensor]:
    """(ids, table), both (batch, len): sequences of these lengths, padded on one side; True where a token is real."""
    ids, longest = tokens(len(lengths), max(lengths)), max(lengths)
    place = torch.arange(longest)
    ends = torch.tensor(lengths)[:, None]
    real = place >= longest - ends if side == "left" else place < ends
    return ids.masked_fill(~real, PAD), real


def inputs(name: str) -> dict[str, Tensor]:
    """Arguments with which the model computes a loss."""
    if name == "vit":
        return {
            "pixel_values": torch.randn(3, 3, 12, 12, generator=torch.Generator().manual_seed(1)),
            "labels": torch.tensor([0, 4, 2]),
        }
    return {"input_ids": tokens(), "labels": tokens(3, 7 if name in ENCODER_DECODERS else 9, seed=2)}


def cast(arguments: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Floats in this dtype; ids as they are."""
    return {name: x.to(dtype) if x.is_floating_point() else x for name, x in arguments.items()}
