"""The weights, for whoever wants to see them: scores become weights in the memory that holds the weights at the end.

The definition, which keeps each step's table for its backward pass, takes several times the memory and so the time:
a table of a few megabytes is slow for being written anew, not for the arithmetic. A few heads at a time, each step
finds the last one's result still in the cache. Overwriting leaves nothing to differentiate: without gradients only.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.common import Aux, Options, accumulator, sizes_of, slopes_of, visible_table, with_table
from attnkit.backends.naive import HIDDEN
from attnkit.backends.reading import read_weights
from attnkit.masks import Sizes

# Scores worked on at a time: 8 MB in float32; 1 to 8 MB measured nearly alike.
SCORES = 1 << 21


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why this backend cannot do what is asked, or None."""
    tensors = (query, key, value, options.bias, slopes_of(options), options.sink)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors):
        return "it overwrites the scores, which the gradient would need"
    if options.score_mod is not None:
        return "it has no score_mod: one that captures tensors has a gradient, which would need the scores"
    if options.dropout:
        return "it has no dropout, which is for training, where the gradient would need the scores"
    if not all(sizes_of(query, key)):
        return "there are no scores to overwrite"
    return None


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Only the definition comes after it, which takes more."""
    return None


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Attention by way of the table of weights; the signature that every backend has."""
    sizes, dtype, options = sizes_of(query, key), accumulator(query.dtype), with_table(options, query, key)
    q, k, v = (x.to(dtype) for x in (query, key, value))
    visible = visible_table(query, key, options)
    weights = q.new_empty(sizes)
    # As SDPA lays it out, a token's heads side by side: whoever merges the heads need not copy.
    out = q.new_empty(sizes.batch, sizes.q_len, sizes.heads, v.shape[3]).transpose(1, 2)
    lse = q.new_empty(sizes[:3]) if "lse" in options.aux else None
    for b, heads, kv_heads in pieces(sizes, key.shape[1]):
        tile = weights[b, heads]
        grouped = tile.view(-1, sizes.heads // key.shape[1] * sizes.q_len, sizes.k_len)
        fold = grouped.shape[:2]  # the query heads that share a key head, one under the other
        torch.baddbmm(
            grouped,
            q[b, heads].reshape(*fold, -1),
            k[b, kv_heads].flatten(0, 1).mT,
            beta=0,
            alpha=options.scale,
            out=grouped,
        )
        rows = normalise(tile, options, b, heads, None if visible is None else of_heads(visible, b, heads))
        if lse is not None and rows is not None:
            lse[b, heads] = rows
        out[b, heads] = torch.bmm(grouped, v[b, kv_heads].flatten(0, 1)).view(*tile.shape[:3], -1)
    return out.to(query.dtype), Aux(
        lse=lse,
        weights=weights.to(query.dtype) if "weights" in options.aux else None,
        **read_weights(weights, options, query.dtype),
    )


def pieces(sizes: Sizes, kv_heads: int) -> Iterator[tuple[slice, slice, slice]]:
    """Batch elements, query heads and key heads to work on together: whole batch elements, or heads of one."""
    group = sizes.heads // max(kv_heads, 1)
    fit = max(SCORES // max(group * sizes.q_len * sizes.k_len, 1), 1)  # key heads that fit
    at_once, step = max(fit // max(kv_heads, 1), 1), min(fit, max(kv_heads, 1))
    for b in range(0, sizes.batch, at_once):
        for h in range(0, kv_heads, step):
            stop = min(h + step, kv_heads)
            yield slice(b, min(b + at_once, sizes.batch)), slice(h * group, stop * group), slice(h, stop)


def of_heads(table: Tensor, b: slice, heads: slice) -> Tensor:
    """The part of a table that broadcasts to (batch, heads, ...) which belongs to these batch elements and heads."""
    table = table[b] if table.shape[0] > 1 else table
    return table[:, heads] if table.shape[1] > 1 else table


def normalise(
    scores: Float[Tensor, "some heads q_len k_len"],
    options: Options,
    b: slice,
    heads: slice,
    visible: Bool[Tensor, "#some #heads q_len k_len"] | None,
) -> Float[Tensor, "some heads q_len"] | None:
    """Turn scores into weights where they stand; the logarithm of each denominator if it is wanted or needed."""
    if options.softcap is not None:
        scores.div_(options.softcap).tanh_().mul_(options.softcap)
    if options.bias is not None:
        scores.add_(of_heads(options.bias, b, heads))
    if visible is not None:
        scores.masked_fill_(~visible, HIDDEN)
    hides = visible is not None or options.bias is not None  # a bias may be -inf
    blind = scores.amax(dim=-1) == HIDDEN if hides else None
    lse = torch.logsumexp(scores, dim=-1) if "lse" in options.aux or options.sink is not None else None
    torch.softmax(scores, dim=-1, out=scores)
    if options.sink is not None and lse is not None:
        whole = torch.logaddexp(lse, options.sink[heads, None].to(lse.dtype))
        scores.mul_(torch.exp(lse - whole)[..., None])
        lse = whole
    if blind is not None and (blind.is_meta or bool(blind.any())):
        scores.masked_fill_(blind[..., None], 0.0)
        lse = None if lse is None else lse.masked_fill_(blind, HIDDEN)
    return lse
