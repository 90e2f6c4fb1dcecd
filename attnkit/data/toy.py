"""Four tasks that a Transformer learns in a minute, each of which shows one thing that attention does.

Sequences of random symbols, drawn from a seed. Symbols are numbered from `FIRST` up, so that the special ids of
`attnkit.data.tokenizers` (padding is 0) stay free. With s symbols there are s^n sequences of length n (for recall, s! /
(s - n)! ways to choose n keys, times s^n values and n questions). One is held out when the hash of its numbers says so
(a tenth): draws that belong to the other split are drawn again, so train and test share no source.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Int
from torch import Tensor

from attnkit.data.split import Split, belongs, check_count, check_split

FIRST = 5
BLOCK = 256


class Examples(NamedTuple):
    """Sources and targets, padded on the right with 0."""

    source: Int[Tensor, "count source_len"]
    target: Int[Tensor, "count target_len"]
    source_lengths: Int[Tensor, " count"]
    target_lengths: Int[Tensor, " count"]

    def rows(self) -> list[tuple[list[int], list[int]]]:
        """The pairs as lists, without the padding."""
        sizes = zip(self.source_lengths.tolist(), self.target_lengths.tolist(), strict=True)
        both = zip(self.source.tolist(), self.target.tolist(), sizes, strict=True)
        return [(source[:s], target[:t]) for source, target, (s, t) in both]


Lengths = int | tuple[int, int]
Draw = Callable[[int, torch.Generator], list[list[int]]]


@no_type_check
def copy(
    count: int, *, lengths: Lengths = (4, 12), symbols: int = 10, split: Split | None = None, seed: int = 0
) -> Examples:
    """Say it again: attention to the same place.

    `lengths` is one length or the range of them, both ends included, equally likely.

    >>> copy(1, lengths=4).target.equal(copy(1, lengths=4).source)
    True
    """
    return _mapped(lambda source: source, count, lengths, symbols, split, seed)


@no_type_check
def reverse(
    count: int, *, lengths: Lengths = (4, 12), symbols: int = 10, split: Split | None = None, seed: int = 0
) -> Examples:
    """Say it backwards: attention to the mirrored place, an anti-diagonal. Arguments as for `copy`.

    >>> reverse(2, lengths=(2, 3), seed=2)[:2]  # source and target
    (tensor([[ 5,  9,  0],
            [10, 12, 14]]), tensor([[ 9,  5,  0],
            [14, 12, 10]]))
    """
    return _mapped(lambda source: source[::-1], count, lengths, symbols, split, seed)


@no_type_check
def sort(
    count: int, *, lengths: Lengths = (4, 12), symbols: int = 10, split: Split | None = None, seed: int = 0
) -> Examples:
    """Say it in order of size: attention by content, wherever it stands. Arguments as for `copy`.

    >>> sort(1, lengths=4).rows()
    [([12, 8, 13, 5], [5, 8, 12, 13])]
    """
    return _mapped(sorted, count, lengths, symbols, split, seed)


@no_type_check
def recall(
    count: int, *, pairs: Lengths = (2, 6), symbols: int = 10, split: Split | None = None, seed: int = 0
) -> Examples:
    """Associative recall: the source is key, value, key, value, ..., key; the target is the value after that last key.

    Two steps of attention in one model: each value must learn which key stands before it, and the question must find
    its key (Ba et al. 2016, arXiv:1610.06258, section 4.1). Keys do not repeat; keys and values are different symbols,
    `symbols` of each.

    >>> recall(1, pairs=2, seed=3).rows()
    [([14, 20, 10, 15, 14], [20])]
    """
    low, high = _range(pairs, "pairs")
    _check_symbols(symbols)
    if high > symbols:
        raise ValueError(f"pairs is {pairs!r}; keys do not repeat, so {symbols} symbols give {symbols} pairs at most")

    def draw(rows: int, rng: torch.Generator) -> list[list[int]]:
        sizes = torch.randint(low, high + 1, (rows,), generator=rng).tolist()
        keys = (torch.rand(rows, symbols, generator=rng).argsort(1) + FIRST).tolist()
        values = torch.randint(FIRST + symbols, FIRST + 2 * symbols, (rows, symbols), generator=rng).tolist()
        asked = torch.rand(rows, generator=rng).tolist()
        told = zip(sizes, keys, values, asked, strict=True)
        return [[*(x for both in zip(k[:n], v[:n], strict=True) for x in both), k[int(a * n)]] for n, k, v, a in told]

    return _examples(draw, lambda source: [source[source.index(source[-1]) + 1]], count, split, seed)


@no_type_check
def _mapped(change: Callable, count: int, lengths: Lengths, symbols: int, split: Split | None, seed: int) -> Examples:
    """Sequences of independent symbols, and what `change` makes of each."""
    low, high = _range(lengths, "lengths")
    _check_symbols(symbols)

    def draw(rows: int, rng: torch.Generator) -> list[list[int]]:
        sizes = torch.randint(low, high + 1, (rows,), generator=rng).tolist()
        table = torch.randint(FIRST, FIRST + symbols, (rows, high), generator=rng).tolist()
        return [row[:size] for row, size in zip(table, sizes, strict=True)]

    return _examples(draw, change, count, split, seed)


def _examples(draw: Draw, change: Callable, count: int, split: Split | None, seed: int) -> Examples:
    """Draw until `count` sources of the split are found; `change` makes the target of each."""
    check_count(count)
    check_split(split)
    rng = torch.Generator().manual_seed(seed)
    sources: list[list[int]] = []
    misses = 0
    while len(sources) < count:  # in blocks of a fixed size, so that a larger count begins with the smaller
        found = [row for row in draw(BLOCK, rng) if belongs(f"sequence {row}", split)]
        misses = 0 if found else misses + 1
        if misses == 100:
            raise ValueError(
                f"no sequence of the split {split!r} in {100 * BLOCK:,} draws; use more symbols or lengths"
            )
        sources += found
    sources = sources[:count]
    targets = [list(change(source)) for source in sources]
    (source, source_lengths), (target, target_lengths) = _table(sources), _table(targets)
    return Examples(source, target, source_lengths, target_lengths)


def _table(rows: list[list[int]]) -> tuple[Int[Tensor, "count len"], Int[Tensor, " count"]]:
    sizes = [len(row) for row in rows]
    width = max(sizes, default=0)
    filled = [row + [0] * (width - len(row)) for row in rows]
    return torch.tensor(filled, dtype=torch.long).view(len(rows), width), torch.tensor(sizes, dtype=torch.long)


def _range(lengths: Lengths, name: str) -> tuple[int, int]:
    low, high = lengths if isinstance(lengths, tuple) and len(lengths) == 2 else (lengths, lengths)
    if not (isinstance(low, int) and isinstance(high, int) and 1 <= low <= high):
        raise ValueError(f"{name} is {lengths!r}; it must be a number from 1, or a pair of them (least, most)")
    return low, high


def _check_symbols(symbols: int) -> None:
    if isinstance(symbols, bool) or not isinstance(symbols, int) or symbols < 1:
        raise ValueError(f"symbols is {symbols!r}; it must be a whole number, 1 or more")
