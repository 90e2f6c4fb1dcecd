"""PyTorch's FlexAttention, for comparison, and for score functions that no kernel here was written for.

FlexAttention (Dong et al. 2024, arXiv:2412.05496) takes a function of one score and its place, and `torch.compile`
writes it into a Triton kernel. All of a call's options become such functions: the mask says which scores count, and
bias, linear bias, softcap and the caller's own `score_mod` change them.

On a GPU it is compiled when it is first used with a kind of mask, of score function and of dtype, which takes seconds
to minutes each time. The gradient of a bias is added up with atomics there, in no fixed order, so its last bits vary
from run to run; it is added up in the accumulator's dtype.

On a CPU PyTorch's unfused path runs: the definition in other words, with all scores in memory, and exact. Compiling
instead would need a C++ compiler and gives no lse and no float64. Neither can train there: PyTorch refuses.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from attnkit.backends.common import Aux, Options, ScoreMod, accumulator, sizes_of, slopes_of
from attnkit.masks import Mask, Sizes

NARROWEST = 16  # the smallest head that FlexAttention's GPU kernels take

# How many kinds of call (masks, score functions, dtypes) are compiled before PyTorch gives up. Its own limit of 8 is
# meant for functions that should not change at all.
RECOMPILE_LIMIT = 64


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why FlexAttention cannot do this, or None."""
    more = [name for name in options.aux if name != "lse"]
    if query.device.type not in ("cpu", "cuda"):
        return f"it is used on CPUs and NVIDIA GPUs only, and the tensors are on {query.device}"
    if options.dropout:
        return "FlexAttention has no dropout"
    if more:
        return f"FlexAttention returns no {' and no '.join(more)}"
    if not all(sizes_of(query, key)) or not value.shape[3]:
        return "FlexAttention refuses tensors that hold nothing"
    if query.device.type == "cuda":
        return _unsupported_by_its_kernels(query, value)
    if _wants_gradients(query, key, value, options):
        return "FlexAttention cannot train on a CPU"
    return None


def _unsupported_by_its_kernels(query: Tensor, value: Tensor) -> str | None:
    """Why its GPU kernels cannot do this, or None."""
    if query.dtype == torch.float64:
        return "FlexAttention's kernels sum in float32"
    narrow = min(query.shape[3], value.shape[3])
    if narrow < NARROWEST:
        return f"FlexAttention's kernels take heads of width {NARROWEST} and more, not {narrow}"
    return None


def _wants_gradients(query: Tensor, key: Tensor, value: Tensor, options: Options) -> bool:
    tensors = (query, key, value, options.bias, options.sink, slopes_of(options))
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """It is for a score function on a GPU; everything else another backend does without compiling first."""
    if query.device.type == "cuda":
        return (
            None if options.score_mod is not None else "it is compiled anew for each kind of call: ask for it by name"
        )
    return "on a CPU it is the definition, traced first, and holds all scores in memory: ask for it by name"


def mask_mod(mask: Mask, sizes: Sizes) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
    """A mask's rule as FlexAttention takes it: of the indices of one score."""
    return lambda b, h, q, k: mask.rule(b, h, q, k, sizes)


def block_mask(mask: Mask, sizes: Sizes, device: torch.device) -> BlockMask:
    """Which blocks of 128 x 128 scores FlexAttention computes, and in which it asks the mask: a `BlockMask`.

    To make it, every score is asked about once, so whoever calls often with one mask should keep it.
    """
    # One score tells whether the mask depends on the batch element and on the head at all.
    batch, heads = mask.tile(range(1), range(1), sizes, device).shape[:2]
    rule = mask_mod(mask, sizes)
    return _call(create_block_mask, device, rule, batch, heads, sizes.q_len, sizes.k_len, device)


def score_mod(query: Tensor, key: Tensor, options: Options) -> ScoreMod | None:
    """All that happens to a scaled score, as one function of (score, b, h, q, k), in the order of `attention`.

    What it captures is in the accumulator's dtype, in which its gradient is then summed.
    """
    if options.bias is None and options.linear is None and options.softcap is None:
        return options.score_mod
    dtype, sizes = accumulator(query.dtype), sizes_of(query, key)
    softcap, own = options.softcap, options.score_mod
    bias = None if options.bias is None else options.bias.to(dtype)
    shared = (True,) * 4 if bias is None else tuple(n == 1 for n in bias.shape)
    linear = options.linear
    slopes = None if linear is None else linear.slopes.to(query.device, dtype)
    origin, symmetric = (0, True) if linear is None else (linear.shift(sizes), linear.symmetric)

    @no_type_check  # FlexAttention counts its arguments, which a checking wrapper would hide
    def mod(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        if softcap is not None:
            score = softcap * torch.tanh(score / softcap)
        if bias is not None:
            at = [i * 0 if one else i for i, one in zip((b, h, q, k), shared, strict=True)]
            score = score + bias[at[0], at[1], at[2], at[3]]
        if slopes is not None:
            distance = q + origin - k
            score = score - slopes[h] * (distance.abs() if symmetric else distance.clamp(min=0))
        return score if own is None else own(score, b, h, q, k)

    return mod


def _call(function: Callable, device: torch.device, *arguments: Any, **named: Any) -> Any:
    """Call a function of FlexAttention: compiled for a GPU; inside a compiled function, as a part of that.

    A scale or softcap is written into the kernel as a number: as a variable, which it would become when its value
    changes, PyTorch cannot differentiate a score function that captures it.
    """
    if torch.compiler.is_compiling():
        return function(*arguments, **named)
    limits = torch._dynamo.config.patch(recompile_limit=RECOMPILE_LIMIT, specialize_float=True)
    with limits, warnings.catch_warnings():
        # On a CPU the unfused path is what we want.
        warnings.filterwarnings("ignore", message="flex_attention called without torch.compile")
        return (_compiled(function) if device.type == "cuda" else function)(*arguments, **named)


@functools.cache
def _compiled(function: Callable) -> Callable:
    """The one place where something is compiled. A fall back to the unfused path would be silent, so it is an error."""
    return torch.compile(function, fullgraph=True)


def run(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    score_mod: ScoreMod | None,
    block_mask: BlockMask | None,
    scale: float,
    with_lse: bool,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Float[Tensor, "batch heads q_len"] | None]:
    """FlexAttention itself: output, and lse if it is wanted."""
    out, extra = _call(
        flex_attention,
        query.device,
        query,
        key,
        value,
        score_mod=score_mod,
        block_mask=block_mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        return_aux=AuxRequest(lse=with_lse),
    )
    return out, extra.lse


def add_sink(
    out: Float[Tensor, "batch heads q_len d_v"],
    lse: Float[Tensor, "batch heads q_len"],
    sink: Float[Tensor, " heads"],
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Float[Tensor, "batch heads q_len"]]:
    """One more logit in each row's denominator, afterwards: the keys keep the share sigmoid(lse - sink) of the weight.

    A row that sees nothing stays at 0 and -inf. Gradients flow through both results of FlexAttention.
    """
    sink = sink.to(lse.dtype)[:, None]
    share = torch.sigmoid(lse - sink)[..., None]
    whole = torch.logaddexp(lse, sink).masked_fill(lse == float("-inf"), float("-inf"))
    return (out * share).to(out.dtype), whole


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Translate the options into functions, and call FlexAttention; the signature that every backend has."""
    if not torch.is_grad_enabled():  # on a CPU it looks at requires_grad alone
        query, key, value = query.detach(), key.detach(), value.detach()
    mask, sizes = options.mask, sizes_of(query, key)
    blocks = None if mask is None else block_mask(mask, sizes, query.device)
    with_lse = "lse" in options.aux or options.sink is not None
    out, lse = run(query, key, value, score_mod(query, key, options), blocks, options.scale, with_lse)
    if lse is not None and options.sink is not None:
        out, lse = add_sink(out, lse, options.sink)
    return out, Aux(lse=lse if "lse" in options.aux else None)
