"""Documents packed into rows of one length, with what keeps them apart: their numbers and their own positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, no_type_check

import torch
from jaxtyping import Int
from torch import Tensor

from attnkit.training.losses import IGNORE


class Packed(NamedTuple):
    """Rows that hold several documents each.

    - `ids`: the tokens, and padding.
    - `targets`: the next token of the *same* document; -100 for its last token and for padding.
    - `documents`: which document a token is of, for `attnkit.masks.Document`; -1 for padding.
    - `positions`: of a token in its piece of document, from 0.
    """

    ids: Int[Tensor, "rows length"]
    targets: Int[Tensor, "rows length"]
    documents: Int[Tensor, "rows length"]
    positions: Int[Tensor, "rows length"]


@no_type_check
def pack(documents: Sequence[Sequence[int] | Tensor], length: int, *, pad: int = 0) -> Packed:
    """Documents into rows of `length` tokens, each whole, in the fullest row with room for it (longest first).

    A document longer than a row is cut into pieces, which count as documents of their own for attention; the last
    target of a piece is still the first token of the next, so no prediction is lost. Empty documents vanish.

    >>> packed = pack([[1, 2, 3], [4, 5], [6]], length=4)
    >>> packed.ids.tolist(), packed.documents.tolist()
    ([[1, 2, 3, 6], [4, 5, 0, 0]], [[0, 0, 0, 2], [1, 1, -1, -1]])
    >>> from attnkit.masks import Causal, Document
    >>> mask = Document(packed.documents) & Causal()  # what the model is given
    """
    if not isinstance(length, int) or length < 1:
        raise ValueError(f"length is {length!r}; it must be an integer, 1 or more")
    texts = [torch.as_tensor(document).long() for document in documents]
    if any(text.ndim != 1 for text in texts if text.numel()):
        raise ValueError("documents must hold lists of integers, or tensors with one axis")
    pieces = _pieces(texts, length)
    rows = _best_fit([len(ids) for ids, _ in pieces], length)
    table = torch.full((4, len(rows), length), pad)
    table[1], table[2], table[3] = IGNORE, -1, 0
    for row, members in enumerate(rows):
        start = 0
        for number in members:
            ids, targets = pieces[number]
            there = slice(start, start + len(ids))
            table[0, row, there], table[1, row, there] = ids, targets
            table[2, row, there], table[3, row, there] = number, torch.arange(len(ids))
            start += len(ids)
    return Packed(*table)


def _pieces(texts: Sequence[Tensor], length: int) -> list[tuple[Tensor, Tensor]]:
    """(ids, targets) of every document, or of its pieces."""
    found = []
    for ids in texts:
        targets = torch.cat([ids[1:], ids.new_tensor([IGNORE])])[: len(ids)]
        found += [pair for pair in zip(ids.split(length), targets.split(length), strict=True) if len(pair[0])]
    return found


def _best_fit(sizes: Sequence[int], length: int) -> list[list[int]]:
    """Rows of numbers whose sizes add up to `length` at most."""
    rows: list[list[int]] = []
    room: list[list[int]] = [[] for _ in range(length + 1)]  # the rows that have so much room left
    for number in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        size = sizes[number]
        left = next((left for left in range(size, length + 1) if room[left]), None)
        if left is None:
            left = length
            rows.append([])
            room[length].append(len(rows) - 1)
        row = room[left].pop()
        rows[row].append(number)
        room[left - size].append(row)
    return rows
