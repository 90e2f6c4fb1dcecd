"""What every mask can be asked, and the three ways to compose masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor

Cover = Literal["full", "partial", "empty"]
Table = Bool[Tensor, "..."]


class Sizes(NamedTuple):
    """The shape of the score matrices that a mask is laid over."""

    batch: int
    heads: int
    q_len: int
    k_len: int


class Mask:
    """What every mask can be asked. A new mask defines `rule`; `check` and `cover` when it has something to say."""

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        """May query q of head h in batch element b attend to key k? Index tensors that broadcast; so does the answer.

        With `sizes` bound this is FlexAttention's `mask_mod`.
        """
        raise NotImplementedError

    def check(self, sizes: Sizes) -> None:
        """Raise ValueError when the mask does not fit scores of these sizes."""

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        """What the tile rows x cols holds. "partial" is always a safe answer; "full" and "empty" are promises."""
        return "partial"

    def tile(self, rows: range, cols: range, sizes: Sizes, device: torch.device | str = "cpu") -> Table:
        """The tile rows x cols as a table that broadcasts to (batch, heads, rows, cols)."""
        b = torch.arange(sizes.batch, device=device).view(-1, 1, 1, 1)
        h = torch.arange(sizes.heads, device=device).view(1, -1, 1, 1)
        q = torch.arange(rows.start, rows.stop, device=device).view(1, 1, -1, 1)
        k = torch.arange(cols.start, cols.stop, device=device).view(1, 1, 1, -1)
        return self.rule(b, h, q, k, sizes)

    def materialize(
        self, batch: int, heads: int, q_len: int, k_len: int, device: torch.device | str = "cpu"
    ) -> Bool[Tensor, "#{batch} #{heads} {q_len} {k_len}"]:
        """The whole table. Batch and head axes that the mask does not depend on have length 1."""
        sizes = Sizes(batch, heads, q_len, k_len)
        self.check(sizes)
        table = self.tile(range(q_len), range(k_len), sizes, device)
        return table.expand(*table.shape[:2], q_len, k_len)

    def draw(self, q_len: int, k_len: int) -> str:
        """The table of the first batch element and head as text: `#` visible, `.` hidden."""
        table = self.materialize(1, 1, q_len, k_len)[0, 0]
        return "\n".join(" ".join("#" if seen else "." for seen in row) for row in table.tolist())

    def __and__(self, other: Mask) -> Mask:
        return And(self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Or(self, other) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return Not(self)


class _Pair(Mask):
    """Two masks and a way to join them."""

    sign: str
    join: Callable

    def __init__(self, left: Mask, right: Mask) -> None:
        self.left, self.right = left, right

    def check(self, sizes: Sizes) -> None:
        self.left.check(sizes)
        self.right.check(sizes)

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return self.join(self.left.rule(b, h, q, k, sizes), self.right.rule(b, h, q, k, sizes))

    def tile(self, rows: range, cols: range, sizes: Sizes, device: torch.device | str = "cpu") -> Table:
        return self.join(self.left.tile(rows, cols, sizes, device), self.right.tile(rows, cols, sizes, device))

    def __repr__(self) -> str:
        return f"({self.left!r} {self.sign} {self.right!r})"


class And(_Pair):
    """Visible where both are: `Causal() & Padding(lengths)`."""

    sign, join = "&", staticmethod(torch.logical_and)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        covers = {self.left.cover(rows, cols, sizes), self.right.cover(rows, cols, sizes)}
        return "empty" if "empty" in covers else "full" if covers == {"full"} else "partial"


class Or(_Pair):
    """Visible where either is: `Prefix(2) | Causal()`."""

    sign, join = "|", staticmethod(torch.logical_or)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        covers = {self.left.cover(rows, cols, sizes), self.right.cover(rows, cols, sizes)}
        return "full" if "full" in covers else "empty" if covers == {"empty"} else "partial"


class Not(Mask):
    """Visible where the other is hidden: `~Window(0, 0)` forbids a token to attend to itself."""

    def __init__(self, inner: Mask) -> None:
        self.inner = inner

    def check(self, sizes: Sizes) -> None:
        self.inner.check(sizes)

    def rule(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor, sizes: Sizes) -> Table:
        return ~self.inner.rule(b, h, q, k, sizes)

    def tile(self, rows: range, cols: range, sizes: Sizes, device: torch.device | str = "cpu") -> Table:
        return ~self.inner.tile(rows, cols, sizes, device)

    def cover(self, rows: range, cols: range, sizes: Sizes) -> Cover:
        swapped: dict[Cover, Cover] = {"full": "empty", "empty": "full", "partial": "partial"}
        return swapped[self.inner.cover(rows, cols, sizes)]

    def __repr__(self) -> str:
        return f"~{self.inner!r}"
