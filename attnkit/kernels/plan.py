"""A mask as a kernel can use it: two numbers, a few spans for each row, or a table; and lists of the tiles to visit.

A kernel compares positions, and does not call Python. So every mask is brought into the form

    visible  <=>  low <= k - q <= high   and   k in one of the row's spans   and   table[q, k]

in which the last two are there only when needed. Causal masks and windows are two numbers; padding, prefixes and packed
documents a span or two for each query; what is left (a dense mask, documents that are scattered, a rule of the
user's own) is a table. Composing with `&`, `|` and `~` is arithmetic on these.

Where there are spans or a table, `blocks` lists for each block of queries the blocks of keys in which it sees anything,
so that a kernel never visits the others. Nothing here is read back from the device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int32
from torch import Tensor

from attnkit.kernels import spans
from attnkit.masks import And, Causal, Dense, Document, Mask, Not, Or, Padding, Prefix, Sizes, Window

UNLIMITED = 1 << 30  # farther than any key from any query, and still an int32 after a position is added
MOST = 4  # pairs of start and stop in a row; a kernel compares each key of a partly visible tile with all of them
MANY = f"it has more than {MOST} spans a query"
Device = torch.device | str


@dataclass(frozen=True)
class Structure:
    """What is visible: the keys that satisfy all of band, spans and table. A query that no key satisfies is blind.

    - `low`, `high`: low <= k - q <= high; -UNLIMITED and UNLIMITED for no limit.
    - `spans`: start, stop, start, stop, ... of at most MOST pairs for each query; a key must be in one of them.
      They lie in [0, k_len], in order, apart; empty ones are (k_len, k_len). Where all queries see the same keys the
      axis of queries has the stride 0.
    - `table`: True where visible, with axes of length 1 where it does not depend on them.
    - `because`: why a table was needed.
    """

    low: int = -UNLIMITED
    high: int = UNLIMITED
    spans: Int32[Tensor, "#batch #heads #q_len ends"] | None = None
    table: Bool[Tensor, "#batch #heads #q_len #k_len"] | None = None
    because: str = ""

    @property
    def is_band(self) -> bool:
        """Whether distances alone say what is visible."""
        return self.spans is None and self.table is None

    def visible(self, sizes: Sizes, device: Device) -> Bool[Tensor, "#batch #heads q_len k_len"]:
        """The whole table, for tests and for reading."""
        table = _table(self, sizes, device)
        return table.expand(*table.shape[:2], sizes.q_len, sizes.k_len)

    def describe(self) -> str:
        """One line for explain()."""
        words = [_band_in_words(self.low, self.high)] if _is_limited(self) else []
        if self.spans is not None:
            words.append(f"spans: {self.spans.shape[3] // 2} a query")
        if self.table is not None:
            shape = "x".join(map(str, self.table.shape))
            words.append(f"a table of {shape} = {self.table.numel() / 2**20:.1f} MB, because {self.because}")
        return "; ".join(words) or "every key"


def structure(mask: Mask | None, sizes: Sizes, device: Device) -> Structure:
    """The mask, which fits these sizes, as numbers, spans and table on `device`. None hides nothing.

    Torch can trace it, with lengths that are not known yet.
    """
    found = Structure() if mask is None else _read(mask, sizes, device)
    if found.spans is None:
        return found
    whole = found.spans.expand(-1, -1, sizes.q_len, -1)  # costs no memory where all rows are the same
    return replace(found, spans=whole)


def blocks(
    structure: Structure,
    sizes: Sizes,
    q_block: int,
    k_block: int,
    device: Device,
    by: Literal["rows", "cols"] = "rows",
) -> tuple[
    Int32[Tensor, "#batch #heads n_blocks n_others"],
    Int32[Tensor, "#batch #heads n_blocks"],
    Int32[Tensor, "#batch #heads n_blocks"],
]:
    """For each block of queries the blocks of keys, (order, full, seen): those it sees whole, in part, not at all.

    `full` and `seen` count the first kind, and the first two. By "cols": for each block of keys the blocks of queries.
    Every kind is in the order of positions. A tile that reaches past k_len is never full, one past q_len may be. A tile
    in which nothing is visible is never among the seen unless a table is combined with a band or spans.
    """
    seen, full = _tiles(structure, sizes, q_block, k_block, device)
    if by == "cols":
        seen, full = seen.mT, full.mT
    kind = (seen.to(torch.int8) + full).contiguous()  # 2 whole, 1 in part, 0 not at all
    order = kind.argsort(dim=-1, descending=True, stable=True).int()
    return order, full.sum(dim=-1, dtype=torch.int32), seen.sum(dim=-1, dtype=torch.int32)


def _tiles(
    structure: Structure, sizes: Sizes, q_block: int, k_block: int, device: Device
) -> tuple[Bool[Tensor, "#batch #heads n_rows n_cols"], Bool[Tensor, "#batch #heads n_rows n_cols"]]:
    """Which tiles hold anything visible, and which nothing hidden."""
    n_rows, n_cols = spans.ceil_div(sizes.q_len, q_block), spans.ceil_div(sizes.k_len, k_block)
    full = torch.arange(1, n_cols + 1, device=device).view(1, 1, 1, -1) * k_block <= sizes.k_len
    seen = torch.ones_like(full)
    if structure.table is None or structure.spans is not None or _is_limited(structure):
        some, every = spans.tiles(_pairs(structure, sizes, device), sizes.k_len, q_block, k_block)
        seen, full = seen & some, full & every
    if structure.table is not None:
        some, every = _tiles_of_table(structure.table, q_block, k_block)
        seen, full = seen & some, full & every
    return seen.expand(-1, -1, n_rows, n_cols), full.expand(-1, -1, n_rows, n_cols)


def _tiles_of_table(
    table: Bool[Tensor, "#batch #heads #q_len #k_len"], q_block: int, k_block: int
) -> tuple[Bool[Tensor, "#batch #heads #n_rows #n_cols"], Bool[Tensor, "#batch #heads #n_rows #n_cols"]]:
    """Which tiles hold anything visible, and which nothing hidden. An axis of length 1 is one block."""
    batch, heads, q_len, k_len = table.shape
    q_block, k_block = (1 if length == 1 else block for length, block in ((q_len, q_block), (k_len, k_block)))
    if q_len % q_block or k_len % k_block:
        table = F.pad(table, (0, -k_len % k_block, 0, -q_len % q_block))
    n_rows, n_cols = spans.ceil_div(q_len, q_block), spans.ceil_div(k_len, k_block)
    tiles = table.reshape(batch, heads, n_rows, q_block, n_cols, k_block)
    visible = tiles.sum(dim=(3, 5), dtype=torch.int32)
    return visible > 0, visible == spans.rows_in_blocks(q_len, q_block, table.device) * k_block


def _read(mask: Mask, sizes: Sizes, device: Device) -> Structure:
    if isinstance(mask, And):
        return _both(_read(mask.left, sizes, device), _read(mask.right, sizes, device), sizes)
    if isinstance(mask, Or):
        return _either(_read(mask.left, sizes, device), _read(mask.right, sizes, device), sizes, device)
    if isinstance(mask, Not):
        return _neither(_read(mask.inner, sizes, device), sizes, device)
    # By exact type: a subclass may have another rule.
    return _READERS.get(type(mask), _any_rule)(mask, sizes, device)


def _causal(mask: Causal, sizes: Sizes, device: Device) -> Structure:
    return Structure(high=mask.shift(sizes))


def _window(mask: Window, sizes: Sizes, device: Device) -> Structure:
    shift = mask.shift(sizes)
    left, right = (None if reach is None or reach >= UNLIMITED else reach for reach in (mask.left, mask.right))
    return Structure(
        low=-UNLIMITED if left is None else shift - left, high=UNLIMITED if right is None else shift + right
    )


def _leading(mask: Padding | Prefix, sizes: Sizes, device: Device) -> Structure:
    stops = mask.bounds.to(device, torch.int64).view(-1, 1, 1, 1)
    return Structure(spans=spans.join(spans.single(torch.zeros_like(stops), stops, sizes.k_len)))


def _document(mask: Document, sizes: Sizes, device: Device) -> Structure:
    """A document's keys stand together, so where its number would be inserted among the keys, and after, is its span.

    Where the numbers are not in order, sorting brings them there, and `place` says where each key came from.
    """
    if mask.order in ("scattered", "unknown"):
        because = "its documents are scattered" if mask.order == "scattered" else "it was made while compiling"
        return replace(_any_rule(mask, sizes, device), because=because)
    ids, key_ids = (x.to(device).long() for x in (mask.ids, mask.key_ids))
    key_ids, place = key_ids.sort(dim=1, stable=True) if mask.order == "grouped" else (key_ids, None)
    rows = torch.broadcast_shapes(ids.shape[:1], key_ids.shape[:1])[0]
    ids, key_ids = (x.expand(rows, -1).contiguous() for x in (ids, key_ids))
    start, stop = (torch.searchsorted(key_ids, ids, right=right) for right in (False, True))
    if place is not None:
        first = place.expand(rows, -1).gather(1, start.clamp(max=sizes.k_len - 1))
        start, stop = first, first + (stop - start)
    pairs = spans.single(start[:, None, :, None], stop[:, None, :, None], sizes.k_len)
    return Structure(spans=spans.join(pairs))


def _dense(mask: Dense, sizes: Sizes, device: Device) -> Structure:
    return Structure(table=mask.visible.to(device), because="a dense mask is one")


def _any_rule(mask: Mask, sizes: Sizes, device: Device) -> Structure:
    table = mask.tile(range(sizes.q_len), range(sizes.k_len), sizes, device)
    return Structure(table=table, because=f"{type(mask).__name__} is known by its rule only")


_READERS: dict[type, Callable[..., Structure]] = {
    Causal: _causal,
    Window: _window,
    Padding: _leading,
    Prefix: _leading,
    Document: _document,
    Dense: _dense,
}


def _both(a: Structure, b: Structure, sizes: Sizes) -> Structure:
    """Bands, spans and tables each with their like."""
    because = a.because or b.because
    tables = [x.table for x in (a, b) if x.table is not None]
    pairs = [spans.split(x.spans) for x in (a, b) if x.spans is not None]
    if len(pairs) == 2 and pairs[0].n + pairs[1].n - 1 > MOST:
        tables.append(spans.table(pairs.pop(), sizes.k_len))
        because = because or MANY
    return Structure(
        low=torch.sym_max(a.low, b.low),
        high=torch.sym_min(a.high, b.high),
        spans=spans.join(reduce(lambda x, y: spans.intersect(x, y, sizes.k_len), pairs)) if pairs else None,
        table=reduce(torch.logical_and, tables) if tables else None,
        because=because,
    )


def _either(a: Structure, b: Structure, sizes: Sizes, device: Device) -> Structure:
    """The union of spans, into which bands are turned; with a table in one of them, a table."""
    if a.table is None and b.table is None:
        one, other = _pairs(a, sizes, device), _pairs(b, sizes, device)
        if one.n + other.n <= MOST:
            return Structure(spans=spans.join(spans.unite(one, other, sizes.k_len)))
    table = _table(a, sizes, device) | _table(b, sizes, device)
    return Structure(table=table, because=a.because or b.because or MANY)


def _neither(a: Structure, sizes: Sizes, device: Device) -> Structure:
    """The complement: of a band with one limit the other side of it, of spans what is between them."""
    if a.is_band and a.low <= -UNLIMITED:
        return Structure(low=a.high + 1) if a.high < UNLIMITED else Structure(UNLIMITED, -UNLIMITED)
    if a.is_band and a.high >= UNLIMITED:
        return Structure(high=a.low - 1)
    if a.table is None:
        pairs = _pairs(a, sizes, device)
        if pairs.n + 1 <= MOST:
            return Structure(spans=spans.join(spans.complement(pairs, sizes.k_len)))
    return Structure(table=~_table(a, sizes, device), because=a.because or MANY)


def _is_limited(a: Structure) -> bool:
    return a.low > -UNLIMITED or a.high < UNLIMITED


def _pairs(a: Structure, sizes: Sizes, device: Device) -> spans.Pairs:
    """Band and spans together, as pairs."""
    if a.spans is None:
        return spans.of_band(a.low, a.high, sizes, device)
    # One row stands for all where all are the same.
    pairs = spans.split(a.spans[:, :, :1] if a.spans.stride(2) == 0 else a.spans)
    if not _is_limited(a):
        return pairs
    return spans.intersect(pairs, spans.of_band(a.low, a.high, sizes, device), sizes.k_len)


def _table(a: Structure, sizes: Sizes, device: Device) -> Bool[Tensor, "#batch #heads #q_len #k_len"]:
    """What is visible, with axes of length 1 where it does not depend on them."""
    found = [torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device)]
    if _is_limited(a) or a.spans is not None:
        found.append(spans.table(_pairs(a, sizes, device), sizes.k_len))
    if a.table is not None:
        found.append(a.table)
    return reduce(torch.logical_and, found)


def _band_in_words(low: int, high: int) -> str:
    limits = []
    if low > -UNLIMITED:
        limits.append(f"at most {-low} before" if low <= 0 else f"at least {low} after")
    if high < UNLIMITED:
        limits.append(f"at most {high} after" if high >= 0 else f"at least {-high} before")
    return f"keys {' and '.join(limits)} the query"
