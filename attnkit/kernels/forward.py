"""The forward pass: one program walks along all keys with one block of queries, as `online.forward_block` does.

FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning (Dao 2023, arXiv:2307.08691,
algorithm 1), with the online softmax of Milakov and Gimelshein (2018, arXiv:1805.02867).
Read it beside `attnkit/backends/online.py`; the names are the same.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from attnkit.kernels.arguments import dense_view
from attnkit.kernels.call import Call, Launch
from attnkit.kernels.parts import (
    INF,
    LOG2E,
    band_blocks,
    clean,
    dot,
    finite,
    keep_tile,
    load_rows,
    score_tile,
    store_rows,
    visible_tile,
    walk_block,
    walk_counts,
)


@triton.jit
def forward_tile(
    q_block, k, v, b, heads, kv_head, rows, start, acc, row_max, row_sum, score, hiding, sizes,
    BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """One tile: its scores, the new maximum of each row, and what is summed under it."""
    cols = start + tl.arange(0, BLOCK_K)
    k_block = load_rows(k, b, kv_head, cols, sizes.k_len, sizes.d, BLOCK_D, MASKED)  # (C, D)
    v_block = load_rows(v, b, kv_head, cols, sizes.k_len, sizes.d_v, BLOCK_DV, MASKED)  # (C, D_V)
    if MASKED:
        v_block, sick = clean(v_block)
    scores, _ = score_tile(q_block, tl.trans(k_block), b, heads, rows, cols, score, sizes, UPCAST, PRECISION)  # (R, C)
    if MASKED:
        scores = tl.where(sick[None, :], float("nan"), scores)  # seen by a row, it is not without influence
        scores = tl.where(visible_tile(hiding, b, heads, rows, cols, sizes), scores, -INF)
    new_max = tl.maximum(row_max, tl.max(scores, axis=1))
    pivot = finite(new_max)
    rescale = tl.exp2(row_max - pivot)
    weights = tl.exp2(scores - pivot[:, None])
    row_sum = row_sum * rescale + tl.sum(weights, axis=1)
    if score.seed is not None:
        weights = tl.where(keep_tile(score, b, heads, rows, cols), weights, 0.0)
    acc = acc * rescale[:, None] + dot(weights.to(v_block.dtype), v_block, UPCAST, PRECISION)
    return acc, new_max, row_sum


@triton.jit
def add_sink(acc, row_max, row_sum, sink):
    """One more logit (in base 2) in the denominator of every row that sees anything."""
    new_max = tl.where(row_max > -INF, tl.maximum(row_max, sink), row_max)
    pivot = finite(new_max)
    rescale = tl.exp2(row_max - pivot)
    share = tl.where(row_max > -INF, tl.exp2(sink - pivot), 0.0)
    return acc * rescale[:, None], new_max, row_sum * rescale + share


@triton.jit
def forward_kernel(
    q, k, v, out, exact, row_max_ptr, row_sum_ptr, score, hiding, walk, sizes, grow,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each block of queries of each head. The last blocks, which see most, come first."""
    blocks = tl.cdiv(sizes.q_len, BLOCK_Q)
    block = blocks - 1 - tl.program_id(0) % blocks
    b, head = tl.program_id(0) // blocks // sizes.heads, tl.program_id(0) // blocks % sizes.heads
    kv_head = head // sizes.group
    rows = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    heads = tl.zeros_like(rows) + head
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    acc = tl.zeros((BLOCK_Q, BLOCK_DV), tl.float32)
    row_max = tl.full((BLOCK_Q,), -INF, tl.float32)
    row_sum = tl.zeros((BLOCK_Q,), tl.float32)
    last = tl.minimum(block * BLOCK_Q + BLOCK_Q, sizes.q_len) - 1
    first, full, full_stop, stop = band_blocks(block * BLOCK_Q, last, hiding.low, hiding.high, sizes.k_len, BLOCK_K)
    whole, seen = walk_counts(walk, b, head, block, first, full, full_stop, stop)
    for n in range(0, whole):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K
        acc, row_max, row_sum = forward_tile(
            q_block, k, v, b, heads, kv_head, rows, start, acc, row_max, row_sum, score, hiding, sizes,
            BLOCK_K, BLOCK_D, BLOCK_DV, False, UPCAST, PRECISION,
        )  # fmt: skip
    for n in tl.range(whole, seen, num_stages=1):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K
        acc, row_max, row_sum = forward_tile(
            q_block, k, v, b, heads, kv_head, rows, start, acc, row_max, row_sum, score, hiding, sizes,
            BLOCK_K, BLOCK_D, BLOCK_DV, True, UPCAST, PRECISION,
        )  # fmt: skip
    if score.sink is not None:
        acc, row_max, row_sum = add_sink(acc, row_max, row_sum, tl.load(score.sink + head).to(tl.float32) * LOG2E)
    total = tl.where(row_max == -INF, 1.0, row_sum)  # sees nothing: 0 / 1, not 0 / 0
    acc = acc * (grow / total)[:, None]
    store_rows(out, b, head, rows, sizes.q_len, sizes.d_v, acc, BLOCK_DV)
    if exact is not None:
        store_rows(exact, b, head, rows, sizes.q_len, sizes.d_v, acc, BLOCK_DV)
    at = (b.to(tl.int64) * sizes.heads + head) * sizes.q_len + rows
    tl.store(row_max_ptr + at, row_max, mask=rows < sizes.q_len)
    tl.store(row_sum_ptr + at, row_sum, mask=rows < sizes.q_len)


def launch(call: Call, out: Tensor, exact: Tensor | None, row_max: Tensor, row_sum: Tensor) -> Launch:
    """The kernel and all that it is given, not yet run. `exact` takes the output unrounded."""
    tile = call.tile("forward")
    q, k, v, o = (dense_view(x) for x in (call.query, call.key, call.value, out))
    walk = call.walk(tile, by="rows")
    e = None if exact is None else dense_view(exact)
    arguments = (q, k, v, o, e, row_max, row_sum, call.score, call.hiding, walk, call.sizes, call.grow)
    programs = triton.cdiv(out.shape[2], tile.q) * out.shape[0] * out.shape[1]
    return Launch(forward_kernel, (programs,), arguments, call.constants(tile) | tile.options)
