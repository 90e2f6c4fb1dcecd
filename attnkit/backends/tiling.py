"""How the score matrices are cut into tiles, and what each tile needs to know. The algorithm is in online.py.

The query heads that share a key head are stacked as rows of one matrix, so keys are never repeated in memory:
    N = batch * kv_heads,  R = heads / kv_heads * (queries in the tile),  C = keys in the tile
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnkit.backends.common import Options
from attnkit.backends.dropout import keep_tile
from attnkit.masks import Cover, Sizes
from attnkit.positions.linear_bias import LinearBias

INF = float("inf")
LOG2E = math.log2(math.e)
TILE_SCORES = 1 << 20  # how many scores a tile holds, over all heads: 4 MB in float32, near what a core's cache holds


def choose_tiles(sizes: Sizes) -> tuple[int, int]:
    """Queries and keys in a tile: as many as keep it near TILE_SCORES, whatever the number of heads."""
    side = math.isqrt(TILE_SCORES // max(sizes.batch * sizes.heads, 1))
    side = min(max(side // 128 * 128, 128), 1024)
    return side, side


def split(length: int, size: int) -> list[range]:
    """0 .. length in ranges of `size`, the last one shorter.

    >>> split(5, 2)
    [range(0, 2), range(2, 4), range(4, 5)]
    """
    return [range(start, min(start + size, length)) for start in range(0, length, size)]


@dataclass(frozen=True, slots=True)
class Problem:
    """One call of a tiled backend, without its tensors."""

    sizes: Sizes
    kv_heads: int
    options: Options
    dtype: torch.dtype  # of the accumulators
    device: torch.device

    @property
    def n(self) -> int:
        return self.sizes.batch * self.kv_heads

    @property
    def groups(self) -> int:
        return self.sizes.heads // max(self.kv_heads, 1)

    def tiles(self) -> tuple[list[range], list[range]]:
        """The queries and the keys, each cut into blocks.

        With a mask, square blocks follow its diagonal best; without one, wider blocks rescale less often.
        """
        q_size, k_size = choose_tiles(self.sizes)
        k_size = 2 * k_size if self.options.mask is None else k_size
        return split(self.sizes.q_len, q_size), split(self.sizes.k_len, k_size)

    def stack(self, x: Float[Tensor, "batch heads q_len d"]) -> Float[Tensor, "n groups q_len d"]:
        """Query heads beside the others that share their key head, in the accumulator's dtype."""
        return x.to(self.dtype).reshape(self.n, self.groups, *x.shape[2:])

    def flat(self, x: Float[Tensor, "batch kv_heads k_len d"]) -> Float[Tensor, "n k_len d"]:
        """Keys or values of all heads, in the accumulator's dtype."""
        return x.to(self.dtype).reshape(self.n, *x.shape[2:])

    def rows_of(self, x: Float[Tensor, "n groups q_len d"], rows: range) -> Float[Tensor, "n R d"]:
        """The block of queries `rows` of all heads of a group, as the rows of one matrix."""
        return x[:, :, rows.start : rows.stop].reshape(self.n, self.groups * len(rows), x.shape[-1])

    def put_rows(self, whole: Float[Tensor, "n groups q_len d"], rows: range, part: Float[Tensor, "n R d"]) -> None:
        """Write a block of queries back to where rows_of took it from."""
        whole[:, :, rows.start : rows.stop] = part.view(self.n, self.groups, len(rows), part.shape[-1])

    def unstack(self, x: Float[Tensor, "n ... d"]) -> Float[Tensor, "batch any_heads len d"]:
        """The inverse of stack and of flat."""
        heads = self.kv_heads * (x.shape[1] if x.ndim == 4 else 1)
        return x.reshape(self.sizes.batch, heads, *x.shape[-2:])

    def sink_rows(self, sink: Float[Tensor, " heads"], rows: range) -> Float[Tensor, "n R 1"]:
        """Each row's sink: that of its head."""
        by_head = sink.to(self.dtype).view(1, self.kv_heads, self.groups, 1)
        return by_head.expand(self.sizes.batch, -1, -1, len(rows)).reshape(self.n, self.groups * len(rows), 1)

    def by_head(self, tile: Float[Tensor, "n R C"], rows: range) -> Float[Tensor, "batch kv_heads groups rows C"]:
        """A tile with its heads apart again, to meet a bias or a mask."""
        return tile.view(self.sizes.batch, self.kv_heads, self.groups, len(rows), tile.shape[-1])

    def split_heads(self, table: Tensor) -> Tensor:
        """A (#batch, #heads, ...) table as (#batch, #kv_heads, #groups, ...)."""
        return table.unflatten(1, (1, 1) if table.shape[1] == 1 else (self.kv_heads, self.groups))

    def tiles_seen_by(self, rows: range) -> Iterator[tuple[range, Cover]]:
        """The blocks of keys in which `rows` see anything, and whether they see all of it or a part."""
        mask = self.options.mask
        for cols in self.tiles()[1]:
            cover = "full" if mask is None else mask.cover(rows, cols, self.sizes)
            if cover != "empty":
                yield cols, cover

    def visible(self, rows: range, cols: range) -> Bool[Tensor, "#batch #kv_heads #groups #rows #cols"]:
        """The tile of the mask."""
        assert self.options.mask is not None
        return self.split_heads(self.options.mask.tile(rows, cols, self.sizes, self.device))

    def hide(self, bias: Tensor, rows: range, cols: range) -> Tensor:
        """A tile of the bias, -inf where the mask hides."""
        return bias.where(self.visible(rows, cols), -INF)

    def ceiling(self, rows: range, cols: range) -> Tensor:
        """inf where visible, -inf where hidden: the minimum with it hides, three times as fast as a select by bools."""
        return torch.full((), INF, dtype=self.dtype, device=self.device).where(self.visible(rows, cols), -INF)

    def keep(self, rows: range, cols: range) -> Float[Tensor, "n R C"]:
        """What dropout multiplies the weights by: 0, or 1 / (1 - p)."""
        p = self.options.dropout
        assert self.options.seed is not None
        kept = keep_tile(self.options.seed, p, rows, cols, self.sizes, self.device)
        return kept.to(self.dtype).div_(1 - p).view(self.n, self.groups * len(rows), len(cols))


@dataclass(frozen=True, slots=True)
class Bias:
    """What is added to the scores, or its gradient: a table, or slopes that make it from distances, or both."""

    sizes: Sizes
    linear: LinearBias | None
    table: Float[Tensor, "#batch #kv_heads #groups #q_len #k_len"] | None
    slopes: Float[Tensor, "1 kv_heads groups 1 1"] | None

    @classmethod
    def of(cls, problem: Problem, table: Tensor | None, slopes: Tensor | None) -> Bias | None:
        """The bias of a call in the accumulator's dtype, with its heads apart; None when nothing is added."""
        if table is None and slopes is None:
            return None
        table = None if table is None else problem.split_heads(table.to(problem.dtype))
        slopes = None if slopes is None else problem.split_heads(slopes.to(problem.dtype)[None, :, None, None])
        return cls(problem.sizes, problem.options.linear, table, slopes)

    def zeros_like(self) -> Bias:
        """Where its gradient is summed up."""
        table, slopes = (None if x is None else torch.zeros_like(x) for x in (self.table, self.slopes))
        return replace(self, table=table, slopes=slopes)

    def part(self, rows: range, cols: range) -> Tensor:
        """What falls on a tile, as a tensor that broadcasts to (batch, kv_heads, groups, rows, cols)."""
        table = None if self.table is None else part_of(self.table, rows, cols)
        if self.slopes is None or self.linear is None:
            assert table is not None
            return table
        line = self.slopes * self.linear.lowered(rows, cols, self.sizes, self.slopes.dtype)
        return line if table is None else line + table

    def collect(self, d_scores: Float[Tensor, "batch kv_heads groups R C"], rows: range, cols: range) -> None:
        """Add a tile's part to the gradient."""
        if self.table is not None:
            part = part_of(self.table, rows, cols)
            part += d_scores.sum_to_size(part.shape)
        if self.slopes is not None and self.linear is not None:
            lowered = self.linear.lowered(rows, cols, self.sizes, self.slopes.dtype)
            self.slopes.add_((d_scores * lowered).sum(dim=(0, 3, 4), keepdim=True))

    def as_given(self, table: Tensor | None, slopes: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """A gradient in the shape and dtype of what it is the gradient of."""
        return (
            None if table is None or self.table is None else self.table.reshape(table.shape).to(table.dtype),
            None if slopes is None or self.slopes is None else self.slopes.flatten().to(slopes.dtype),
        )


def part_of(bias: Tensor, rows: range, cols: range) -> Tensor:
    """The part of a (..., #q_len, #k_len) table that falls on a tile: an axis of length 1 falls on every tile."""
    q = slice(rows.start, rows.stop) if bias.shape[-2] != 1 else slice(None)
    k = slice(cols.start, cols.stop) if bias.shape[-1] != 1 else slice(None)
    return bias[..., q, k]


class Scratch:
    """One reused buffer for each role, since fresh memory for every tile costs more than the arithmetic on it."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def __call__(self, role: str, *shape: int) -> Tensor:
        size = math.prod(shape)
        if role not in self.buffers or self.buffers[role].numel() < size:
            self.buffers[role] = self.like.new_empty(size)
        return self.buffers[role][:size].view(shape)


def score_tile(
    problem: Problem,
    q_block: Float[Tensor, "N R d"],
    k_block: Float[Tensor, "N C d"],
    bias: Bias | None,
    rows: range,
    cols: range,
    cover: Cover,
    scratch: Scratch,
) -> Float[Tensor, "N R C"]:
    """The tile's scores in base 2: scaled, capped, biased, and -inf where hidden.

    They lie in scratch, overwritten by the next tile; so does the cap's tanh, for the backward pass.
    """
    scale, softcap = problem.options.scale, problem.options.softcap
    scores = scratch("scores", *q_block.shape[:2], k_block.shape[1])
    if softcap is None:
        scores.baddbmm_(q_block, k_block.mT, beta=0, alpha=scale * LOG2E)
    else:
        tanh = scratch("tanh", *scores.shape).baddbmm_(q_block, k_block.mT, beta=0, alpha=scale / softcap).tanh_()
        torch.mul(tanh, softcap * LOG2E, out=scores)
    by_head = problem.by_head(scores, rows)
    if bias is not None:
        part = bias.part(rows, cols)
        by_head.add_(part if cover == "full" else problem.hide(part, rows, cols), alpha=LOG2E)
    elif cover == "partial":
        torch.minimum(by_head, problem.ceiling(rows, cols), out=by_head)
    return scores
