"""PyTorch's own `F.scaled_dot_product_attention`, asked only for what it does with our meaning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.common import Aux, Options, accumulator, sizes_of, slopes_of, visible_table, with_table
from attnkit.backends.tiling import split
from attnkit.masks import Causal, Mask, Sizes

# From this many scores on it matters that a path of SDPA holds them all in memory.
LARGE = 512 * 512

# Devices on which SDPA itself gives 0, in value and gradient, where a query sees nothing; elsewhere it may give NaN
# (pytorch#109517). tests/backends/test_conformance.py measures it.
ZERO_WHEN_BLIND = {"cpu"}


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why SDPA cannot do this, or None."""
    if options.aux:
        return f"F.scaled_dot_product_attention returns no {' and no '.join(options.aux)}"
    if options.softcap is not None:
        return "F.scaled_dot_product_attention has no softcap"
    if options.score_mod is not None:
        return "F.scaled_dot_product_attention has no score_mod"
    if options.sink is not None:
        return "F.scaled_dot_product_attention has no sink"
    if options.dropout:
        return "F.scaled_dot_product_attention draws dropout in its own way, which no other backend can repeat"
    if _sums_rounded_terms(query, key, options):
        return f"it sums the gradient of a broadcast bias from terms rounded to {query.dtype}"
    return None


def _sums_rounded_terms(query: Tensor, key: Tensor, options: Options) -> bool:
    """Is there a gradient that is summed over many scores after each was rounded to half precision?"""
    if not _bias_needs_gradient(options) or accumulator(query.dtype) == query.dtype:
        return False
    return options.bias is None or options.bias.shape != sizes_of(query, key)  # slopes are summed over all scores


def _bias_needs_gradient(options: Options) -> bool:
    """Is a gradient wanted of what is added to the scores?"""
    parts = options.bias, slopes_of(options)
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in parts)


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why another backend that can do this should be preferred, or None."""
    if query.device.type not in ("cpu", "cuda") or query.shape[2] * key.shape[2] < LARGE:
        return None
    if _bias_needs_gradient(options):
        return "a bias that needs a gradient sends it down a path that holds all scores in memory"
    if query.shape[3] != value.shape[3]:
        return f"unequal head sizes ({query.shape[3]} and {value.shape[3]}) send it down a path that holds all scores"
    if options.linear is not None:
        return "it would be given the table of a bias that is told by its slopes"
    if options.mask is not None and not _is_causal(query, key, options):
        return _what_the_mask_costs(query, key, options.mask)
    return None


def _what_the_mask_costs(query: Tensor, key: Tensor, mask: Mask) -> str | None:
    """SDPA takes a table, and computes what it hides all the same: why that is too much, or None."""
    if query.device.type == "cuda":  # where looking into the mask could make the host wait for the device
        return "it would be given a table of the mask, and compute what the mask hides all the same"
    if torch.compiler.is_compiling():  # looking into the mask would need numbers that are not there yet
        return None
    hidden = hidden_share(mask, sizes_of(query, key))
    return f"the mask hides {hidden:.0%} of the tiles, which it would compute all the same" if hidden >= 0.4 else None


def hidden_share(mask: Mask, sizes: Sizes, pieces: int = 8) -> float:
    """The share of an 8 x 8 grid of tiles in which nothing is visible: what a tiled backend need not compute."""
    rows, cols = (split(n, -(-n // pieces)) for n in (sizes.q_len, sizes.k_len))
    covers = [mask.cover(r, c, sizes) for r in rows for c in cols]
    return covers.count("empty") / len(covers)


def _is_causal(query: Tensor, key: Tensor, options: Options) -> bool:
    """Is this what SDPA calls is_causal? It aligns upper left, and skips what is hidden."""
    if options.bias is not None or options.linear is not None:
        return False
    return isinstance(options.mask, Causal) and _definitely(options.mask.shift(sizes_of(query, key)) == 0)


def _definitely(holds: bool) -> bool:
    """The same. While compiling, a comparison of lengths is a symbol, of which only a branch makes True or False."""
    answer = False
    if holds:
        answer = True
    return answer


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Translate the mask and the bias, and call SDPA."""
    options = with_table(options, query, key)
    mask, blind, causal = None, None, _is_causal(query, key, options)
    if not causal and (options.mask is not None or options.bias is not None):
        mask = _attn_mask(query, key, options)
        if query.device.type not in ZERO_WHEN_BLIND:
            mask, blind = open_blind_rows(mask)
    out = F.scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=causal,
        scale=options.scale,
        enable_gqa=_definitely(query.shape[1] != key.shape[1]),
    )
    return (out if blind is None else out.masked_fill(blind, 0.0)), Aux()


def open_blind_rows(mask: Tensor) -> tuple[Tensor, Bool[Tensor, "#batch #heads q_len 1"]]:
    """Let a row that sees nothing see everything, so that it stays finite; its output is zeroed afterwards."""
    hidden = ~mask if mask.dtype == torch.bool else mask == float("-inf")
    blind = hidden.all(dim=-1, keepdim=True)
    return (mask | blind if mask.dtype == torch.bool else mask.masked_fill(blind, 0.0)), blind


def _attn_mask(query: Tensor, key: Tensor, options: Options) -> Tensor:
    """Mask and bias as the one tensor SDPA takes: bool when there is no bias, else additive."""
    visible, bias = visible_table(query, key, options), options.bias
    if bias is None:
        assert visible is not None
        return visible
    bias = bias.to(query.dtype).expand(*bias.shape[:2], query.shape[2], key.shape[2])
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))
