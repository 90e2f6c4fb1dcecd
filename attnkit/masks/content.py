"""Masks that depend on what the sequences hold: padding, prefixes, packed documents, or any table.

Constructors check their arguments themselves, in words, so annotations are not enforced on them (`no_type_check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, no_type_check

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attnkit.masks.base import Cover, Mask, Sizes, Table


def _short(numbers: list[int]) -> str:
    """A list as Python writes it, without its middle when it is long."""
    if len(numbers) <= 8:
        return str(numbers)
    return f"[{', '.join(map(str, numbers[:4]))}, ... {numbers[-1]}]"


def _rows(ids: Int[Tensor, "batch len"]) -> str:
    """A table of numbers as it was given: one row as a list, more as a list of lists, without its end when long."""
    rows = [_short(row) for row in ids[:3].tolist()]
    if len(ids) == 1:
        return rows[0]
    return f"[{', '.join(rows[:2])}{f', ... {len(ids)} in all' if len(ids) > 2 else ''}]"


Order = Literal["sorted", "grouped", "scattered", "unknown"]


def _order(ids: Int[Tensor, "batch len"]) -> Order:
    """How documents lie in every row. Asking waits for the device, so it is not asked where nobody may wait."""
    capturing = ids.is_cuda and torch.cuda.is_current_stream_capturing()
    if torch.compiler.is_compiling() or ids.is_meta or capturing:
        return "unknown"
    if bool((ids[:, 1:] >= ids[:, :-1]).all()):
        return "sorted"
    borders, fewest = ((x[:, 1:] != x[:, :-1]).sum(dim=1) for x in (ids, ids.sort(dim=1).values))
    return "grouped" if torch.equal(borders, fewest) else "scattered"


class _Leading(Mask):
    """Keys before a bound that each batch element has for itself."""

    bounds: Int[Tensor, " batch"]
    listed: list[int]
    name: str
    least: int
    most: int

    @no_type_check
    def __init__(self, bounds: int | Sequence[int] | Int[Tensor, " batch"], name: str) -> None:
        given, bounds = bounds, torch.as_tensor(bounds)
        if bounds.dtype == torch.bool or bounds.is_floating_point() or bounds.is_complex() or bounds.ndim > 1:
            raise ValueError(
                f"{name} has shape {tuple(bounds.shape)} and dtype {bounds.dtype}; "
                "it must be an integer, or one integer for each batch element"
            )
        self.bounds = bounds.reshape(-1)
        # Numbers that came as numbers are not read back from the tensor, which torch.compile could not do.
        given = [given] if isinstance(given, int) else given
        listed = [int(x) for x in given] if isinstance(given, list | tuple) else self.bounds.tolist()
        if any(bound < 0 for bound in listed):
            raise ValueError(f"{name} is {listed}; it counts keys, so each must be 0 or more")
        self.name, self.listed = name, listed
        self.least, self.most = (min(listed), max(listed)) if listed else (0, 0)

    def check(self, sizes: Sizes) -> None:
        if len(self.listed) != 1 and len(self.listed) != sizes.batch:  # `in` would fail under torch.compile
            raise ValueError(
                f"{self!r} has {len(self.listed)} {self.name} for a batch of {sizes.batch}; it needs one each"
            )

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        bounds = self.bounds.to(k.device)
        return k < (bounds[b] if len(self.listed) > 1 else bounds[0] if self.listed else 0)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        if cols.stop <= self.least:
            return "full"
        return "empty" if cols.start >= self.most else "partial"

    def __repr__(self) -> str:
        shown = self.listed[0] if len(self.listed) == 1 else _short(self.listed)
        return f"{type(self).__name__}({shown})"


class Padding(_Leading):
    """Hides the *keys* after each sequence's end; `lengths` counts the real keys of each batch element.

    Queries that are themselves padding still get an output, which the caller ignores or masks in the loss.

    >>> print(Padding([3]).draw(4, 5))
    # # # . .
    # # # . .
    # # # . .
    # # # . .
    """

    @no_type_check
    def __init__(self, lengths: int | Sequence[int] | Int[Tensor, " batch"]) -> None:
        super().__init__(lengths, "lengths")


class Prefix(_Leading):
    """Every query sees the first `length` keys. Usually composed: `Prefix(2) | Causal()` is a prefix language model.

    >>> from attnkit.masks import Causal
    >>> print((Prefix(2) | Causal()).draw(4, 4))
    # # . .
    # # . .
    # # # .
    # # # #
    """

    @no_type_check
    def __init__(self, length: int | Sequence[int] | Int[Tensor, " batch"]) -> None:
        super().__init__(length, "length")


class Document(Mask):
    """Several documents packed into one sequence: a query sees the keys that carry its own document's number.

    `ids` numbers the queries, with shape (q_len) or (batch, q_len); `key_ids` the keys, when they differ.
    `order` says how the keys lie: their numbers never fall ("sorted"), each document's keys stand together
    ("grouped"), or not ("scattered"); "unknown" where the mask was made while compiling or capturing. In all but the
    last two a query's keys are one span, and a kernel needs no table.

    >>> print(Document([0, 0, 1, 1, 1]).draw(5, 5))
    # # . . .
    # # . . .
    . . # # #
    . . # # #
    . . # # #
    """

    ids: Int[Tensor, "batch len"]
    key_ids: Int[Tensor, "batch len"]
    order: Order

    @no_type_check
    def __init__(self, ids: Sequence | Tensor, key_ids: Sequence | Tensor | None = None) -> None:
        self.ids = self._table(ids, "ids")
        self.key_ids = self.ids if key_ids is None else self._table(key_ids, "key_ids")
        self.order = _order(self.key_ids)

    @staticmethod
    @no_type_check
    def _table(ids: Sequence | Tensor, name: str) -> Int[Tensor, "batch len"]:
        ids = torch.as_tensor(ids)
        ids = ids.long() if ids.numel() == 0 else ids
        if ids.dtype == torch.bool or ids.is_floating_point() or ids.ndim not in (1, 2):
            raise ValueError(
                f"{name} has shape {tuple(ids.shape)} and dtype {ids.dtype}; "
                "it must hold integers, in shape (length) or (batch, length)"
            )
        return ids if ids.ndim == 2 else ids[None]

    def check(self, sizes: Sizes) -> None:
        for name, ids, length in (("ids", self.ids, sizes.q_len), ("key_ids", self.key_ids, sizes.k_len)):
            if ids.shape[1] != length or (ids.shape[0] != 1 and ids.shape[0] != sizes.batch):
                raise ValueError(
                    f"Document: {name} has shape {tuple(ids.shape)}; for batch {sizes.batch} and length {length} "
                    f"it needs ({sizes.batch}, {length}) or ({length})"
                    + (" (give key_ids)" if name == "key_ids" else "")
                )

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        ids, key_ids = (  # one row stands for all; its index is a number, as indexing by a tensor of one waits for it
            x[0][at] if len(x) == 1 else x[b, at]
            for x, at in ((self.ids.to(q.device), q), (self.key_ids.to(q.device), k))
        )
        return ids == key_ids

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        ids, key_ids = self.ids[:, rows.start : rows.stop], self.key_ids[:, cols.start : cols.stop]
        if not ids.numel() or not key_ids.numel():
            return "partial"
        (low, high), (key_low, key_high) = ids.aminmax(dim=1), key_ids.aminmax(dim=1)
        if bool(((low > key_high) | (key_low > high)).all()):
            return "empty"
        return "full" if bool(((low == high) & (low == key_low) & (low == key_high)).all()) else "partial"

    def __repr__(self) -> str:
        same = self.key_ids is self.ids
        return f"Document({_rows(self.ids)}{'' if same else f', key_ids={_rows(self.key_ids)}'})"


class Dense(Mask):
    """Any table at all: `visible` is True where a query may attend, and broadcasts to (batch, heads, q_len, k_len)."""

    visible: Bool[Tensor, "#batch #heads #q_len #k_len"]

    @no_type_check
    def __init__(self, visible: Tensor) -> None:
        if not isinstance(visible, Tensor) or visible.dtype != torch.bool or visible.ndim > 4:
            got = (
                f"shape {tuple(visible.shape)}, {visible.dtype}"
                if isinstance(visible, Tensor)
                else type(visible).__name__
            )
            raise ValueError(f"visible is {got}; a mask must be a bool tensor of at most four axes (True = may attend)")
        self.visible = visible[(None,) * (4 - visible.ndim)]

    def check(self, sizes: Sizes) -> None:
        if any(have != 1 and have != want for have, want in zip(self.visible.shape, sizes, strict=True)):
            raise ValueError(
                f"mask has shape {tuple(self.visible.shape)}, which does not broadcast to "
                f"(batch, heads, q_len, k_len) = {tuple(sizes)}; "
                "a padding table of shape (batch, k_len) wants [:, None, None, :]"
            )

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        visible = self.visible.to(q.device)
        at = [i if n > 1 else torch.zeros_like(i) for i, n in zip((b, h, q, k), visible.shape, strict=True)]
        return visible[tuple(at)]

    def tile(self, rows: range, cols: range, sizes: Sizes, device: torch.device | str = "cpu") -> Table:
        q, k = (
            slice(r.start, r.stop) if n != 1 else slice(None)
            for r, n in zip((rows, cols), self.visible.shape[2:], strict=True)
        )
        return self.visible[:, :, q, k].to(device)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        tile = self.tile(rows, cols, sizes, self.visible.device)
        if not tile.numel() or not bool(tile.any()):
            return "empty"
        return "full" if bool(tile.all()) else "partial"

    def __repr__(self) -> str:
        return f"Dense({'x'.join(map(str, self.visible.shape))})"
