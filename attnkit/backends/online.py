"""Attention in tiles with an online softmax: the numbers of the definition, in memory linear in length.

The scores are visited one (q_block x k_block) tile at a time. A row's softmax needs its maximum and its sum over all
keys, so both are kept up to date while tiles pass, and what was summed under an older maximum is rescaled
(Milakov and Gimelshein 2018, arXiv:1805.02867; Rabe and Staats 2021, arXiv:2112.05682). The backward pass computes
each tile again instead of remembering it (Dao et al. 2022, arXiv:2205.14135). Tiles that a mask hides are skipped.

Scores are kept in base 2, that is times log2(e), because exp2 is the faster exponential, here as on a GPU.
Shapes: N = batch * kv_heads, R = rows of queries in the tile (of all heads that share a key head), C = keys in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from attnkit.backends.common import Aux, BackendUnsupported, Options, accumulator, sizes_of, slopes_of
from attnkit.backends.reading import read_tiles
from attnkit.backends.tiling import INF, LOG2E, Bias, Problem, Scratch, score_tile

LN2 = math.log(2.0)


def forward_block(
    problem: Problem,
    q_block: Float[Tensor, "N R d"],
    key: Float[Tensor, "N k_len d"],
    value: Float[Tensor, "N k_len d_v"],
    bias: Bias | None,
    rows: range,
    scratch: Scratch,
) -> tuple[Float[Tensor, "N R d_v"], Float[Tensor, "N R 1"], Float[Tensor, "N R 1"]]:
    """One block of queries walks along all keys: its output before division by the sum, row maximum and row sum."""
    acc = q_block.new_zeros(*q_block.shape[:2], value.shape[-1])
    row_max = q_block.new_full((*q_block.shape[:2], 1), -INF)
    row_sum = torch.zeros_like(row_max)
    for cols, cover in problem.tiles_seen_by(rows):
        k_block, v_block = key[:, cols.start : cols.stop], value[:, cols.start : cols.stop]
        scores = score_tile(problem, q_block, k_block, bias, rows, cols, cover, scratch)
        new_max = torch.maximum(row_max, scores.amax(dim=-1, keepdim=True))
        pivot = finite(new_max)
        rescale = torch.exp2(row_max - pivot)
        weights = scores.sub_(pivot).exp2_()
        row_sum = row_sum * rescale + weights.sum(dim=-1, keepdim=True)
        if problem.options.dropout:
            weights.mul_(problem.keep(rows, cols))
        acc.mul_(rescale).baddbmm_(weights, v_block)
        row_max = new_max
    return acc, row_max, row_sum


def finite(row_max: Float[Tensor, "N R 1"]) -> Float[Tensor, "N R 1"]:
    """The maximum, or 0 for a row that has seen nothing yet: -inf - -inf would be NaN."""
    return row_max.masked_fill(row_max == -INF, 0.0)


def add_sink(
    sink: Float[Tensor, "N R 1"],
    acc: Float[Tensor, "N R d_v"],
    row_max: Float[Tensor, "N R 1"],
    row_sum: Float[Tensor, "N R 1"],
) -> tuple[Float[Tensor, "N R d_v"], Float[Tensor, "N R 1"], Float[Tensor, "N R 1"]]:
    """One more logit (in base 2) in the denominator of every row that sees anything."""
    new_max = torch.maximum(row_max, sink).where(row_max > -INF, row_max)
    pivot = finite(new_max)
    rescale = torch.exp2(row_max - pivot)
    return acc * rescale, new_max, row_sum * rescale + torch.exp2(sink - pivot)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """What the backward pass knows of one block of queries. `d_out` and `delta` come divided by the row's sum."""

    q_block: Float[Tensor, "N R d"]
    d_out: Float[Tensor, "N R d_v"]
    delta: Float[Tensor, "N R 1"]
    row_max: Float[Tensor, "N R 1"]


@dataclass(frozen=True, slots=True)
class KeySums:
    """Gradients to which every block of queries adds its part."""

    d_key: Float[Tensor, "N k_len d"]
    d_value: Float[Tensor, "N k_len d_v"]
    d_bias: Bias | None


def backward_block(
    problem: Problem,
    block: QueryRows,
    key: Float[Tensor, "N k_len d"],
    value: Float[Tensor, "N k_len d_v"],
    bias: Bias | None,
    rows: range,
    scratch: Scratch,
    sums: KeySums,
) -> Float[Tensor, "N R d"]:
    """The same walk as forward_block: each tile's weights again, then what the chain rule makes of them."""
    scale, dropout = problem.options.scale, problem.options.dropout
    d_q = torch.zeros_like(block.q_block)
    for cols, cover in problem.tiles_seen_by(rows):
        k_block, v_block = key[:, cols.start : cols.stop], value[:, cols.start : cols.stop]
        scores = score_tile(problem, block.q_block, k_block, bias, rows, cols, cover, scratch)
        kept = weights = scores.sub_(block.row_max).exp2_()
        d_weights = torch.bmm(block.d_out, v_block.mT, out=scratch("d_weights", *scores.shape))
        if dropout:
            keep = problem.keep(rows, cols)
            kept = torch.mul(weights, keep, out=scratch("kept", *scores.shape))
            d_weights.mul_(keep)
        sums.d_value[:, cols.start : cols.stop].baddbmm_(kept.mT, block.d_out)
        d_scores = d_weights.sub_(block.delta).mul_(weights)
        if sums.d_bias is not None:
            sums.d_bias.collect(problem.by_head(d_scores, rows), rows, cols)
        if problem.options.softcap is not None:
            tanh = scratch("tanh", *scores.shape)
            d_scores.mul_(1 - tanh * tanh)
        d_q.baddbmm_(d_scores, k_block, alpha=scale)
        sums.d_key[:, cols.start : cols.stop].baddbmm_(d_scores.mT, block.q_block, alpha=scale)
    return d_q


class OnlineAttention(torch.autograd.Function):
    """Forward and backward pass over tiles. Besides the inputs only the output and two numbers for each row are kept.

    Those are the maximum and the sum, not their combination lse: at scores near 1e4 the rounding of a float32 lse
    alone would change every recomputed weight by a part in a thousand. The output is in the accumulator's dtype.
    """

    @staticmethod
    def forward(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        table: Tensor | None,
        slopes: Tensor | None,
        sink: Tensor | None,
        problem: Problem,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, k, v = problem.stack(query), problem.flat(key), problem.flat(value)
        bias = Bias.of(problem, table, slopes)
        out = q.new_empty(*q.shape[:3], v.shape[-1])
        row_max, row_sum = q.new_empty(*q.shape[:3], 1), q.new_empty(*q.shape[:3], 1)
        scratch = Scratch(q)
        for rows in problem.tiles()[0]:
            acc, top, total = forward_block(problem, problem.rows_of(q, rows), k, v, bias, rows, scratch)
            if sink is not None:
                acc, top, total = add_sink(problem.sink_rows(sink, rows) * LOG2E, acc, top, total)
            total = total.masked_fill(top == -INF, 1.0)  # sees nothing: 0 / 1, not 0 / 0
            for whole, part in ((out, acc.div_(total)), (row_max, top), (row_sum, total)):
                problem.put_rows(whole, rows, part)
        lse = (row_max.double() + row_sum.double().log2()).mul_(LN2).to(problem.dtype)  # rounded once
        return problem.unstack(out), problem.unstack(lse)[..., 0], row_max, row_sum

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        *tensors, ctx.problem = inputs
        out, _, row_max, row_sum = output
        ctx.mark_non_differentiable(row_max, row_sum)
        ctx.save_for_backward(*tensors, out, row_max, row_sum)

    @staticmethod
    def backward(ctx: Any, d_out: Tensor, d_lse: Tensor, *_: Any) -> tuple:
        with torch.autocast(d_out.device.type, enabled=False):
            return *OnlineGradient.apply(ctx.problem, d_out, d_lse, *ctx.saved_tensors), None


class OnlineGradient(torch.autograd.Function):
    """The backward pass as a function of its own, so that a second derivative is refused and not silently wrong."""

    @staticmethod
    def forward(*arguments: Any) -> tuple:
        return gradients(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: tuple) -> None:
        """Nothing to keep."""

    @staticmethod
    def backward(ctx: Any, *_: Any) -> tuple:
        raise BackendUnsupported(
            "backend 'online' has no second derivative: call attention(..., backend='naive') for that"
        )


def gradients(
    problem: Problem,
    d_out: Tensor,
    d_lse: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    table: Tensor | None,
    slopes: Tensor | None,
    sink: Tensor | None,
    out: Tensor,
    row_max: Tensor,
    row_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The gradient of everything that went in, in its own shape and dtype."""
    q, k, v = problem.stack(query), problem.flat(key), problem.flat(value)
    bias = Bias.of(problem, table, slopes)
    # The softmax's derivative needs sum_j weight_j d_weight_j, which equals d_out . out. lse adds d_lse to each score.
    d_out = problem.stack(d_out)
    delta = (d_out * problem.stack(out)).sum(dim=-1, keepdim=True) - problem.stack(d_lse[..., None])
    d_out, delta = d_out / row_sum, delta / row_sum
    row_max = row_max.masked_fill(row_max == -INF, INF)  # exp2(score - inf) = 0: a row that sees nothing
    d_query, d_sink = torch.empty_like(q), None if sink is None else q.new_zeros(sink.shape)
    sums = KeySums(torch.zeros_like(k), torch.zeros_like(v), None if bias is None else bias.zeros_like())
    scratch = Scratch(q)
    for rows in problem.tiles()[0]:
        block = QueryRows(*(problem.rows_of(x, rows) for x in (q, d_out, delta, row_max)))
        problem.put_rows(d_query, rows, backward_block(problem, block, k, v, bias, rows, scratch, sums))
        if sink is not None and d_sink is not None:
            weight = torch.exp2(problem.sink_rows(sink, rows) * LOG2E - block.row_max)
            d_sink -= problem.by_head(weight * block.delta, rows).sum(dim=(0, 3, 4)).flatten()
    return (
        problem.unstack(d_query).to(query.dtype),
        problem.unstack(sums.d_key).to(key.dtype),
        problem.unstack(sums.d_value).to(value.dtype),
        *((None, None) if sums.d_bias is None else sums.d_bias.as_given(table, slopes)),
        None if sink is None or d_sink is None else d_sink.to(sink.dtype),
    )


def unsupported(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Why this backend cannot do what is asked, or None."""
    if "weights" in options.aux:
        return "the weights are a (q_len, k_len) table, and this backend exists to hold none"
    if options.score_mod is not None:
        return "it cannot know the derivative of an arbitrary score_mod, which its backward pass would need"
    return None


def wasteful(query: Tensor, key: Tensor, value: Tensor, options: Options) -> str | None:
    """Nothing that comes after it in the order is cheaper."""
    return None


def attend(
    query: Float[Tensor, "batch heads q_len d"],
    key: Float[Tensor, "batch kv_heads k_len d"],
    value: Float[Tensor, "batch kv_heads k_len d_v"],
    options: Options,
) -> tuple[Float[Tensor, "batch heads q_len d_v"], Aux]:
    """Attention over tiles; the signature that every backend has."""
    problem = Problem(sizes_of(query, key), key.shape[1], options, accumulator(query.dtype), query.device)
    tensors = query, key, value, options.bias, slopes_of(options), options.sink
    out, lse, row_max, row_sum = OnlineAttention.apply(*tensors, problem)
    # Rounded here and not before: the backward pass needs d_out . out to the accumulator's precision, or the gradient
    # of a bias that is the same for every key would be the rounding error of the output instead of 0.
    read = read_tiles(problem, *tensors[:2], row_max, row_sum)
    return out.to(query.dtype), Aux(lse=lse if "lse" in options.aux else None, **read)
