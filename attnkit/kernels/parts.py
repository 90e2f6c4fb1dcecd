"""What the kernels share: where a tile lies, its scores, what a mask hides and which weights dropout keeps.

Each function is the counterpart of one in `attnkit/backends/online.py` or `tiling.py`. Shapes: R = BLOCK_Q rows of
queries, C = BLOCK_K keys, D and D_V = head widths, padded to a power of two. Scores are in base 2.
`heads` and `rows` are vectors of length R, so that a tile may also hold rows of several heads (`decode.py`).
"""

from __future__ import annotations

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))
LOG2E = tl.constexpr(1.4426950408889634)
WIDEST, PIECE = tl.constexpr(64), tl.constexpr(32)  # of a product's inner axis, in float32


@triton.jit
def load_rows(x, b, head, rows, length, width, BLOCK: tl.constexpr, EDGE: tl.constexpr):
    """Rows of one head: (rows, BLOCK), zeros past the width and, where EDGE says so, past the length.

    Offsets are 64-bit from the row on: a view into a fused projection passes 2^31 elements sooner than one thinks.
    """
    cols = tl.arange(0, BLOCK)
    start = x.ptr + b.to(tl.int64) * x.batch + head.to(tl.int64) * x.head
    at = start + rows.to(tl.int64)[:, None] * x.row + cols.to(tl.int64)[None, :] * x.col
    if width != BLOCK:
        inside = (cols < width)[None, :]
        if EDGE:
            inside = inside & (rows < length)[:, None]
        return tl.load(at, mask=inside, other=0.0)
    if EDGE:
        return tl.load(at, mask=(rows < length)[:, None], other=0.0)
    return tl.load(at)


@triton.jit
def store_rows(x, b, head, rows, length, width, tile, BLOCK: tl.constexpr):
    """The counterpart of load_rows."""
    cols = tl.arange(0, BLOCK)
    start = x.ptr + b.to(tl.int64) * x.batch + head.to(tl.int64) * x.head
    at = start + rows.to(tl.int64)[:, None] * x.row + cols.to(tl.int64)[None, :] * x.col
    tl.store(at, tile.to(x.ptr.dtype.element_ty), mask=(rows < length)[:, None] & (cols < width)[None, :])


@triton.jit
def row_numbers(ptr, b, heads, rows, sizes, other):
    """One number for each row from a contiguous (batch, heads, q_len) tensor; `other` past the end."""
    at = (b.to(tl.int64) * sizes.heads + heads) * sizes.q_len + rows
    return tl.load(ptr + at, mask=(rows < sizes.q_len) & (heads < sizes.heads), other=other)


@triton.jit
def at_tile(x, b, heads, rows, cols):
    """Pointers to a tile (R, C) of a view that broadcasts."""
    by_row = b.to(tl.int64) * x.batch + heads.to(tl.int64) * x.head + rows.to(tl.int64) * x.row
    return x.ptr + by_row[:, None] + cols.to(tl.int64)[None, :] * x.col


@triton.jit
def dot(a, b, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    """a @ b, summed in float32. UPCAST: Triton's interpreter cannot do arithmetic in bfloat16 (triton#11584)."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    if a.dtype == tl.float32 and a.shape[1] > WIDEST:
        # Without tensor cores a thread holds whole rows of a and columns of b. In pieces they fit its registers.
        pieces = tl.permute(tl.reshape(a, (a.shape[0], a.shape[1] // PIECE, PIECE)), (1, 0, 2))
        others = tl.reshape(b, (b.shape[0] // PIECE, PIECE, b.shape[1]))
        product = tl.sum(tl.dot(pieces, others, input_precision=PRECISION), axis=0)
    else:
        product = tl.dot(a, b, input_precision=PRECISION)
    return product


@triton.jit
def tanh(x):
    """Triton has none that its interpreter knows. Near 0 a quotient would cancel, near 1 it would be rounded twice."""
    e = tl.exp2(tl.abs(x) * (-2.0 * LOG2E))
    far = tl.where(e < 0.25, 1.0 - 2.0 * e / (1.0 + e), (1.0 - e) / (1.0 + e))
    square = x * x
    near = tl.abs(x) * (1.0 + square * (-1 / 3 + square * (2 / 15 + square * (-17 / 315 + square * (62 / 2835)))))
    size = tl.where(square < 0.04, near, far)
    return tl.where(x < 0, -size, size)


@triton.jit
def finite(row_max):
    """The maximum, or 0 for a row that has seen nothing yet: -inf - -inf would be NaN."""
    return tl.where(row_max == -INF, 0.0, row_max)


@triton.jit
def visible_tile(hiding, b, heads, rows, cols, sizes):
    """(R, C): may the query attend to the key? Rows past the end answer as the last does; nobody uses what they get."""
    distance = cols[None, :] - rows[:, None]
    visible = (distance >= hiding.low) & (distance <= hiding.high) & (cols < sizes.k_len)[None, :]
    rows = tl.minimum(rows, sizes.q_len - 1)
    heads = tl.minimum(heads, sizes.heads - 1)
    if hiding.spans is not None:
        x = hiding.spans
        start = x.ptr + b.to(tl.int64) * x.batch + heads.to(tl.int64) * x.head + rows.to(tl.int64) * x.row
        inside = cols[None, :] < 0
        for n in tl.static_range(hiding.count):
            first, stop = tl.load(start + 2 * n * x.col), tl.load(start + (2 * n + 1) * x.col)
            inside = inside | ((cols[None, :] >= first[:, None]) & (cols[None, :] < stop[:, None]))
        visible = visible & inside
    if hiding.table is not None:
        at, inside = at_tile(hiding.table, b, heads, rows, cols), (cols < sizes.k_len)[None, :]
        visible = visible & (tl.load(at, mask=inside, other=0) != 0)
    return visible


@triton.jit
def distance_tile(score, rows, cols):
    """(R, C): how far the key stands from the query, as a linear bias counts it."""
    offset = rows[:, None] + score.origin - cols[None, :]
    return (tl.abs(offset) if score.symmetric else tl.maximum(offset, 0)).to(tl.float32)


@triton.jit
def score_tile(q_block, kt_block, b, heads, rows, cols, score, sizes, UPCAST: tl.constexpr, PRECISION: tl.constexpr):
    """(R, C): the scores in base 2, scaled, capped and biased, and the cap's tanh (or the scores again).

    The keys come as (D, C): who keeps them through a loop transposes them once, before it.
    """
    scores = dot(q_block, kt_block, UPCAST, PRECISION) * score.scale
    capped = scores
    if score.softcap is not None:
        capped = tanh(scores)
        scores = capped * score.softcap
    if score.bias is not None or score.slopes is not None:
        rows = tl.minimum(rows, sizes.q_len - 1)
        heads = tl.minimum(heads, sizes.heads - 1)
    if score.bias is not None:
        # Not clamped as the rows are: neighbours must stay neighbours, to be loaded at once.
        inside = (cols < sizes.k_len)[None, :]
        scores += tl.load(at_tile(score.bias, b, heads, rows, cols), mask=inside, other=0.0).to(tl.float32) * LOG2E
    if score.slopes is not None:
        # Slope times distance first: the rounding of slope times log2(e) would be the same along the whole row.
        slopes = tl.load(score.slopes + heads).to(tl.float32)
        scores -= slopes[:, None] * distance_tile(score, rows, cols) * LOG2E
    return scores, capped


@triton.jit
def clean(block):
    """Keys or values without those that hold NaN or infinity, and which these are (C).

    A hidden key has no influence even if it holds NaN, but 0 * NaN is NaN: such a key is emptied. To ask a row's sum
    needs fewer registers than to ask each number; 0 times a number that is no number is none either.
    """
    total = tl.sum(block.to(tl.float32) * 0.0, axis=1)
    sick = total != total
    return tl.where(sick[:, None], 0.0, block).to(block.dtype), sick


@triton.jit
def mix(x):
    """backends/dropout.py's hash of 32-bit numbers."""
    x ^= x >> 16
    x *= 0x7FEB352D
    x ^= x >> 15
    x *= 0x846CA68B
    x ^= x >> 16
    return x


@triton.jit
def keep_tile(score, b, heads, rows, cols):
    """(R, C): does dropout keep the weight? The same bits as `backends/dropout.keep_tile`, whatever the tiles."""
    row_hash = tl.load(score.seed).to(tl.uint32, bitcast=True)
    row_hash = mix(row_hash ^ mix((b + 0x00000001).to(tl.uint32)))
    row_hash = mix(row_hash ^ mix(heads.to(tl.uint32) + 0x10000002))
    row_hash = mix(row_hash ^ mix(rows.to(tl.uint32) + 0x20000003))
    col_hash = mix(cols.to(tl.uint32) ^ 0x9E3779B9)
    bits = (row_hash | 1)[:, None] * col_hash[None, :] + mix(row_hash ^ 0x85EBCA6B)[:, None]
    return bits.to(tl.int32, bitcast=True) >= score.threshold


@triton.jit
def band_blocks(start, last, low, high, length, BLOCK: tl.constexpr):
    """Which blocks of the other axis a block start .. last sees: first, first full, end of the full, end.

    Position p of this axis sees position x of the other when low <= x - p <= high and 0 <= x < length.
    """
    first = tl.maximum(start + low, 0) // BLOCK
    stop = tl.maximum((tl.minimum(last + high + 1, length) + BLOCK - 1) // BLOCK, first)
    full = tl.maximum((tl.maximum(last + low, 0) + BLOCK - 1) // BLOCK, first)
    full = tl.minimum(full, stop)
    full_stop = tl.maximum(tl.minimum(tl.maximum(tl.minimum(start + high + 1, length), 0) // BLOCK, stop), full)
    return first, full, full_stop, stop


@triton.jit
def walk_counts(walk, b, head, block, first, full, full_stop, stop):
    """How many tiles are fully visible, and how many are visited in all."""
    if walk.order is not None:
        at = b.to(tl.int64) * walk.full.batch + head.to(tl.int64) * walk.full.head + block * walk.full.row
        return tl.load(walk.full.ptr + at), tl.load(walk.seen.ptr + at)
    return full_stop - full, stop - first


@triton.jit
def walk_block(walk, b, head, block, n, first, full, full_stop):
    """The n-th block to visit: first the fully visible ones, then those at either border."""
    if walk.order is not None:
        x = walk.order
        return tl.load(x.ptr + b.to(tl.int64) * x.batch + head.to(tl.int64) * x.head + block * x.row + n * x.col)
    border = n - (full_stop - full)
    left = full - first
    return tl.where(border < 0, full + n, tl.where(border < left, first + border, full_stop + border - left))
