"""Sparse patterns: some tokens that see everything, keys at regular gaps, random keys, and any pattern block by block.

They are bricks; `|` and `&` build the published patterns from them:

    Window(w, w) | Global([0])                                          Longformer (Beltagy et al. 2020)
    Window(d * w, d * w) & Strided(d)                                   its dilated window
    Causal() & (Window(s - 1, 0) | Strided(s))                          strided, after Child et al. 2019
    Blocked(Window(1, 1) | Global([0]) | RandomKeys(3), 64)             BigBird (Zaheer et al. 2020)

Constructors check their arguments themselves, in words, so annotations are not enforced on them (`no_type_check`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any, no_type_check

import torch
from torch import Tensor

from attnkit.masks.base import Cover, Mask, Sizes, Table
from attnkit.masks.position import Align, _Diagonal

LARGEST = 1024  # entries of a tile up to which `RandomKeys.cover` looks at each


class Global(_Diagonal):
    """The tokens at `positions` see every key, and every query sees them; nobody else sees anything.

    Made to be composed: `Window(w, w) | Global([0])` (Longformer, Beltagy et al. 2020, arXiv:2004.05150).
    Positions count keys; `align` says where the queries stand, as for `Window`. For a decoder compose with `Causal()`.

    >>> print(Global([0]).draw(4, 4))
    # # # #
    # . . .
    # . . .
    # . . .
    """

    positions: list[int]

    @no_type_check
    def __init__(self, positions: int | Sequence[int], align: Align | None = None) -> None:
        super().__init__(align)
        given = [positions] if isinstance(positions, int) else list(positions)
        if any(isinstance(p, bool) or not isinstance(p, int) or p < 0 for p in given):
            raise ValueError(f"positions is {positions!r}; it must be one position or a list of them, each 0 or more")
        self.positions = sorted(set(given))

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        seen = torch.zeros_like(q + k, dtype=torch.bool)
        for position in self.positions:
            seen = seen | (k == position) | (q + self.shift(sizes) == position)
        return seen

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        shift = self.shift(sizes)
        among_rows, among_cols = (
            bisect_left(self.positions, r.stop + s) - bisect_left(self.positions, r.start + s)
            for r, s in ((rows, shift), (cols, 0))
        )
        if among_rows == len(rows) or among_cols == len(cols):
            return "full"
        return "partial" if among_rows or among_cols else "empty"

    def __repr__(self) -> str:
        shown = self.positions if len(self.positions) <= 8 else f"[{len(self.positions)} of them]"
        return f"Global({shown}{f', align={self.align!r}' if self.align else ''})"


class Strided(_Diagonal):
    """A query sees the keys whose distance from it is a multiple of `step`: its own, and every step-th from there.

    `Window(d * w, d * w) & Strided(d)` is a dilated window (Longformer); `Causal() & (Window(s - 1, 0) | Strided(s))`
    a strided pattern after Child et al. 2019, arXiv:1904.10509.

    >>> print(Strided(2).draw(4, 4))
    # . # .
    . # . #
    # . # .
    . # . #
    """

    step: int

    @no_type_check
    def __init__(self, step: int, align: Align | None = None) -> None:
        super().__init__(align)
        self.step = _count("step", step)

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return (q + self.shift(sizes) - k) % self.step == 0

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        if not len(rows) or not len(cols):
            return "partial"
        least = rows.start + self.shift(sizes) - (cols.stop - 1)
        most = rows.stop - 1 + self.shift(sizes) - cols.start
        if most // self.step * self.step < least:  # no multiple of step among the distances
            return "empty"
        return "full" if self.step == 1 or least == most else "partial"

    def __repr__(self) -> str:
        return f"Strided({self.step}{f', align={self.align!r}' if self.align else ''})"


class RandomKeys(Mask):
    """Each query sees `count` keys drawn for it: one from each of `count` equal stretches of the sequence.

    The same keys each time for the same `seed` and number of keys, in every batch element and head. The random part of
    BigBird (Zaheer et al. 2020, arXiv:2007.14062) draws from the whole sequence at once; drawing from
    stretches makes the keys distinct without a table. With `count` keys or fewer, all are seen.

    >>> RandomKeys(2, seed=0).materialize(1, 1, 100, 50).sum(-1).unique()
    tensor([2])
    """

    count: int
    seed: int

    @no_type_check
    def __init__(self, count: int, seed: int = 0) -> None:
        self.count = _count("count", count)
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}; it must be a whole number")
        self.seed = seed

    def key(self, q: Any, stretch: int, k_len: int) -> Any:
        """The key that query q (a tensor, or a number) sees in one of the stretches."""
        start, stop = stretch * k_len // self.count, (stretch + 1) * k_len // self.count
        return start + _mix(q, stretch, self.seed % 2**31) % max(stop - start, 1)

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        if self.count >= sizes.k_len:
            return torch.ones_like(q + k, dtype=torch.bool)
        seen = torch.zeros_like(q + k, dtype=torch.bool)
        for stretch in range(self.count):
            seen = seen | (k == self.key(q, stretch, sizes.k_len))
        return seen

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        if self.count >= sizes.k_len:
            return "full"
        if not len(rows) or not len(cols) or len(rows) * self.count > LARGEST:
            return "partial"
        hits = [sum(self.key(q, s, sizes.k_len) in cols for s in range(self.count)) for q in rows]
        if not any(hits):
            return "empty"
        return "full" if min(hits) == len(cols) else "partial"

    def __repr__(self) -> str:
        return f"RandomKeys({self.count}, seed={self.seed})"


class Blocked(Mask):
    """Another mask, laid over blocks: query block i sees all of key block j where `inner` lets query i see key j.

    A GPU reads whole tiles, so a pattern of single keys saves it nothing, and one of blocks saves it what it hides
    (BigBird, Zaheer et al. 2020, arXiv:2007.14062). The last block may be shorter.

    >>> from attnkit.masks import Window
    >>> print(Blocked(Window(1, 0), 2).draw(6, 6))
    # # . . . .
    # # . . . .
    # # # # . .
    # # # # . .
    . . # # # #
    . . # # # #
    """

    inner: Mask
    block: int

    @no_type_check
    def __init__(self, inner: Mask, block: int) -> None:
        if not isinstance(inner, Mask):
            raise ValueError(f"inner is {type(inner).__name__}; it must be a mask of attnkit.masks")
        self.inner, self.block = inner, _count("block", block)

    def blocks(self, sizes: Sizes) -> Sizes:
        """How many blocks there are."""
        return sizes._replace(q_len=-(-sizes.q_len // self.block), k_len=-(-sizes.k_len // self.block))

    def check(self, sizes: Sizes) -> None:
        if sizes.q_len != sizes.k_len and (sizes.q_len % self.block or sizes.k_len % self.block):
            raise ValueError(
                f"{self!r} is laid over {sizes.q_len} queries and {sizes.k_len} keys; where these differ, "
                f"both must be multiples of block = {self.block}, or the blocks would not line up"
            )
        self.inner.check(self.blocks(sizes))

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return self.inner.rule(b, h, q // self.block, k // self.block, self.blocks(sizes))

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        if not len(rows) or not len(cols):
            return "partial"
        within = [range(r.start // self.block, -(-r.stop // self.block)) for r in (rows, cols)]
        return self.inner.cover(within[0], within[1], self.blocks(sizes))

    def __repr__(self) -> str:
        return f"Blocked({self.inner!r}, {self.block})"


def _mix(q: Any, stretch: int, seed: int) -> Any:
    """A number that looks random, from 0 to 2^31 - 1, by integer arithmetic that tensors and Python do alike.

    Products stay below 2^63: two rounds of the multiply-and-shift that hash functions end with.
    """
    x = (q * 0x9E3779B1 + stretch * 0x85EBCA6B + seed * 0x27D4EB2F) % 2**31
    for factor in (0x45D9F3B, 0x2C1B3C6D):
        x = (x ^ (x >> 15)) * factor % 2**31
    return x ^ (x >> 13)


def _count(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")
    return value
