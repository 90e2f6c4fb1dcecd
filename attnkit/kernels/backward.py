"""The backward pass: each tile's weights again, then what the chain rule makes of them (see `online.backward_block`).

Two walks instead of one: a block of keys collects its gradient from all queries, a block of queries its own from all
keys. The scores are computed once more than they would be in one walk, but nobody adds to what another program adds
to: no atomic additions, so the same bits each time. Dao (2023, arXiv:2307.08691, algorithm 2) has the one walk.

`kept` are the weights after dropout, `d_scores` the gradient of the scores as a bias sees them, `d_products` that of
the products of query and key, without the scale.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnkit.kernels.arguments import LOG2E, dense_view
from attnkit.kernels.call import Call, Launch, padded
from attnkit.kernels.parts import (
    INF,
    band_blocks,
    clean,
    distance_tile,
    dot,
    keep_tile,
    load_rows,
    row_numbers,
    score_tile,
    store_rows,
    visible_tile,
    walk_block,
    walk_counts,
)


class QueryRows(NamedTuple):
    """What the backward pass knows of each query: the gradient of its output, and three numbers."""

    d_out: Any  # a tensor; a kernel is given a view of it
    delta: Tensor
    row_max: Tensor
    row_sum: Tensor


@triton.jit
def delta_kernel(d_out, out, d_lse, delta, sizes, BLOCK_Q: tl.constexpr, BLOCK_DV: tl.constexpr):
    """sum_j weight_j d_weight_j, which the softmax's derivative needs, is d_out . out; lse adds d_lse to each score.

    By the output before it was rounded: where one weight is nearly 1, the derivative is a difference of nearly equal
    numbers, and would be the rounding error.
    """
    blocks = tl.cdiv(sizes.q_len, BLOCK_Q)
    b, head = tl.program_id(0) // blocks // sizes.heads, tl.program_id(0) // blocks % sizes.heads
    rows = tl.program_id(0) % blocks * BLOCK_Q + tl.arange(0, BLOCK_Q)
    left = load_rows(d_out, b, head, rows, sizes.q_len, sizes.d_v, BLOCK_DV, True).to(tl.float32)
    right = load_rows(out, b, head, rows, sizes.q_len, sizes.d_v, BLOCK_DV, True).to(tl.float32)
    total = tl.sum(left * right, axis=1)
    at = (b.to(tl.int64) * sizes.heads + head) * sizes.q_len + rows
    if d_lse is not None:
        total -= tl.load(d_lse + at, mask=rows < sizes.q_len, other=0.0)
    tl.store(delta + at, total, mask=rows < sizes.q_len)


@triton.jit
def load_query_rows(
    data, v, b, head, heads, rows, sizes, BLOCK_DV: tl.constexpr
):  # fmt: skip
    """d_out (R, D_V), delta, row_max and 1 / row_sum (R) of a block of queries; such that blind rows weigh nothing."""
    d_out = load_rows(data.d_out, b, head, rows, sizes.q_len, sizes.d_v, BLOCK_DV, True).to(v.ptr.dtype.element_ty)
    delta = row_numbers(data.delta, b, heads, rows, sizes, 0.0)
    row_max = row_numbers(data.row_max, b, heads, rows, sizes, -INF)
    row_sum = row_numbers(data.row_sum, b, heads, rows, sizes, 1.0)
    blind = row_max == -INF  # exp2(score - inf) = 0
    return d_out, delta, tl.where(blind, INF, row_max), 1.0 / tl.where(blind & (row_sum == 0.0), 1.0, row_sum)


@triton.jit
def gradient_tile(
    q_block, kt_block, vt_block, d_out, delta, row_max, inverse, b, heads, rows, cols, score, hiding, sizes, grow,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(R, C) each: kept, d_scores, d_products."""
    scores, capped = score_tile(q_block, kt_block, b, heads, rows, cols, score, sizes, UPCAST, PRECISION)
    if MASKED:
        visible = visible_tile(hiding, b, heads, rows, cols, sizes)
        scores = tl.where(visible, scores, -INF)
    weights = tl.exp2(scores - row_max[:, None]) * inverse[:, None]
    d_weights = dot(d_out, vt_block, UPCAST, PRECISION)
    kept = weights
    if score.seed is not None:
        keep = tl.where(keep_tile(score, b, heads, rows, cols), grow, 0.0)
        kept = weights * keep
        d_weights = d_weights * keep
    d_scores = weights * (d_weights - delta[:, None])
    if MASKED:
        d_scores = tl.where(visible, d_scores, 0.0)
    d_products = d_scores
    if score.softcap is not None:
        d_products = d_scores * (1.0 - capped * capped)
    return kept, d_scores, d_products


@triton.jit
def keys_tile(
    kt_block, vt_block, q, v, data, b, head, start, cols, d_k, d_v, score, hiding, sizes, grow,
    BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What one block of queries adds to the gradient of a block of keys and values."""
    rows = start + tl.arange(0, BLOCK_Q)
    heads = tl.zeros_like(rows) + head
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    d_out, delta, row_max, inverse = load_query_rows(data, v, b, head, heads, rows, sizes, BLOCK_DV)
    kept, _, d_products = gradient_tile(
        q_block, kt_block, vt_block, d_out, delta, row_max, inverse, b, heads, rows, cols, score, hiding, sizes, grow,
        MASKED, UPCAST, PRECISION,
    )  # fmt: skip
    d_v += dot(tl.trans(kept.to(d_out.dtype)), d_out, UPCAST, PRECISION)
    d_k += dot(tl.trans(d_products.to(q_block.dtype)), q_block, UPCAST, PRECISION)
    return d_k, d_v


@triton.jit
def keys_kernel(
    q, k, v, data, d_key, d_value, score, hiding, walk, sizes, grow, scale,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each block of keys of each key head; it walks along the queries of all heads that share it."""
    blocks = tl.cdiv(sizes.k_len, BLOCK_K)
    kv_heads = sizes.heads // sizes.group
    block = tl.program_id(0) % blocks
    b, kv_head = tl.program_id(0) // blocks // kv_heads, tl.program_id(0) // blocks % kv_heads
    cols = block * BLOCK_K + tl.arange(0, BLOCK_K)
    k_block = load_rows(k, b, kv_head, cols, sizes.k_len, sizes.d, BLOCK_D, True)  # (C, D)
    v_block = load_rows(v, b, kv_head, cols, sizes.k_len, sizes.d_v, BLOCK_DV, True)  # (C, D_V)
    # Here and not in the tile: in the loop, each turn would write them to shared memory again.
    kt_block, vt_block = tl.trans(k_block), tl.trans(v_block)
    d_k = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    d_v = tl.zeros((BLOCK_K, BLOCK_DV), tl.float32)
    last = tl.minimum(block * BLOCK_K + BLOCK_K, sizes.k_len) - 1
    first, full, full_stop, stop = band_blocks(block * BLOCK_K, last, -hiding.high, -hiding.low, sizes.q_len, BLOCK_Q)
    for member in range(0, sizes.group):
        head = kv_head * sizes.group + member
        whole, seen = walk_counts(walk, b, head, block, first, full, full_stop, stop)
        for n in range(0, whole):
            start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_Q
            d_k, d_v = keys_tile(
                kt_block, vt_block, q, v, data, b, head, start, cols, d_k, d_v, score, hiding, sizes, grow,
                BLOCK_Q, BLOCK_D, BLOCK_DV, False, UPCAST, PRECISION,
            )  # fmt: skip
        for n in tl.range(whole, seen, num_stages=1):
            start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_Q
            d_k, d_v = keys_tile(
                kt_block, vt_block, q, v, data, b, head, start, cols, d_k, d_v, score, hiding, sizes, grow,
                BLOCK_Q, BLOCK_D, BLOCK_DV, True, UPCAST, PRECISION,
            )  # fmt: skip
    store_rows(d_key, b, kv_head, cols, sizes.k_len, sizes.d, d_k * scale, BLOCK_D)
    store_rows(d_value, b, kv_head, cols, sizes.k_len, sizes.d_v, d_v, BLOCK_DV)


@triton.jit
def queries_tile(
    q_block, k, v, d_out, delta, row_max, inverse, b, heads, kv_head, rows, start, d_q, total, score, hiding, sizes,
    grow, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr, TOTAL: tl.constexpr,
):  # fmt: skip
    """What one block of keys adds to the gradient of a block of queries, and to each row's total."""
    cols = start + tl.arange(0, BLOCK_K)
    k_block = load_rows(k, b, kv_head, cols, sizes.k_len, sizes.d, BLOCK_D, MASKED)  # (C, D)
    v_block = load_rows(v, b, kv_head, cols, sizes.k_len, sizes.d_v, BLOCK_DV, MASKED)  # (C, D_V)
    _, d_scores, d_products = gradient_tile(
        q_block, tl.trans(k_block), tl.trans(v_block), d_out, delta, row_max, inverse, b, heads, rows, cols, score,
        hiding, sizes, grow, MASKED, UPCAST, PRECISION,
    )  # fmt: skip
    if MASKED:  # 0 * NaN is NaN: a hidden key has no influence
        k_block, _ = clean(k_block)
    d_q += dot(d_products.to(k_block.dtype), k_block, UPCAST, PRECISION)
    if TOTAL == "distances":
        total += tl.sum(d_scores * distance_tile(score, rows, cols), axis=1)
    if TOTAL == "scores":
        total += tl.sum(d_scores, axis=1)
    return d_q, total


@triton.jit
def queries_kernel(
    q, k, v, data, d_query, totals, score, hiding, walk, sizes, grow, scale,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr, TOTAL: tl.constexpr,
):  # fmt: skip
    """The walk of the forward kernel; see there.

    TOTAL: what to sum for each row besides, into `totals`: "distances" times d_scores, which is minus the gradient of
    a linear bias's slope; "scores" for d_scores alone; or "" for nothing.
    """
    blocks = tl.cdiv(sizes.q_len, BLOCK_Q)
    block = blocks - 1 - tl.program_id(0) % blocks
    b, head = tl.program_id(0) // blocks // sizes.heads, tl.program_id(0) // blocks % sizes.heads
    kv_head = head // sizes.group
    rows = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    heads = tl.zeros_like(rows) + head
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    d_out, delta, row_max, inverse = load_query_rows(data, v, b, head, heads, rows, sizes, BLOCK_DV)
    d_q = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    last = tl.minimum(block * BLOCK_Q + BLOCK_Q, sizes.q_len) - 1
    first, full, full_stop, stop = band_blocks(block * BLOCK_Q, last, hiding.low, hiding.high, sizes.k_len, BLOCK_K)
    whole, seen = walk_counts(walk, b, head, block, first, full, full_stop, stop)
    for n in range(0, whole):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K
        d_q, total = queries_tile(
            q_block, k, v, d_out, delta, row_max, inverse, b, heads, kv_head, rows, start, d_q, total, score, hiding,
            sizes, grow, BLOCK_K, BLOCK_D, BLOCK_DV, False, UPCAST, PRECISION, TOTAL,
        )  # fmt: skip
    for n in tl.range(whole, seen, num_stages=1):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K
        d_q, total = queries_tile(
            q_block, k, v, d_out, delta, row_max, inverse, b, heads, kv_head, rows, start, d_q, total, score, hiding,
            sizes, grow, BLOCK_K, BLOCK_D, BLOCK_DV, True, UPCAST, PRECISION, TOTAL,
        )  # fmt: skip
    if d_query is not None:
        store_rows(d_query, b, head, rows, sizes.q_len, sizes.d, d_q * scale, BLOCK_D)
    if totals is not None:
        at = (b.to(tl.int64) * sizes.heads + head) * sizes.q_len + rows
        tl.store(totals + at, total, mask=rows < sizes.q_len)


def delta_launch(call: Call, d_out: Tensor, d_lse: Tensor | None, out: Tensor, delta: Tensor) -> Launch:
    """delta_kernel and all that it is given."""
    tile = call.tile("queries")
    programs = triton.cdiv(out.shape[2], tile.q) * out.shape[0] * out.shape[1]
    arguments = (dense_view(d_out), dense_view(out), d_lse, delta, call.sizes)
    return Launch(delta_kernel, (programs,), arguments, {"BLOCK_Q": tile.q, "BLOCK_DV": padded(out.shape[3])})


def keys_launch(call: Call, data: QueryRows, d_key: Tensor, d_value: Tensor) -> Launch:
    """keys_kernel and all that it is given."""
    tile = call.tile("keys")
    q, k, v, d_k, d_v = (dense_view(x) for x in (call.query, call.key, call.value, d_key, d_value))
    data = data._replace(d_out=dense_view(data.d_out))
    walk = call.walk(tile, by="cols")
    arguments = (q, k, v, data, d_k, d_v, call.score, call.hiding, walk, call.sizes, call.grow, call.scale)
    programs = triton.cdiv(d_key.shape[2], tile.k) * d_key.shape[0] * d_key.shape[1]
    return Launch(keys_kernel, (programs,), arguments, call.constants(tile) | tile.options)


def queries_launch(
    call: Call, data: QueryRows, d_query: Tensor | None, totals: Tensor | None = None, total: str = ""
) -> Launch:
    """queries_kernel and all that it is given; `totals` (batch, heads, q_len), and what they are to be."""
    tile = call.tile("queries")
    q, k, v = (dense_view(x) for x in (call.query, call.key, call.value))
    d_q = None if d_query is None else dense_view(d_query)
    data = data._replace(d_out=dense_view(data.d_out))
    walk = call.walk(tile, by="rows")
    arguments = (q, k, v, data, d_q, totals, call.score, call.hiding, walk, call.sizes, call.grow, call.scale)
    programs = triton.cdiv(call.query.shape[2], tile.q) * call.query.shape[0] * call.query.shape[1]
    return Launch(queries_kernel, (programs,), arguments, call.constants(tile) | {"TOTAL": total} | tile.options)


def query_rows(
    call: Call, d_out: Tensor, d_lse: Tensor | None, out: Tensor, row_max: Tensor, row_sum: Tensor
) -> QueryRows:
    """What both walks need of each query."""
    delta = torch.empty_like(row_max)
    d_lse = None if d_lse is None else d_lse.contiguous()
    delta_launch(call, d_out, d_lse, out, delta).run()
    return QueryRows(d_out, delta, row_max, row_sum)


def with_summed_delta(call: Call, data: QueryRows, d_lse: Tensor | None) -> QueryRows:
    """delta by its definition, the sum over keys, which takes a walk of its own.

    d_out . out is the same number but for the rounding of the weights to half precision in the forward pass. That is
    nothing to each score's gradient, but much to a sum of them over a row, which is a small difference.
    """
    totals = torch.empty_like(data.row_max)
    queries_launch(call, data._replace(delta=torch.zeros_like(totals)), None, totals, "scores").run()
    return data._replace(delta=totals if d_lse is None else totals - d_lse)


def sink_gradient(call: Call, data: QueryRows) -> Tensor:
    """A sink has a weight in each row that sees anything, and no value: its d_weight is 0. Shape (heads)."""
    assert call.sink is not None
    blind = data.row_max.isneginf()
    weight = torch.exp2(call.sink.float()[:, None] * LOG2E - data.row_max) / data.row_sum
    return -(weight * data.delta).masked_fill(blind, 0.0).sum(dim=(0, 2))
