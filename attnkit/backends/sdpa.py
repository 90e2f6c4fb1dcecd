"""PyTorch's own `F.scaled_dot_product_attention`, asked only for what it does with our meaning."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.common import Aux, Options, accumulator, sizes_of, visible_table
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
    if options.sink is not None:
        return "F.scaled_dot_product_attention has no sink"
    if options.dropout:
        return "F.scaled_dot_product_attention draws dropout in its own way, which no other backend can repeat"
    if _sums_rounded_terms(query, key, options):
        return f"it sums the gradient of a broadcast bias from terms rounded to {query.dtype}"
    return None


def _sums_rounded_terms(query: Tensor, key: Tensor, options: Options) -> bool:
    """Is there a gradient that is summed over many scores after each was rounded to half precision?"""
    bias = options.bias
    if bias is None or not (bias.requires_grad and torch.is_grad_enabled()):
        return False
    return accumulator(query.dtype) != query.dtype and bias.shape != sizes_of(query, key)


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why another backend that can do this should be preferred, or None."""
    if query.device.type != "cpu" or query.shape[2] * key.shape[2] < LARGE:
        return None
    if options.bias is not None and options.bias.requires_grad and torch.is_grad_enabled():
        return "a bias that needs a gradient sends it down a path that holds all scores in memory"
    if query.shape[3] != value.shape[3]:
        return f"unequal head sizes ({query.shape[3]} and {value.shape[3]}) send it down a path that holds all scores"
    if options.mask is not None and not _is_causal(query, key, options):
        hidden = hidden_share(options.mask, sizes_of(query, key))
        if hidden >= 0.4:
            return f"the mask hides {hidden:.0%} of the tiles, which it would compute all the same"
    return None


def hidden_share(mask: Mask, sizes: Sizes, pieces: int = 8) -> float:
    """The share of an 8 x 8 grid of tiles in which nothing is visible: what a tiled backend need not compute."""
    rows, cols = (split(n, -(-n // pieces)) for n in (sizes.q_len, sizes.k_len))
    covers = [mask.cover(r, c, sizes) for r in rows for c in cols]
    return covers.count("empty") / len(covers)


def _is_causal(query: Tensor, key: Tensor, options: Options) -> bool:
    """Is this what SDPA calls is_causal? It aligns upper left, and skips what is hidden."""
    return isinstance(options.mask, Causal) and options.bias is None and options.mask.shift(sizes_of(query, key)) == 0


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Translate the mask and the bias, and call SDPA."""
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
        enable_gqa=query.shape[1] != key.shape[1],
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
