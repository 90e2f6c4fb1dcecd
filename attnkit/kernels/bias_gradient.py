"""The gradient of a bias: d_scores, summed over the axes along which the bias is the same.

It is as large as the bias and no larger: a program owns one tile of it and walks along the batch elements and heads
that share it. Where all queries or all keys share it, what each tile adds up to is written down and summed afterwards,
in the same order each time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnkit.kernels.arguments import dense_view
from attnkit.kernels.backward import QueryRows, gradient_tile, load_query_rows
from attnkit.kernels.call import Call, Launch
from attnkit.kernels.parts import load_rows, visible_tile


@triton.jit
def bias_kernel(
    q, k, v, data, d_bias, score, hiding, sizes, grow, batches, heads_of_bias, shared_batches, shared_heads,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr, SUM_Q: tl.constexpr, SUM_K: tl.constexpr,
):  # fmt: skip
    """A program for each tile of each table of the bias."""
    k_blocks, q_blocks = tl.cdiv(sizes.k_len, BLOCK_K), tl.cdiv(sizes.q_len, BLOCK_Q)
    k_at, rest = tl.program_id(0) % k_blocks, tl.program_id(0) // k_blocks
    q_at, rest = rest % q_blocks, rest // q_blocks
    h_at, b_at = rest % heads_of_bias, rest // heads_of_bias
    rows, cols = q_at * BLOCK_Q + tl.arange(0, BLOCK_Q), k_at * BLOCK_K + tl.arange(0, BLOCK_K)
    total = tl.zeros((BLOCK_Q, BLOCK_K), tl.float32)
    for n in range(0, shared_batches * shared_heads):
        b, head = b_at + n // shared_heads, h_at + n % shared_heads
        heads = tl.zeros_like(rows) + head
        seen = visible_tile(hiding, b, heads, rows, cols, sizes)
        if tl.max(seen.to(tl.int32)) > 0:
            kv_head = head // sizes.group
            q_block = load_rows(q, b, head, rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
            k_block = load_rows(k, b, kv_head, cols, sizes.k_len, sizes.d, BLOCK_D, True)  # (C, D)
            v_block = load_rows(v, b, kv_head, cols, sizes.k_len, sizes.d_v, BLOCK_DV, True)  # (C, D_V)
            d_out, delta, row_max, inverse = load_query_rows(data, v, b, head, heads, rows, sizes, BLOCK_DV)
            _, d_scores, _ = gradient_tile(
                q_block, tl.trans(k_block), tl.trans(v_block), d_out, delta, row_max, inverse, b, heads, rows, cols,
                score, hiding, sizes, grow, True, UPCAST, PRECISION,
            )  # fmt: skip
            total += d_scores
    start = d_bias.ptr + b_at.to(tl.int64) * d_bias.batch + h_at.to(tl.int64) * d_bias.head
    if SUM_Q:
        total = tl.sum(total, axis=0, keep_dims=True)  # (1, C)
        rows = tl.zeros((1,), tl.int32) + q_at
    if SUM_K:
        total = tl.sum(total, axis=1, keep_dims=True)
        cols = tl.zeros((1,), tl.int32) + k_at
    inside = (rows < sizes.q_len)[:, None] & (cols < sizes.k_len)[None, :]
    at = start + rows.to(tl.int64)[:, None] * d_bias.row + cols.to(tl.int64)[None, :] * d_bias.col
    tl.store(at, total, mask=inside)


def launch(call: Call, data: QueryRows, sums: Tensor) -> Launch:
    """bias_kernel and all that it is given; `sums` as `room_for_sums` makes it."""
    assert call.bias is not None
    tile = call.tile("bias")
    batch, heads, q_len, k_len = call.mask_sizes
    own_batches, own_heads = call.bias.shape[:2]
    arguments = (
        *(dense_view(x) for x in (call.query, call.key, call.value)),
        data._replace(d_out=dense_view(data.d_out)),
        dense_view(sums),
        *(call.score, call.hiding, call.sizes, call.grow, own_batches, own_heads),
        *(batch // max(own_batches, 1), heads // max(own_heads, 1)),
    )
    programs = triton.cdiv(q_len, tile.q) * triton.cdiv(k_len, tile.k) * own_batches * own_heads
    constants = {"SUM_Q": call.bias.shape[2] == 1, "SUM_K": call.bias.shape[3] == 1}
    return Launch(bias_kernel, (programs,), arguments, call.constants(tile) | constants | tile.options)


def room_for_sums(call: Call) -> Tensor:
    """Zeros in the shape of the bias, with a place for each block along an axis that the bias does not have."""
    assert call.bias is not None
    tile = call.tile("bias")
    *tables, q_len, k_len = call.bias.shape
    q_len = triton.cdiv(call.mask_sizes.q_len, tile.q) if q_len == 1 else q_len
    k_len = triton.cdiv(call.mask_sizes.k_len, tile.k) if k_len == 1 else k_len
    return call.query.new_zeros(*tables, q_len, k_len, dtype=torch.float32)


def bias_gradient(call: Call, data: QueryRows) -> Tensor:
    """The gradient of the bias, in its shape, in float32."""
    assert call.bias is not None
    sums = room_for_sums(call)
    launch(call, data, sums).run()
    for axis in (2, 3):
        if call.bias.shape[axis] == 1:
            sums = sums.sum(dim=axis, keepdim=True)
    return sums
