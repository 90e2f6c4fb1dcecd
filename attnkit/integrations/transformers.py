"""`attn_implementation="attnkit"`: models of Hugging Face Transformers 5 whose attention attnkit computes.

>>> import torch
>>> from attnkit.integrations.transformers import register
>>> register()
>>> from transformers import GPT2Config, GPT2LMHeadModel
>>> config = GPT2Config(vocab_size=11, n_positions=8, n_embd=4, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
>>> model = GPT2LMHeadModel._from_config(config, attn_implementation="attnkit")  # as from_pretrained takes it
>>> model(torch.tensor([[1, 2, 3]])).logits.shape
torch.Size([1, 3, 11])

Where it says more than Transformers' own "sdpa": it returns weights (`output_attentions=True`), has softcap and sinks,
repeats dropout by seed in every backend, and gives 0 for a query that may attend to nothing (a padded row), where
"eager" averages over the keys that it should not see.
"""

from __future__ import annotations

from functools import cache, partial
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnkit import backends
from attnkit._optional import require
from attnkit.attention import attention
from attnkit.masks import Causal, Mask, Window

# What Transformers hands to every attention function and attention may pass over, with the reason.
IGNORED = {
    "position_ids": "the mask was made of them, packed sequences and all, and query and key are rotated by them",
    "cache_position": "the cache has used it: key and value hold everything",
    "use_cache": "the cache has given its keys and values",
    "encoder_hidden_states": "key and value are made of them",
    "output_hidden_states": "it is about what the model returns",
    "output_router_logits": "it is about what the model returns",
    "return_dict": "it is about what the model returns",
    "num_items_in_batch": "it scales the loss",
    "seq_idx": "it is for state-space layers; attention hears of packed sequences by the mask",
    "deterministic": "it is a switch of FlashAttention's backward pass; ours repeats itself",
}

_registered: set[str] = set()


@no_type_check  # checked by hand, in words
def register(name: str = "attnkit", backend: str = "auto") -> None:
    """Make `attn_implementation=name` known to Transformers: the attention function and the mask function.

    `backend` is "auto" or a name in `attnkit.backends.ORDER`; two names may stand for two backends. Registering again
    replaces. Raises ValueError for a name that is Transformers' own or that it would take for another's kernel, and
    ImportError when Transformers is not installed.
    """
    modeling, masking = _transformers()
    if not isinstance(name, str) or not name or any(part in name for part in ("flash", "flex", "|", "/", ":")):
        raise ValueError(
            f"name is {name!r}; it must be a word without 'flash', 'flex', '|', '/' or ':', by which Transformers "
            "knows kernels that prepare their masks in another way"
        )
    taken = {"eager", *modeling.AttentionInterface(), *masking.AttentionMaskInterface()} - _registered
    if name in taken:
        raise ValueError(f"name is {name!r}, which Transformers has already; it must be a new one, such as 'attnkit'")
    if backend != "auto":
        backends.load(backend)
    modeling.AttentionInterface.register(name, partial(attention_forward, backend=backend))
    masking.AttentionMaskInterface.register(name, masking.sdpa_mask)
    _registered.add(name)


def attention_forward(
    module: nn.Module,
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    attention_mask: Any = None,
    *,
    backend: str = "auto",
    scaling: float | None = None,
    dropout: float | int = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Float[Tensor, " heads"] | None = None,
    position_bias: Float[Tensor, "#batch #heads #q_len #k_len"] | None = None,
    output_attentions: bool | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "batch q_len heads d_v"], Float[Tensor, "batch heads q_len k_len"] | None]:
    """What a layer of Transformers calls: (B, H, L, D) in, (B, L, H, Dv) out, and the weights when they are wanted.

    - `attention_mask`: None; bool of four axes, True = may attend; or floats of four axes to add to the scores, in
      which the least number of their dtype (or -inf) hides.
    - `is_causal` counts only without a mask and for more than one query: then query 0 stands at key 0, as it does when
      a cache of fixed length is empty. When it is None, the module's own `is_causal` holds.
    - `sliding_window`: a mask that is given has it in it already; without a mask it is applied.
    - `s_aux`: a sink for each head. `position_bias`: floats added to the scores. `dropout` acts in training only.
    - The weights are those before dropout. Other names are refused unless IGNORED says why they do not matter.
    """
    _refuse_unknown(others)
    _insist_on_mask_function(module)
    asked = bool(getattr(module, "is_causal", True) if is_causal is None else is_causal)
    mask: Mask | Tensor | None
    if attention_mask is None:
        mask, bias = _pattern(query.shape[2], key.shape[2], asked, sliding_window), position_bias
    else:
        mask, bias = _split(attention_mask, position_bias)
    if bias is not None and not bias.requires_grad and not bias.any():
        bias = None  # T5's cross-attention brings zeros, which would cost as much as a bias
    wanted = bool(output_attentions) or _weights_are_collected()
    result = attention(
        query,
        key,
        value,
        mask=mask,
        bias=bias,
        scale=scaling,
        softcap=softcap,
        sink=s_aux,
        dropout=float(dropout) if module.training else 0.0,
        backend=backend,
        aux=("weights",) if wanted else (),
    )
    out, weights = (result[0], result[1].weights) if wanted else (result, None)
    return out.transpose(1, 2).contiguous(), weights


@cache
def _transformers() -> tuple[Any, Any]:
    """The two modules of Transformers in which functions are registered."""
    return require("transformers.modeling_utils", extra="hf"), require("transformers.masking_utils", extra="hf")


def _refuse_unknown(others: dict[str, Any]) -> None:
    """Raise for an argument that would change the result if it were understood. None asks for nothing."""
    unknown = sorted(name for name, given in others.items() if given is not None and name not in IGNORED)
    if any(name.startswith(("cu_seq_lens", "max_length")) for name in unknown):
        raise ValueError(
            f"attnkit got {', '.join(unknown)}; packed sequences must be given by position_ids that start again from "
            "0, without attention_mask and cache: the mask is then made of them"
        )
    if unknown:
        raise ValueError(
            f"attnkit does not know {', '.join(unknown)}, so it cannot ignore it; this model needs another "
            "attn_implementation, such as 'eager'"
        )


def _insist_on_mask_function(module: nn.Module) -> None:
    """Without a mask function Transformers makes no mask at all: padding, windows and caches would leak in silence."""
    name = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if name is not None and name not in _transformers()[1].AttentionMaskInterface._global_mapping:
        raise ValueError(
            f"attn_implementation is {name!r}, for which no mask function is registered; "
            f"call attnkit.integrations.transformers.register({name!r}), which registers both"
        )


def _weights_are_collected() -> bool:
    """Is a forward pass with `output_attentions=True` under way? Models collect by hooks, and some keep the flag."""
    try:
        capturing = require("transformers.utils.output_capturing", extra="hf")
        collected = capturing._active_collector.get()
    except (ImportError, AttributeError):  # releases without hooks hand the flag to every layer
        return False
    return any(name.endswith("attentions") for name in collected or ())


def _pattern(q_len: int, k_len: int, causal: bool, window: int | None) -> Mask | None:
    """The mask where Transformers made none, because position alone says who sees what."""
    if window is not None and not (isinstance(window, int) and window > 0):
        raise ValueError(f"sliding_window is {window!r}; it must be a number of keys, 1 or more")
    narrow = window is not None and window < k_len
    if narrow and not causal:
        raise ValueError(
            f"sliding_window is {window} for {k_len} keys, seen from both sides, and attention_mask is None; "
            "it must be a mask that has the window in it, as create_bidirectional_sliding_window_mask makes it"
        )
    if q_len == 1:  # the newest token, which sees all that came before it
        return Window(window - 1, 0, align="lower_right") if narrow and window is not None else None
    if not causal:
        return None
    order = Causal(align="upper_left")
    return order & Window(window - 1, 0, align="upper_left") if narrow and window is not None else order


def _split(attention_mask: Any, position_bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """A mask of Transformers as (visible, bias): what may be seen, and what is added to the scores."""
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 4:
        got = tuple(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask).__name__
        raise ValueError(f"attention_mask is {got}; it must be a tensor of shape (batch, heads or 1, q_len, k_len)")
    if attention_mask.dtype == torch.bool:
        return attention_mask, position_bias
    if not attention_mask.is_floating_point():
        raise ValueError(
            f"attention_mask has dtype {attention_mask.dtype}; it must be bool (True = may attend) or floats that are "
            "added to the scores"
        )
    hidden = attention_mask <= torch.finfo(attention_mask.dtype).min / 2  # the least number, or -inf
    added = attention_mask.masked_fill(hidden, 0.0)
    return ~hidden, added if position_bias is None else added + position_bias
