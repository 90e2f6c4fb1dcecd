"""The formula as it reads: the executable definition of attention, and in float64 the oracle for every other backend.

It holds all q_len x k_len scores at once, which is exactly what the other backends avoid.
"""

from __future__ import annotations

import torch
from einops import einsum
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.common import Aux, Options, ScoreMod, accumulator, indices, sizes_of, visible_table, with_table
from attnkit.backends.dropout import keep_tile
from attnkit.backends.reading import read_weights
from attnkit.masks import Sizes

HIDDEN = float("-inf")


def naive_attention(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch heads k_len d"],
    value: Float[Tensor, "batch heads k_len d_v"],
    visible: Bool[Tensor, "#batch #heads q_len k_len"] | None = None,
    *,
    bias: Float[Tensor, "#batch #heads #q_len #k_len"] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    score_mod: ScoreMod | None = None,
    sink: Float[Tensor, " heads"] | None = None,
    keep: Float[Tensor, "batch heads q_len k_len"] | None = None,
) -> tuple[
    Float[Tensor, "batch heads q_len d_v"],
    Float[Tensor, "batch heads q_len k_len"],
    Float[Tensor, "batch heads q_len"],
]:
    """softmax(QK^T / sqrt(d)) V, written as the formula reads (Vaswani et al. 2017, eq. 1), with its usual extras.

    Returns the output, the weights and the logarithm of each row's denominator.
    A query that may look at nothing gets a zero output and a zero gradient, and -inf as its logarithm.
    `keep` multiplies the weights: 0 where dropout drops, 1 / (1 - p) elsewhere.
    """
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = einsum(query, key, "b h i d, b h j d -> b h i j") * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if score_mod is not None:
        scores = modify(scores, score_mod)
    if visible is not None:
        scores = scores.masked_fill(~visible, HIDDEN)
    weights, lse = softmax_rows(scores, sink)
    kept = weights if keep is None else weights * keep
    return einsum(kept, value, "b h i j, b h j d -> b h i d"), weights, lse


def modify(
    scores: Float[Tensor, "batch heads q_len k_len"], score_mod: ScoreMod
) -> Float[Tensor, "batch heads q_len k_len"]:
    """score_mod(score, b, h, q, k) of every score. It is called once, with indices that broadcast over the table."""
    every = indices(Sizes(*scores.shape), scores.device)
    return score_mod(scores, *every).to(scores.dtype).expand(scores.shape)


def softmax_rows(
    scores: Float[Tensor, "batch heads q_len k_len"], sink: Float[Tensor, " heads"] | None = None
) -> tuple[Float[Tensor, "batch heads q_len k_len"], Float[Tensor, "batch heads q_len"]]:
    """Softmax over the keys, and the logarithm of its denominator; zeros and -inf for a row that sees nothing.

    A sink is one more logit in the denominator, with no value behind it: weights may then sum to less than 1
    (Xiao et al. 2023, arXiv:2309.17453, in the learned form of gpt-oss).
    """
    blind = (scores == HIDDEN).all(dim=-1, keepdim=True)
    scores = scores.masked_fill(blind, 0.0)  # any finite number: 0 * NaN in the backward pass would be NaN
    if sink is not None:
        column = sink.view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
        scores = torch.cat([scores, column], dim=-1)
    weights = torch.softmax(scores, dim=-1).masked_fill(blind, 0.0)
    lse = torch.logsumexp(scores, dim=-1).masked_fill(blind[..., 0], HIDDEN)
    return (weights if sink is None else weights[..., :-1]), lse


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """The definition can do everything."""
    return None


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Last in the order, so nothing cheaper is passed over."""
    return None


def define(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Tensor, Tensor, Tensor]:
    """naive_attention with a call's options, in the dtype of the tensors: output, weights, lse.

    In half precision every product is rounded to half precision, as in attention written by hand; the error bound of
    `attnkit.testing` compares with that.
    """
    groups, sizes = query.shape[1] // max(key.shape[1], 1), sizes_of(query, key)
    options, keep = with_table(options, query, key), None
    if options.dropout:
        assert options.seed is not None
        rows, cols = range(sizes.q_len), range(sizes.k_len)
        kept = keep_tile(options.seed, options.dropout, rows, cols, sizes, query.device)
        keep = kept.to(query.dtype) / (1 - options.dropout)
    return naive_attention(
        query,
        key.repeat_interleave(groups, dim=1),
        value.repeat_interleave(groups, dim=1),
        visible_table(query, key, options),
        bias=None if options.bias is None else options.bias.to(query.dtype),
        scale=options.scale,
        softcap=options.softcap,
        score_mod=options.score_mod,
        sink=None if options.sink is None else options.sink.to(query.dtype),
        keep=keep,
    )


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """The definition in the accumulator's dtype; the signature that every backend has."""
    dtype = accumulator(query.dtype)
    out, weights, lse = define(query.to(dtype), key.to(dtype), value.to(dtype), options)
    return out.to(query.dtype), Aux(
        lse=lse if "lse" in options.aux else None,
        weights=weights.to(query.dtype) if "weights" in options.aux else None,
        **read_weights(weights.detach(), options, query.dtype),
    )
