"""Masks that depend on how far a key stands from a query: causal, and sliding window.

Constructors check their arguments themselves, in words, so annotations are not enforced on them (`no_type_check`).
"""

from __future__ import annotations

from typing import Literal, no_type_check

from torch import Tensor

from attnkit.masks.base import Cover, Mask, Sizes, Table

Align = Literal["upper_left", "lower_right"]
ALIGNMENTS = ("upper_left", "lower_right")


class _Diagonal(Mask):
    """Rules about the distance between query and key, which needs to know how the two sequences line up."""

    align: Align | None

    @no_type_check
    def __init__(self, align: Align | None) -> None:
        if align is not None and align not in ALIGNMENTS:
            raise ValueError(f"align is {align!r}; it must be one of {ALIGNMENTS}, or None for equal lengths")
        self.align = align

    def check(self, sizes: Sizes) -> None:
        if self.align is None and sizes.q_len != sizes.k_len:
            raise ValueError(
                f"{self!r} needs a named alignment, because the {sizes.q_len} queries and {sizes.k_len} keys differ in "
                "number: align='upper_left' lets query 0 stand at key 0, align='lower_right' lets the last query "
                "stand at the last key (what a decoder with cached keys means)"
            )

    def shift(self, sizes: Sizes) -> int:
        """Query i stands at key i + shift."""
        return sizes.k_len - sizes.q_len if self.align == "lower_right" else 0


class Causal(_Diagonal):
    """A query sees the key at its own position and all before it.

    With fewer queries than keys, "upper_left" lines up the first of both, "lower_right" the last of both.

    >>> print(Causal().draw(4, 4))
    # . . .
    # # . .
    # # # .
    # # # #
    >>> print(Causal(align="lower_right").draw(2, 4))
    # # # .
    # # # #
    """

    @no_type_check
    def __init__(self, align: Align | None = None) -> None:
        super().__init__(align)

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return k <= q + self.shift(sizes)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        shift = self.shift(sizes)
        if cols.stop - 1 <= rows.start + shift:
            return "full"
        return "empty" if cols.start > rows.stop - 1 + shift else "partial"

    def __repr__(self) -> str:
        return f"Causal(align={self.align!r})" if self.align else "Causal()"


class Window(_Diagonal):
    """A query sees `left` keys before its own position, its own, and `right` after it. None means no limit.

    >>> print(Window(1, 0).draw(4, 4))
    # . . .
    # # . .
    . # # .
    . . # #
    """

    left: int | None
    right: int | None

    @no_type_check
    def __init__(self, left: int | None, right: int | None, align: Align | None = None) -> None:
        super().__init__(align)
        for name, reach in (("left", left), ("right", right)):
            if reach is not None and reach < 0:
                raise ValueError(f"{name} is {reach}; it counts keys, so it must be 0 or more, or None for no limit")
        self.left, self.right = left, right

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        position = q + self.shift(sizes)
        left = sizes.q_len + sizes.k_len if self.left is None else self.left
        right = sizes.q_len + sizes.k_len if self.right is None else self.right
        return (k >= position - left) & (k <= position + right)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        first, last = rows.start + self.shift(sizes), rows.stop - 1 + self.shift(sizes)
        ends = cols.start, cols.stop - 1
        if (self.left is not None and ends[1] < first - self.left) or (
            self.right is not None and ends[0] > last + self.right
        ):
            return "empty"
        inside_left = self.left is None or ends[0] >= last - self.left
        inside_right = self.right is None or ends[1] <= first + self.right
        return "full" if inside_left and inside_right else "partial"

    def __repr__(self) -> str:
        align = f", align={self.align!r}" if self.align else ""
        return f"Window({self.left}, {self.right}{align})"
