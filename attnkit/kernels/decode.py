"""Few queries and a long cache: the keys are shared out among many programs, and what each found is merged.

One block of queries for each head is too little work to fill a GPU, and while generating there is no more. So each
program takes a share of the keys and keeps a softmax of its own: Flash-Decoding for long-context inference (Dao,
Haziza, Massa and Sizov 2023, https://crfm.stanford.edu/2023/10/12/flashdecoding.html). A second kernel rescales those
sums to one maximum and adds them; in which order does not matter to the mathematics (Ye et al. 2025,
arXiv:2501.01005, section 2.2), and here it is always the same, so that results repeat bit for bit.

The query heads that share a key head are the rows of one tile, since the time goes into reading the keys: row r is
query r % q_len of the group's head r // q_len.
"""

from __future__ import annotations

import functools

import torch
import triton
import triton.language as tl
from torch import Tensor

from attnkit.kernels.arguments import Walk, dense_view
from attnkit.kernels.call import Call, Launch, padded
from attnkit.kernels.forward import add_sink, forward_tile
from attnkit.kernels.parts import INF, LOG2E, band_blocks, finite, load_rows, store_rows, walk_block

FEW = 8  # queries
LEAST_TILES = 2  # in a share of the keys: below that, merging costs more than is won
PROGRAMS_EACH = 2  # programs on one multiprocessor: while one computes, the other's keys are on their way
PROCESSORS = 132  # of an H100 or H200, where there is no device to ask
MERGED = 32  # shares that the second kernel holds at a time


@triton.jit
def seen_blocks(hiding, b, heads, rows, sizes, first, full, full_stop, stop, BLOCK_K: tl.constexpr):
    """The range first .. stop of blocks of keys, made as narrow as the spans of these rows allow.

    In the part full .. full_stop of it every row sees every key.
    """
    if hiding.spans is not None:
        x = hiding.spans
        real = rows < sizes.q_len
        start = x.ptr + b.to(tl.int64) * x.batch + heads.to(tl.int64) * x.head
        start += tl.minimum(rows, sizes.q_len - 1).to(tl.int64) * x.row
        earliest, latest = stop * BLOCK_K, first * BLOCK_K
        for n in tl.static_range(hiding.count):
            opens, closes = tl.load(start + 2 * n * x.col), tl.load(start + (2 * n + 1) * x.col)
            # What all rows see starts with the last to open. A row that sees nothing leaves nothing.
            if hiding.count == 1:
                full = tl.maximum(full, (tl.max(tl.where(real, opens, 0)) + BLOCK_K - 1) // BLOCK_K)
                full_stop = tl.minimum(full_stop, tl.min(tl.where(real, closes, sizes.k_len)) // BLOCK_K)
            opens, closes = tl.maximum(opens, first * BLOCK_K), tl.minimum(closes, stop * BLOCK_K)
            held = real & (opens < closes)
            earliest = tl.minimum(earliest, tl.min(tl.where(held, opens, earliest)))
            latest = tl.maximum(latest, tl.max(tl.where(held, closes, latest)))
        first = tl.maximum(first, earliest // BLOCK_K)
        stop = tl.minimum(stop, (latest + BLOCK_K - 1) // BLOCK_K)
    if hiding.count > 1 or hiding.table is not None:  # no block is known to be seen whole
        full_stop = full
    stop = tl.maximum(stop, first)
    full = tl.minimum(tl.maximum(full, first), stop)
    return first, full, tl.minimum(tl.maximum(full_stop, full), stop), stop


@triton.jit
def split_kernel(
    q, k, v, part, max_ptr, sum_ptr, score, hiding, walk, sizes, splits,
    BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_DV: tl.constexpr,
    UPCAST: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A program for each share of the keys of each tile of rows: its sums, under its own maximum.

    Programs of one share stand side by side: the second finds the keys that the first has read in the cache.
    """
    tiles, kv_heads = tl.cdiv(sizes.group * sizes.q_len, BLOCK_Q), sizes.heads // sizes.group
    tile, split = tl.program_id(0) % tiles, tl.program_id(0) // tiles % splits
    kv_head = tl.program_id(0) // tiles // splits % kv_heads
    b = tl.program_id(0) // tiles // splits // kv_heads
    packed = tile * BLOCK_Q + tl.arange(0, BLOCK_Q)
    # A row past the end of the group is one past the end of the queries, which is neither loaded nor stored.
    rows = tl.where(packed < sizes.group * sizes.q_len, packed % sizes.q_len, sizes.q_len)
    heads = tl.minimum(kv_head * sizes.group + packed // sizes.q_len, sizes.heads - 1)
    q_block = load_rows(q, b, heads[:, None], rows, sizes.q_len, sizes.d, BLOCK_D, True)  # (R, D)
    acc = tl.zeros((BLOCK_Q, BLOCK_DV), tl.float32)
    row_max = tl.full((BLOCK_Q,), -INF, tl.float32)
    row_sum = tl.zeros((BLOCK_Q,), tl.float32)
    first, full, full_stop, stop = band_blocks(0, sizes.q_len - 1, hiding.low, hiding.high, sizes.k_len, BLOCK_K)
    first, full, full_stop, stop = seen_blocks(hiding, b, heads, rows, sizes, first, full, full_stop, stop, BLOCK_K)
    # What is visible is shared out, not all keys: a sequence that is shorter than the batch's longest, or a window,
    # keeps every program busy. Within a share the spans may leave out still more.
    share = tl.cdiv(stop - first, splits)
    first = tl.minimum(first + split * share, stop)
    stop = tl.minimum(first + share, stop)
    first, full, full_stop, stop = seen_blocks(hiding, b, heads, rows, sizes, first, full, full_stop, stop, BLOCK_K)
    whole = full_stop - full
    for n in range(0, whole):
        start = walk_block(walk, b, kv_head, tile, n, first, full, full_stop) * BLOCK_K
        acc, row_max, row_sum = forward_tile(
            q_block, k, v, b, heads, kv_head, rows, start, acc, row_max, row_sum, score, hiding, sizes,
            BLOCK_K, BLOCK_D, BLOCK_DV, False, UPCAST, PRECISION,
        )  # fmt: skip
    for n in tl.range(whole, stop - first, num_stages=1):
        start = walk_block(walk, b, kv_head, tile, n, first, full, full_stop) * BLOCK_K
        acc, row_max, row_sum = forward_tile(
            q_block, k, v, b, heads, kv_head, rows, start, acc, row_max, row_sum, score, hiding, sizes,
            BLOCK_K, BLOCK_D, BLOCK_DV, True, UPCAST, PRECISION,
        )  # fmt: skip
    store_rows(part, b, heads[:, None], rows * splits + split, sizes.q_len * splits, sizes.d_v, acc, BLOCK_DV)
    at = ((b.to(tl.int64) * sizes.heads + heads) * sizes.q_len + rows) * splits + split
    tl.store(max_ptr + at, row_max, mask=rows < sizes.q_len)
    tl.store(sum_ptr + at, row_sum, mask=rows < sizes.q_len)


@triton.jit
def merge_kernel(
    part, max_ptr, sum_ptr, out, exact, row_max_ptr, row_sum_ptr, sink, sizes, splits,
    SPLITS: tl.constexpr, MERGED: tl.constexpr, BLOCK_DV: tl.constexpr,
):  # fmt: skip
    """A program for each query of each head: what its shares found, under the largest of their maxima."""
    row = tl.program_id(0) % sizes.q_len
    b, head = tl.program_id(0) // sizes.q_len // sizes.heads, tl.program_id(0) // sizes.q_len % sizes.heads
    at = tl.program_id(0).to(tl.int64) * splits
    every = tl.arange(0, SPLITS)
    row_max = tl.max(tl.load(max_ptr + at + every, mask=every < splits, other=-INF), axis=0) + tl.zeros(
        (1,), tl.float32
    )
    pivot = finite(row_max)
    acc = tl.zeros((1, BLOCK_DV), tl.float32)
    row_sum = tl.zeros((1,), tl.float32)
    for start in range(0, splits, MERGED):
        share = start + tl.arange(0, MERGED)
        rescale = tl.exp2(tl.load(max_ptr + at + share, mask=share < splits, other=-INF) - pivot)
        sums = tl.load(sum_ptr + at + share, mask=share < splits, other=0.0)
        parts = load_rows(part, b, head, row * splits + share, (row + 1) * splits, sizes.d_v, BLOCK_DV, True)
        row_sum += tl.sum(sums * rescale, axis=0)
        acc += tl.sum(parts * rescale[:, None], axis=0)[None, :]
    if sink is not None:
        acc, row_max, row_sum = add_sink(acc, row_max, row_sum, tl.load(sink + head).to(tl.float32) * LOG2E)
    total = tl.where(row_max == -INF, 1.0, row_sum)  # sees nothing: 0 / 1, not 0 / 0
    rows = row + tl.arange(0, 1)
    acc = acc / total[:, None]
    store_rows(out, b, head, rows, sizes.q_len, sizes.d_v, acc, BLOCK_DV)
    if exact is not None:
        store_rows(exact, b, head, rows, sizes.q_len, sizes.d_v, acc, BLOCK_DV)
    tl.store(row_max_ptr + tl.program_id(0) + tl.arange(0, 1), row_max)
    tl.store(row_sum_ptr + tl.program_id(0) + tl.arange(0, 1), row_sum)


def share_out(programs: int, tiles: int, processors: int) -> int:
    """How many shares the keys of each program are cut into: 1 where the programs fill the device as they are.

    `programs` is their number without sharing, `tiles` that of the blocks of keys. All programs run at once: one more
    than fit would make the device wait for that one.

    >>> share_out(programs=8, tiles=512, processors=132)
    33
    >>> share_out(programs=8, tiles=20, processors=132)
    10
    >>> share_out(programs=500, tiles=512, processors=132)
    1
    """
    return max(1, min(PROGRAMS_EACH * processors // max(programs, 1), tiles // LEAST_TILES))


@functools.cache
def processors_of(device: torch.device) -> int:
    """How many programs the device runs side by side, at the least."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else PROCESSORS


def programs_of(call: Call) -> int:
    """How many programs there are without sharing: one for each tile of rows of each key head."""
    rows = call.sizes.group * call.sizes.q_len
    return triton.cdiv(rows, call.tile("decode").q) * call.key.shape[0] * call.key.shape[1]


def splits_of(call: Call) -> int:
    """How many shares of the keys this call has."""
    tiles = triton.cdiv(call.sizes.k_len, call.tile("decode").k)
    return share_out(programs_of(call), tiles, processors_of(call.query.device))


def pays(call: Call) -> bool:
    """Whether this is faster than `forward.launch`: few queries, whose keys are to be shared out or shared by heads.

    It asks for no work of the device. Dropped weights are for training, which has many queries.
    """
    if call.sizes.q_len > FEW or call.dropout or call.sizes.k_len < 2 * LEAST_TILES * call.tile("decode").k:
        return False
    return call.sizes.group > 1 or splits_of(call) > 1


def launches(call: Call, out: Tensor, exact: Tensor | None, row_max: Tensor, row_sum: Tensor) -> tuple[Launch, Launch]:
    """Both kernels and all that they are given, not yet run. The second reads what the first has written."""
    splits, tile = splits_of(call), call.tile("decode")
    batch, heads, q_len, d_v = out.shape
    part = row_max.new_empty(batch, heads, q_len * splits, d_v)
    part_max, part_sum = row_max.new_empty(2, batch, heads, q_len * splits)
    q, k, v, p, o = (dense_view(x) for x in (call.query, call.key, call.value, part, out))
    score = call.score._replace(seed=None, sink=None)  # no dropout here, and the sink comes once, when merging
    arguments = (q, k, v, p, part_max, part_sum, score, call.hiding, Walk(None, None, None), call.sizes, splits)
    split = Launch(split_kernel, (programs_of(call) * splits,), arguments, call.constants(tile) | tile.options)
    constants = {"SPLITS": triton.next_power_of_2(splits), "MERGED": MERGED, "BLOCK_DV": padded(d_v)}
    e = None if exact is None else dense_view(exact)
    merged = (p, part_max, part_sum, o, e, row_max, row_sum, call.sink, call.sizes, splits)
    return split, Launch(merge_kernel, (batch * heads * q_len,), merged, constants)


def run(call: Call, out: Tensor, exact: Tensor | None, row_max: Tensor, row_sum: Tensor) -> None:
    """Fill the same tensors as `forward.launch(...).run()` does, for a call without dropout.

    `out` and, unless None, `exact` (float32, unrounded) are (batch, heads, q_len, d_v); `row_max` and `row_sum` are
    (batch, heads, q_len).
    """
    for launch in launches(call, out, exact, row_max, row_sum):
        launch.run()
