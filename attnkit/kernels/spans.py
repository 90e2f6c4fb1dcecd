"""The keys that each query sees as a few pairs of numbers, [start, stop): intersection, union and complement of them.

A causal row is one pair, a row of a prefix language model too, the complement of a window two. Every function here
takes and gives pairs in one form, so that none has to check for another's leftovers:

- 0 <= start <= stop <= k_len;
- in order, with a gap between one pair and the next (two that touch are merged);
- the number of pairs is the same for all rows; those a row does not need come last, as (k_len, k_len).

All of it is elementwise or along the few pairs of a row: no loop over a length, and nothing is read back from a device.
Positions fit int32. Axes on which a mask does not depend have length 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int, Int32
from torch import Tensor

from attnkit.masks import Sizes


class Pairs(NamedTuple):
    """n pairs of numbers for each row, in the form above."""

    starts: Int32[Tensor, "#batch #heads #q_len n"]
    stops: Int32[Tensor, "#batch #heads #q_len n"]

    @property
    def n(self) -> int:
        return self.starts.shape[3]


def split(spans: Int32[Tensor, "#batch #heads #q_len ends"]) -> Pairs:
    """From start, stop, start, stop, ... along the last axis, as kernels read them."""
    return Pairs(spans[..., 0::2], spans[..., 1::2])


def join(pairs: Pairs) -> Int32[Tensor, "#batch #heads #q_len ends"]:
    """The inverse of split."""
    return torch.stack(pairs, dim=-1).flatten(-2)


def single(
    starts: Int[Tensor, "#batch #heads #q_len 1"], stops: Int[Tensor, "#batch #heads #q_len 1"], k_len: int
) -> Pairs:
    """One pair a row, from numbers that may lie outside the keys or be the wrong way round (then the row is blind)."""
    starts, stops = (x.clamp(0, k_len).int() for x in (starts, stops))
    return _in_order(starts, stops, k_len, 1)


def of_band(low: int, high: int, sizes: Sizes, device: torch.device | str) -> Pairs:
    """The keys with low <= k - q <= high."""
    q = torch.arange(sizes.q_len, dtype=torch.int32, device=device).view(1, 1, -1, 1)
    return single(q + low, q + (high + 1), sizes.k_len)


def intersect(a: Pairs, b: Pairs, k_len: int) -> Pairs:
    """Each pair of one with each of the other. Of the n m results no more than n + m - 1 can hold a key."""
    starts = torch.maximum(a.starts[..., :, None], b.starts[..., None, :]).flatten(-2)
    stops = torch.minimum(a.stops[..., :, None], b.stops[..., None, :]).flatten(-2)
    return _in_order(starts, stops, k_len, a.n + b.n - 1)


def unite(a: Pairs, b: Pairs, k_len: int) -> Pairs:
    """The pairs of both, by their start; those that meet become one."""
    starts, places = _side_by_side(a.starts, b.starts).sort(dim=-1)
    reach = _side_by_side(a.stops, b.stops).gather(-1, places).cummax(dim=-1).values
    gap = starts[..., 1:] > reach[..., :-1]  # nothing that began before reaches the next start
    opens, closes = F.pad(gap, (1, 0), value=True), F.pad(gap, (0, 1), value=True)
    # As many open as close, so sorting both apart puts the start and the stop of one pair at the same place.
    return Pairs(*(x.masked_fill(~kept, k_len).sort(dim=-1).values for x, kept in ((starts, opens), (reach, closes))))


def complement(a: Pairs, k_len: int) -> Pairs:
    """The keys in none of the pairs: before the first, between, after the last."""
    starts = F.pad(a.stops, (1, 0))
    stops = torch.cat((a.starts, torch.full_like(a.starts[..., :1], k_len)), dim=-1)
    return _in_order(starts, stops, k_len, a.n + 1)


def table(pairs: Pairs, k_len: int) -> Bool[Tensor, "#batch #heads #q_len k_len"]:
    """Which keys are in one of the pairs."""
    k = torch.arange(k_len, dtype=torch.int32, device=pairs.starts.device)
    found = torch.zeros_like(k, dtype=torch.bool)
    for i in range(pairs.n):  # one at a time: together they would need a table n times as large
        found = found | ((k >= pairs.starts[..., i, None]) & (k < pairs.stops[..., i, None]))
    return found


def tiles(
    pairs: Pairs, k_len: int, q_block: int, k_block: int
) -> tuple[Bool[Tensor, "#batch #heads #n_rows n_cols"], Bool[Tensor, "#batch #heads #n_rows n_cols"]]:
    """Which tiles of q_block x k_block hold a key of some row's pairs, and which are inside a pair of every row.

    Exact for both, as pairs that meet are one. When all rows are the same, they are one block. The last tile is not
    inside a pair when it reaches past k_len.
    """
    starts, stops = pairs
    up = k_block - 1
    # The blocks that a pair touches, and those that it fills.
    first = torch.stack((starts // k_block, (starts + up) // k_block))
    stop = torch.stack(((stops + up) // k_block, stops // k_block))
    stop = torch.maximum(first, stop).where(stops > starts, first)
    touching, filling = _tally(first, stop, q_block, ceil_div(k_len, k_block))
    return touching > 0, filling == rows_in_blocks(starts.shape[2], q_block, starts.device)


def _tally(
    first: Int32[Tensor, "*lead q_len n"],
    stop: Int32[Tensor, "*lead q_len n"],
    q_block: int,
    n_cols: int,
) -> Int32[Tensor, "*lead n_rows {n_cols}"]:
    """How many pairs of the rows of a block have first <= column block < stop.

    Each adds 1 where it begins and takes 1 away where it ends; a running sum along the columns does the rest.
    """
    *lead, q_len, _ = first.shape
    n_rows, width = ceil_div(q_len, q_block), n_cols + 1
    row = torch.arange(q_len, device=first.device).view(-1, 1) // q_block * width  # int64: scatter_add asks for it
    steps = torch.zeros(*lead, n_rows * width, dtype=torch.int32, device=first.device)
    one = torch.ones_like(first).flatten(-2)
    steps.scatter_add_(-1, (row + first).flatten(-2), one).scatter_add_(-1, (row + stop).flatten(-2), -one)
    return steps.view(*lead, n_rows, width).cumsum(dim=-1, dtype=torch.int32)[..., :n_cols]


def rows_in_blocks(q_len: int, q_block: int, device: torch.device | str) -> Int[Tensor, "n_rows 1"]:
    """The number of rows in each block: q_block, and in the last what is left."""
    starts = torch.arange(0, ceil_div(q_len, q_block), device=device).view(-1, 1) * q_block
    return (q_len - starts).clamp(max=q_block)


def ceil_div(length: int, block: int) -> int:
    """How many blocks a length makes."""
    return -(-length // block)


def _in_order(starts: Tensor, stops: Tensor, k_len: int, n: int) -> Pairs:
    """The n first of pairs that have gaps between them, whatever their order, when the empty ones are put last."""
    empty = starts >= stops
    starts, stops = (x.masked_fill(empty, k_len) for x in (starts, stops))
    if starts.shape[3] == 1:
        return Pairs(starts, stops)
    return Pairs(*(x.sort(dim=-1).values[..., :n] for x in (starts, stops)))


def _side_by_side(a: Tensor, b: Tensor) -> Tensor:
    """Joined along the last axis, after the others are broadcast."""
    shape = torch.broadcast_shapes(a.shape[:-1], b.shape[:-1])
    return torch.cat([x.expand(*shape, -1) for x in (a, b)], dim=-1)
