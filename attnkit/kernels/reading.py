"""What can be read off the weights without keeping them, exactly: chosen rows, sums of columns, entropies.

From a row's maximum (in base 2) and sum, which the forward pass saves, any weight can be made again on its own:
exp2(score - row_max) / row_sum. So a table of q_len x k_len weights is never held. None of it has a gradient, and all
of it is of the weights before dropout. `attnkit/backends/reading.py` does the same in torch.
"""

from __future__ import annotations

import triton
import triton.language as tl
from jaxtyping import Float, Float32, Int
from torch import Tensor

from attnkit.kernels.arguments import dense_view
from attnkit.kernels.call import Call, Launch
from attnkit.kernels.parts import (
    INF,
    at_tile,
    band_blocks,
    load_rows,
    row_numbers,
    score_tile,
    visible_tile,
    walk_block,
    walk_counts,
)

LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def row_numbers_of(row_max_ptr, row_sum_ptr, b, heads, rows, sizes):
    """Maximum and sum of each row, so that a row which sees nothing, or is past the end, gets the weights 0 / 1."""
    row_max = row_numbers(row_max_ptr, b, heads, rows, sizes, -INF)
    row_sum = row_numbers(row_sum_ptr, b, heads, rows, sizes, 1.0)
    blind = row_max == -INF
    return tl.where(blind, INF, row_max), tl.where(blind & (row_sum == row_sum), 1.0, row_sum)  # a NaN stays one


@triton.jit
def weights_tile(
    q_block, k_block, row_max, b, heads, rows, cols, score, hiding, sizes,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(R, C): the weights before division by the row's sum, and the scores above the row's maximum, 0 at most."""
    scores, _ = score_tile(q_block, tl.trans(k_block), b, heads, rows, cols, score, sizes, UPCAST, PRECISION)
    above = scores - row_max[:, None]
    if MASKED:  # after the maximum is taken off: in a row that sees a NaN, it is one as well
        visible = visible_tile(hiding, b, heads, rows, cols, sizes) & (rows < sizes.q_len)[:, None]
        above = tl.where(visible, above, -INF)
    return tl.exp2(above), above


@triton.jit
def rows_kernel(
    q, k, row_max_ptr, row_sum_ptr, chosen, n, found, score, hiding, sizes,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each tile of the result, whose row i is that of query chosen[i]."""
    tiles, k_blocks = tl.cdiv(n, BLOCK_Q), tl.cdiv(sizes.k_len, BLOCK_K)
    tile, head = tl.program_id(0) % tiles, tl.program_id(0) // tiles // k_blocks % sizes.heads
    b = tl.program_id(0) // tiles // k_blocks // sizes.heads
    cols = tl.program_id(0) // tiles % k_blocks * BLOCK_K + tl.arange(0, BLOCK_K)
    places = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    rows = tl.load(chosen + places, mask=places < n, other=0).to(tl.int32)
    heads = tl.zeros_like(rows) + head
    row_max, row_sum = row_numbers_of(row_max_ptr, row_sum_ptr, b, heads, rows, sizes)
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    k_block = load_rows(k, b, head // sizes.group, cols, sizes.k_len, sizes.d, BLOCK_D, True)  # (C, D)
    weights, _ = weights_tile(
        q_block, k_block, row_max, b, heads, rows, cols, score, hiding, sizes, True, UPCAST, PRECISION
    )
    # A hidden weight is 0 also where the row's sum is NaN.
    weights = tl.where(weights == 0.0, 0.0, weights / row_sum[:, None]).to(found.ptr.dtype.element_ty)
    inside = (places < n)[:, None] & (cols < sizes.k_len)[None, :]
    tl.store(at_tile(found, b, heads, places, cols), weights, mask=inside)


@triton.jit
def columns_kernel(
    q, k, row_max_ptr, row_sum_ptr, sums, score, hiding, walk, sizes,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each block of keys of each head walks along the queries that see any of them."""
    blocks = tl.cdiv(sizes.k_len, BLOCK_K)
    block = tl.program_id(0) % blocks
    b, head = tl.program_id(0) // blocks // sizes.heads, tl.program_id(0) // blocks % sizes.heads
    cols = block * BLOCK_K + tl.arange(0, BLOCK_K)
    k_block = load_rows(k, b, head // sizes.group, cols, sizes.k_len, sizes.d, BLOCK_D, True)  # (C, D)
    column_sums = tl.zeros((BLOCK_K,), tl.float32)
    last = tl.minimum(block * BLOCK_K + BLOCK_K, sizes.k_len) - 1
    # Key - query lies between low and high, hence query - key between -high and -low.
    first, full, full_stop, stop = band_blocks(block * BLOCK_K, last, -hiding.high, -hiding.low, sizes.q_len, BLOCK_Q)
    whole, seen = walk_counts(walk, b, head, block, first, full, full_stop, stop)
    for n in range(0, whole):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_Q
        column_sums += columns_tile(
            q, k_block, row_max_ptr, row_sum_ptr, b, head, start, cols, score, hiding, sizes,
            BLOCK_Q, BLOCK_D, False, UPCAST, PRECISION,
        )  # fmt: skip
    for n in tl.range(whole, seen, num_stages=1):
        start = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_Q
        column_sums += columns_tile(
            q, k_block, row_max_ptr, row_sum_ptr, b, head, start, cols, score, hiding, sizes,
            BLOCK_Q, BLOCK_D, True, UPCAST, PRECISION,
        )  # fmt: skip
    at = (b.to(tl.int64) * sizes.heads + head) * sizes.k_len + cols
    tl.store(sums + at, column_sums, mask=cols < sizes.k_len)


@triton.jit
def columns_tile(
    q, k_block, row_max_ptr, row_sum_ptr, b, head, start, cols, score, hiding, sizes,
    BLOCK_Q: tl.constexpr, BLOCK_D: tl.constexpr,
    MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(C): what the keys of a tile get from its queries."""
    rows = start + tl.arange(0, BLOCK_Q)
    heads = tl.zeros_like(rows) + head
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    row_max, row_sum = row_numbers_of(row_max_ptr, row_sum_ptr, b, heads, rows, sizes)
    weights, _ = weights_tile(
        q_block, k_block, row_max, b, heads, rows, cols, score, hiding, sizes, MASKED, UPCAST, PRECISION
    )
    return tl.sum(tl.where(weights == 0.0, 0.0, weights / row_sum[:, None]), axis=0)


@triton.jit
def entropy_kernel(
    q, k, row_max_ptr, row_sum_ptr, entropy, score, hiding, walk, sizes,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each block of queries of each head walks along the keys, as the forward kernel does.

    With weight = exp2(above) / row_sum, the sum of -weight log(weight) over a row's keys is

        (log(row_sum) * sum(exp2(above)) - log(2) * sum(exp2(above) * above)) / row_sum.

    Both terms are positive, so nothing cancels: `above` is 0 at most, and where it is 0 adds 1 to the row's sum.
    """
    blocks = tl.cdiv(sizes.q_len, BLOCK_Q)
    block = blocks - 1 - tl.program_id(0) % blocks
    b, head = tl.program_id(0) // blocks // sizes.heads, tl.program_id(0) // blocks % sizes.heads
    rows = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    heads = tl.zeros_like(rows) + head
    q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    row_max, row_sum = row_numbers_of(row_max_ptr, row_sum_ptr, b, heads, rows, sizes)
    # Over all keys: exp2(above), which without a sink is the row's sum again, and exp2(above) * above.
    visible_sum, above_sum = tl.zeros((BLOCK_Q,), tl.float32), tl.zeros((BLOCK_Q,), tl.float32)
    last = tl.minimum(block * BLOCK_Q + BLOCK_Q, sizes.q_len) - 1
    first, full, full_stop, stop = band_blocks(block * BLOCK_Q, last, hiding.low, hiding.high, sizes.k_len, BLOCK_K)
    whole, seen = walk_counts(walk, b, head, block, first, full, full_stop, stop)
    for n in range(0, whole):
        cols = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K + tl.arange(0, BLOCK_K)
        here, higher = entropy_tile(
            q_block, k, row_max, b, heads, head // sizes.group, rows, cols, score, hiding, sizes,
            BLOCK_D, False, UPCAST, PRECISION,
        )  # fmt: skip
        visible_sum += here
        above_sum += higher
    for n in tl.range(whole, seen, num_stages=1):
        cols = walk_block(walk, b, head, block, n, first, full, full_stop) * BLOCK_K + tl.arange(0, BLOCK_K)
        here, higher = entropy_tile(
            q_block, k, row_max, b, heads, head // sizes.group, rows, cols, score, hiding, sizes,
            BLOCK_D, True, UPCAST, PRECISION,
        )  # fmt: skip
        visible_sum += here
        above_sum += higher
    result = (tl.log2(row_sum) * visible_sum - above_sum) / row_sum * LN2
    at = (b.to(tl.int64) * sizes.heads + head) * sizes.q_len + rows
    tl.store(entropy + at, result, mask=rows < sizes.q_len)


@triton.jit
def entropy_tile(
    q_block, k, row_max, b, heads, kv_head, rows, cols, score, hiding, sizes,
    BLOCK_D: tl.constexpr, MASKED: tl.constexpr, UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """(R), (R): the tile's part of the two sums of the entropy. A weight of 0 adds 0, also where `above` is -inf."""
    k_block = load_rows(k, b, kv_head, cols, sizes.k_len, sizes.d, BLOCK_D, MASKED)  # (C, D)
    weights, above = weights_tile(
        q_block, k_block, row_max, b, heads, rows, cols, score, hiding, sizes, MASKED, UPCAST, PRECISION
    )
    return tl.sum(weights, axis=1), tl.sum(weights * tl.where(weights == 0.0, 0.0, above), axis=1)


def rows_launch(call: Call, row_max: Tensor, row_sum: Tensor, rows: Tensor, found: Tensor) -> Launch:
    """The kernel that fills `found` (batch, heads, n, k_len) with the weights of the n queries `rows`."""
    tile, n = call.tile("reading"), rows.shape[0]
    q, k, f = (dense_view(x) for x in (call.query, call.key, found))
    programs = found.shape[0] * found.shape[1] * triton.cdiv(n, tile.q) * triton.cdiv(found.shape[3], tile.k)
    arguments = (q, k, row_max, row_sum, rows.contiguous(), n, f, call.score, call.hiding, call.sizes)
    return Launch(rows_kernel, (programs,), arguments, _constants(call))


def columns_launch(call: Call, row_max: Tensor, row_sum: Tensor, sums: Tensor) -> Launch:
    """The kernel that fills `sums` (batch, heads, k_len)."""
    tile, (batch, heads, _, k_len) = call.tile("reading"), call.mask_sizes
    q, k = dense_view(call.query), dense_view(call.key)
    arguments = (q, k, row_max, row_sum, sums, call.score, call.hiding, call.walk(tile, by="cols"), call.sizes)
    return Launch(columns_kernel, (batch * heads * triton.cdiv(k_len, tile.k),), arguments, _constants(call))


def entropy_launch(call: Call, row_max: Tensor, row_sum: Tensor, entropy: Tensor) -> Launch:
    """The kernel that fills `entropy` (batch, heads, q_len)."""
    tile, (batch, heads, q_len, _) = call.tile("reading"), call.mask_sizes
    q, k = dense_view(call.query), dense_view(call.key)
    arguments = (q, k, row_max, row_sum, entropy, call.score, call.hiding, call.walk(tile, by="rows"), call.sizes)
    return Launch(entropy_kernel, (batch * heads * triton.cdiv(q_len, tile.q),), arguments, _constants(call))


def _constants(call: Call) -> dict[str, object]:
    """What these kernels are compiled for: values are not read."""
    tile = call.tile("reading")
    constants = call.constants(tile) | tile.options
    del constants["BLOCK_DV"]
    return constants


def weights_of_rows(
    call: Call,
    row_max: Float32[Tensor, "batch heads q_len"],
    row_sum: Float32[Tensor, "batch heads q_len"],
    rows: Int[Tensor, " n"],
) -> Float[Tensor, "batch heads n k_len"]:
    """The weights of the queries `rows`, counted from 0, in the query's dtype; 0 where hidden."""
    batch, heads, _, k_len = call.mask_sizes
    found = call.query.new_empty(batch, heads, rows.shape[0], k_len)
    rows_launch(call, row_max, row_sum, rows, found).run()
    return found


def column_sums(
    call: Call,
    row_max: Float32[Tensor, "batch heads q_len"],
    row_sum: Float32[Tensor, "batch heads q_len"],
) -> Float32[Tensor, "batch heads k_len"]:
    """How much weight each key gets from all queries together."""
    batch, heads, _, k_len = call.mask_sizes
    sums = row_max.new_empty(batch, heads, k_len)
    columns_launch(call, row_max, row_sum, sums).run()
    return sums


def entropy(
    call: Call,
    row_max: Float32[Tensor, "batch heads q_len"],
    row_sum: Float32[Tensor, "batch heads q_len"],
) -> Float32[Tensor, "batch heads q_len"]:
    """-sum p log p over each query's keys, in nats; 0 for a query that sees nothing. A sink's share is no key's."""
    found = row_max.new_empty(row_max.shape)
    entropy_launch(call, row_max, row_sum, found).run()
    return found
